"""The ledger: every claim of the paper, every row of its tables and every figure, checked.

`claims` puts the claims together, `ledger` checks them, and `as_markdown` makes a page of them.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

from tbc_models.paper.claims import MEANINGS, Claim, LedgerRow, Status
from tbc_models.paper.claims.detection import DETECTION
from tbc_models.paper.claims.figures import EQUATIONS, FIGURES
from tbc_models.paper.claims.method import METHOD
from tbc_models.paper.claims.results import RESULTS
from tbc_models.paper.claims.tables import table_claims
from tbc_models.paper.claims.text import TEXT

SECTIONS = (
    *("Abstract", "Introduction", "Related works", "TBC formulation", "TBC vs. GC"),
    *("Bottleneck modules", "Attention modules", "ImageNet classification"),
    *("Detection and segmentation", "Occlusion", "Cityscapes", "Lightweight attention"),
    *("Ablation studies", "Summary", "Equations", "Figures"),
    *(f"Table {number}" for number in range(1, 7)),
)
"""Parts of the paper, in the order of the ledger."""

_COLOURS = {
    Status.exact: "success",
    Status.small: "success-line",
    Status.fits: "primary-line",
    Status.contradicts: "danger",
    Status.otherwise: "danger-line",
    Status.unmeasurable: "secondary-line",
    Status.untried: "secondary-line",
}


def section(where: str) -> str:
    """Return the part of the paper in which a claim stands.

    Args:
        where: as a claim has it.

    Returns:
        One of `SECTIONS`.

    Example:
        >>> section("Fig. 7a"), section("Table 1, ResNet50"), section("Abstract")
        ('Figures', 'Table 1', 'Abstract')
    """
    kind = where.partition(" ")[0]
    return {"Fig.": "Figures", "Eq.": "Equations"}.get(kind, where.partition(", ")[0])


def claims(where: str = "") -> list[Claim]:
    """List the claims.

    Args:
        where: a part of the place or of its section, such as "Table 1" or "Figures"; upper and
            lower case are the same. By default all places.

    Returns:
        The claims, by section.

    Raises:
        ValueError: if no claim stands there.

    Example:
        >>> [claim.id for claim in claims("fig. 9")]
        ['figure-9']
    """
    every = [*TEXT, *METHOD, *RESULTS, *DETECTION, *EQUATIONS, *FIGURES, *table_claims()]
    places = {claim.id: f"{section(claim.where)}, {claim.where}".lower() for claim in every}
    found = [claim for claim in every if where.lower() in places[claim.id]]
    if not found:
        raise ValueError(
            f"`where` (={where!r}) must be part of a place in the paper: {', '.join(SECTIONS)}"
        )
    return sorted(found, key=lambda claim: SECTIONS.index(section(claim.where)))


def ledger(
    where: str = "",
    status: Status | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LedgerRow]:
    """Check the claims: count the networks that they are about, and read the committed reports.

    Args:
        where: a part of the place, such as "Table 1"; by default all places.
        status: keep only the rows with this status.
        progress: called with the number of claims that are checked, and of all.

    Returns:
        The rows, by section.

    Raises:
        ValueError: if no claim stands there.
        FileNotFoundError: if the package does not run from a clone of its repository.

    Example:
        >>> [row.status.value for row in ledger("Fig. 2")]
        ['exact']
    """
    chosen = claims(where)
    rows = []
    for done, claim in enumerate(chosen, 1):
        rows.append(claim.check())
        if progress:
            progress(done, len(chosen))
    return [row for row in rows if status in (None, row.status)]


def summary(rows: Sequence[LedgerRow]) -> dict[Status, int]:
    """Count the rows of each status.

    Args:
        rows: rows of the ledger.

    Returns:
        The numbers, in the order of `Status`.

    Example:
        >>> summary(ledger("Fig. 2"))[Status.exact]
        1
    """
    return {status: sum(row.status is status for row in rows) for status in Status}


def as_markdown(rows: Sequence[LedgerRow]) -> str:
    """Format the ledger as MyST Markdown, with a summary and a list for each section.

    Args:
        rows: rows of the ledger.

    Returns:
        The text. Each row can be linked to by its id.

    Example:
        >>> as_markdown(ledger("Fig. 2")).splitlines()[0]
        '- {bdg-success}`exact` **1**: what can be counted or computed agrees, ...'
    """
    counts = summary(rows)
    lines = [f"- {_badge(s)} **{number}**: {MEANINGS[s]}" for s, number in counts.items()]
    lines += ["", ":::{dropdown} The rows of each status"]
    for status in (status for status, number in counts.items() if number):
        own = ", ".join(f"[{row.id}](#{row.id.lower()})" for row in rows if row.status is status)
        lines += [f"**{status}**: {own}", ""]
    lines.append(":::")
    for name, group in groupby(rows, key=lambda row: section(row.where)):
        lines += ["", f"## {name}"]
        for row in group:
            place = "" if row.where == name else f"{_escaped(row.where)}: "
            lines += ["", f"[**{row.id}**]{{#{row.id.lower()}}} {_badge(row.status)}"]
            lines.append(f": {place}{_escaped(row.says)}")
            lines += ["", f"  *Ours:* {_escaped(row.ours)}."]
            lines += ["", f"  `{row.command}` · [more]({row.page})"]
    return "\n".join(lines) + "\n"


def _badge(status: Status) -> str:
    return f"{{bdg-{_COLOURS[status]}}}`{status}`"


def _escaped(text: str) -> str:
    for sign in "\\`*_[]<>|$":
        text = text.replace(sign, f"\\{sign}")
    return text
