"""The view of the gradient: its sums and spreads against the reference and NumPy."""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose
from playwright.sync_api import Browser

import tbc_ref
from tests.explorer import settle, slide, view
from tests.site import NEEDS_SITE

pytestmark = NEEDS_SITE
KINDS = ("identical", "independent", "noisy")
BLOCKS = (1, 2, 4, 8, 16)
CALL = (
    "async (all) => { const { gradients } = await import('./_static/explorer/gradient.js');"
    "return all.map((one) => gradients(...one)); }"
)


def test_gradients_are_those_of_the_reference(browser: Browser, home: str) -> None:
    settings = [(kind, blocks, seed) for kind in KINDS for blocks in BLOCKS for seed in range(20)]
    with view(browser, home, "gradient") as figure:
        found = figure.page.evaluate(CALL, settings)
    assert len(settings) == 300
    for (kind, blocks, _), draw in zip(settings, found, strict=True):
        x, dy = (np.reshape(draw[name], (1, blocks, 1, 1)) for name in ("x", "dy"))
        single = tbc_ref.group_conv_backward(dy, x, np.ones((blocks, 1, 1, 1)), groups=blocks)
        tied = tbc_ref.tied_block_conv_backward(dy, x, np.ones((1, 1, 1, 1)), blocks=blocks)
        assert_allclose(draw["dw"], single.dw.ravel(), rtol=1e-12)
        assert_allclose(sum(draw["dw"]), tied.dw.item(), rtol=1e-9, atol=1e-12)
        assert (len(set(draw["dw"])) == 1) == (kind == "identical" or blocks == 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_spreads_are_those_of_the_draws(browser: Browser, home: str, kind: str) -> None:
    with view(
        browser, home, "gradient", f"gradient.kind={kind}&gradient.blocks=16&gradient.seed=1"
    ) as figure:
        shown = figure.locator(".scatter").evaluate("(one) => ({ ...one.dataset })")
        drawn = figure.page.evaluate(CALL, [(kind, 16, 1000 + i) for i in range(200)])
        reached = float(figure.locator(".arrows").get_attribute("data-sum") or "nan")
        (first,) = figure.page.evaluate(CALL, [(kind, 16, 1)])
        says = figure.locator(".says").inner_text()
    dw = np.array([draw["dw"] for draw in drawn])
    assert_allclose(float(shown["single"]), dw[:, 0].std(), rtol=1e-9)
    assert_allclose(float(shown["means"]), dw.mean(axis=1).std(), rtol=1e-9)
    assert_allclose(reached, sum(first["dw"]), rtol=1e-9)
    # 200 draws know a spread to about 5 %, and 4 ± 0.6 is three of these.
    ratio = dw[:, 0].std() / dw.mean(axis=1).std()
    assert_allclose(
        ratio, 1 if kind == "identical" else 4, atol=1e-9 if kind == "identical" else 0.6
    )
    assert (f"{ratio:.2f} times less" in says) == (kind != "identical")


def test_arrows_move_with_blocks_kind_and_draw(browser: Browser, home: str) -> None:
    with view(browser, home, "gradient", has_touch=True) as figure:
        arrows = figure.locator(".arrows g")
        for blocks in BLOCKS:
            slide(figure, "blocks B", blocks)
            settle(figure.page)
            assert arrows.count() == blocks
        before = figure.locator(".arrows").inner_html()
        again = figure.get_by_role("button", name="Draw again")
        ways: list[Callable[[], None]] = [partial(again.press, "Enter"), again.click, again.tap]
        for seed, press in enumerate(ways, 121):
            press()
            settle(figure.page)
            drawn = figure.locator(".arrows").inner_html()
            assert drawn != before
            before = drawn
            assert f"gradient.seed={seed}" in figure.page.url
        figure.locator("label", has_text="identical").click()
        settle(figure.page)
        paths = [one.get_attribute("d") or "" for one in arrows.locator("path:first-child").all()]
        ends = [re.findall(r"M(\S+) .*?H([^m]+)", path)[0] for path in paths]
        lengths = np.diff(np.array(ends, dtype=float), axis=1).ravel()
        assert_allclose(lengths, lengths[0], rtol=1e-6)  # copies point to the same place
        starts, stops = np.array(ends, dtype=float).T
        assert_allclose(starts[1:], stops[:-1], rtol=1e-6)  # laid end to end
