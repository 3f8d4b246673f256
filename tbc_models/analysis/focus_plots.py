"""Plot what `tbc focus` measured, and state it in tables and sentences."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tbc_models.analysis.focus_study import LEAST_IMAGES
from tbc_models.draw import COLOURS

Row = dict[str, Any]

_STYLES = {"trained": ("o", "-"), "other images": ("s", "--"), "untrained": ("^", ":")}


def focus_figure(report: Row, what: str, parts: Sequence[str] | None = None) -> Figure:
    """Draw energy or pointing in several parts, and the differences from the first network below.

    Bars are intervals over images, and wide pale ones intervals over seeds. The grey line is the
    share of the masks, which is what a uniform map has.

    Args:
        report: what `study_focus` returned.
        what: "energy" or "pointing".
        parts: names of the parts, in their order; by default all with ten or more images.

    Returns:
        The figure, with a second row of axes if there are several networks.

    Example:
        >>> part = {"name": "all", "images": 10, "objects": 12, "share": 0.2}
        >>> report = {"networks": [{"name": "plain"}], "parts": [part], "rows": []}
        >>> [axes.get_ylabel() for axes in focus_figure(report, "energy").axes]
        ['energy']
    """
    parts = parts or [part["name"] for part in report["parts"] if part["images"] >= LEAST_IMAGES]
    first, *others = [network["name"] for network in report["networks"]]
    lines = 2 if others else 1
    entries = (1 + 3 * (1 + len(others)) + len(others)) / 2
    size = (max(5.8, 0.9 * len(parts)), 0.6 + 2.3 * lines + 0.2 * entries)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, 1, squeeze=False, sharex=True)[:, 0]
    shares = {part["name"]: part["share"] for part in report["parts"]}
    for place, part in enumerate(parts):
        label = "a uniform map" if not place else None
        if shares[part] is not None:
            ends = (place - 0.4, place + 0.4)
            grid[0].plot(ends, [shares[part]] * 2, color="#888888", lw=2, label=label)
    names = [first, *others]
    for i, name in enumerate(names):
        for j, (of, (marker, style)) in enumerate(_STYLES.items()):
            rows = _of(report["rows"], name, what, of=of)
            shift = 0.09 * (i - (len(names) - 1) / 2) + 0.26 * (j - 1)
            label = f"{name}, {of}"
            _points(grid[0], rows, parts, shift, COLOURS[i % len(COLOURS)], marker, style, label)
    grid[0].set_ylabel(what)
    grid[0].set_ylim(bottom=0)
    if others:
        for i, name in enumerate(others, 1):
            rows = _of(report["differences"], name, what, minus=first)
            shift = 0.12 * (i - (len(others) + 1) / 2)
            colour, label = COLOURS[i % len(COLOURS)], f"{name} − {first}"
            _points(grid[1], rows, parts, shift, colour, "o", "-", label)
        grid[1].axhline(0, color="#888888", lw=1)
        grid[1].set_ylabel(f"difference in {what}")
    grid[-1].set_xticks(range(len(parts)), parts, rotation=30, ha="right")
    entry: dict[str, Any] = {}
    for axes in grid:
        axes.grid(axis="y", alpha=0.3)
        handles, labels = axes.get_legend_handles_labels()
        entry |= dict(zip(labels, handles, strict=True))
    below: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "frameon": False}
    figure.legend(list(entry.values()), list(entry), fontsize=9, **below)
    return figure


def _points(
    axes: Axes,
    rows: Sequence[Row],
    parts: Sequence[str],
    shift: float,
    colour: str,
    marker: str,
    style: str,
    label: str,
) -> None:
    """Draw values with their intervals beside one another."""
    shown: str | None = label
    for row in (row for row in rows if row["part"] in parts and row["value"] is not None):
        x = parts.index(row["part"]) + shift
        axes.plot(x, row["value"], marker, color=colour, ms=4, label=shown)
        shown = None
        if row["low"] is not None:
            axes.plot([x, x], [row["low"], row["high"]], style, color=colour, lw=1.2)
        if "seeds_low" in row:
            ends = (row["seeds_low"], row["seeds_high"])
            axes.plot([x, x], ends, color=colour, alpha=0.25, lw=6, solid_capstyle="butt")


def _of(rows: Sequence[Row], network: str, what: str, **same: str) -> list[Row]:
    wanted = {"network": network, "what": what} | same
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def focus_table(
    report: Row, what: str, *, intervals: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Put energy or pointing into a table: a row for each part of ten or more images and network.

    Args:
        report: what `study_focus` returned.
        what: "energy" or "pointing".
        intervals: whether to give intervals, and the differences from the first network.

    Returns:
        The headers, and the rows.

    Example:
        >>> part = {"name": "all", "images": 10, "objects": 12, "share": 0.2}
        >>> report = {"networks": [{"name": "plain"}], "parts": [part], "rows": []}
        >>> focus_table(report | {"differences": []}, "energy")[1]
        [['all', '12', 'plain', '–', '–', '–', '0.20']]
    """
    first, *others = [network["name"] for network in report["networks"]]
    headers = ["part", "objects", "network", "trained", "other images", "untrained", "uniform"]
    headers += [f"− {first}"] * bool(others and intervals)
    lines = []
    for part in (part for part in report["parts"] if part["images"] >= LEAST_IMAGES):
        share = "–" if part["share"] is None else f"{part['share']:.2f}"
        for name in (first, *others):
            line = [part["name"], f"{part['objects']:,}", name]
            for of in _STYLES:
                rows = _of(report["rows"], name, what, of=of, part=part["name"])
                line.append(_in_words(rows[0], intervals=intervals) if rows else "–")
            line.append(share)
            if others and intervals:
                found = _of(report["differences"], name, what, minus=first, part=part["name"])
                line.append(_in_words(found[0], sign="+") if found else "")
            lines.append(line)
    return headers, lines


def _in_words(row: Row, *, sign: str = "", intervals: bool = True) -> str:
    if row["value"] is None:
        return "–"
    text = f"{row['value']:{sign}.2f}"
    if intervals and row["low"] is not None:
        text += f" [{row['low']:{sign}.2f}, {row['high']:{sign}.2f}]"
    return text.replace("-", "−")


def differences_table(
    report: Row, what: str, part: str = "all"
) -> tuple[list[str], list[list[str]]]:
    r"""Put the differences of each network from its controls and from the first network in a table.

    Args:
        report: what `study_focus` returned.
        what: "energy" or "pointing".
        part: name of the part.

    Returns:
        The headers, and a row for each network. A cell has the difference, below it the interval
        over images and, where there are several seeds, that over seeds. It is bold (in Markdown)
        if it is shown: if no interval contains 0.

    Example:
        >>> row = {"network": "plain", "part": "all", "what": "energy", "minus": "uniform"}
        >>> row |= {"value": 0.1, "low": 0.05, "high": 0.15}
        >>> report = {"networks": [{"name": "plain"}], "differences": [row]}
        >>> differences_table(report, "energy")[1][0][:2]
        ['plain', '**+0.100**\n[+0.050, +0.150]']
    """
    first, *others = [network["name"] for network in report["networks"]]
    headers = {"uniform": "a uniform map", "other images": "other images", "untrained": "untrained"}
    headers |= {first: first} if others else {}
    lines = []
    for name in (first, *others):
        line = [name]
        for minus in headers:
            found = _of(report["differences"], name, what, minus=minus, part=part)
            line.append(_with_ends(found[0]) if found else "–")
        lines.append(line)
    return ["network", *headers.values()], lines


def _with_ends(row: Row) -> str:
    if row["value"] is None or row["low"] is None:
        return "–"
    value, mark = f"{row['value']:+.3f}", "**" if _shown(row) else ""
    text = f"{mark}{value}{mark}\n[{row['low']:+.3f}, {row['high']:+.3f}]"
    if "seeds_low" in row:
        text += f"\n[{row['seeds_low']:+.3f}, {row['seeds_high']:+.3f}]"
    return text.replace("-", "−")


def _shown(row: Row) -> bool:
    """Whether 0 lies neither in the interval over images nor in that over seeds, if any."""
    ends = [(row["low"], row["high"])]
    if "seeds_low" in row:
        ends.append((row["seeds_low"], row["seeds_high"]))
    return all(low > 0 for low, _ in ends) or all(high < 0 for _, high in ends)


def focus_conclusions(report: Row, part: str = "all") -> list[str]:
    """State in sentences how networks differ from their controls and from the first network.

    A difference is called shown if neither its interval over images nor, where there are several
    seeds, that over seeds contains 0.

    Args:
        report: what `study_focus` returned.
        part: name of the part.

    Returns:
        The sentences.

    Example:
        >>> row = {"network": "plain", "part": "all", "what": "energy", "minus": "uniform"}
        >>> row |= {"value": 0.1, "low": 0.05, "high": 0.15}
        >>> focus_conclusions({"differences": [row]})
        ['energy: plain minus a uniform map: +0.100 [+0.050, +0.150]: shown.']
    """
    names = {"uniform": "a uniform map", "other images": "its own maps of other images"}
    names["untrained"] = "its untrained control"
    sentences = []
    for row in sorted(report["differences"], key=lambda row: row["minus"] not in names):
        if row["part"] != part or row["value"] is None or row["low"] is None:
            continue
        seeds = ""
        if "seeds_low" in row:
            seeds = f", over seeds [{row['seeds_low']:+.3f}, {row['seeds_high']:+.3f}]"
        value = f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{seeds}"
        sentences.append(
            f"{row['what']}: {row['network']} minus {names.get(row['minus'], row['minus'])}: "
            f"{value.replace('-', '−')}: {'shown' if _shown(row) else 'not shown'}."
        )
    return sentences
