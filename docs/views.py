"""Draw what the explorer shows without JavaScript: each view as it stands before it is moved.

The modules draw themselves in the system's Chromium, and what they drew becomes `_pictures/*.html`.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Route

from tbc_models.files import write_text
from tests.explorer import VIEWS
from tests.site import chromium

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
# Canvases become images, and what only a script can move loses its role.
STANDING = """(host) => {
  for (const canvas of host.querySelectorAll("canvas")) {
    const image = new Image(canvas.width, canvas.height);
    image.src = canvas.toDataURL("image/webp", 0.7);
    image.className = canvas.className;
    image.alt = canvas.getAttribute("aria-label") ?? "";
    canvas.replaceWith(image);
  }
  for (const one of host.querySelectorAll(".drawing button")) {
    const still = document.createElement("div");
    still.className = one.className;
    still.append(...one.childNodes);
    one.replaceWith(still);
  }
  for (const part of host.querySelectorAll(".drawing :not(svg, img)"))
    for (const { name } of [...part.attributes])
      if (/^(role|tabindex|aria-.*)$/.test(name)) part.removeAttribute(name);
  for (const picture of host.querySelectorAll("svg")) picture.setAttribute("role", "img");
  return [".drawing", ".says"].map((part) => host.querySelector(part).innerHTML);
}"""


def pictures(browser: Browser) -> Iterator[tuple[str, str]]:
    """Draw every view, and the small one of the first page.

    Args:
        browser: the browser that draws.

    Yields:
        Name of the file in `_pictures`, and its text: the drawing, and the sentence below it.
    """
    from explorer import numbers

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix("http://explorer/")
        if path.endswith(".html"):
            name, _, small = path.removesuffix(".html").partition("-")
            figure = f'<figure data-view="{name}" {"data-small" if small else ""}>'
            parts = "<div class=drawing></div><div class=controls></div><p class=says></p>"
            script = f'</figure><script type="module" src="{name}.js"></script>'
            route.fulfill(content_type="text/html", body=figure + parts + script)
        elif path == "explorer.json":
            route.fulfill(body=json.dumps(numbers()))
        else:
            route.fulfill(path=HERE / "_static" / "explorer" / path)

    for name in (*VIEWS, "wiring-small"):
        page = browser.new_page()
        page.route("http://explorer/**", answer)
        page.goto(f"http://explorer/{name}.html")
        drawn = page.locator("figure.alive")
        drawn.wait_for(state="attached")
        page.wait_for_timeout(200)  # two frames, and the decoding of photographs
        drawing, sentence = drawn.evaluate(STANDING)
        yield f"{name}.html", f"{in_tenths(drawing)}\n<!-- says -->\n{sentence}\n"
        page.close()


def in_tenths(text: str) -> str:
    """Round the numbers of attributes that are finer than a tenth of a pixel."""

    def rounded(attribute: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", attribute[0])

    return re.sub(r'="[^"]*"', rounded, text)


def main() -> None:
    """Write the pictures."""
    with chromium() as browser:
        for name, text in pictures(browser):
            write_text(HERE / "_pictures" / name, text)


if __name__ == "__main__":
    main()
