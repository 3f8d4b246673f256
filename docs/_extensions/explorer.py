"""The explorer: figures that are drawn in the page, and moved by the modules of `_static/explorer`.

`{view} NAME` puts the picture `_pictures/NAME.html` into the page, as SVG that follows the theme,
and loads the module `NAME.js`, which draws it again. The role {explorer}`GC <wiring.groups=2>`
links to a view in a given state. The numbers that the modules show come from `explorer.json`,
which every build makes from `tbc_ref.cost`.
"""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import ReferenceRole, SphinxDirective

from tbc_models.files import write_text
from tbc_models.networks.bottleneck import BLOCKS
from tbc_models.paper.reported import TABLES
from tbc_ref import cost

DOCS = Path(__file__).parent.parent
CHANNELS = (4, 6, 8, 12)


def numbers() -> dict[str, Any]:
    """What the modules show: for each view, the settings that it offers and what they cost."""
    return {
        "wiring": wiring(),
        "photographs": {
            "tbc": cost.tied_block_conv(4, 4, 3, blocks=4).weights,
            "gc": cost.group_conv(4, 4, 3, groups=4).weights,
        },
        "budget": budget(),
        "bottleneck": bottleneck(),
    }


def wiring() -> dict[str, Any]:
    """Weights and MACs of every layer that can be wired, by "c_i,c_o" and then by "G,B"."""
    costs: dict[str, dict[str, list[int]]] = {}
    for c_i, c_o, groups, blocks in product(CHANNELS, CHANNELS, range(1, 13), range(1, 13)):
        if c_i % (groups * blocks) == c_o % (groups * blocks) == 0:
            layer = cost.tied_block_group_conv(c_i, c_o, 1, groups=groups, blocks=blocks)
            counts = [layer.weights, layer.macs]
            costs.setdefault(f"{c_i},{c_o}", {})[f"{groups},{blocks}"] = counts
    return {"channels": CHANNELS, "costs": costs}


def budget() -> dict[str, list[list[int]]]:
    """A 3x3 layer on a 56x56 map with the width, weights or MACs of SC with 48 channels.

    Returns:
        For what is locked, and each B: B, channels, weights and MACs.
    """
    found: dict[str, list[list[int]]] = {}
    for locked, power in {"width": 0, "weights": 1, "macs": 0.5}.items():
        found[locked] = []
        for blocks in (1, 2, 3, 4, 6, 8):
            channels = round(48 * blocks**power / blocks) * blocks  # B divides them
            layer = cost.tied_block_conv(channels, channels, 3, blocks=blocks, output_size=56)
            found[locked].append([blocks, channels, layer.weights, layer.macs])
    return found


def bottleneck() -> dict[str, Any]:
    """The usual B of each number of splits, and the networks whose counts the paper reports."""
    networks = [
        ("TiedResNet50-S", 1, "TiedResNet50-S", 4, 18, "sum"),
        ("TiedResNet50", 1, "TiedResNet50", 4, 32, "sum"),
        ("2s48w", 5, "2s×48w", 2, 48, "sum"),
        ("6s24w", 5, "6s×24w", 6, 24, "sum"),
        ("8s18w", 5, "8s×18w", 8, 18, "sum"),
        ("the mixer that concatenates", 6, "concatenate", 4, 32, "concatenate"),
    ]
    rows = []
    for name, table, row, splits, width, mixer in networks:
        printed = {one.column: one.printed for one in TABLES[table] if one.row == row}
        counts = {"parameters": printed["params (M)"], "macs": printed.get("GFlops")}
        rows.append({"name": name, "splits": splits, "width": width, "mixer": mixer, **counts})
    return {"blocks": BLOCKS, "rows": rows}


class View(SphinxDirective):
    """A figure of the explorer; `:small:` is for the first page."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"small": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Put the figure into the page."""
        name = self.arguments[0]
        up = "../" * self.env.docname.count("/")
        small = "small" in self.options
        picture = DOCS / "_pictures" / f"{name}{'-small' if small else ''}.html"
        self.env.note_dependency(str(picture))
        drawing, _, sentence = picture.read_text().partition("\n<!-- says -->\n")
        figure = (
            f'<figure class="view" aria-label="{name}" data-view="{name}" '
            f"{'data-small' if small else f'id=view-{name}'}>"
            f'<div class="drawing">{drawing}</div><div class="controls"></div>'
            f'<p class="says" aria-live="polite">{sentence.strip()}</p></figure>'
            f'<script type="module" src="{up}_static/explorer/{name}.js"></script>'
        )
        return [nodes.raw("", figure, format="html")]


class Shown(ReferenceRole):
    """A link to a view as the controls are set: {explorer}`GC <wiring.groups=2>`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the link."""
        up = "../" * self.env.docname.count("/")
        view = self.target.partition(".")[0]
        address = f"{up}explorer.html?{self.target}#view-{view}"
        return [nodes.reference("", self.title, refuri=address, internal=True)], []


def shortened(text: str) -> str:
    """A module or a style without comments, indentation, and spaces that no string has."""
    text = re.sub(r"^\s+", "", re.sub(r"/\*.*?\*/ ?", "", text, flags=re.S), flags=re.M)
    return re.sub(r" (=>|===|!==|&&|\|\||\?\?|\+=|\{) ", r"\1", text)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write `explorer.json` beside the modules, and shorten them and their style."""
    if error or app.builder.format != "html":
        return
    source, folder = DOCS / "_static" / "explorer", Path(app.outdir) / "_static" / "explorer"
    written = {"explorer.json": json.dumps(numbers(), separators=(",", ":"))}
    for path in (*source.glob("*.js"), *source.glob("*.css")):
        written[path.name] = shortened(path.read_text())
    written["explorer.css"] = re.sub(r"([:;,{}])\s+", r"\1", written["explorer.css"])
    for name, text in written.items():
        write_text(folder / name, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive, the role, the style, and the numbers."""
    app.add_directive("view", View)
    app.add_role("explorer", Shown())
    app.add_css_file("explorer/explorer.css")
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
