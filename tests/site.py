"""The built site in the system's Chromium: what the tests of the site share.

`python -m tests.site` prints what each page weighs, as a first visit transfers it.
"""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, sync_playwright
from rich.console import Console
from rich.table import Table

BUILT = Path(__file__).parent.parent / "docs" / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for path in map(shutil.which, NAMES) if path), None)
KILOBYTE = 1000
NEEDS_SITE = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(not BUILT.exists(), reason="the site is not built: make site"),
]


def pages() -> list[str]:
    """The pages of the site, without the copies of the source code."""
    found = (path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*.html"))
    return sorted(page for page in found if not page.startswith(("_modules/", "_static/")))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line on the terminal for each."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def hosted() -> Iterator[str]:
    """Host the built site, and give its address."""
    handler = functools.partial(Quiet, directory=str(BUILT))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """What happened while a page was loaded.

    Attributes:
        page: the loaded page.
        complaints: errors of the console, exceptions, failed requests and requests elsewhere.
        sizes: bytes of each file that was loaded.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


@contextmanager
def visit(browser: Browser, address: str, *, settled: bool = False) -> Iterator[Visit]:
    """Load a page as a first visitor would, in a browser that has cached nothing.

    Args:
        browser: the browser.
        address: address of the page.
        settled: wait until nothing is loaded any more, fonts included.

    Yields:
        The loaded page, and what happened.
    """
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    seen = Visit(context.new_page())
    home = address.split("/", 3)[2]

    def received(response: Response) -> None:
        if response.url.split("/", 3)[2] != home:
            seen.complaints.append(f"outside request: {response.url}")
        elif response.status >= 400:
            seen.complaints.append(f"{response.status}: {response.url}")
        else:
            seen.sizes[response.url] = len(response.body())

    seen.page.on("console", lambda message: _complain(seen, message.type, message.text))
    seen.page.on("pageerror", lambda error: _complain(seen, "error", str(error)))
    seen.page.on("response", received)
    seen.page.goto(address, wait_until="networkidle" if settled else "load")
    yield seen
    context.close()


def serious(page: Page, part: str | None = None) -> list[tuple[str, int, str]]:
    """The rules of axe that a page breaks badly, how often, and the first element that does.

    Args:
        page: the page.
        part: CSS selector of the part to look at; by default the whole page.
    """
    found = Axe().run(page, context=part).response["violations"]
    return [
        (one["id"], len(one["nodes"]), one["nodes"][0]["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def _complain(seen: Visit, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        seen.complaints.append(f"{kind}: {text}")


def main() -> None:
    """Print a table of the weights, the heaviest first."""
    table = Table(
        "page", "kilobytes", "requests", title="What a first visit transfers, uncompressed"
    )
    rows = []
    with hosted() as home, chromium() as browser:
        for page in pages():
            with visit(browser, home + page, settled=True) as seen:
                rows.append((sum(seen.sizes.values()) / KILOBYTE, len(seen.sizes), page))
    for kilobytes, requests, page in sorted(rows, reverse=True):
        table.add_row(page, f"{kilobytes:,.0f}", str(requests))
    Console().print(table)


if __name__ == "__main__":
    main()
