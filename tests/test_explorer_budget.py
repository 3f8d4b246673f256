"""The view of the same budget: every width, weight and MAC against `tbc_ref.cost`."""

import pytest
from playwright.sync_api import Browser, Locator

from tbc_ref import cost
from tests.explorer import settle, slide, view
from tests.site import NEEDS_SITE

pytestmark = NEEDS_SITE
BLOCKS = (1, 2, 3, 4, 6, 8)
STANDARD = cost.standard_conv(48, 48, 3, output_size=56)


def shown(figure: Locator) -> tuple[int, int, int]:
    """Channels, weights and MACs."""
    found = figure.locator(".plane").evaluate("(one) => ({ ...one.dataset })")
    return int(found["channels"]), int(found["weights"]), int(found["macs"])


@pytest.mark.parametrize(("lock", "power"), [("channels", 0), ("weights", 1), ("MACs", 0.5)])
def test_what_is_locked_stays_and_costs_are_right(
    browser: Browser, home: str, lock: str, power: float
) -> None:
    with view(browser, home, "budget") as figure:
        figure.locator(".choice label", has_text=lock).click()
        for blocks in BLOCKS:
            slide(figure, "blocks B", blocks)
            settle(figure.page)
            channels, weights, macs = shown(figure)
            assert channels % blocks == 0
            assert abs(channels - 48 * blocks**power) <= blocks / 2
            layer = cost.tied_block_conv(channels, channels, 3, blocks=blocks, output_size=56)
            assert (weights, macs) == (layer.weights, layer.macs)
            assert figure.locator(".widths .block").count() == 1 + blocks  # SC's, and TBC's
            says = figure.locator(".says").inner_text()
            if blocks > 1 and lock != "weights":
                assert f"{round(STANDARD.weights / weights, 1):g} times fewer weights" in says
            if blocks > 1 and lock != "channels":
                assert f"has {channels} channels" in says
        if lock == "weights":
            assert weights == STANDARD.weights
            assert macs == 8 * STANDARD.macs
        if lock == "MACs":
            assert macs == pytest.approx(STANDARD.macs, rel=0.01)  # rounded to 136 channels


def test_points_lie_where_their_numbers_are(browser: Browser, home: str) -> None:
    with view(browser, home, "budget", "budget.lock=weights&budget.blocks=2") as figure:
        chosen = figure.locator(".plane .coloured circle")
        two = {name: float(chosen.get_attribute(name) or 0) for name in ("cx", "cy")}
        slide(figure, "blocks B", 8)
        settle(figure.page)
        eight = {name: float(chosen.get_attribute(name) or 0) for name in ("cx", "cy")}
        slide(figure, "blocks B", 4)
        settle(figure.page)
        four = float(chosen.get_attribute("cy") or 0)
    assert two["cx"] == eight["cx"]  # as many weights
    # The axis is logarithmic: 2, 4 and 8 times the MACs are equally far apart, and upwards.
    assert two["cy"] - four == pytest.approx(four - eight["cy"])
    assert two["cy"] > four


@pytest.mark.parametrize("lock", ["junk", "toString", "constructor"])
def test_an_unknown_lock_in_the_address_is_the_usual_one(
    browser: Browser, home: str, lock: str
) -> None:
    with view(browser, home, "budget", f"budget.lock={lock}&budget.blocks=1e9") as figure:
        assert figure.locator(".choice input:checked").get_attribute("value") == "macs"
        assert shown(figure)[0] == 136  # B = 8
