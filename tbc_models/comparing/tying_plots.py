"""Show the results of `tbc tie-study`: as a table, and as a plot."""

import math
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from tbc_models.draw import COLOURS

STARTS = {
    "nearest": "nearest weights",
    "taught": "nearest weights, teacher",
    "random": "random weights",
}
_STYLES = dict(zip(STARTS, zip(COLOURS, "osD", strict=False), strict=False))


def tying_table(report: dict[str, Any]) -> str:
    """Write the results as a table in Markdown, with a row for each way to tie and to start.

    Args:
        report: report of `tbc tie-study`, complete or not.

    Returns:
        The table; a dash stands for a training that is missing.

    Example:
        >>> row = {"where": "layer*", "blocks": 2, "start": "nearest", "epochs": 5, "untied": 0.9}
        >>> row |= {"parameters": 50, "at_once": 0.1, "recalibrated": 0.2, "tuned": 0.85}
        >>> print(tying_table({"untied": {"parameters": 100}, "rows": [row]}))
        | layers tied | B | start | at once | recalibrated | 5 epochs | parameters |
        |---|--:|---|--:|--:|--:|--:|
        | `layer*` | 2 | nearest weights | 10.00 | 20.00 | 85.00 | 50 (0.50) |
    """
    rows = report["rows"]
    epochs = sorted({row["epochs"] for row in rows})
    head = ["layers tied", "B", "start", "at once", "recalibrated"]
    head += [*(f"{n} epoch{'s' * (n > 1)}" for n in epochs), "parameters"]
    lines = [f"| {' | '.join(head)} |", f"|---|--:|---|{'--:|' * (3 + len(epochs))}"]
    ways = dict.fromkeys((row["where"], row["blocks"], start) for start in STARTS for row in rows)
    for way in sorted(ways, key=lambda way: way[:2]):
        of_way = [row for row in rows if (row["where"], row["blocks"], row["start"]) == way]
        if of_way:
            where, blocks, start = way
            first, trained = of_way[0], {row["epochs"]: row["tuned"] for row in of_way}
            parameters, whole = first["parameters"], report["untied"]["parameters"]
            cells = [f"`{where}`", str(blocks), STARTS[start]]
            cells += [_percent(first.get(when)) for when in ("at_once", "recalibrated")]
            cells += [_percent(trained.get(n)) for n in epochs]
            cells.append(f"{parameters:,} ({parameters / whole:.2f})")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tying_curves(report: dict[str, Any]) -> Figure:
    """Plot the accuracy of each training against its length, in a panel for each way to tie.

    Args:
        report: report of `tbc tie-study`, complete or not.

    Returns:
        The figure. The dashed line is the network before it is tied. Points of the same length are
        drawn side by side.

    Example:
        >>> row = {"where": "layer*", "blocks": 2, "start": "nearest", "epochs": 5, "untied": 0.9}
        >>> row |= {"parameters": 50, "at_once": 0.1, "recalibrated": 0.2, "tuned": 0.85}
        >>> figure = tying_curves({"untied": {"parameters": 100}, "rows": [row]})
        >>> [axes.get_title() for axes in figure.axes]
        ['layer* tied, B = 2']
    """
    rows = report["rows"]
    untied = next((100 * row["untied"] for row in rows if "untied" in row), None)
    ways = sorted({(row["where"], row["blocks"]) for row in rows})
    columns = min(2, len(ways))
    lines = math.ceil(len(ways) / columns)
    figure, all_axes = plt.subplots(
        lines,
        columns,
        figsize=(1 + 2.7 * columns, 0.9 + 2.5 * lines),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes in all_axes.flat[len(ways) :]:
        axes.remove()
    for axes, (where, blocks) in zip(all_axes.flat, ways, strict=False):
        for aside, (start, (colour, marker)) in zip((0.94, 1, 1.06), _STYLES.items(), strict=True):
            points = sorted(
                (aside * row["epochs"], 100 * row["tuned"])
                for row in rows
                if (row["where"], row["blocks"], row["start"]) == (where, blocks, start)
            )
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, f"{marker}-", color=colour, label=STARTS[start])
        if untied is not None:
            axes.axhline(
                untied, color="#7a808a", lw=1, ls="--", zorder=0, label="before it is tied"
            )
        axes.set(title=f"{where} tied, B = {blocks}", xlabel="epochs, log scale", xscale="log")
        axes.tick_params(labelbottom=True)
        lengths = sorted({row["epochs"] for row in rows})
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    for axes in all_axes[:, 0]:
        axes.set_ylabel("top-1, %")
    shown = all_axes[0, 0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _percent(top1: float | None) -> str:
    return "–" if top1 is None else f"{100 * top1:.2f}"
