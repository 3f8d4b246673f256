"""The paper's Tables 1 to 6 regenerated: its numbers beside our counts.

Parameters are counted on the built network; MACs are those of the operations that PyTorch runs for
one image of 224x224 pixels (`tbc_models.count.measure`). Accuracies are the paper's.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import groupby
from typing import NamedTuple

from tbc_models.count import measure
from tbc_models.networks.registry import build
from tbc_models.paper.reported import TABLES, Reported
from tbc_models.paper.rows import DESIGNS, ROWS, TableRow


@dataclass(frozen=True)
class Comparison:
    """One number of the paper beside ours.

    Attributes:
        table: number of the table.
        row: row as the paper names it.
        column: column as the paper names it, with its unit; "…, all" are MACs including batch
            normalisation, activations and pooling, beside the same number of the paper.
        reported: the paper's number, as it is printed.
        design: design of the tied bottleneck; "" if there is only one network.
        ours: our count; None if nothing was counted.
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


def compare(number: int, row: str | None = None) -> list[Comparison]:
    """Put our counts beside the numbers of one table of the paper.

    Args:
        number: number of the table, 1 to 6.
        row: a row as the paper names it, to compare this one alone.

    Returns:
        One comparison for each number of the table and each design of its network, in the
        paper's order.

    Raises:
        ValueError: for a table that the paper does not have, or a row that the table does not have.

    Example:
        >>> rows = compare(6)
        >>> [(r.reported, r.design, round(r.ours, 2)) for r in rows if r.ours][:2]
        [('22.0', 'literal', 21.2), ('22.0', 'fitted', 21.98)]
    """
    if number not in TABLES:
        raise ValueError(f"`number` (={number}) must be one of the paper's tables, 1 to 6")
    if row is not None and row not in TABLES[number].rows:
        raise ValueError(f"`row` (={row!r}) must be one of {', '.join(TABLES[number].rows)}")
    chosen = (n for n in TABLES[number] if row in (None, n.row))
    return [c for reported in chosen for c in _compare(reported)]


def _compare(reported: Reported) -> Iterator[Comparison]:
    table, row, column = reported.table, reported.row, reported.column
    counted = ROWS[table].get(row)
    if not column.startswith(("params", "model params", "GFlops")):
        yield Comparison(table, row, column, reported.printed)
        return
    if counted is None:
        reason = "timm has no such network; the paper's number only"
        yield Comparison(table, row, column, reported.printed, reason=reason)
        return
    columns = [column, f"{column}, all"] if column == "GFlops" else [column]
    for shown in columns:
        for design in counted.designs:
            ours = _ours(counted, table, shown, design)
            difference = ours - reported.value
            exceeds = abs(difference) > reported.rounding + 1e-9
            reason = counted.reason(shown, design) if exceeds else ""
            yield Comparison(table, row, shown, reported.printed, design, ours, difference, reason)


def _ours(row: TableRow, table: int, column: str, design: str) -> float:
    if column.endswith("(%)"):
        base = ROWS[table][row.of]
        quantity = column.removesuffix("(%)") + ("(M)" if "params" in column else "")
        quantity = quantity.strip()
        return 100 * _ours(row, table, quantity, design) / _ours(base, table, quantity, "")
    parameters, macs, all_macs, attention = _counts(row.network, json.dumps(row.options), design)
    if column == "GFlops":
        return macs / 1e9
    if column == "GFlops, all":
        return all_macs / 1e9
    only_attention = column == "params (M)" and row.counted == "attention"
    return (attention if only_attention else parameters) / 1e6


@cache
def _counts(name: str, options: str, design: str) -> tuple[int, int, int, int]:
    chosen = {"design": design} if design else {}
    network = build(name, **json.loads(options), **chosen)
    counted = measure(network)
    # timm's blocks keep their attention as `se`.
    attention = sum(p.numel() for n, p in network.named_parameters() if ".se." in n)
    return counted.parameters, counted.macs, counted.all_macs, attention


class TableLayout(NamedTuple):
    """A table as text, cell by cell.

    Attributes:
        title: number and caption.
        headers: names of the columns.
        lines: cells of each line; the first names the row, or is empty if the row continues.
        notes: how to read the table.
        reasons: why numbers differ, by the letter that stands in the cells.
    """

    title: str
    headers: list[str]
    lines: list[list[str]]
    notes: list[str]
    reasons: dict[str, str]


def as_markdown(comparisons: list[Comparison], anchors: str = "") -> str:
    """Format one table, or some lines of it, as Markdown.

    Args:
        comparisons: comparisons of one table, from `compare`; a part of them gives a shorter table.
        anchors: what the anchors of the reasons begin with, "table-1" and so on by default. A page
            that shows the same table twice needs two of them.

    Returns:
        A heading, the table, and a list of the reasons. Superscript letters in the table are links
        to the reasons.

    Example:
        >>> print(as_markdown(compare(2)).splitlines()[0])
        ### Table 2. Instance segmentation on Cityscapes with Mask R-CNN
        >>> print(as_markdown([c for c in compare(6) if "params" in c.column]).splitlines()[4][:46])
        | element-sum | 22.0 | 21.20 −0.80<sup><a href
    """
    title, headers, lines, notes, reasons = lay_out(comparisons)
    anchors = anchors or f"table-{comparisons[0].table}"
    columns = {c.column for c in comparisons}
    # One column of names, which stays in sight when a phone scrolls the numbers.
    first = headers[0] if len(columns) > 1 else "".join(columns)
    body = []
    for row, column, reported, *cells in lines:
        names = [f"**{row}**" * bool(row), column] if len(columns) > 1 else [row]
        name = "<br>".join(n for n in names if n)
        body.append([name, reported, *(_superscript(cell, anchors) for cell in cells)])
    head = [f"### {title}", "", f"| {' | '.join([first, *headers[2:]])} |"]
    rule = "|---|" + "--:|" * (len(headers) - 2)
    below = [f'<a id="{anchors}-{letter}"></a>{letter}: {why}' for letter, why in reasons.items()]
    rows = [f"| {' | '.join(line)} |" for line in body]
    return "\n".join([*head, rule, *rows, "", *(f"- {note}" for note in [*notes, *below])]) + "\n"


def _superscript(cell: str, anchors: str) -> str:
    """Make the letter at the end of a cell a link to its reason."""
    number, _, letter = cell.rpartition(" ")
    link = f'<sup><a href="#{anchors}-{letter}">{letter}</a></sup>'
    return number + link if letter.strip() else number


def as_csv(comparisons: list[Comparison]) -> str:
    """Format tables as comma-separated values: a line for each comparison.

    Args:
        comparisons: comparisons of one or more tables, from `compare`.

    Returns:
        The lines; the first one names the columns.

    Example:
        >>> as_csv(compare(6)).splitlines()[1]
        '6,element-sum,top-1 (%),77.61,,,,'
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, [f.name for f in fields(Comparison)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(c) for c in comparisons)
    return file.getvalue()


def lay_out(comparisons: list[Comparison]) -> TableLayout:
    """Arrange one table in lines: one for each number of the paper, a column for each design.

    Args:
        comparisons: comparisons of one table, from `compare`.

    Returns:
        The parts of the table.

    Example:
        >>> lay_out(compare(6)).headers
        ['row', 'column', 'paper', 'ours', 'fitted', 'fitted-tbc']
    """
    designs = [d for d in DESIGNS if any(c.design == d for c in comparisons)] or ["literal"]
    lines: list[list[str]] = []
    letters: dict[str, str] = {}
    last = ""
    for (row, column), group in groupby(comparisons, key=lambda c: (c.row, c.column)):
        cells = dict.fromkeys(designs, "")
        reported = ""
        for c in group:
            letter = "\u00a0"  # rich would drop a plain space
            if c.reason:
                letter = letters.setdefault(c.reason, _letter(len(letters)))
            number = ""
            if c.ours is not None and c.difference is not None:
                number = _cell(c.column, c.reported, c.ours, c.difference)
            cells[c.design or "literal"] = f"{number} {letter}" if number or c.reason else ""
            reported = c.reported
        lines.append(["" if row == last else row, column, reported, *cells.values()])
        last = row
    table = TABLES[comparisons[0].table]
    return TableLayout(
        title=f"Table {table.number}. {table.caption}",
        headers=["row", "column", "paper", "ours", *designs[1:]],
        lines=lines,
        notes=_notes(comparisons),
        reasons={letter: reason for reason, letter in letters.items()},
    )


def _notes(comparisons: list[Comparison]) -> list[str]:
    notes = [
        "paper: as its authors report it; we measured no accuracy.",
        "ours: counted on the built network, with the difference; letters name the reasons below.",
    ]
    if any(c.design for c in comparisons):
        literal = (
            "For tied networks, ours is the literal design; the two fitted designs stand beside it."
        )
        notes.append(literal)
    if any(c.column == "GFlops" for c in comparisons):
        notes.append("GFlops: 10⁹ MACs of convolutions and fc; all: with BN, ReLU and pooling.")
    return notes


def _letter(i: int) -> str:
    """Name reason number i: a to z, then aa, ab and so on."""
    return chr(ord("a") + i) if i < 26 else _letter(i // 26 - 1) + _letter(i % 26)


def _cell(column: str, reported: str, ours: float, difference: float) -> str:
    digits = len(reported.partition(".")[2]) + 1
    if "%" not in column:
        digits = max(2, digits)
    return f"{ours:.{digits}f} {difference:+.{digits}f}".replace("-", "−")
