"""The view of thin pixels: the addresses that a kernel reads against PyTorch's own views."""

import pytest
import torch
from playwright.sync_api import Browser, Locator

from tests.explorer import settle, slide, view
from tests.site import NEEDS_SITE

pytestmark = NEEDS_SITE
THIN, WIDTH, TAPS = 2, 4, 3
STEPS = [
    (blocks, step) for blocks in (1, 2, 3, 4, 8) for step in range((WIDTH - TAPS + 1) * blocks)
]


def image(blocks: int, *, channels_last: bool) -> torch.Tensor:
    """One row of an image of shape (1, C, 1, W), in which each number is its own address."""
    channels = blocks * THIN
    addresses = torch.arange(channels * WIDTH)
    if channels_last:
        return addresses.view(1, 1, WIDTH, channels).permute(0, 3, 1, 2)
    return addresses.view(1, channels, 1, WIDTH)


@pytest.mark.parametrize("form", ["dilated", "fold"])
def test_a_kernel_reads_where_pytorchs_views_do(browser: Browser, home: str, form: str) -> None:
    call = (
        "async ([form, all]) => { const { reads } = await import('./_static/explorer/pixels.js');"
        "return all.map((one) => reads(form, ...one)); }"
    )
    with view(browser, home, "pixels") as figure:
        found = figure.page.evaluate(call, [form, STEPS])
    for (blocks, step), addresses in zip(STEPS, found, strict=True):
        if form == "dilated":
            row = image(blocks, channels_last=True).permute(0, 2, 3, 1)
            thin = row.view(WIDTH * blocks, THIN)  # `view` never copies
            expected = thin[step : step + (TAPS - 1) * blocks + 1 : blocks]
        else:
            folded = image(blocks, channels_last=False).view(blocks, THIN, WIDTH)
            pixel, block = divmod(step, blocks)
            expected = folded[block, :, pixel : pixel + TAPS].T
        assert addresses == expected.flatten().tolist()


def test_copies_are_those_of_pytorch(browser: Browser, home: str) -> None:
    call = (
        "async () => { const { copies } = await import('./_static/explorer/pixels.js');"
        "return ['dilated', 'fold'].map((form) => ['last', 'first'].map((layout) =>"
        " copies(form, layout, 64))); }"
    )
    with view(browser, home, "pixels") as figure:
        shown = figure.page.evaluate(call)
    for form, counts in zip(("dilated", "fold"), shown, strict=True):
        for channels_last, numbers in zip((True, False), counts, strict=True):
            # Two images: of a single one, PyTorch can view the blocks as a batch.
            layout = torch.channels_last if channels_last else torch.contiguous_format
            x = torch.zeros(2, 8 * THIN, 1, WIDTH).contiguous(memory_format=layout)
            if form == "fold":
                read = x.reshape(16, THIN, 1, WIDTH)
            else:
                read = x.contiguous(memory_format=torch.channels_last)
            copied = read.data_ptr() != x.data_ptr()
            # 64 numbers an image, and the output goes the same way back.
            assert numbers == (x.numel() if copied else 0)


def lit(figure: Locator) -> list[list[int]]:
    """The addresses that are lit in both strips."""
    strips = figure.locator(".memory > g")
    return [
        strips.nth(i)
        .locator("g.coloured")
        .evaluate_all(
            "(all) => all.flatMap((one, i) => (one.classList.contains('read') ? [i] : []))"
        )
        for i in range(2)
    ]


def test_the_slider_steps_through_the_memory(browser: Browser, home: str) -> None:
    with view(browser, home, "pixels") as figure:
        for blocks in (2, 4):
            slide(figure, "blocks B", blocks)
            for step in range(2 * blocks):
                slide(figure, "step", step + 1)
                settle(figure.page)
                thin, folded = lit(figure)
                assert thin == [2 * (step + tap * blocks) + i for tap in range(3) for i in range(2)]
                assert len(folded) == 6
                assert f"reads block {step % blocks + 1} at" in figure.locator(".says").inner_text()
        says = figure.locator(".says").inner_text()
        assert f"{256 * 14 * 14:,} numbers" in says
        figure.locator(".choice label", has_text="channels-first").click()
        settle(figure.page)
        titles = figure.locator(".memory > g > text").all_text_contents()
        assert "dilated form: copies 32 numbers" in titles[0]
        assert "fold: copies nothing" in titles[1]


@pytest.mark.parametrize("layout", ["junk", "toString", "constructor"])
def test_an_unknown_layout_in_the_address_is_the_usual_one(
    browser: Browser, home: str, layout: str
) -> None:
    with view(browser, home, "pixels", f"pixels.layout={layout}&pixels.step=-9") as figure:
        assert figure.locator(".choice input:checked").get_attribute("value") == "last"
        assert figure.locator(".says").inner_text().startswith("Step 1:")
