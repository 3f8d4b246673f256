"""What a claim of the paper is, what may become of it, and the printed numbers that it quotes.

A claim says where it stands, what it says, and how it is checked: a function that returns the
status and our number. The function counts a network or reads a committed report when it is called,
so nothing that we measured is written down here. The claims themselves stand in the modules beside
this file; `tbc_models.paper.ledger` puts them together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from tbc_models.paper.reported import TABLES


class Status(StrEnum):
    """What became of a claim.

    "Came out otherwise" is for what we could check and what did not agree: a count that differs
    from the printed one in every design, or a small experiment that does not show what the paper
    reports. Data sets that are no more at hand than ImageNet and COCO, such as Cityscapes, count
    as those two do.
    """

    exact = "exact"
    small = "reproduced in small"
    fits = "fits one of our designs"
    contradicts = "contradicts itself"
    otherwise = "came out otherwise"
    unmeasurable = "not measurable without ImageNet or COCO"
    untried = "not tried"


MEANINGS: dict[Status, str] = {
    Status.exact: "what can be counted or computed agrees, within the rounding of what is printed",
    Status.small: "a small experiment of ours shows the same; differences in accuracy and in "
    "attention have an interval that excludes zero",
    Status.fits: "the text leaves something open; one of our designs or readings agrees",
    Status.contradicts: "the text, a table or a caption says something else about the same thing",
    Status.otherwise: "our count differs, or our small experiment does not show it",
    Status.unmeasurable: "it needs ImageNet, COCO or Cityscapes, which we do not have; the command "
    "would measure it",
    Status.untried: "no result of ours bears on it yet",
}
"""Each status in a sentence, in the order of the summary."""


@dataclass(frozen=True)
class Finding:
    """What we found about a claim.

    Attributes:
        status: what became of the claim.
        ours: our number, in words.
        command: the command that made the committed report that was read; "" if none was.
    """

    status: Status
    ours: str
    command: str = ""


UNREAD = Finding(Status.untried, "not measured yet")
"""What a check finds whose report is not committed yet."""


@dataclass(frozen=True)
class LedgerRow:
    """One row of the ledger.

    Attributes:
        id: a stable name, such as "figure-3" or "table-1-TiedResNet50-S".
        where: where it stands in the paper.
        says: what the paper says there, quoted or in our words.
        status: what became of it.
        ours: our number, in words.
        command: the command that shows or computes it.
        page: the page of the site that tells more, as a file in docs, with an anchor.
    """

    id: str
    where: str
    says: str
    status: Status
    ours: str
    command: str
    page: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and how it is checked.

    Attributes:
        id: a stable name, such as "figure-3".
        where: where it stands in the paper.
        says: what the paper says there, quoted or in our words.
        find: computes the status and our number.
        command: the command that shows or computes it, unless `find` names that of a report.
        page: the page of the site that tells more, as a file in docs, with an anchor.
    """

    id: str
    where: str
    says: str
    find: Callable[[], Finding]
    command: str
    page: str

    def check(self) -> LedgerRow:
        """Count or read what the claim is about.

        Returns:
            The row of the ledger.

        Example:
            >>> unread = lambda: Finding(Status.untried, "nothing")
            >>> Claim("a", "Abstract", "…", unread, "tbc check", "checking.md").check().status
            <Status.untried: 'not tried'>
        """
        found = self.find()
        command = found.command or self.command
        return LedgerRow(
            self.id, self.where, self.says, found.status, found.ours, command, self.page
        )


def printed(table: int, row: str, column: str) -> Decimal:
    """Look up a number as a table of the paper prints it.

    Args:
        table: number of the table.
        row: row as `TABLES` names it.
        column: column as `TABLES` names it.

    Returns:
        The number, with as many decimals as are printed.

    Raises:
        KeyError: if the table prints no such number.

    Example:
        >>> printed(1, "TiedResNet50", "top-1 (%)") - printed(1, "ResNet50", "top-1 (%)")
        Decimal('1.4')
    """
    for number in TABLES[table]:
        if (number.row, number.column) == (row, column):
            return Decimal(number.printed)
    raise KeyError(f"Table {table} has no {column} of {row}")


def signed(number: float | Decimal, digits: int) -> str:
    """Format a number with its sign, and a minus that is as wide as a plus.

    What rounds to zero is not negative.

    Args:
        number: the number.
        digits: number of decimals.

    Returns:
        The text.

    Example:
        >>> signed(-0.25, 1), signed(3, 2), signed(-0.01, 1)
        ('−0.2', '+3.00', '+0.0')
    """
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−" if float(text) else "+")


def in_small(shown: bool, ours: str, command: str = "") -> Finding:
    """Say what a small experiment found.

    Args:
        shown: whether it shows what the paper reports.
        ours: our number, in words.
        command: the command that made its report.

    Returns:
        The finding, "reproduced in small" or "came out otherwise".

    Example:
        >>> in_small(False, "no difference").status.value
        'came out otherwise'
    """
    return Finding(Status.small if shown else Status.otherwise, ours, command)


def unmeasured(ours: str = "nothing was trained on it here") -> Callable[[], Finding]:
    """Return a check for a claim that takes ImageNet, COCO or the like.

    Args:
        ours: what is known nevertheless.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> unmeasured()().status.value
        'not measurable without ImageNet or COCO'
    """
    return lambda: Finding(Status.unmeasurable, ours)


def untried(ours: str) -> Callable[[], Finding]:
    """Return a check for a claim about which nothing of ours says anything.

    Args:
        ours: why not.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> untried("not measured yet")().ours
        'not measured yet'
    """
    return lambda: Finding(Status.untried, ours)


def first_of(*finds: Callable[[], Finding]) -> Callable[[], Finding]:
    """Join several checks of one claim, whose status is that of the first.

    Args:
        finds: the checks.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> first_of(lambda: UNREAD, lambda: Finding(Status.exact, "seven"))().ours
        'not measured yet; seven'
    """

    def find() -> Finding:
        found = [one() for one in finds]
        command = next((one.command for one in found if one.command), "")
        return Finding(found[0].status, "; ".join(one.ours for one in found), command)

    return find


def contradicted(words: Callable[[], str]) -> Callable[[], Finding]:
    """Return a check for a claim that something else in the paper contradicts.

    Args:
        words: says what does, with the printed numbers.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> contradicted(lambda: gained(1, "top-1 (%)", "TiedResNet50", "ResNet50"))().ours
        '77.6 − 76.2 = 1.4'
    """
    return lambda: Finding(Status.contradicts, words())


def gained(table: int, column: str, row: str, base: str) -> str:
    """Write down the difference of two printed numbers.

    Args:
        table: number of the table.
        column: column as `TABLES` names it.
        row: row of the first number.
        base: row of the number that is taken off it.

    Returns:
        The two numbers and their difference.

    Example:
        >>> gained(5, "top-1 (%)", "4s×32w", "2s×48w")
        '77.61 − 77.27 = 0.34'
    """
    more, less = printed(table, row, column), printed(table, base, column)
    return f"{more} − {less} = {more - less}".replace("= -", "= −")
