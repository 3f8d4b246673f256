"""The view of photographs: its convolutions against the reference, and what a swap changes."""

from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from playwright.sync_api import Browser, Locator

import tbc_ref
from tests.explorer import middle, settle, swipe, view
from tests.site import NEEDS_SITE

pytestmark = NEEDS_SITE
# What GC's places have: Sobel x, Sobel y, blur and Laplace.
OWN = np.array(
    [
        [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
        [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
    ]
)[:, np.newaxis]
CALL = """async (all) => {
  const { outputs, pixels } = await import("./_static/explorer/photographs.js");
  const read = ({ tbc, gc }) => [tbc, gc].map((four) => four.map((one) => [...one]));
  return [pixels.map((one) => [...one]), all.map((one) => read(outputs(...one)))];
}"""


def painted(figure: Locator) -> list[list[str]]:
    """What the canvases show: inputs, TBC's outputs, and GC's."""
    all_ = figure.locator("canvas").evaluate_all("(all) => all.map((one) => one.toDataURL())")
    return [all_[i : i + 4] for i in (0, 4, 8)]


def test_convolutions_are_those_of_the_reference(browser: Browser, home: str) -> None:
    rng = np.random.default_rng(0)
    orders = list(permutations(range(4)))
    settings = [(list(order), rng.integers(-4, 5, 9).tolist()) for order in 2 * orders]
    with view(browser, home, "photographs") as figure:
        pixels, found = figure.page.evaluate(CALL, settings)
    photographs = np.array(pixels).reshape(4, 80, 80)
    assert all(photograph.std() > 0.1 for photograph in photographs)  # they were decoded
    for (order, weights), outputs in zip(settings, found, strict=True):
        x = photographs[order][np.newaxis]
        w = np.reshape(weights, (1, 1, 3, 3)).astype(float)
        tbc = tbc_ref.tied_block_conv(x, w, padding="same", blocks=4)
        gc = tbc_ref.group_conv(x, OWN.astype(float), padding="same", groups=4)
        # The reference adds up in another order.
        assert_allclose(np.reshape(outputs[0], tbc.shape), tbc, atol=1e-12)
        assert_allclose(np.reshape(outputs[1], gc.shape), gc, atol=1e-12)


@pytest.mark.parametrize("by", ["mouse", "drag", "keyboard", "touch", "swipe"])
def test_a_swap_moves_the_outputs_of_tbc_and_changes_those_of_gc(
    browser: Browser, home: str, by: str
) -> None:
    with view(browser, home, "photographs", has_touch=by in ("touch", "swipe")) as figure:
        before = painted(figure)
        first, second = (figure.locator("button.cell").nth(i) for i in (0, 2))
        if by == "drag":
            first.drag_to(second)
        elif by == "swipe":
            swipe(figure, middle(first), middle(second))
        for photograph in (first, second):
            if by == "mouse":
                photograph.click()
            elif by == "touch":
                photograph.tap()
            elif by == "keyboard":
                photograph.focus()
                figure.page.keyboard.press("Enter")
        settle(figure.page)
        after = painted(figure)
        says = figure.locator(".says").inner_text()
        assert "photographs.order=2103" in figure.page.url
    order = [2, 1, 0, 3]
    assert after[0] == [before[0][i] for i in order]
    assert after[1] == [before[1][i] for i in order]
    assert set(after[2]) & set(before[2]) == {before[2][1], before[2][3]}
    assert "the cat gets blur, and the astronaut gets Sobel x" in says


def test_scrolling_and_other_buttons_swap_nothing(browser: Browser, home: str) -> None:
    narrow = {"width": 390, "height": 844}
    with view(browser, home, "photographs", has_touch=True, viewport=narrow) as figure:
        first, third = (figure.locator("button.cell").nth(i) for i in (0, 2))
        x, y = middle(first)
        swipe(figure, (x, y), (x, y - 200))  # which scrolls the page
        third.tap()
        settle(figure.page)
        assert "order" not in figure.page.url
        assert third.get_attribute("aria-pressed") == "true"
        third.press("Escape")
        settle(figure.page)
        assert third.get_attribute("aria-pressed") == "false"
        first.click(button="right")
        settle(figure.page)
        assert first.get_attribute("aria-pressed") == "false"


def test_a_finger_changes_a_weight_and_does_not_scroll(browser: Browser, home: str) -> None:
    narrow = {"width": 390, "height": 844}
    with view(browser, home, "photographs", has_touch=True, viewport=narrow) as figure:
        square = figure.locator(".filter [role=slider]").nth(4)
        x, y = middle(square)
        swipe(figure, (x, y), (x, y + 70))
        settle(figure.page)
        assert square.get_attribute("aria-valuenow") == "-4"


def test_a_weight_changes_every_output_of_tbc_and_none_of_gc(browser: Browser, home: str) -> None:
    with view(browser, home, "photographs") as figure:
        before = painted(figure)
        square = figure.locator(".filter [role=slider]").nth(4)
        square.focus()
        square.press("ArrowUp")
        settle(figure.page)
        pressed = painted(figure)
        assert square.get_attribute("aria-valuenow") == "1"
        x, y = middle(square)
        figure.page.mouse.move(x, y)
        figure.page.mouse.down()
        figure.page.mouse.move(x, y - 30, steps=4)
        figure.page.mouse.up()
        settle(figure.page)
        assert square.get_attribute("aria-valuenow") == "3"
        assert "photographs.filter=-1.0.1.-2.3.2.-1.0.1" in figure.page.url
        for old, new in ((before, pressed), (pressed, painted(figure))):
            assert old[0] == new[0]
            assert not set(old[1]) & set(new[1])
            assert old[2] == new[2]


def test_presets_are_the_filters_that_gc_has(browser: Browser, home: str) -> None:
    with view(browser, home, "photographs") as figure:
        for place, name in enumerate(("Sobel x", "Sobel y", "blur", "Laplace")):
            figure.locator(".choice label", has_text=name).click()
            settle(figure.page)
            _, tbc, gc = painted(figure)
            assert [i for i in range(4) if tbc[i] == gc[i]] == [place]
