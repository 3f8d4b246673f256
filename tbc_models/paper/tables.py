"""The paper's Tables 1 to 6 regenerated: what it reports beside what we count.

Parameters are counted on the built network, MACs by the operations that PyTorch runs for one
image of 224x224 pixels (`tbc_models.count.measure`). Accuracies are the paper's alone.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from itertools import groupby
from string import ascii_lowercase
from typing import Any, get_args

from rich import box
from rich.console import Group
from rich.table import Table as RichTable

from tbc_models.count import measure
from tbc_models.networks.bottleneck import Design
from tbc_models.networks.registry import build
from tbc_models.paper.reported import TABLES, Reported

DESIGNS: tuple[str, ...] = get_args(Design)


@dataclass(frozen=True)
class Network:
    """The network that a row of the paper is about.

    Attributes:
        name: as registered with timm.
        options: of the network.
        of: row whose network the percentages refer to.
        counted: "model", or "attention" if the row's parameters are those of the attention.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    of: str = ""
    counted: str = "model"

    @property
    def designs(self) -> tuple[str, ...]:
        """The designs there are of it, three if it is of tied bottlenecks and else one."""
        tied = self.name.startswith(("tied_resnet", "tied_resnext", "tied_senet"))
        return DESIGNS if tied else ("",)


@dataclass(frozen=True)
class Comparison:
    """One number of the paper and ours.

    Attributes:
        table: number of the table.
        row: as the paper names it.
        column: as the paper names it, with its unit; "…, all" are MACs with batch
            normalisation, activations and pooling, beside the same number of the paper.
        reported: by the paper, as it is printed.
        design: of the tied bottleneck; "" where there is one network only.
        ours: counted, None where nothing was.
        difference: ours − reported.
        reason: why the difference exceeds the rounding of the printed number, or "".
    """

    table: int
    row: str
    column: str
    reported: str
    design: str = ""
    ours: float | None = None
    difference: float | None = None
    reason: str = ""


_FAST = {"block_args": {"radix": 2, "avd": True, "avd_first": True}}

NETWORKS: dict[int, dict[str, Network]] = {
    1: {
        "ResNet50": Network("resnet50"),
        "TiedResNet50-S": Network("tied_resnet50_s", of="ResNet50"),
        "TiedResNet50": Network("tied_resnet50", of="ResNet50"),
        "ResNet101": Network("resnet101"),
        "TiedResNet101-S": Network("tied_resnet101_s", of="ResNet101"),
        "TiedResNet101": Network("tied_resnet101", of="ResNet101"),
        "ResNeXt101-32×4d": Network("resnext101_32x8d"),
        "TiedResNeXt101-S": Network("tied_resnext101_s", of="ResNeXt101-32×4d"),
        "SENet101": Network("seresnet101"),
        "SENet101 ‡": Network("seresnet101"),
        "TiedSENet101-S": Network("tied_senet101_s", of="SENet101"),
        "TiedSENet101-S †": Network("tied_senet101_s", of="SENet101"),
        "TiedSENet101": Network("tied_senet101", of="SENet101"),
        "ResNeSt-50-fast ‡": Network("resnest50d", _FAST),
        "TiedResNeSt50-S": Network("tied_resnest50_s", of="ResNeSt-50-fast ‡"),
        "TiedResNet50-S (2nd)": Network("tied_resnet50_s"),
    },
    2: {
        "ResNet50": Network("resnet50"),
        "TiedResNet50-S": Network("tied_resnet50_s"),
        "TiedResNet50": Network("tied_resnet50"),
    },
    3: {
        **dict.fromkeys(
            ["SEResNet-50, SE", "SEResNet-50, SE ‡"],
            Network("seresnet50", of="SEResNet-50, SE", counted="attention"),
        ),
        **{
            f"SEResNet-50, TiedSE B={B}": Network(
                "tied_seresnet50", {"blocks": B}, "SEResNet-50, SE", "attention"
            )
            for B in (2, 4, 8)
        },
        "EfficientNet-B0, SE": Network(
            "efficientnet_b0", of="EfficientNet-B0, SE", counted="attention"
        ),
        **{
            f"EfficientNet-B0, TiedSE B={B}": Network(
                "tied_efficientnet_b0", {"blocks": B}, "EfficientNet-B0, SE", "attention"
            )
            for B in (2, 4)
        },
    },
    4: {
        "+GCB": Network("gc_resnet50", of="+GCB", counted="attention"),
        "+TiedGCB B=2": Network("tied_gc_resnet50", {"blocks": 2}, "+GCB", "attention"),
        "+TiedGCB B=4": Network("tied_gc_resnet50", {"blocks": 4}, "+GCB", "attention"),
    },
    5: {
        f"{s}s×{w}w": Network("tied_resnet50", {"splits": s, "base_width": w})
        for s, w in ((2, 48), (4, 32), (6, 24), (8, 18))
    },
    6: {
        "element-sum": Network("tied_resnet50"),
        "concatenate": Network("tied_resnet50", {"mixer": "concatenate"}),
    },
}
"""The networks of the rows. A row that is not here has none that we or timm could build."""


def compare(number: int) -> list[Comparison]:
    """Put our counts beside the numbers of one table of the paper.

    Args:
        number: of the table, 1 to 6.

    Returns:
        One comparison for each number that the table prints and each design that there is,
        in the paper's order.

    Raises:
        ValueError: for a table that the paper does not have.

    Example:
        >>> rows = compare(6)
        >>> [(r.reported, r.design, round(r.ours, 2)) for r in rows if r.ours][:2]
        [('22.0', 'literal', 21.2), ('22.0', 'fitted', 21.98)]
    """
    if number not in TABLES:
        raise ValueError(f"`number` (={number}) must be one of the paper's tables, 1 to 6")
    return [c for reported in TABLES[number] for c in _compare(reported)]


def _compare(reported: Reported) -> Iterator[Comparison]:
    table, row, column = reported.table, reported.row, reported.column
    network = NETWORKS[table].get(row)
    if not column.startswith(("params", "model params", "GFlops")):
        yield Comparison(table, row, column, reported.printed)
        return
    if network is None:
        reason = "nobody has published this network in timm; the paper's number stands alone"
        yield Comparison(table, row, column, reported.printed, reason=reason)
        return
    columns = [column, f"{column}, all"] if column == "GFlops" else [column]
    for shown in columns:
        for design in network.designs:
            ours = _ours(network, table, shown, design)
            difference = ours - reported.value
            exceeds = abs(difference) > reported.rounding + 1e-9
            reason = _reason(row, shown, design) if exceeds else ""
            yield Comparison(table, row, shown, reported.printed, design, ours, difference, reason)


def _ours(network: Network, table: int, column: str, design: str) -> float:
    if column.endswith("(%)"):
        base = NETWORKS[table][network.of]
        quantity = column.removesuffix("(%)") + ("(M)" if "params" in column else "")
        quantity = quantity.strip()
        return 100 * _ours(network, table, quantity, design) / _ours(base, table, quantity, "")
    parameters, macs, all_macs, attention = _counts(
        network.name, json.dumps(network.options), design
    )
    if column == "GFlops":
        return macs / 1e9
    if column == "GFlops, all":
        return all_macs / 1e9
    only_attention = column == "params (M)" and network.counted == "attention"
    return (attention if only_attention else parameters) / 1e6


@cache
def _counts(name: str, options: str, design: str) -> tuple[int, int, int, int]:
    chosen = {"design": design} if design else {}
    network = build(name, **json.loads(options), **chosen)
    counted = measure(network)
    attention = sum(
        p.numel() for n, p in network.named_parameters() if ".se." in n
    )  # where timm's blocks keep it
    return counted.parameters, counted.macs, counted.all_macs, attention


# The first pattern that "row | column | design" matches tells why a count is not the paper's.
_TIED = r"(Tied(ResNet|SENet)\d+|\ds×\d+w|element-sum|concatenate)"
_REASONS = [
    (r"^ResNet50 \| GFlops", "not explained by any usual way to count"),
    (r"^ResNet101 \| params", "rounded up by the paper"),
    (r"^(Res|SE)Net101.* \| GFlops", "a little is left even with BN, ReLU and pooling"),
    (r"^SENet101.* \| params", "ours is SE-ResNet-101 with r = 16"),
    (r"^ResNeXt101", "the row is 32×8d; a 32×4d has half the parameters and MACs"),
    (r"^TiedResNeXt101-S \| .*\(%\)", "the printed percentages contradict the row's own numbers"),
    (r"^TiedResNeXt101-S", "out of reach with B = 1, 2, 4, 8, even without groups"),
    (r"^TiedSENet101.* \| GFlops", "as TiedResNet101, and SE adds next to none, not 0.4 to 0.5 G"),
    (
        r"^TiedSENet101.* \| params .*literal",
        "as TiedResNet101; r = 16 adds half of r = 8",
    ),
    (r"^TiedSENet101 .*params .*fitted$", "as TiedResNet101; fitted to that, with r = 8"),
    (r"^ResNeSt", "with BN, ReLU and pooling it rounds to the paper's"),
    (
        r"^TiedResNeSt50-S",
        "all 3x3 and the entries tied at B = 2, as the text says, save more",
    ),
    (
        r"^EfficientNet-B0, SE",
        "squeezes of a quarter of the block's input give this, r = 16 less",
    ),
    (r"^EfficientNet-B0, TiedSE B=4", "squeezes of 1, 1.5 and 2.5 channels a block become 2"),
    (r"^\+TiedGCB B=4", 'a sixteenth, as the text says ("16×"); the printed 13 % is an eighth'),
    (r"^.* \| .*\(%\)", "follows from the counts"),
    (
        r"^6s×24w .*literal",
        "the parameters fit, the MACs do not; B of six splits is ours",
    ),
    (
        rf"^{_TIED}.* \| params .*literal",
        "if the shortcut is tied, about 2.3·p² weights a block are unexplained",
    ),
    (rf"^{_TIED}.* \| GFlops.*literal", "the unexplained weights multiply, too"),
    (r"^([268]s×\d+w|concatenate) .*fitted", "fitted to Table 1, not to the ablations"),
    (rf"^{_TIED}.* \| params .*fitted$", "a fit, within 0.06 M of the paper; it proves nothing"),
    (rf"^{_TIED}.* \| GFlops.*fitted$", "fitted to the parameters, not to the MACs"),
    (r"^TiedResNet101 .*all \| fitted-tbc", "fits without BN, ReLU and pooling"),
    (rf"^{_TIED}.* \| .*fitted-tbc", "fits the two full-size networks, not the -S"),
]


def _reason(row: str, column: str, design: str) -> str:
    key = f"{row} | {column} | {design}"
    return next(reason for pattern, reason in _REASONS if re.search(pattern, key))


def as_text(comparisons: list[Comparison]) -> Group:
    """Lay one table out for the terminal: a line for each number, a column for each design.

    Args:
        comparisons: of one table, from `compare`.

    Returns:
        A table for `rich` to print in 80 characters, its reasons by letter below.

    Example:
        >>> from rich.console import Console
        >>> Console().print(as_text(compare(6)))
        Table 6. The mixer of TiedResNet50...
    """
    number = comparisons[0].table
    headers, lines, reasons = _lines(comparisons)
    table = RichTable(
        title=f"Table {number}. {TABLES[number].caption}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
    )
    table.add_column()
    for header in headers[2:]:
        table.add_column(header, justify="right", no_wrap=True)
    for row, column, *cells in lines:
        if row:
            table.add_section()
            table.add_row(f"[bold]{row}[/bold]")
        table.add_row(f"  {column}", *cells)
    notes = [f"{letter}  {reason}" for reason, letter in reasons.items()]
    return Group(table, *_notes(comparisons), *notes, "")


def as_markdown(comparisons: list[Comparison]) -> str:
    """Lay one table out in Markdown.

    Args:
        comparisons: of one table, from `compare`.

    Returns:
        A heading, the table, and its reasons as a list.

    Example:
        >>> print(as_markdown(compare(2)).splitlines()[0])
        ### Table 2. Instance segmentation on Cityscapes with Mask R-CNN
    """
    number = comparisons[0].table
    headers, lines, reasons = _lines(comparisons)
    head = [f"### Table {number}. {TABLES[number].caption}", "", f"| {' | '.join(headers)} |"]
    rule = "|---|---|" + "--:|" * (len(headers) - 2)
    body = [f"| {' | '.join(line)} |" for line in lines]
    notes = [*_notes(comparisons), *(f"{letter}: {reason}" for reason, letter in reasons.items())]
    return "\n".join([*head, rule, *body, "", *(f"- {note}" for note in notes)]) + "\n"


def as_json(comparisons: list[Comparison]) -> str:
    """Lay tables out as JSON: a list of comparisons, our counts unrounded.

    Args:
        comparisons: from `compare`, of one table or of several.

    Returns:
        The list.

    Example:
        >>> json.loads(as_json(compare(6)))[2]["reported"]
        '22.0'
    """
    return json.dumps([asdict(c) for c in comparisons], indent=1, ensure_ascii=False) + "\n"


def as_csv(comparisons: list[Comparison]) -> str:
    """Lay tables out as comma-separated values: a line for each comparison.

    Args:
        comparisons: from `compare`, of one table or of several.

    Returns:
        The lines, the first of them the names of the columns.

    Example:
        >>> as_csv(compare(6)).splitlines()[1]
        '6,element-sum,top-1 (%),77.61,,,,'
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, [f.name for f in fields(Comparison)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(c) for c in comparisons)
    return file.getvalue()


def _notes(comparisons: list[Comparison]) -> list[str]:
    notes = [
        "paper: as its authors report it; no accuracy was measured by us.",
        "ours: counted on the built network, with the difference; a letter tells its reason.",
    ]
    if any(c.design for c in comparisons):
        notes.append("Of Tied networks ours is the literal design; two fits stand beside it.")
    if any(c.column == "GFlops" for c in comparisons):
        notes.append("GFlops: 10⁹ MACs of convolutions and fc; all: with BN, ReLU and pooling.")
    return notes


def _lines(comparisons: list[Comparison]) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Gather headers, one line for each number of the paper, and the reasons by letter."""
    designs = [d for d in DESIGNS if any(c.design == d for c in comparisons)] or ["literal"]
    headers = ["row", "column", "paper", "ours", *designs[1:]]
    lines: list[list[str]] = []
    reasons: dict[str, str] = {}
    last = ""
    for (row, column), group in groupby(comparisons, key=lambda c: (c.row, c.column)):
        cells = dict.fromkeys(designs, "")
        reported = ""
        for c in group:
            letter = "\u00a0"  # rich would drop a plain space
            if c.reason:
                letter = reasons.setdefault(c.reason, ascii_lowercase[len(reasons)])
            number = ""
            if c.ours is not None and c.difference is not None:
                number = _cell(c.column, c.reported, c.ours, c.difference)
            cells[c.design or "literal"] = f"{number} {letter}" if number or c.reason else ""
            reported = c.reported
        lines.append(["" if row == last else row, column, reported, *cells.values()])
        last = row
    return headers, lines, reasons


def _cell(column: str, reported: str, ours: float, difference: float) -> str:
    digits = len(reported.partition(".")[2]) + 1
    if "%" not in column:
        digits = max(2, digits)
    return f"{ours:.{digits}f} {difference:+.{digits}f}".replace("-", "−")
