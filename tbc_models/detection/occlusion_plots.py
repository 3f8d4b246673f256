"""Plot what `tbc detect occlusion` measured, and state it in tables and sentences."""

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tbc_models.detection.errors import ERRORS
from tbc_models.draw import COLOURS

TITLES = {
    "box AP": "AP of boxes",
    "box AP75": "AP75 of boxes",
    "mask AP": "AP of masks",
    "mask AP75": "AP75 of masks",
    "false positives": "false positives per image",
    "duplicate": "duplicates per image",
    "location": "badly located detections per image",
    "class": "wrongly classified detections per image",
    "both": "badly located detections of the wrong class per image",
    "background": "detections on the background per image",
    "missed": "missed objects per image",
}
"""The quantities of a report, in words."""

MAIN = ("box AP", "box AP75", "false positives", "duplicate")
"""What Fig. 7 shows."""

Row = dict[str, Any]


def occlusion_figure(report: Row, quantities: Sequence[str] = MAIN) -> Figure:
    """Draw quantities against the occlusion ratio r, and beside them the detectors' differences.

    Bars are intervals over images, wide pale ones (of differences) intervals over seeds, and small
    points single seeds.

    Args:
        report: what `measure_occlusion` returned.
        quantities: what to draw, each a key of `TITLES`.

    Returns:
        The figure, with a row for each quantity, and with a second column of axes if there are
        several detectors.

    Example:
        >>> row = {"detector": "resnet", "bin": 0, "what": "box AP", "value": 0.5, "low": 0.4}
        >>> rows = [row | {"high": 0.6, "seeds": [0.5]}]
        >>> report = {"detectors": [{"name": "resnet"}], "bins": [{"r": 0.1}], "rows": rows}
        >>> [axes.get_title() for axes in occlusion_figure(report, ["box AP"]).axes]
        ['AP of boxes']
    """
    first, *others = [detector["name"] for detector in report["detectors"]]
    columns = 2 if others else 1
    size = (0.4 + 3.1 * columns, 0.6 + 2.2 * len(quantities))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(quantities), columns, squeeze=False, sharex=True)
    for line, what in zip(grid, quantities, strict=True):
        for i, name in enumerate((first, *others)):
            _curve(line[0], report, select(report, what, name), i, name)
        line[0].set_title(fill(TITLES[what], 36), fontsize=10)
        for i, name in enumerate(others, 1):
            rows = [r for r in report["differences"] if r["what"] == what and r["detector"] == name]
            own = [row for row in rows if row["bin"] is not None]
            _curve(line[1], report, own, i, name)
        if others:
            line[1].axhline(0, color="0.5", lw=1)
            line[1].set_title(f"difference from {first}", fontsize=10)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("occlusion ratio r")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _curve(axes: Axes, report: Row, rows: Sequence[Row], i: int, name: str) -> None:
    """Draw one detector's values or differences, shifted so that no bar hides another's."""
    rows = [row for row in rows if row["value"] is not None]
    shift = 0.006 * (i - (len(report["detectors"]) - 1) / 2)
    r = [report["bins"][row["bin"]]["r"] + shift for row in rows]
    colour = COLOURS[i % len(COLOURS)]
    axes.plot(r, [row["value"] for row in rows], "o-", ms=4, color=colour, label=name)
    for x, row in zip(r, rows, strict=True):
        if row["low"] is not None:  # the value can lie outside its interval
            axes.plot([x, x], [row["low"], row["high"]], "_-", ms=5, color=colour)
        if len(row["seeds"]) > 1:
            axes.plot([x] * len(row["seeds"]), row["seeds"], ".", color=colour, ms=3)
        if "seeds_low" in row:
            ends = (row["seeds_low"], row["seeds_high"])
            axes.plot([x, x], ends, color=colour, alpha=0.25, lw=6, solid_capstyle="butt")


def distribution_figure(report: Row) -> Figure:
    """Draw the cumulative distribution of r over images, under every reading of Eq. (5).

    The axes end at r = 1.5: where curves differ, but not where their last few images lie.

    Args:
        report: what `occlusion_distribution` returned.

    Returns:
        The figure, with one axes for boxes and, if there are any, one for masks.

    Example:
        >>> rows = [{"reading": "boxes, pairs / sum", "percentiles": [0.0, 0.5]}]
        >>> len(distribution_figure({"rows": rows}).axes)
        1
    """
    kinds = list(dict.fromkeys(row["reading"].partition(", ")[0] for row in report["rows"]))
    figure = Figure(figsize=(0.6 + 3 * len(kinds), 3.4), layout="constrained")
    grid = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(grid, kinds, strict=True):
        rows = [row for row in report["rows"] if row["reading"].startswith(kind)]
        for i, row in enumerate(rows):
            shares = np.linspace(0, 100, len(row["percentiles"]))
            style = "-" if row["reading"].endswith("sum") else "--"
            label = row["reading"].partition(", ")[2]
            axes.plot(row["percentiles"], shares, style, color=COLOURS[i // 2], label=label)
        axes.axvline(0.8, color="0.5", lw=1, ls=":")
        axes.set_title(kind, fontsize=10)
        axes.set_xlabel("occlusion ratio r")
        axes.set_xlim(-0.03, 1.5)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("images with at most this r, %")
    grid[0].legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def select(report: Row, what: str, detector: str) -> list[Row]:
    """Choose the rows of a quantity in the bins of r.

    Args:
        report: what `measure_occlusion` returned.
        what: the quantity.
        detector: name of the detector.

    Returns:
        Its rows, in the order of the bins.

    Example:
        >>> select({"rows": [{"what": "missed", "detector": "a", "bin": 0}]}, "missed", "b")
        []
    """
    rows = [r for r in report["rows"] if r["what"] == what and r["detector"] == detector]
    return [row for row in rows if row["bin"] is not None]


def interval_in_words(row: Row, sign: str = "") -> str:
    """Format a value and its interval over images; average precision in points.

    Args:
        row: a row of `rows` or of `differences`.
        sign: "+" to put a sign before positive values as well.

    Returns:
        The text, with a dash in place of a value or an interval that is not defined.

    Example:
        >>> interval_in_words({"what": "box AP", "value": 0.5, "low": 0.45, "high": 0.56})
        '50.0 [45.0, 56.0]'
    """
    if row["value"] is None:
        return "–"
    return f"{_ends(row, sign, 'value')} [{_ends(row, sign, 'low', 'high') or '–'}]"


def _ends(row: Row, sign: str, *names: str) -> str:
    factor, digits = (100, 1) if "AP" in row["what"] else (1, 2)
    ends = [factor * row[name] for name in names if row.get(name) is not None]
    return ", ".join(f"{end:{sign}.{digits}f}" for end in ends).replace("-", "−")


def occlusion_table(report: Row, what: str) -> tuple[list[str], list[list[str]]]:
    """Put a quantity into a table: a row for each bin, a column for each detector.

    Args:
        report: what `measure_occlusion` returned.
        what: the quantity.

    Returns:
        The headers, and the rows. The last columns are differences from the first detector, with
        their intervals over seeds if there are several seeds, and the last row says how much
        the differences change from the first bin to the last.

    Example:
        >>> bins = [{"low": 0, "high": 0.1, "images": 9, "r": 0.05}]
        >>> row = {"detector": "resnet", "bin": 0, "what": "box AP", "value": 0.5, "low": 0.4}
        >>> rows = [row | {"high": 0.6, "seeds": [0.5]}]
        >>> found = {"detectors": [{"name": "resnet"}], "bins": bins, "rows": rows}
        >>> occlusion_table(found | {"differences": []}, "box AP")
        (['r', 'images', 'resnet'], [['0–0.1', '9', '50.0 [40.0, 60.0]']])
    """
    names = [detector["name"] for detector in report["detectors"]]
    differences = [row for row in report["differences"] if row["what"] == what]
    others = [name for name in names if any(row["detector"] == name for row in differences)]
    several = any("seeds_low" in row for row in differences)
    headers = ["r", "images", *names]
    for name in others:
        headers += [f"{name} − {names[0]}", *["over seeds"] * several]
    lines = []
    for place, edges in enumerate(report["bins"]):
        line = [f"{edges['low']:g}–{edges['high']:g}", f"{edges['images']:,}"]
        line += [interval_in_words(select(report, what, name)[place]) for name in names]
        line += _differences([r for r in differences if r["bin"] == place], several)
        lines.append(line)
    if change := [row for row in differences if row["bin"] is None]:
        lines.append(["last − first", "", *[""] * len(names), *_differences(change, several)])
    return headers, lines


def _differences(rows: Sequence[Row], several: bool) -> list[str]:
    cells = []
    for row in rows:
        cells.append(interval_in_words(row, "+"))
        if several:
            cells.append(f"[{_ends(row, '+', 'seeds_low', 'seeds_high') or '–'}]")
    return cells


def occlusion_conclusions(report: Row, quantities: Sequence[str] = MAIN) -> list[str]:
    """State in how many bins detectors differ from the first, and whether that changes with r.

    A difference is shown if its interval over images does not contain 0 and, with several seeds,
    that over seeds does not either. No correction is made for the number of bins.

    Args:
        report: what `measure_occlusion` returned.
        quantities: what to report on, each a key of `TITLES`.

    Returns:
        A sentence for each quantity and each detector but the first.

    Example:
        >>> row = {"detector": "tied", "minus": "plain", "what": "box AP", "value": 0.02}
        >>> shown = row | {"bin": 0, "low": 0.01, "high": 0.03}
        >>> occlusion_conclusions({"differences": [shown]}, ["box AP"])
        ['AP of boxes: tied − plain is above 0 in 1 of 1 bins and below 0 in 0.']
    """
    sentences = []
    for what, ours, theirs, bins, change in _compared(report, quantities):
        above, below = (sum(_shown(row) == side for row in bins) for side in (1, -1))
        text = f"{TITLES[what]}: {ours} − {theirs} is above 0 in {above} of "
        text += f"{len(bins)} bins and below 0 in {below}."
        if change:
            words = {1: "it rises", -1: "it falls", 0: "no change is shown"}[_shown(change)]
            text += f" From the first bin to the last, {words}: {interval_in_words(change, '+')}"
            if "seeds_low" in change:
                text += f", over seeds [{_ends(change, '+', 'seeds_low', 'seeds_high')}]"
            text += "."
        sentences.append(text)
    return sentences


def _compared(
    report: Row, quantities: Sequence[str]
) -> Iterator[tuple[str, str, str, list[Row], Row | None]]:
    """Yield a quantity, two detectors, their differences in bins, and how these change with r."""
    pairs = dict.fromkeys((r["detector"], r["minus"]) for r in report["differences"])
    for what in quantities:
        for ours, theirs in pairs:
            rows = [
                row
                for row in report["differences"]
                if row["what"] == what and row["detector"] == ours and row["value"] is not None
            ]
            bins = [row for row in rows if row["bin"] is not None and row["low"] is not None]
            if bins:
                change = next((row for row in rows if row["bin"] is None), None)
                yield what, ours, theirs, bins, change


def conclusions_table(
    report: Row, quantities: Sequence[str] = MAIN
) -> tuple[list[str], list[list[str]]]:
    """Put what `occlusion_conclusions` states into a table in Markdown.

    Args:
        report: what `measure_occlusion` returned.
        quantities: what to report on, each a key of `TITLES`.

    Returns:
        The headers, and a row for each quantity and each detector but the first. A change from
        the first bin to the last is bold if it is shown.

    Example:
        >>> row = {"detector": "tied", "minus": "plain", "what": "box AP", "value": 0.02}
        >>> shown = row | {"bin": 0, "low": 0.01, "high": 0.03}
        >>> conclusions_table({"differences": [shown]}, ["box AP"])[1]
        [['AP of boxes', 'tied − plain', '1 of 1', '0 of 1', '–']]
    """
    several = any("seeds_low" in row for row in report["differences"])
    headers = ["quantity", "difference", "bins above 0", "bins below 0", "last bin − first"]
    lines = []
    for what, ours, theirs, bins, change in _compared(report, quantities):
        line = [TITLES[what], f"{ours} − {theirs}"]
        line += [f"{sum(_shown(row) == side for row in bins)} of {len(bins)}" for side in (1, -1)]
        cells = _differences([change], several) if change else ["–"] * (1 + several)
        line += [f"**{cell}**" if change and _shown(change) else cell for cell in cells]
        lines.append(line)
    return headers + ["over seeds"] * several, lines


def error_changes(report: Row) -> list[str]:
    """State which errors grow with r, in one sentence for each detector.

    Args:
        report: what `measure_occlusion` returned.

    Returns:
        The sentences; none if there is only one bin with objects.

    Example:
        >>> row = {"detector": "resnet", "what": "missed", "bin": None, "value": 0.3}
        >>> error_changes({"rows": [row | {"low": 0.2, "high": 0.4}]})
        ['resnet: +0.30 [+0.20, +0.40] missed objects per image.']
    """
    sentences = []
    changes = [row for row in report["rows"] if row["bin"] is None and row["what"] in ERRORS]
    for name in dict.fromkeys(row["detector"] for row in changes):
        own = sorted((r for r in changes if r["detector"] == name), key=lambda r: -r["value"])
        shown = [f"{interval_in_words(r, '+')} {TITLES[r['what']]}" for r in own if _shown(r)]
        others = [TITLES[row["what"]] for row in own if not _shown(row)]
        text = ", ".join(shown) or "no change is shown"
        if shown and others:
            text += f"; no change is shown in: {', '.join(others)}"
        sentences.append(f"{name}: {text}.")
    return sentences


def changes_table(report: Row) -> tuple[list[str], list[list[str]]]:
    """Put into a table, in Markdown, how errors change from the first bin of r to the last.

    Args:
        report: what `measure_occlusion` returned.

    Returns:
        The headers, and a row for each kind of error with the changes of its mean per image in all
        detectors; bold where a change is shown.

    Example:
        >>> row = {"detector": "resnet", "what": "missed", "bin": None, "value": 0.3}
        >>> changes_table({"rows": [row | {"low": 0.2, "high": 0.4}]})
        (['change of', 'resnet'], [['missed objects per image', '**+0.30 [+0.20, +0.40]**']])
    """
    changes = [row for row in report["rows"] if row["bin"] is None and row["what"] in ERRORS]
    names = list(dict.fromkeys(row["detector"] for row in changes))
    of = {(row["what"], row["detector"]): row for row in changes}
    kinds = sorted(
        dict.fromkeys(row["what"] for row in changes), key=lambda what: -of[what, names[0]]["value"]
    )
    lines = []
    for what in kinds:
        line = [TITLES[what]]
        for name in names:
            cell = interval_in_words(of[what, name], "+")
            line.append(f"**{cell}**" if _shown(of[what, name]) else cell)
        lines.append(line)
    return ["change of", *names], lines


def _shown(row: Row) -> int:
    """Return 1 or -1 if all intervals are above or below 0, otherwise 0."""
    if row["low"] is None:
        return 0
    ends = [(row["low"], row["high"])]
    if "seeds_low" in row:
        ends.append((row["seeds_low"], row["seeds_high"]))
    return int(all(low > 0 for low, _ in ends)) - int(all(high < 0 for _, high in ends))
