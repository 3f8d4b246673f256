"""The promises that the project makes about itself: docstrings, drawings, files."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest
import timm

import tbc_gpu
import tbc_models
import tbc_ref
from tbc_models import draw
from tbc_models.draw import memory, wiring
from tbc_models.files import write_text


def modules() -> Iterator[ModuleType]:
    """Every module of the packages, but the one that runs the command when it is imported."""
    for package in (tbc_ref, tbc_gpu, tbc_models):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def public_functions() -> Iterator[Any]:
    """Functions and classes of every module; what a command says of itself is its help."""
    for module in modules():
        if module.__name__.startswith("tbc_models.cli"):
            continue
        for name, value in vars(module).items():
            local = getattr(value, "__module__", "") == module.__name__
            written = inspect.isfunction(value) or inspect.isclass(value)
            if local and written and not name.startswith("_"):
                yield value


def promised() -> Iterator[Any]:
    """What the packages export by name, but the networks, which timm adds to `__all__`."""
    for module in modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not isinstance(value, ModuleType) and value not in networks():
                yield value


def networks() -> list[Any]:
    """The functions that are registered with timm: they share their options."""
    entrypoints = [timm.model_entrypoint(name) for name in timm.list_models()]
    return [f for f in entrypoints if f.__module__.startswith("tbc_models.")]


def is_record(value: Any) -> bool:
    """A record explains its fields where they stand."""
    return inspect.isclass(value) and (issubclass(value, tuple) or is_dataclass(value))


@pytest.mark.parametrize(
    "function", list(public_functions()), ids=lambda f: f"{f.__module__}.{f.__name__}"
)
def test_docstrings_say_what_they_are_about_in_one_line(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert text.splitlines()[0].endswith("."), text
    if "Args:" in text and not is_record(function):  # then nothing is forgotten in it
        for parameter in set(inspect.signature(function).parameters) - {"arguments"}:
            assert f"    {parameter}: " in text, f"{parameter} is not explained"


@pytest.mark.parametrize("function", list(promised()), ids=lambda f: f.__name__)
def test_exported_names_are_explained_with_an_example(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    if is_record(function):
        return
    assert ">>>" in text
    if getattr(function, "_is_protocol", False):
        return  # nobody calls it
    signature = inspect.signature(function)
    assert "Args:" in text or not signature.parameters
    if signature.return_annotation is not None and not inspect.isclass(function):
        assert "Returns:" in text or "Yields:" in text


def test_no_two_classes_of_a_package_have_the_same_name() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for module in modules():
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                package = module.__name__.partition(".")[0]
                found.setdefault((package, name), set()).add(module.__name__)
    assert [places for places in found.values() if len(places) > 1] == []


@pytest.mark.parametrize("function", networks(), ids=lambda f: f.__name__)
def test_networks_say_which_options_they_take(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert "Options: " in text
    for parameter in set(inspect.signature(function).parameters) - {"pretrained", "options"}:
        assert f"`{parameter}`" in text
    # What an editor shows of the file is what Python shows of the function.
    assert all(line.strip() in inspect.getsource(function) for line in text.splitlines())


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
    assert [text.get_text() for text in axes.texts[:2]] == ["input", "output"]
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
    # The boxes are pale whatever the page is; the style of the site writes in grey.
    inside = [text for text in axes.texts if text.get_text()[1:3] == "×" + text.get_text()[0]]
    assert {text.get_color() for text in inside} == {"#1f2328"}
    plt.close(axes.figure)  # type: ignore[arg-type]


def test_memory_is_drawn_in_its_order() -> None:
    axes = memory(channels_last=False, blocks=2, thin=1, width=3)
    pixels = [text.get_text() for text in axes.texts if text.get_text().isdigit()]
    assert pixels == list("012012")
    inks = [text.get_color() for text in axes.texts if text.get_text().isdigit()]
    assert inks == ["white"] * 3 + ["black"] * 3  # on blue, and on orange
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
