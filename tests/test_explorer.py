"""All views of the explorer: they stand without JavaScript, and work for every hand and eye."""

import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator

from tests.explorer import VIEWS, settle, view
from tests.site import KILOBYTE, NEEDS_SITE, visit

pytestmark = NEEDS_SITE
DOCS = Path(__file__).parent.parent / "docs"
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}


def shown(figure: Locator) -> str:
    """What a view shows: its drawing, and the sentence below it."""
    return str(figure.evaluate("(host) => host.innerHTML"))


def states(figure: Locator) -> Iterator[str]:
    """Set a view to the ends of each slider and to each choice, and say which it is set to."""
    for slider in figure.locator("input[type=range]").all():
        for key in ("Home", "End"):
            if slider.is_enabled():
                slider.press(key)
                yield f"{slider.locator('xpath=..').inner_text()}, {key}"
    for radio in figure.locator("input[type=radio]").all():
        radio.locator("xpath=..").click()
        yield radio.locator("xpath=..").inner_text()


def move(figure: Locator) -> None:
    """Move every control of a view."""
    for choice in figure.locator(".choice").all():
        choice.locator("label").last.click()
    for slider in figure.locator("input[type=range]:enabled").all():
        slider.press("ArrowRight" if slider.input_value() == "0" else "ArrowLeft")
    for part in figure.locator("[role=slider][tabindex='0']").all():
        part.press("ArrowUp")
    settle(figure.page)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("theme", "size"), [("light", WIDE), ("dark", NARROW)])
def test_every_state_is_accessible_and_fits(
    browser: Browser, home: str, name: str, theme: str, size: dict[str, int]
) -> None:
    seen = set()
    with view(browser, home, name, viewport=size, color_scheme=theme) as figure:
        for state in itertools.chain(["at first"], states(figure)):
            settle(figure.page)
            found = Axe().run(figure.page, context=f"figure[data-view={name}]").response
            bad = [
                (one["id"], one["nodes"][0]["html"][:200])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert bad == [], state
            wide = figure.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"], state
            seen.add(shown(figure))
        assert len(seen) > 3  # the states differ


@pytest.mark.parametrize("name", VIEWS)
def test_an_address_reproduces_what_is_shown(browser: Browser, home: str, name: str) -> None:
    with view(browser, home, name) as figure:
        first = figure.locator(".drawing").inner_html()
        move(figure)
        address, moved = figure.page.url, figure.locator(".drawing").inner_html()
        says = figure.locator(".says").inner_text()
    assert moved != first
    with view(browser, home, name, address.partition("?")[2]) as figure:
        assert figure.locator(".drawing").inner_html() == moved
        assert figure.locator(".says").inner_text() == says


@pytest.mark.parametrize("name", VIEWS)
def test_an_address_that_makes_no_sense_does_no_harm(
    browser: Browser, home: str, name: str
) -> None:
    with view(browser, home, name) as figure:
        move(figure)
        keys = [one.partition("=")[0] for one in figure.page.url.partition("?")[2].split("&")]
    assert keys != [""]
    for junk in ("nonsense", "-3.7", "1e9", ""):
        query = "&".join(f"{key}={junk}" for key in keys)
        with visit(browser, f"{home}explorer.html?{query}") as seen:
            figure = seen.page.locator(f"figure.alive[data-view={name}]")
            figure.wait_for()
            settle(seen.page)
            assert seen.complaints == []
            assert "NaN" not in shown(figure)
            assert "undefined" not in shown(figure)


@pytest.mark.parametrize("name", VIEWS)
def test_all_controls_are_reached_by_the_keyboard(browser: Browser, home: str, name: str) -> None:
    with view(browser, home, name) as figure:
        radios = "fieldset:has(input[type=radio])"
        stops = f"input[type=range]:enabled, button, {radios}, [tabindex='0']"
        expected = figure.locator(stops).count()
        figure.locator("input").first.focus()
        reached = set()
        for _ in range(2 * expected + 10):  # backwards to the first, and forwards to the last
            figure.page.keyboard.press("Shift+Tab")
        for _ in range(4 * expected + 20):
            figure.page.keyboard.press("Tab")
            stop = f"""(host) => {{
              const one = document.activeElement;
              if (!host.contains(one)) return -1;
              const all = [...host.querySelectorAll("{stops}")];
              return all.indexOf(one.type === 'radio' ? one.closest('fieldset') : one);
            }}"""
            reached.add(figure.evaluate(stop))
        assert reached - {-1} == set(range(expected))


@pytest.mark.parametrize("name", VIEWS)
def test_sliders_and_choices_answer_to_touch(browser: Browser, home: str, name: str) -> None:
    with view(browser, home, name, viewport=NARROW, has_touch=True) as figure:
        before = shown(figure)
        for control in figure.locator("input[type=range], .choice label").all():
            if control.is_disabled():
                continue
            box = control.bounding_box()
            assert box is not None
            assert box["height"] >= 24  # pixels, as WCAG 2.2 asks for what is touched
            control.tap(position={"x": 10, "y": 10})
        settle(figure.page)
        assert shown(figure) != before


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_moves_for_those_who_ask_for_less_motion(
    browser: Browser, home: str, name: str
) -> None:
    with view(browser, home, name, reduced_motion="reduce") as figure:
        for _ in states(figure):
            figure.page.wait_for_timeout(30)
            assert figure.page.evaluate("document.getAnimations().length") == 0


def test_pictures_stand_without_javascript_and_are_what_the_modules_draw(
    browser: Browser, home: str
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{home}explorer.html")
    for name in VIEWS:
        box = page.locator(f"figure[data-view={name}] .drawing").bounding_box()
        assert box is not None
        assert box["height"] > 150
        assert box["width"] > 300
    context.close()
    drawn = dict(importlib.import_module("docs.views").pictures(browser))
    assert {Path(name).stem for name in drawn} == {*VIEWS, "wiring-small"}
    for name, text in drawn.items():
        stored = (DOCS / "_pictures" / name).read_text()
        # Browsers differ in how they compress an image.
        one, other = (re.sub(r"base64,[^\"]*", "", file) for file in (stored, text))
        assert one == other, f"{name} has changed: make figures"


def test_the_explorer_weighs_less_than_60_kilobytes(browser: Browser, home: str) -> None:
    with visit(browser, f"{home}explorer.html", settled=True) as seen:
        own = {address: size for address, size in seen.sizes.items() if "/explorer/" in address}
    assert len(own) >= len(VIEWS) + 3
    assert sum(own.values()) < 60 * KILOBYTE, own


def test_the_first_page_lets_blocks_be_moved(browser: Browser, home: str) -> None:
    with visit(browser, f"{home}index.html", settled=True) as seen:
        figure = seen.page.locator("figure.alive[data-small]")
        slider = figure.locator("input[type=range]")
        said = []
        for key in ("Home", "ArrowRight", "ArrowRight", "End"):
            slider.press(key)
            settle(seen.page)
            said.append(figure.locator(".says").inner_text())
        assert [one.split(":")[0] for one in said] == ["B = 1", "B = 2", "B = 4", "B = 8"]
        assert "?" not in seen.page.url  # the first page keeps its address
        assert seen.complaints == []
