"""All views of the explorer: they stand without JavaScript, and work for every hand and eye."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Locator

from docs.views import pictures
from tests.explorer import VIEWS, settle, view
from tests.site import BUILT, KILOBYTE, NEEDS_SITE, serious, visit

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
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_state_is_accessible_and_fits(
    browser: Browser, home: str, name: str, size: dict[str, int]
) -> None:
    seen = set()
    with view(browser, home, name, viewport=size) as figure:
        for state in itertools.chain(["at first"], states(figure)):
            settle(figure.page)
            for theme in ("light", "dark"):
                figure.page.emulate_media(color_scheme=theme)
                bad = serious(figure.page, f"figure[data-view={name}]")
                assert bad == [], (state, theme)
            wide = figure.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size["width"], state
            seen.add(shown(figure))
        assert len(seen) > 3  # the states differ


@pytest.mark.parametrize("name", VIEWS)
def test_every_slider_has_a_name_that_is_spoken(browser: Browser, home: str, name: str) -> None:
    with view(browser, home, name) as figure:
        for label in figure.locator("label.slider > span:first-child").all_inner_texts():
            assert figure.get_by_role("slider", name=label, exact=True).count() == 1, label
        assert figure.page.get_by_role("figure", name=name).count() == 1


def everything(figure: Locator) -> object:
    """What a view shows, the pixels of its canvases and its controls' values included."""
    return figure.evaluate(
        """(host) => [host.querySelector(".drawing").innerHTML, host.innerText,
          [...host.querySelectorAll("canvas")].map((one) => one.toDataURL()),
          [...host.querySelectorAll("input")].map((one) => [one.value, one.checked])]"""
    )


@pytest.mark.parametrize("name", VIEWS)
def test_an_address_reproduces_what_is_shown(browser: Browser, home: str, name: str) -> None:
    with view(browser, home, name) as figure:
        first = everything(figure)
        move(figure)
        address, moved = figure.page.url, everything(figure)
    assert moved != first
    with view(browser, home, name, address.partition("?")[2]) as figure:
        assert everything(figure) == moved


@pytest.mark.parametrize("name", VIEWS)
def test_an_address_that_makes_no_sense_does_no_harm(
    browser: Browser, home: str, name: str
) -> None:
    with view(browser, home, name) as figure:
        move(figure)
        keys = [one.partition("=")[0] for one in figure.page.url.partition("?")[2].split("&")]
    assert keys != [""]
    for junk in ("nonsense", "-3.7", "1e9", "1e999", "toString", " 0123", ""):
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
def test_choices_answer_to_the_arrow_keys(browser: Browser, home: str, name: str) -> None:
    with view(browser, home, name) as figure:
        for choice in figure.locator(".choice").all():
            chosen = choice.locator("input:checked")
            before, value = shown(figure), chosen.input_value()
            chosen.press("ArrowRight")
            settle(figure.page)
            assert choice.locator("input:checked").input_value() != value
            assert shown(figure) != before


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("by", ["mouse", "touch"])
def test_sliders_and_choices_answer_to_hands(
    browser: Browser, home: str, name: str, by: str
) -> None:
    touch = by == "touch"
    with view(browser, home, name, viewport=NARROW, has_touch=touch) as figure:
        for control in figure.locator("input[type=range], .choice label").all():
            if control.is_disabled():
                continue
            chosen = control.locator("input:checked").count()
            control.scroll_into_view_if_needed()
            box, before = control.bounding_box(), shown(figure)
            assert box is not None
            assert box["height"] >= 24  # pixels, as WCAG 2.2 asks for what is touched
            left = control.evaluate("(one) => Number(one.value) > 0")  # of a slider, to its start
            x, y = 6 if left else box["width"] - 6, box["height"] / 2
            if touch:
                control.tap(position={"x": x, "y": y})
            elif control.evaluate("(one) => one.localName === 'label'"):
                control.click()
            else:
                figure.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + y)
                figure.page.mouse.down()
                figure.page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
                figure.page.mouse.up()
            settle(figure.page)
            assert (shown(figure) != before) != bool(chosen), control.inner_text()


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_moves_for_those_who_ask_for_less_motion(
    browser: Browser, home: str, name: str
) -> None:
    running = "document.getAnimations().length"
    with view(browser, home, name, reduced_motion="reduce") as figure:
        for _ in states(figure):
            figure.page.wait_for_timeout(30)
            assert figure.page.evaluate(running) == 0
    if name == "bottleneck":  # the one whose bars take a moment
        with view(browser, home, name, reduced_motion="no-preference") as figure:
            figure.locator("input[type=range]").last.press("End")
            figure.page.wait_for_function(f"{running} > 0")


@pytest.mark.parametrize("name", VIEWS)
def test_a_link_to_a_view_leads_there_on_a_phone(browser: Browser, home: str, name: str) -> None:
    # Without the theme's smooth scrolling, which takes seconds.
    context = browser.new_context(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{home}explorer.html#view-{name}", wait_until="networkidle")
    settle(page)
    top = page.locator(f"#view-{name}").evaluate("(one) => one.getBoundingClientRect().top")
    context.close()
    # The last figure cannot rise to the upper edge.
    assert -10 < top < 120 or name == VIEWS[-1], top


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
    drawn = dict(pictures(browser))
    assert {Path(name).stem for name in drawn} == {*VIEWS, "wiring-small"}
    for name, text in drawn.items():
        stored = (DOCS / "_pictures" / name).read_text()
        # Browsers differ in how they compress an image.
        one, other = (re.sub(r"base64,[^\"]*", "", file) for file in (stored, text))
        assert one == other, f"{name} has changed: make figures"


def test_the_site_shows_the_words_of_the_modules(browser: Browser, home: str) -> None:
    for name in VIEWS:  # the site's modules are shortened, and no string may lose a space
        drawing, _, sentence = (DOCS / "_pictures" / f"{name}.html").read_text().partition("<!--")
        stored = BeautifulSoup(drawing, "html.parser").get_text()
        with view(browser, home, name) as figure:
            assert figure.locator(".drawing").text_content() == stored.rstrip("\n")
            assert (figure.locator(".says").text_content() or "") in sentence


def test_equations_and_tutorials_lead_to_the_explorer(browser: Browser, home: str) -> None:
    for page in BUILT.glob("tutorials/*.html"):
        assert "explorer.html#" in page.read_text(), page.name
    equations = BeautifulSoup((BUILT / "equations.html").read_bytes(), "html.parser")
    found = {}
    for link in equations.find_all("a", href=re.compile(r"^explorer\.html\?")):
        with view(browser, home, "wiring", str(link["href"]).partition("?")[2]) as figure:
            found[link.text] = figure.locator(".says").inner_text().partition(":")[0]
    operators = ("SC", "GC", "TBC", "TGC", "FC", "TFC")
    assert found == {f"{name} in the explorer": name for name in operators}


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
        standard, *tied = (one.split(":")[0] for one in said)
        assert standard == "B = 1 is a standard convolution"
        assert tied == ["B = 2", "B = 4", "B = 8"]
        assert "?" not in seen.page.url  # the first page keeps its address
        assert seen.complaints == []
