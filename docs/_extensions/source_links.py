"""Links from the pages with source code back to the descriptions.

sphinx.ext.viewcode keeps one prefix for each module, that of the first name it meets. But a
package describes some names as its own (`tbc_gpu.tie`) and others as a module's
(`tbc_gpu.algorithms.fold`), so half of the links would lead nowhere.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LINK = re.compile(r'(<div class="viewcode-block" id="([^"]+)">\n<a [^>]*href="[^"#]*)#[^"]*"')


def mend_links(
    app: Sphinx,
    page: str,
    _template: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Let each link lead to the name as it is described: in its module, or a package above."""
    if not page.startswith("_modules/"):
        return
    # Names of Python's own are listed among the modules, but have no source.
    context["body"] = re.sub(r'<li><a href="builtins\.html">.*</li>\n', "", context["body"])
    parts = page.removeprefix("_modules/").split("/")
    places = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    described = app.env.domaindata["py"]["objects"]

    def led(match: re.Match[str]) -> str:
        names = [f"{place}.{match[2]}" for place in places]
        found = next((described[name].node_id for name in names if name in described), None)
        return f'{match[1]}#{found}"' if found else f'{match[1]}"'

    context["body"] = LINK.sub(led, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend the pages when viewcode has written them."""
    app.connect("html-page-context", mend_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
