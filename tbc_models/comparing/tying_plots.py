"""Show the results of `tbc tie-study`: as a table, and as a plot."""

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
        | layers tied | B | parameters | start | at once | recalibrated | 5 epochs |
        |---|--:|--:|---|--:|--:|--:|
        | `layer*` | 2 | 50 (0.50) | nearest weights | 10.00 | 20.00 | 85.00 |
    """
    rows = report["rows"]
    epochs = sorted({row["epochs"] for row in rows})
    head = ["layers tied", "B", "parameters", "start", "at once", "recalibrated"]
    head += [f"{n} epoch{'s' * (n > 1)}" for n in epochs]
    lines = [f"| {' | '.join(head)} |", f"|---|--:|--:|---|{'--:|' * (2 + len(epochs))}"]
    ways = dict.fromkeys((row["where"], row["blocks"], start) for start in STARTS for row in rows)
    for way in sorted(ways, key=lambda way: way[:2]):
        of_way = [row for row in rows if (row["where"], row["blocks"], row["start"]) == way]
        if of_way:
            where, blocks, start = way
            first, trained = of_way[0], {row["epochs"]: row["tuned"] for row in of_way}
            parameters, whole = first["parameters"], report["untied"]["parameters"]
            cells = [f"`{where}`", str(blocks), f"{parameters:,} ({parameters / whole:.2f})"]
            cells += [STARTS[start], _percent(first.get("at_once"))]
            cells += [_percent(first.get("recalibrated"))]
            cells += [_percent(trained.get(n)) for n in epochs]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tying_curves(report: dict[str, Any]) -> Figure:
    """Plot the accuracy of each training against its length, in a panel for each way to tie.

    Args:
        report: report of `tbc tie-study`, complete or not.

    Returns:
        The figure. The dashed line is the network before it is tied.

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
    figure, all_axes = plt.subplots(
        1,
        len(ways),
        figsize=(1 + 2.6 * len(ways), 3.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (where, blocks) in zip(all_axes[0], ways, strict=True):
        for start, (colour, marker) in _STYLES.items():
            points = sorted(
                (row["epochs"], 100 * row["tuned"])
                for row in rows
                if (row["where"], row["blocks"], row["start"]) == (where, blocks, start)
            )
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, f"{marker}-", color=colour, label=STARTS[start])
        if untied is not None:
            axes.axhline(
                untied, color="#666666", lw=1, ls="--", zorder=0, label="before it is tied"
            )
        axes.set(title=f"{where} tied, B = {blocks}", xlabel="epochs", xscale="log")
        lengths = sorted({row["epochs"] for row in rows})
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0, 0].set_ylabel("top-1 of the test images, %")
    lines = all_axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _percent(top1: float | None) -> str:
    return "–" if top1 is None else f"{100 * top1:.2f}"
