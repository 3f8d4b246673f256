"""Plot the results of `tbc compare`, and state them in sentences."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from tbc_models.draw import COLOURS

TITLES = {
    "parameters": "equal parameters",
    "macs": "equal MACs",
    "splits": "splits (as Table 5)",
    "mixer": "mixer (as Table 6)",
}
_BLUE, _RED, _GREEN = COLOURS[:3]
_GREY = "#666666"
_OPERATORS = {"SC": _GREY, "GC": _RED, "TBC": _BLUE, "TGC": _GREEN}


def compared(report: dict[str, Any]) -> Figure:
    """Plot the accuracy of each network: mean, 95 % interval and every seed.

    Args:
        report: complete report of `tbc compare`.

    Returns:
        The figure, with one axes for each panel.

    Example:
        >>> row = {"panel": "macs", "network": "SC, 8", "mean": 0.95, "low": 0.94, "high": 0.96}
        >>> network = {"name": "SC, 8", "label": "SC"}
        >>> runs = [{"network": "SC, 8", "top1": top1} for top1 in (0.94, 0.96)]
        >>> figure = compared({"networks": [network], "runs": runs, "statistics": [row]})
        >>> [axes.get_title() for axes in figure.axes]
        ['equal MACs']
    """
    labels = {network["name"]: network["label"] for network in report["networks"]}
    rows = report["statistics"]
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    most = max(sum(row["panel"] == panel for row in rows) for panel in panels)
    figure, all_axes = plt.subplots(
        1,
        len(panels),
        figsize=(2 + 4 * len(panels), 1.2 + 0.36 * most),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, panel in zip(all_axes[0], panels, strict=True):
        shown = [row for row in rows if row["panel"] == panel]
        for y, row in enumerate(shown):
            colour = _OPERATORS.get(labels[row["network"]].split()[0], _BLUE if y else _GREY)
            top1 = [100 * r["top1"] for r in report["runs"] if r["network"] == row["network"]]
            axes.plot(top1, [y + 0.28] * len(top1), "o", color=colour, alpha=0.4, ms=4, mew=0)
            mean, low, high = (100 * row[name] for name in ("mean", "low", "high"))
            axes.errorbar(
                mean,
                y,
                xerr=[[mean - low], [high - mean]],
                fmt="D",
                ms=5,
                capsize=3,
                color=colour,
            )
        axes.axvline(100 * shown[0]["mean"], color=_GREY, lw=1, ls="--", zorder=0)
        axes.set_yticks(range(len(shown)), [labels[row["network"]] for row in shown])
        axes.set(title=TITLES[panel], xlabel="top-1 of the test images, %")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def conclusions(report: dict[str, Any]) -> list[str]:
    """State which networks differ from the yardstick, in one sentence for each panel.

    Args:
        report: complete report of `tbc compare`.

    Returns:
        A sentence for each panel.

    Example:
        >>> networks = [{"name": name, "label": name} for name in ("SC", "TBC B=2")]
        >>> tbc = {"panel": "macs", "network": "TBC B=2", "difference": {"mean": -0.02}}
        >>> rows = [{"panel": "macs", "network": "SC"}, tbc | {"p_holm": 0.01}]
        >>> conclusions({"networks": networks, "statistics": rows})
        ['At equal MACs, better than SC: none; worse than SC: TBC B=2; no difference shown: none.']
    """
    labels = {network["name"]: network["label"] for network in report["networks"]}
    rows = report["statistics"]
    sentences = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        yardstick, *others = (row for row in rows if row["panel"] == panel)
        of = labels[yardstick["network"]]
        better, worse = f"better than {of}", f"worse than {of}"
        found: dict[str, list[str]] = {better: [], worse: [], "no difference shown": []}
        for row in others:
            if row["p_holm"] is None or row["p_holm"] >= 0.05:
                kind = "no difference shown"
            else:
                kind = better if row["difference"]["mean"] > 0 else worse
            found[kind].append(labels[row["network"]])
        words = "; ".join(f"{kind}: {', '.join(names) or 'none'}" for kind, names in found.items())
        title = TITLES[panel]
        start = f"At {title}" if title.startswith("equal") else title[0].upper() + title[1:]
        sentences.append(f"{start}, {words}.")
    return sentences


def plus_minus(interval: dict[str, Any], sign: str = "") -> str:
    """Format a mean and the half-width of its interval, in percent.

    Args:
        interval: mean, low and high; the interval is symmetric.
        sign: "+" to put a sign before positive means as well.

    Returns:
        The text.

    Example:
        >>> plus_minus({"mean": 0.01, "low": 0.005, "high": 0.015}, "+")
        '+1.00 ± 0.50'
    """
    half = (interval["high"] - interval["low"]) / 2
    return f"{100 * interval['mean']:{sign}.2f} ± {100 * half:.2f}"


def p_value(p: float | None) -> str:
    """Format a p-value.

    Args:
        p: the p-value; None if there is none, because the difference is the same in every seed.

    Returns:
        The text.

    Example:
        >>> p_value(0.0432), p_value(1e-9), p_value(None)
        ('0.043', '<0.001', '–')
    """
    if p is None:
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
