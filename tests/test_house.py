"""The promises that the project makes about itself: docstrings, drawings, files."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest

import tbc_gpu
import tbc_models
import tbc_ref
from tbc_models import (
    attention,
    bottleneck,
    count,
    draw,
    efficientnet,
    exporting,
    files,
    gcnet,
    paper,
    resnest,
    resnet,
    resnext,
    senet,
    tables,
)
from tbc_models.bench import blocks, layers, networks, plots, reference, timing, tune
from tbc_models.checking import cases, modules, operators
from tbc_models.draw import memory, wiring
from tbc_models.files import write_text
from tbc_models.training import (
    classifier,
    compare,
    compare_plots,
    compare_runs,
    datasets,
    keeping,
    loading,
    paired,
    recipes,
    run,
    settings,
)
from tbc_models.training import plots as training_plots


def public_functions() -> Iterator[Any]:
    for module in (tbc_ref, tbc_ref.nn, tbc_gpu):
        for name in module.__all__:
            if not isinstance(getattr(module, name), ModuleType):
                yield getattr(module, name)
    whole = [tbc_ref.cost, tbc_ref.layers, tbc_ref.network]
    whole += [attention, bottleneck, count, draw, files, gcnet, paper]
    whole += [efficientnet, exporting, resnest, resnet, resnext, senet, tables]
    whole += [blocks, layers, networks, plots, reference, timing, tune]
    whole += [classifier, datasets, keeping, loading, recipes, run, settings, training_plots]
    whole += [compare, compare_plots, compare_runs, paired]
    for module in whole:
        for name, value in vars(module).items():
            local = getattr(value, "__module__", "") == module.__name__
            written = inspect.isfunction(value) or inspect.isclass(value)
            if local and written and not name.startswith("_"):
                yield value
    yield from (
        operators.check,
        operators.tolerance,
        operators.backends,
        cases.draw,
        cases.laid_out,
    )
    yield from (modules.check_modules, modules.draw_module)


@pytest.mark.parametrize("function", list(public_functions()), ids=lambda f: f.__name__)
def test_public_names_are_documented_with_an_example(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert text.splitlines()[0].endswith("."), text
    if inspect.isclass(function) and (issubclass(function, tuple) or is_dataclass(function)):
        return  # a record explains its fields where they stand
    assert ">>>" in text
    if getattr(function, "_is_protocol", False):
        return  # nobody calls it
    signature = inspect.signature(function)
    for parameter in set(signature.parameters) - {"arguments"}:
        assert f"    {parameter}: " in text, f"{parameter} is not explained"
    if signature.return_annotation is not None and not inspect.isclass(function):
        assert "Returns:" in text or "Yields:" in text


@pytest.mark.parametrize(
    ("groups", "blocks", "filters", "title"),
    [
        (1, 1, 4, "SC"),
        (2, 1, 4, "GC, G = 2"),
        (1, 2, 2, "TBC, B = 2"),
        (2, 2, 2, "TGC, G = 2, B = 2"),
    ],
)
def test_the_wiring_has_a_line_for_each_product_and_a_colour_for_each_filter(
    groups: int, blocks: int, filters: int, title: str
) -> None:
    axes = wiring(8, 4, groups=groups, blocks=blocks)
    wires = [line for line in axes.lines if line.get_marker() == "None"]
    assert len(wires) == 8 * 4 // (groups * blocks)
    assert len({line.get_color() for line in wires}) == filters
    assert len(axes.patches) == filters * 8 // (groups * blocks)  # stored weights
    assert axes.get_title() == title
    plt.close(axes.figure)  # type: ignore[arg-type]


def test_wiring_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match=r"`blocks` \(=0\) must be at least 1"):
        wiring(8, 4, blocks=0)
    with pytest.raises(ValueError, match=r"`in_channels` \(=7\) must be a multiple"):
        wiring(7, 4, blocks=2)
    with pytest.raises(
        ValueError, match=r"`out_channels` \(=16\) / `blocks` \(=2\) must be at most"
    ):
        wiring(8, 16, blocks=2)


def test_a_crash_while_writing_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "result.json"
    write_text(file, "old")

    def crash(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_bottleneck_is_drawn_as_it_is() -> None:
    block = tbc_models.TiedBottleneck(256, 64, base_width=64, groups=8, design="fitted")
    axes = draw.bottleneck(block)
    texts = [text.get_text() for text in axes.texts]
    assert "1×1 TBC, B = 2\n256 → 256" in texts
    assert [t for t in texts if t.startswith("3×3")] == [
        *("3×3\nGC\nG=8", "3×3\nTGC\nG=8 B=2", "3×3\nTGC\nG=8 B=4", "3×3\nTGC\nG=8 B=8")
    ]
    assert "appended" in texts
    assert "1×1 SC\n288 → 256" in texts
    plt.close(axes.figure)  # type: ignore[arg-type]


def test_memory_is_drawn_in_its_order() -> None:
    axes = memory(channels_last=False, blocks=2, thin=1, width=3)
    pixels = [text.get_text() for text in axes.texts if text.get_text().isdigit()]
    assert pixels == list("012012")
    last = memory(channels_last=True, blocks=2, thin=1, width=3, read=1)
    pixels = [text.get_text() for text in last.texts if text.get_text().isdigit()]
    assert pixels == list("001122")
    assert [cell.get_alpha() for cell in last.patches] == [0.25, 1, 0.25, 1, 0.25, 1]
    for shown in (axes, last):
        plt.close(shown.figure)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`read` \(=2\) must be a block, from 0 to 1"):
        memory(channels_last=True, blocks=2, read=2)
    with pytest.raises(ValueError, match=r"`thin` \(=0\) must be at least 1"):
        memory(channels_last=True, thin=0)
