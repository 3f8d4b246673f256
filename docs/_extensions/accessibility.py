"""What the theme leaves out for keyboards and screen readers."""

import re
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode, depart_HideCellInput
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

REPLACED = {
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Site navigation">',
    '<aside class="toc-drawer': '<aside aria-label="On this page" class="toc-drawer',
    'role="heading"': 'role="heading" aria-level="2"',
    # What is wider than the page is reached by the arrow keys.
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}
EMPTY_HEADER = re.compile(r"<th\b([^>]*)>(<p></p>|\s)*</th>")


def mend(body: str) -> str:
    """Label the landmarks of a page, and let the keyboard reach what scrolls."""
    for old, new in REPLACED.items():
        body = body.replace(old, new)
    return EMPTY_HEADER.sub(r"<td\1></td>", body)


def visit_folded_cell(self: HTML5Translator, node: HideCodeCellNode) -> None:
    """Write the head of a folded cell, named by its own words: "Solution 1"."""
    classes = " ".join(node["classes"])
    shown, hidden = (self.encode(node[f"prompt_{key}"]) for key in ("show", "hide"))
    self.body.append(
        f'<details class="admonition hide {classes}">\n<summary>'
        f'<p class="collapsed admonition-title">{shown}</p>'
        f'<p class="expanded admonition-title">{hidden}</p></summary>\n'
    )


def offer_mend(
    _app: Sphinx,
    _page: str,
    _template: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Give `mend` to `_templates/page.html`, through which every page goes."""
    context["mend"] = mend


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the summary that myst-nb labels "Toggle hidden content" for every cell alike."""
    app.setup_extension("myst_nb")
    app.add_node(HideCodeCellNode, override=True, html=(visit_folded_cell, depart_HideCellInput))
    app.connect("html-page-context", offer_mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
