"""The built site as visitors meet it: in a browser, at three widths, in both themes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

from tests.site import BUILT, KILOBYTE, NEEDS_SITE, pages, serious, visit

pytestmark = NEEDS_SITE
PAGES = pages() if BUILT.exists() else []
TUTORIALS = [page for page in PAGES if page.startswith("tutorials/")]

# Elements beyond the right edge of the page, unless something around them scrolls or hides them.
TOO_WIDE = """() => {
  const clipped = (element) => {
    for (let one = element.parentElement; one && one !== document.body; one = one.parentElement)
      if (!one.matches('.content') && getComputedStyle(one).overflowX !== 'visible') return true;
    return false;
  };
  const shown = [...document.querySelectorAll('.content *')].filter(
    (one) => one.checkVisibility() && one.getBoundingClientRect().width > 0);
  const found = shown.filter(
    (one) => one.getBoundingClientRect().right > innerWidth + 1 && !clipped(one));
  if (document.documentElement.scrollWidth > innerWidth + 1) found.push(document.documentElement);
  return found.map((one) => one.outerHTML.slice(0, 120));
}"""
CUT_CODE = """() => [...document.querySelectorAll('pre')]
  .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.textContent.split('\\n').sort((a, b) => b.length - a.length)[0])"""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_fits_and_is_accessible(browser: Browser, home: str, page: str) -> None:
    with visit(browser, home + page) as seen:
        shown = seen.page
        problems: dict[str, list[Any]] = {"console and network": seen.complaints}
        problems["formulas with an error"] = shown.locator(".katex-error").all_text_contents()
        unrendered = shown.locator(".math:not(:has(.katex))")
        problems["formulas not rendered"] = unrendered.all_text_contents()
        shown.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        shown.wait_for_timeout(400)  # what is unfolded fades in for 0.3 s
        for theme in ("light", "dark"):
            shown.emulate_media(color_scheme=theme)
            problems[f"axe, {theme}"] = serious(shown)
        problems["cut code at 1400"] = shown.evaluate(CUT_CODE)
        for width in (1400, 768, 390):
            shown.set_viewport_size({"width": width, "height": 900})
            problems[f"too wide at {width}"] = shown.evaluate(TOO_WIDE)
        problems["axe at 390"] = serious(shown)
        assert {kind: found for kind, found in problems.items() if found} == {}


def test_every_internal_link_and_anchor_leads_somewhere() -> None:
    files = sorted(BUILT.rglob("*.html"))
    soups = {
        path.relative_to(BUILT).as_posix(): BeautifulSoup(path.read_bytes(), "html.parser")
        for path in files
    }
    names = {
        page: {tag.get("id") for tag in soup.find_all(id=True)} | {"", "top"}
        for page, soup in soups.items()
    }
    broken = set()
    for page, soup in soups.items():
        for link in soup.find_all("a", href=True):
            target, anchor = urldefrag(urljoin(f"https://here/{page}", str(link["href"])))
            path = target.removeprefix("https://here/").partition("?")[0] or "index.html"
            if not target.startswith("https://here/") or page == "404.html":
                continue
            if path in names:
                if unquote(anchor) not in names[path]:
                    broken.add((page, link["href"]))
            elif not (BUILT / unquote(path)).exists():
                broken.add((page, link["href"]))
    assert len(files) > 40
    assert broken == set()


@pytest.mark.parametrize("words", ["TBC", "B squared", "parameters"])
def test_search_finds_pages_before_the_api(browser: Browser, home: str, words: str) -> None:
    with visit(browser, f"{home}search.html?q={words}") as seen:
        results = seen.page.locator("#search-results ul.search > li > a:first-child")
        results.nth(2).wait_for()
        found = [str(results.nth(i).get_attribute("href")) for i in range(3)]
    assert not any("api/" in one or "changelog" in one for one in found), found


def test_the_first_screen_weighs_less_than_300_kilobytes(browser: Browser, home: str) -> None:
    with visit(browser, home, settled=True) as seen:
        assert sum(seen.sizes.values()) < 300 * KILOBYTE, seen.sizes


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_weighs_less_than_a_megabyte(browser: Browser, home: str, page: str) -> None:
    with visit(browser, home + page, settled=True) as seen:
        assert sum(seen.sizes.values()) < 1000 * KILOBYTE, seen.sizes


@pytest.mark.parametrize("page", TUTORIALS)
def test_tutorials_offer_their_notebook_and_name_their_solutions(
    browser: Browser, home: str, page: str
) -> None:
    with visit(browser, home + page) as seen:
        notebook = seen.page.locator(".tutorial-links a.download").first
        assert str(notebook.get_attribute("href")).endswith(".ipynb")
        named = seen.page.locator("summary", has_text="Solution 1")
        named.first.focus()
        seen.page.keyboard.press("Enter")
        assert seen.page.locator("details[open]", has=named).count() == 1


def test_a_published_site_knows_its_addresses(tmp_path: Path) -> None:
    addresses = {
        "SITE_URL": "https://tbc.example/docs/",
        "REPOSITORY_URL": "https://github.com/somebody/tied-block-conv",
    }
    source = tmp_path / "clone"
    for folder in ("docs", "tutorials"):
        ignored = shutil.ignore_patterns("_build")
        shutil.copytree(BUILT.parents[2] / folder, source / folder, ignore=ignored)
    kept = ("install.md", "tutorials/01-share-one-thin-filter.md")
    left_out = ["tutorials/*.ipynb"]
    left_out += [
        path.relative_to(source / "docs").as_posix()
        for path in (source / "docs").rglob("*.md")
        if path.relative_to(source / "docs").as_posix() not in kept
    ]
    subprocess.run(  # noqa: S603 (our own command)
        [
            *(sys.executable, "-m", "sphinx", "-q", "-D", "root_doc=install"),
            *("-D", "exclude_patterns=" + ",".join(left_out), "-D", "nb_execution_mode=off"),
            *(source / "docs", tmp_path / "html"),
        ],
        env=os.environ | addresses,
        check=True,
        capture_output=True,
    )
    page = BeautifulSoup((tmp_path / "html" / "install.html").read_bytes(), "html.parser")
    canonical = page.find("link", rel="canonical")
    assert canonical is not None
    assert canonical["href"] == "https://tbc.example/docs/install.html"
    preview = page.find("meta", property="og:image")
    assert preview is not None
    assert preview["content"] == "https://tbc.example/docs/_static/social.png"
    assert (tmp_path / "html" / "_static" / "social.png").exists()
    assert f"git clone {addresses['REPOSITORY_URL']}" in page.text
    assert page.find("a", rel="edit", href=re.compile("^" + addresses["REPOSITORY_URL"]))
    assert "https://tbc.example/docs/install.html" in (tmp_path / "html/sitemap.xml").read_text()
    assert "/docs/_static/" in (tmp_path / "html" / "404.html").read_text()
    tutorial = (tmp_path / "html" / "tutorials/01-share-one-thin-filter.html").read_text()
    edit = addresses["REPOSITORY_URL"] + "/edit/main/tutorials/01-share-one-thin-filter.md"
    assert edit in tutorial
    colab = "https://colab.research.google.com/github/somebody/tied-block-conv/blob/main/tutorials/"
    assert colab + "01-share-one-thin-filter.ipynb" in tutorial
