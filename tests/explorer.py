"""The explorer in the system's Chromium: how its tests set controls and read what is shown.

`python -m tests.explorer` prints how fast each view redraws while its sliders move, on a processor
that is slowed down four times, and what the explorer weighs.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, Page
from rich.console import Console
from rich.table import Table

from tests.site import KILOBYTE, chromium, hosted, visit

VIEWS = ("wiring", "gradient", "photographs", "budget", "pixels", "bottleneck")
SLOWER = 4
FRAMES = """() => {
  window.frames_ = [];
  let last = performance.now();
  const next = (now) => {
    window.frames_.push(now - last);
    last = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""


@contextmanager
def view(
    browser: Browser, home: str, name: str, query: str = "", **options: object
) -> Iterator[Locator]:
    """Open the explorer, and wait for one view to be drawn by its module.

    Args:
        browser: the browser.
        home: address of the site.
        name: name of the view.
        query: what follows the question mark in the address.
        options: of the browser's context, such as `has_touch`.

    Yields:
        The figure.
    """
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}} | options)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{home}explorer.html?{query}")
    figure = page.locator(f"figure.alive[data-view={name}]")
    figure.wait_for()
    settle(page)
    yield figure
    context.close()


def settle(page: Page) -> None:
    """Wait until what was set has been drawn, and written into the address."""
    page.wait_for_timeout(300)


def slide(figure: Locator, label: str, value: int) -> None:
    """Move a slider by the arrow keys until it shows a value, on the shortest way."""
    slider = figure.locator("label.slider", has_text=label).locator("input")
    for _ in range(int(slider.get_attribute("max") or 0)):
        now = int(slider.get_attribute("aria-valuetext") or 0)
        if now != value:
            slider.press("ArrowRight" if now < value else "ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == f"{value}"


def swipe(figure: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Move a finger."""
    session = figure.page.context.new_cdp_session(figure.page)
    for step in range(11):
        x, y = (a + (b - a) * step / 10 for a, b in zip(start, end, strict=True))
        kind = "touchMove" if step else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def middle(part: Locator) -> tuple[float, float]:
    """The middle of an element, on the screen."""
    part.scroll_into_view_if_needed()
    box = part.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def measured(figure: Locator) -> list[float]:
    """Milliseconds between frames while the mouse drags each slider of a view, in a second each."""
    page = figure.page
    address = page.url
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    times: list[float] = []
    ranges = "input[type=range]:enabled"  # dragged to the right; weights are dragged up and down
    for i in range(figure.locator(f"{ranges}, [role=slider][tabindex='0']").count()):
        slider = figure.locator(f"{ranges}, [role=slider][tabindex='0']").nth(i)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        flat = slider.evaluate("(one) => one.localName === 'input'")
        left, middle = box["x"] + (8 if flat else box["width"] / 2), box["y"] + box["height"] / 2
        page.mouse.move(left, middle)
        page.mouse.down()
        page.evaluate(FRAMES)
        for step in range(60):
            if flat:
                page.mouse.move(left + (box["width"] - 16) * step / 59, middle)
            else:
                page.mouse.move(left, middle - 60 * abs(step % 30 - 15) / 15)
            page.wait_for_timeout(1000 / 60)
        times += page.evaluate("window.frames_.slice(1)")
        page.mouse.up()
        page.goto(address)
        figure.wait_for()
    session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    return times


def main() -> None:
    """Print how fast the views redraw, and what they weigh."""
    table = Table(title=f"While a slider is dragged, on a processor slowed {SLOWER} times")
    for heading in ("view", "frames a second (median)", "frames within 1/30 s"):
        table.add_column(heading, justify="left" if heading == "view" else "right")
    with hosted() as home, chromium() as browser:
        with visit(browser, f"{home}explorer.html", settled=True) as seen:
            own = {address: size for address, size in seen.sizes.items() if "/explorer/" in address}
        largest = ("wiring", "wiring.in=12&wiring.out=12&wiring.blocks=1")
        for name, query in [*((name, "") for name in VIEWS), largest]:
            with view(browser, home, name, query) as figure:
                times = measured(figure)
            share = sum(time < 34 for time in times) / len(times)
            label = f"{name}, 144 weights" if query else name
            table.add_row(label, f"{1000 / statistics.median(times):.0f}", f"{100 * share:.0f} %")
    weights = Table("file", "kilobytes", title="What the explorer adds to a page, uncompressed")
    for address, size in sorted(own.items()):
        weights.add_row(address.rpartition("/")[2], f"{size / KILOBYTE:.1f}")
    weights.add_row("all", f"{sum(own.values()) / KILOBYTE:.1f}")
    Console().print(table, weights)


if __name__ == "__main__":
    main()
