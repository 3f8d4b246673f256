"""The view of wiring and matrix: its wires, outputs and costs against the reference."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.testing import assert_allclose
from playwright.sync_api import Browser, Locator

import tbc_ref
from tbc_ref import cost
from tests.explorer import middle, settle, slide, swipe, view
from tests.site import NEEDS_SITE, visit

pytestmark = NEEDS_SITE
CHANNELS = (4, 6, 8, 12)
SETTINGS = [
    (c_i, c_o, groups, blocks)
    for c_i in CHANNELS
    for c_o in CHANNELS
    for groups in range(1, 17)
    for blocks in range(1, 17)
    if c_i % (groups * blocks) == c_o % (groups * blocks) == 0
]
# Moves the sliders in the page, all settings after one another, and reads what each shows.
READ = """async (settings) => {
  const host = document.querySelector("figure[data-view=wiring]");
  const inputs = [...host.querySelectorAll("input[type=range]")];
  const frame = () => new Promise(requestAnimationFrame);
  const slide = (input, value) => {
    for (let i = 0; i <= Number(input.max); i++) {
      input.value = i;
      input.dispatchEvent(new Event("input"));
      if (input.getAttribute("aria-valuetext") === String(value)) return;
    }
    throw new Error(`no ${value}`);
  };
  const found = [];
  for (const setting of settings) {
    setting.forEach((value, i) => slide(inputs[i], value));
    await frame();
    await frame();
    const { weights, macs } = host.querySelector(".formula").dataset;
    const squares = [...host.querySelectorAll(".stored [data-weight]")];
    const read = squares.map((square) => Number(square.getAttribute("aria-valuenow")));
    const outputs = host.querySelector(".wiring").dataset.outputs.split(" ").map(Number);
    const cells = [...host.querySelectorAll(".matrix [data-weight]")];
    const uses = cells.map((cell) => cell.getAttribute("d").split("M").length - 1);
    found.push([Number(weights), Number(macs), read, outputs, uses]);
  }
  return found;
}"""


def test_costs_and_outputs_are_those_of_the_reference(browser: Browser, home: str) -> None:
    x = 0.25 + 0.75 * ((0.3 + np.arange(16) * 0.755) % 1)  # the inputs that the view draws
    with view(browser, home, "wiring") as figure:
        found = figure.page.evaluate(READ, SETTINGS)
    assert len(SETTINGS) > 100
    for (c_i, c_o, groups, blocks), (weights, macs, values, outputs, uses) in zip(
        SETTINGS, found, strict=True
    ):
        expected = cost.tied_block_group_conv(c_i, c_o, 1, groups=groups, blocks=blocks)
        assert (weights, macs) == (expected.weights, expected.macs)
        assert len(values) == weights
        assert uses == [blocks] * weights  # a stored weight fills B cells
        w = np.array(values).reshape(c_o // blocks, c_i // (groups * blocks), 1, 1)
        y = tbc_ref.tied_block_group_conv(
            x[:c_i].reshape(1, c_i, 1, 1), w, groups=groups, blocks=blocks
        )
        assert_allclose(outputs, y.ravel(), rtol=1e-12)


def test_tfc_is_that_of_the_reference(browser: Browser, home: str) -> None:
    x = 0.25 + 0.75 * ((0.3 + np.arange(12) * 0.755) % 1)
    settings = [one for one in SETTINGS if one[2] == 1]
    with view(browser, home, "wiring", "wiring.kind=fc") as figure:
        found = figure.page.evaluate(READ, settings)
    for (c_i, c_o, _, blocks), (weights, macs, values, outputs, _) in zip(
        settings, found, strict=True
    ):
        expected = cost.tied_block_linear(c_i, c_o, blocks=blocks)
        assert (weights, macs) == (expected.weights, expected.macs)
        w = np.array(values).reshape(c_o // blocks, c_i // blocks)
        y = tbc_ref.tied_block_linear(x[np.newaxis, :c_i], w, blocks=blocks)
        assert_allclose(outputs, y[0], rtol=1e-12)


def test_wires_join_what_the_reference_joins(browser: Browser, home: str) -> None:
    with view(browser, home, "wiring") as figure:
        found = figure.page.evaluate(
            "async (all) => { const { wires } = await import('./_static/explorer/wiring.js');"
            "return all.map((one) => wires(...one)); }",
            SETTINGS,
        )
    for (c_i, c_o, groups, blocks), stored in zip(SETTINGS, found, strict=True):
        # Each weight is its own number, so the matrix tells where each of them stands.
        w = np.arange(1.0, len(stored) + 1).reshape(c_o // blocks, -1, 1, 1)
        each = np.eye(c_i)[:, :, np.newaxis, np.newaxis]
        matrix = tbc_ref.tied_block_group_conv(each, w, groups=groups, blocks=blocks)
        drawn = np.zeros((c_i, c_o))
        for weight, uses in enumerate(stored):
            for wire in uses:
                drawn[wire["input"], wire["output"]] += weight + 1
        assert_allclose(drawn, matrix[:, :, 0, 0])


def widths(figure: Locator) -> list[float]:
    """The widths of the wires of each stored weight."""
    paths = figure.locator(".wires path").all()
    return [float(path.get_attribute("stroke-width") or 0) for path in paths]


def differing(before: Sequence[object], after: Sequence[object]) -> list[int]:
    """Where two sequences differ."""
    return [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]


@pytest.mark.parametrize("touch", [False, True])
def test_dragging_a_stored_weight_changes_its_wires_and_cells_alone(
    browser: Browser, home: str, touch: bool
) -> None:
    with view(browser, home, "wiring", has_touch=touch) as figure:
        square = figure.locator(".stored [data-weight='5']")
        before, cells = widths(figure), figure.locator(".matrix [data-weight='5']")
        drawn, outputs = (
            cells.get_attribute("d"),
            figure.locator(".wiring").get_attribute("data-outputs"),
        )
        x, y = middle(square)
        if touch:
            swipe(figure, (x, y), (x, y + 90))
        else:
            figure.page.mouse.move(x, y)
            figure.page.mouse.down()
            figure.page.mouse.move(x, y + 90, steps=5)
            figure.page.mouse.up()
        settle(figure.page)
        after = widths(figure)
        assert [
            i for i, pair in enumerate(zip(before, after, strict=True)) if len({*pair}) > 1
        ] == [5]
        assert cells.get_attribute("d") != drawn
        changed = figure.locator(".wiring").get_attribute("data-outputs") or ""
        # Filter 2 of TBC with two blocks writes output channels 2 and 6.
        assert differing((outputs or "").split(), changed.split()) == [1, 5]
        assert "wiring.weights=5-" in figure.page.url


def test_arrow_keys_walk_over_the_stored_weights_and_change_them(
    browser: Browser, home: str
) -> None:
    with view(browser, home, "wiring") as figure:
        figure.locator(".stored [tabindex='0']").focus()
        press = figure.page.keyboard.press
        press("ArrowRight")
        press("ArrowRight")
        lit = figure.locator(".stored .lit")
        assert lit.get_attribute("data-weight") == "2"
        value = float(lit.get_attribute("aria-valuenow") or 0)
        press("ArrowDown")
        press("ArrowDown")
        settle(figure.page)
        assert float(lit.get_attribute("aria-valuenow") or 0) == pytest.approx(value - 0.1)
        press("End")
        settle(figure.page)
        assert lit.get_attribute("aria-valuenow") == "1"


@pytest.mark.parametrize("touch", [False, True])
def test_pointing_at_a_weight_is_kept_in_the_address(
    browser: Browser, home: str, touch: bool
) -> None:
    with view(browser, home, "wiring", has_touch=touch) as figure:
        square = figure.locator(".stored [data-weight='9']")
        square.tap() if touch else square.hover()
        settle(figure.page)
        assert "wiring.lit=9" in figure.page.url


def test_a_weight_that_is_held_may_vanish(browser: Browser, home: str) -> None:
    with visit(browser, f"{home}explorer.html?wiring.blocks=1") as seen:
        figure = seen.page.locator("figure.alive[data-view=wiring]")
        square = figure.locator(".stored [data-weight='60']")
        square.hover()
        seen.page.mouse.down()
        slide(figure, "blocks B", 4)
        settle(seen.page)
        seen.page.mouse.move(300, 300, steps=3)
        seen.page.mouse.up()
        settle(seen.page)
        first = figure.locator(".stored [data-weight='0']")
        first.focus()
        first.press("Home")
        settle(seen.page)
        assert first.get_attribute("aria-valuenow") == "0"
        assert seen.complaints == []


def test_hovering_a_cell_lights_the_weight_its_wires_and_all_its_cells(
    browser: Browser, home: str
) -> None:
    with view(browser, home, "wiring") as figure:
        figure.locator(".matrix [data-weight='9']").hover(position={"x": 3, "y": 3})
        for panel in (".wires", ".matrix", ".stored"):
            lit = figure.locator(f"{panel} .lit")
            assert [one.get_attribute("data-weight") for one in lit.all()] == ["9"]
        assert (
            "input 2 with output 3 and input 6 with output 7"
            in figure.locator(".says").inner_text()
        )


def test_presets_are_the_five_operators(browser: Browser, home: str) -> None:
    with view(browser, home, "wiring") as figure:
        said = []
        for name in ("SC", "GC", "TBC", "TGC", "TFC"):
            figure.locator(".choice label", has_text=name).first.click()
            settle(figure.page)
            said.append(figure.locator(".says").inner_text().split(" weights")[0])
        assert said == ["SC: 64", "GC: 32", "TBC: 16", "TGC: 8", "TFC: 16"]


def test_sliders_offer_only_what_divides(browser: Browser, home: str) -> None:
    with view(browser, home, "wiring") as figure:
        slide(figure, "blocks B", 8)
        slide(figure, "channels in", 12)  # 8 does not divide 12: the nearest number that does is 4
        settle(figure.page)
        blocks = figure.locator("label.slider", has_text="blocks B").locator(".value")
        assert blocks.inner_text() == "4"
        assert figure.locator(".formula").get_attribute("data-weights") == f"{12 // 4 * 8 // 4}"
