"""The view of the bottleneck: its layers and networks against those that `tbc_models` builds."""

import itertools
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser

import tbc_models  # noqa: F401 (registers the networks)
from tbc_models.count import measure
from tbc_models.networks.bottleneck import BLOCKS, TiedBottleneck
from tbc_ref import cost
from tests.explorer import settle, slide, view
from tests.site import NEEDS_SITE

pytestmark = NEEDS_SITE
SETTINGS: list[dict[str, Any]] = [
    {"design": design, "splits": splits, "width": width, "blocks": blocks, "mixer": mixer}
    for design, splits, (width, blocks), mixer in itertools.product(
        ("literal", "fitted", "fitted-tbc"),
        (2, 4, 6, 8),
        ((16, ""), (18, "all-1"), (24, "all-2"), (32, "all-4"), (48, "")),
        ("sum", "concatenate", "none"),
    )
]
# Of an earlier stage, where B = 8 does not divide 18 channels, and the one that is drawn.
PLACES = [
    {"inputs": 64, "planes": 64, "size": 56, "stride": 1},
    {"inputs": 512, "planes": 256, "size": 28, "stride": 2},
    {"inputs": 1024, "planes": 256, "size": 14, "stride": 1},
]
CALL = "async (all) => { const m = await import('./_static/explorer/bottleneck.js'); return %s; }"


def computed(browser: Browser, home: str, expression: str, given: object) -> Any:
    """Evaluate an expression with the module as `m`, and what is given as `all`."""
    with view(browser, home, "bottleneck") as figure:
        return figure.page.evaluate(CALL % expression, given)


def options(setting: dict[str, Any]) -> dict[str, Any]:
    """The options of the network with these settings of the view."""
    splits, blocks = setting["splits"], setting["blocks"]
    return {
        "splits": splits,
        "base_width": setting["width"],
        "blocks": [int(blocks[-1])] * splits if blocks else BLOCKS[splits],
        "mixer": setting["mixer"],
        "design": setting["design"],
    }


def test_layers_are_those_of_the_bottleneck(browser: Browser, home: str) -> None:
    pairs = list(itertools.product(SETTINGS, PLACES))
    found = computed(browser, home, "all.map(([s, place]) => m.layers(s, place))", pairs)
    for (setting, place), layers in zip(pairs, found, strict=True):
        out, shortcut = 4 * place["planes"], None
        with torch.device("meta"):
            if place["stride"] > 1 or place["inputs"] != out:
                conv = torch.nn.Conv2d(place["inputs"], out, 1, place["stride"], bias=False)
                shortcut = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(out))
            block = TiedBottleneck(
                place["inputs"], place["planes"], place["stride"], shortcut, **options(setting)
            )
        convolutions: list[Any] = [
            m for m in block.modules() if isinstance(m, torch.nn.Conv2d) or hasattr(m, "blocks")
        ]
        expected = [
            (
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size[0],
                getattr(conv, "blocks", 1),
                sum(p.numel() for p in conv.parameters()),
            )
            for conv in convolutions
        ]
        names = ("from", "to", "kernel", "blocks", "parameters")
        assert sorted(tuple(layer[n] for n in names) for layer in layers) == sorted(expected)
        for layer in layers:
            size = place["size"] if layer["part"] == "entry" else place["size"] // place["stride"]
            right = cost.tied_block_conv(
                layer["from"],
                layer["to"],
                layer["kernel"],
                blocks=layer["blocks"],
                output_size=size,
                bias=setting["design"] == "fitted",
            )
            assert (layer["parameters"], layer["macs"]) == (right.parameters, right.macs)


def test_networks_are_those_that_timm_builds(browser: Browser, home: str) -> None:
    chosen = SETTINGS[::11]
    found = computed(browser, home, "all.map((s) => [m.network(s), m.code(s)])", chosen)
    assert len(chosen) >= 15
    for setting, (total, code) in zip(chosen, found, strict=True):
        with torch.device("meta"):
            names: dict[str, Any] = {}
            exec(code, names)  # noqa: S102
        counted = measure(names["network"])
        assert (total["parameters"], total["macs"]) == (counted.parameters, counted.macs), setting


def test_the_paper_s_row_stands_beside_its_network(browser: Browser, home: str) -> None:
    with view(browser, home, "bottleneck") as figure:
        says = figure.locator(".says")
        assert "The paper reports 13.9 M and 2.5 G for TiedResNet50-S." in says.inner_text()
        slide(figure, "base width w", 32)
        settle(figure.page)
        assert "The paper reports 22.0 M and 4.4 G for TiedResNet50." in says.inner_text()
        figure.locator(".choice label", has_text="concatenate").click()
        settle(figure.page)
        assert "The paper reports 26.7 M" in says.inner_text()
        slide(figure, "splits s", 8)
        settle(figure.page)
        assert "does not report this" in says.inner_text()


@pytest.mark.parametrize("way", ["mouse", "keyboard", "touch"])
def test_a_split_takes_another_b(browser: Browser, home: str, way: str) -> None:
    with view(browser, home, "bottleneck", has_touch=way == "touch") as figure:
        split = figure.locator("[role=slider]").nth(1)
        assert split.get_attribute("aria-valuenow") == "2"
        if way == "mouse":
            split.click()
        elif way == "touch":
            split.tap()
        else:
            split.press("ArrowUp")
        settle(figure.page)
        assert split.get_attribute("aria-valuenow") == "3"
        assert "bottleneck.blocks=1-3-4-8" in figure.page.url
        assert "blocks=(1, 3, 4, 8)" in figure.locator("pre").inner_text()
        assert "does not report this" in figure.locator(".says").inner_text()
        shown = figure.locator(".drawing").inner_html()
        figure.page.reload()
        figure.wait_for()
        settle(figure.page)
        assert figure.locator(".drawing").inner_html() == shown


@pytest.mark.parametrize("way", ["mouse", "keyboard", "touch"])
def test_the_button_copies_the_call_that_is_shown(browser: Browser, home: str, way: str) -> None:
    query = "bottleneck.splits=6&bottleneck.blocks=all-2&bottleneck.design=literal"
    allowed = ["clipboard-read", "clipboard-write"]
    options = {"permissions": allowed, "has_touch": way == "touch"}
    with view(browser, home, "bottleneck", query, **options) as figure:
        button = figure.locator("button", has_text="Copy the code")
        if way == "mouse":
            button.click()
        elif way == "touch":
            button.tap()
        else:
            button.press("Enter")
        figure.locator("button", has_text="Copied").wait_for()
        copied = figure.page.evaluate("navigator.clipboard.readText()")
        assert copied == figure.locator("pre").text_content()
        with torch.device("meta"):
            names: dict[str, Any] = {}
            exec(copied, names)  # noqa: S102
        counted = measure(names["network"])
        drawn = figure.locator(".drawing").evaluate("(one) => ({ ...one.dataset })")
        assert drawn == {"parameters": f"{counted.parameters}", "macs": f"{counted.macs}"}


def test_what_the_address_gives_is_made_valid(browser: Browser, home: str) -> None:
    junk = "&".join(f"bottleneck.{key}=9-x" for key in ("design", "mixer", "blocks"))
    query = f"{junk}&bottleneck.splits=5&bottleneck.width=1e9"
    with view(browser, home, "bottleneck", query) as figure:
        code = figure.locator("pre").inner_text()
        assert 'mixer="sum"' in code
        assert 'design="fitted"' in code
        assert "base_width=48" in code
        assert "blocks=(1, 2, 4, 8)" in code
