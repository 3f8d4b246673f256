"""The rows of the paper's six tables as claims, generated from the tables themselves.

The status of a row is about what can be counted without training: parameters and MACs. Accuracies
need ImageNet, COCO or Cityscapes; each table has one more claim for them.
"""

import re
from collections.abc import Iterator
from functools import partial

from tbc_models.paper.claims import Claim, Finding, Status, signed
from tbc_models.paper.claims.counted import parameters
from tbc_models.paper.reported import TABLES, Reported
from tbc_models.paper.rows import ROWS
from tbc_models.paper.tables import Comparison, compare

_PAGE = {3: "tutorials/06-lighten-attention-64-times.md#table-3-se-resnet-50-exactly"} | {
    1: "tutorials/07-reproduce-the-papers-tables.md#table-1",
    2: "tutorials/07-reproduce-the-papers-tables.md#the-other-tables",
    4: "tutorials/06-lighten-attention-64-times.md#table-4-and-its-contradiction",
    5: "tutorials/07-reproduce-the-papers-tables.md#table-5-puts-it-to-the-test",
    6: "tutorials/07-reproduce-the-papers-tables.md#fourth-clue-the-mixer-keeps-its-width",
}
_TRAIN = "tbc train --model tied_resnet50 --data imagenet:/data/imagenet --recipe paper"
_DETECT = "tbc detect train --data {} --detector mask-rcnn --backbone {} --recipe 2x"
_ACCURACIES = {
    1: _TRAIN,
    2: _DETECT.format("cityscapes:/data/cityscapes", "tied_resnet50"),
    3: "tbc train --model tied_seresnet50 --data imagenet:/data/imagenet --recipe paper",
    4: _DETECT.format("coco:/data/coco", "tied_gc_resnet50"),
    5: f"{_TRAIN} --set splits=2 --set base_width=48",
    6: f"{_TRAIN} --set mixer=concatenate",
}


def _misnamed() -> str:
    count = parameters("resnext101_32x4d") / 1e6
    return f"a ResNeXt-101 32×4d has {count:.2f} M; the row's numbers are those of 32×8d"


def _an_eighth() -> str:
    return "the text says 16×, which is what B = 4 gives; the printed share is an eighth"


CONTRADICTED = {(1, "ResNeXt101-32×4d"): _misnamed, (4, "+TiedGCB B=4"): _an_eighth}
"""Rows that something else in the paper contradicts, each with a function that says what does.
Percentages that contradict the numbers of their own row are found by computing them."""


def table_claims() -> Iterator[Claim]:
    """Make a claim of each row of the six tables, and one of the accuracies of each table.

    Yields:
        The claims, in the order of the paper.

    Example:
        >>> next(table_claims()).id
        'table-1-ResNet50'
    """
    for number, table in TABLES.items():
        for row in table.rows:
            yield Claim(
                row_id(number, row),
                f"Table {number}, {row}",
                ", ".join(_as_text(n) for n in table if n.row == row),
                partial(find_row, number, row),
                f"tbc table {number}",
                _PAGE[number],
            )
        accuracies = [n for n in table if not _countable(n.column)]
        columns = ", ".join(dict.fromkeys(n.column for n in accuracies))
        yield Claim(
            f"table-{number}-accuracies",
            f"Table {number}, accuracies",
            f"{len(accuracies)} numbers in {len({n.row for n in accuracies})} rows: {columns}",
            partial(Finding, Status.unmeasurable, "no network of the table was trained here"),
            _ACCURACIES[number],
            "detection.md#from-imagenet-to-coco-on-a-cluster" if number in (2, 4) else "train.md",
        )


def row_id(table: int, row: str) -> str:
    """Return the stable name of a row of a table.

    Args:
        table: number of the table.
        row: row as the table names it.

    Returns:
        The name, of letters, digits and hyphens.

    Example:
        >>> row_id(1, "SENet101 ‡"), row_id(4, "+TiedGCB B=2")
        ('table-1-SENet101-double-dagger', 'table-4-TiedGCB-B-2')
    """
    for sign, word in {"‡": "double-dagger", "†": "dagger", "×": "x"}.items():
        row = row.replace(sign, word)
    return f"table-{table}-{re.sub(r'[^A-Za-z0-9]+', '-', row).strip('-')}"


def find_row(table: int, row: str) -> Finding:
    """Compare what can be counted in a row of a table with the networks that we build.

    Args:
        table: number of the table.
        row: row as `TABLES` names it.

    Returns:
        "Exact" if every number agrees; "fits one of our designs" if the parameters and the MACs of
        one design do; otherwise what else there is to say.

    Example:
        >>> find_row(3, "SEResNet-50, TiedSE B=8").ours
        'params 0.041 M (+0.001), params 1.63 % (+0.03)'
    """
    compared = [c for c in compare(table, row) if _countable(c.column)]
    counted = [c for c in compared if c.ours is not None]
    if not compared:
        return Finding(Status.unmeasurable, "the row has accuracies only")
    if not counted:
        return Finding(Status.untried, "not counted: timm has no such network")
    known = CONTRADICTED.get((table, row))
    reason = known() if known else _impossible_share(table, row)
    designs = dict.fromkeys(c.design for c in counted)
    words = []
    for design in designs:
        own = [c for c in counted if c.design == design and _told(c)]
        words.append(f"{design}: " * bool(design) + ", ".join(_ours(c) for c in own))
    ours = "; ".join([*[reason] * bool(reason), *words])
    if reason:
        return Finding(Status.contradicts, ours)
    if "" in designs:
        exact = all(_agrees(counted, column) for column in {c.column for c in compared})
        return Finding(Status.exact if exact else Status.otherwise, ours)
    columns = [c for c in ("params (M)", "GFlops") if c in {one.column for one in compared}]
    agree = {
        design: [_agrees([c for c in counted if c.design == design], column) for column in columns]
        for design in designs
    }
    if any(all(own) for own in agree.values()):
        return Finding(Status.fits, ours)
    half = [design for design, own in agree.items() if own[0]]
    if half:
        ours += f"; the parameters of {' and '.join(half)} fit, the MACs do not"
    return Finding(Status.otherwise, ours)


def _countable(column: str) -> bool:
    return column.startswith(("params", "model params", "GFlops"))


def _agrees(counted: list[Comparison], column: str) -> bool:
    """Say if a number agrees; MACs may include batch normalisation, ReLU and pooling, or not."""
    names = (column, f"{column}, all", column.removesuffix(", all"))
    return any(not c.reason for c in counted if c.column in names)


def _told(comparison: Comparison) -> bool:
    """Leave out percentages of designs, which follow from the counts, and the second MACs."""
    follows = comparison.design and comparison.column.endswith("(%)")
    return not follows and not comparison.column.endswith(", all")


def _as_text(number: Reported) -> str:
    name, _, unit = number.column.partition(" (")
    return " ".join([name, number.printed, unit.rstrip(")")]).strip()


def _ours(comparison: Comparison) -> str:
    name, _, unit = comparison.column.partition(" (")
    digits = len(comparison.reported.partition(".")[2]) + 1
    if unit != "%)":
        digits = max(2, digits)
    number = f"{comparison.ours:.{digits}f} {unit.rstrip(')')}".strip()
    return f"{name} {number} ({signed(comparison.difference or 0, digits)})"


def _impossible_share(table: int, row: str) -> str:
    """Compute printed percentages from the printed numbers, and say which rounding cannot cause."""
    numbers = {(n.row, n.column): n for n in TABLES[table]}
    counted = ROWS[table].get(row)
    found = []
    for column, of in (("params (%)", "params (M)"), ("GFlops (%)", "GFlops")):
        keys = ((row, column), (row, of), (counted.of if counted else "", of))
        if not all(key in numbers for key in keys):
            continue
        share, part, whole = (numbers[key] for key in keys)
        low = 100 * (part.value - part.rounding) / (whole.value + whole.rounding)
        high = 100 * (part.value + part.rounding) / (whole.value - whole.rounding)
        if share.value + share.rounding < low or share.value - share.rounding > high:
            right = 100 * part.value / whole.value
            name = of.partition(" ")[0]
            found.append(
                f"{name}: {share.printed} % is printed, but the printed counts give {right:.0f} %"
            )
    return "; ".join(found)
