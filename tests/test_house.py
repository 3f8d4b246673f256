"""The promises that the project makes about itself: docstrings, drawings, files."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest

import tbc_gpu
import tbc_models.check
import tbc_models.draw
import tbc_models.files
import tbc_ref
import tbc_ref.cost
from tbc_models.draw import wiring
from tbc_models.files import write_text


def public_functions() -> Iterator[Any]:
    for module in (tbc_ref, tbc_gpu):
        for name in module.__all__:
            if not isinstance(getattr(module, name), ModuleType):
                yield getattr(module, name)
    for function in vars(tbc_ref.cost).values():
        local = inspect.isfunction(function) and function.__module__ == "tbc_ref.cost"
        if local and not function.__name__.startswith("_"):
            yield function
    yield from (tbc_models.draw.wiring, tbc_models.files.write_text)
    yield from (tbc_models.check.check, tbc_models.check.draw, tbc_models.check.backends)


@pytest.mark.parametrize("function", list(public_functions()), ids=lambda f: f.__name__)
def test_public_names_are_documented_with_an_example(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    assert text.splitlines()[0].endswith("."), text
    if inspect.isclass(function) and issubclass(function, tuple):
        return  # a record explains its fields where they stand
    assert ">>>" in text
    signature = inspect.signature(function)
    for parameter in signature.parameters:
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
