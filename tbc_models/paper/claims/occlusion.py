"""What `tbc detect occlusion` has found, as checks of claims about occlusion (Eq. 5, Fig. 7).

Each function reads a committed report anew, so a report that is made again changes the ledger. A
claim counts as reproduced in small only if the intervals over images and over seeds exclude zero on
the side that the paper reports.
"""

from collections.abc import Callable
from typing import Any

from tbc_models import results
from tbc_models.paper.claims import UNREAD, Finding, Status, in_small, signed

Report = dict[str, Any]

_WORDS = {"duplicate": "duplicates", "false positives": "false positives"}


def sides(row: Report) -> int:
    """Say on which side of zero a difference lies.

    Args:
        row: a row of `differences` in a report of `tbc detect occlusion`.

    Returns:
        1 or −1 if the interval over images, and that over seeds if there is one, is above or below
        zero; otherwise 0.

    Example:
        >>> sides({"low": 0.01, "high": 0.03}), sides({"low": -0.01, "high": 0.03})
        (1, 0)
    """
    if row["low"] is None:
        return 0
    ends = [(row["low"], row["high"])]
    if "seeds_low" in row:
        ends.append((row["seeds_low"], row["seeds_high"]))
    return int(all(low > 0 for low, _ in ends)) - int(all(high < 0 for _, high in ends))


def _span(row: Report) -> str:
    """Format a difference with its intervals; average precision in points."""
    factor, digits = (100, 1) if "AP" in row["what"] else (1, 3)
    value, low, high = (signed(factor * row[key], digits) for key in ("value", "low", "high"))
    text = f"{value} [{low}, {high}]"
    if "seeds_low" in row:
        ends = (signed(factor * row[key], digits) for key in ("seeds_low", "seeds_high"))
        text += f", over seeds [{', '.join(ends)}]"
    return text


def _bins(report: Report, what: str) -> list[Report]:
    rows = [row for row in report["differences"] if row["what"] == what]
    return [row for row in rows if row["bin"] is not None and row["value"] is not None]


def occluded(what: str, better: int = 1) -> Callable[[], Finding]:
    """Return a check of the tied detector against the plain one where r is largest.

    Args:
        what: quantity in the report, such as "box AP".
        better: 1 if more is better, −1 if less is.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> "r of" in occluded("box AP")().ours
        True
    """

    def find() -> Finding:
        report = results.committed("occlusion-scenes")
        if report is None:
            return UNREAD
        rows = _bins(report, what)
        last, ahead = rows[-1], sum(sides(row) == better for row in rows)
        behind = sum(sides(row) == -better for row in rows)
        unit = f"points of {what}" if "AP" in what else f"{_WORDS[what]} per image"
        r = report["bins"][last["bin"]]["r"]
        ours = f"on scenes of digits at a mean r of {r:.2f}, tied − plain, in {unit}, is "
        ours += f"{_span(last)}; the tied detector is better in {ahead} of {len(rows)} bins of r, "
        ours += f"worse in {behind}"
        return in_small(sides(last) == better, ours, report["command"])

    return find


def gain_grows(what: str) -> Callable[[], Finding]:
    """Return a check whether the tied detector's lead over the plain one grows with r.

    A lead has to be there: catching up with the plain detector is not enough.

    Args:
        what: quantity in the report, such as "box AP".

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> gain_grows("box AP")().ours.startswith("on scenes of digits")
        True
    """

    def find() -> Finding:
        report = results.committed("occlusion-scenes")
        if report is None:
            return UNREAD
        rows = [row for row in report["differences"] if row["what"] == what]
        (change,) = (row for row in rows if row["bin"] is None)
        bins = _bins(report, what)
        ours = (
            f"on scenes of digits, tied − plain, in points of {what}, goes from {_span(bins[0])} "
            f"in the first bin of r to {_span(bins[-1])} in the last, a change of {_span(change)}"
        )
        leads = sides(bins[-1]) == 1
        ours += "" if leads else "; no lead is shown in the last bin"
        return in_small(leads and sides(change) == 1, ours, report["command"])

    return find


def falls_less() -> Finding:
    """Compare how far AP75 of each detector falls from the first bin of r to the last."""
    report = results.committed("occlusion-scenes")
    if report is None:
        return UNREAD
    (change,) = (r for r in report["differences"] if r["what"] == "box AP75" and r["bin"] is None)
    falls = {
        row["detector"]: row["value"]
        for row in report["rows"]
        if row["what"] == "box AP75" and row["bin"] is None
    }
    told = " and ".join(f"{-100 * fall:.1f} ({name})" for name, fall in falls.items())
    ours = f"on scenes of digits, box AP75 falls by {told} points; the change in tied − plain is "
    ours += _span(change)
    plain, tied = falls[change["minus"]], falls[change["detector"]]
    # The paper's tied detector loses 0.7 points where the plain one loses 6, about a ninth.
    slightly = sides(change) == 1 and tied > plain / 4
    return in_small(slightly, ours, report["command"])


def boosts() -> Finding:
    """Count the bins of three data sets in which a tied backbone is better or worse in box AP."""
    told, better, worse, command = [], 0, 0, ""
    for name in ("scenes", "cells", "nuclei"):
        report = results.committed(f"occlusion-{name}")
        if report is None:
            continue
        rows = [sides(row) for row in _bins(report, "box AP")]
        better, worse = better + rows.count(1), worse + rows.count(-1)
        command = command or report["command"]
        told.append(f"{name}: better in {rows.count(1)} of {len(rows)}, worse in {rows.count(-1)}")
    if not told:
        return UNREAD
    ours = f"box AP of small tied detectors against plain ones, by bins of r: {'; '.join(told)}"
    return in_small(better > 0 and not worse, ours, command)


def readings() -> Finding:
    """Count the photographs of COCO whose r is 0.8 or more under each reading of Eq. (5)."""
    report = results.committed("occlusion-coco")
    if report is None:
        return UNREAD
    counts = {row["reading"]: row["from 0.8"] for row in report["rows"]}
    default = next(iter(counts))
    least, most = min(counts.values()), max(counts.values())
    ours = (
        f"{len(counts)} readings, of boxes and masks; of {report['images']} photographs of COCO, "
    )
    ours += f"{least} to {most} have r ≥ 0.8, and {counts[default]} under the default ({default})"
    return Finding(Status.fits, ours, report["command"])
