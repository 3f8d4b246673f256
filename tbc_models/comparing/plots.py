"""Plot the results of `tbc compare`, and state them in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tbc_models.comparing.networks import MOST
from tbc_models.draw import COLOURS

TITLES = {
    "parameters": "equal parameters",
    "macs": "equal MACs",
    "inference": "equal inference time",
    "training": "equal training time",
    "splits": "splits (as Table 5)",
    "mixer": "mixer (as Table 6)",
}
_BLUE, _RED, _GREEN = COLOURS[:3]
_GREY = "#7a808a"  # read on white and on black
_OPERATORS = {"SC": _GREY, "GC": _RED, "TBC": _BLUE, "TGC": _GREEN}
_COSTS = {
    "parameters": "parameters",
    "macs": "MACs",
    "inference": "inference time",
    "training": "time of a training step",
}


def compared(report: dict[str, Any]) -> Figure:
    """Plot the accuracy of each network: mean, 95 % interval and every complete seed.

    Args:
        report: report of `tbc compare` with at least one complete seed.

    Returns:
        The figure, with one axes for each panel, one below the other. Networks that are not at the
        budget (`off_budget`) have hollow diamonds, and their time beside their name.

    Example:
        >>> row = {"panel": "macs", "network": "SC, 8", "mean": 0.95, "low": 0.94, "high": 0.96}
        >>> network = {"name": "SC, 8", "label": "SC"}
        >>> runs = [{"network": "SC, 8", "seed": i, "top1": 0.94 + i / 50} for i in (0, 1)]
        >>> figure = compared({"networks": [network], "runs": runs, "statistics": [row]})
        >>> [axes.get_title() for axes in figure.axes]
        ['equal MACs']
    """
    labels = {network["name"]: network["label"] for network in report["networks"]}
    rows = report["statistics"]
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    most = max(sum(row["panel"] == panel for row in rows) for panel in panels)
    figure, all_axes = plt.subplots(
        len(panels),
        figsize=(6.4, 0.4 + len(panels) * (0.7 + 0.36 * most)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, panel in zip(all_axes.flat, panels, strict=True):
        shown = [row for row in rows if row["panel"] == panel]
        of, off = labels[shown[0]["network"]], off_budget(report, panel)
        names = [labels[row["network"]] for row in shown]
        for y, row in enumerate(shown):
            colour = _OPERATORS.get(labels[row["network"]].split()[0], _BLUE if y else _GREY)
            top1 = [100 * r["top1"] for r in _counted(report) if r["network"] == row["network"]]
            axes.plot(top1, [y + 0.28] * len(top1), "o", color=colour, alpha=0.6, ms=4, mew=0)
            bar = axes.errorbar(
                100 * row["mean"], y, xerr=_bars(row), fmt="D", ms=5, capsize=3, color=colour
            )
            if ratio := off.get(row["network"]):
                bar.lines[0].set_markerfacecolor("none")
                names[y] += f"\n({ratio:.2f} times {of}'s time)"
        axes.axvline(100 * shown[0]["mean"], color=_GREY, lw=1, ls="--", zorder=0)
        axes.set_yticks(range(len(shown)), names)
        axes.set_title(TITLES[panel])
        axes.tick_params(labelbottom=True)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[-1, 0].set_xlabel("top-1 of the test images, %")
    return figure


def overview(
    reports: Mapping[str, dict[str, Any]], costs: Sequence[str] = ("parameters", "macs")
) -> Figure:
    """Plot accuracy against what networks cost, for several comparisons.

    Args:
        reports: reports of `tbc compare` with at least one complete seed, by title.
        costs: what to plot against: any of "parameters", "macs", and the measured times
            "inference" and "training".

    Returns:
        The figure, with a row of axes for each report. Costs are relative to SC's; bars are 95 %
        intervals of the accuracy, and quartiles of the time. G or B of 4 are squares, and of 8
        triangles. Networks whose cost equals SC's are drawn side by side around 1.

    Example:
        >>> row = {"panel": "macs", "network": "SC, 8", "mean": 0.95, "low": 0.94, "high": 0.96}
        >>> network = {"name": "SC, 8", "label": "SC", "parameters": 900, "macs": 9000}
        >>> figure = overview({"Digits": {"networks": [network], "statistics": [row]}})
        >>> [axes.get_xlabel() for axes in figure.axes]
        ["parameters ÷ SC's", "MACs ÷ SC's"]
    """
    figure, all_axes = plt.subplots(
        len(reports),
        len(costs),
        figsize=(0.6 + 2.9 * len(costs), 0.8 + 2.2 * len(reports)),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for line, (title, report) in zip(all_axes, reports.items(), strict=True):
        for axes, cost in zip(line, costs, strict=True):
            _against(axes, cost, report)
        line[0].set_ylabel(f"{title}\ntop-1, %")
    for axes, cost in zip(all_axes[-1], costs, strict=True):
        axes.set(xlabel=f"{_COSTS[cost]} ÷ SC's", xscale="log", xticks=[0.25, 0.5, 1, 2, 4])
        axes.set_xticklabels(["¼", "½", "1", "2", "4"])
        axes.minorticks_off()
    markers = [
        Line2D([], [], color=colour, marker="o", ls="", label=name)
        for name, colour in _OPERATORS.items()
    ]
    figure.legend(handles=markers, loc="outside upper center", ncols=len(markers), frameon=False)
    return figure


def _against(axes: Axes, cost: str, report: dict[str, Any]) -> None:
    """Draw every network of a report once, and SC's accuracy as a line."""
    found = {row["network"]: row for row in report["statistics"]}
    first, *_ = report["networks"]
    if cost in ("parameters", "macs"):
        ratios = {n["name"]: [n[cost] / first[cost]] * 3 for n in report["networks"]}
    else:
        ratios = {n["name"]: n["times"][cost] for n in report["networks"] if n.get("times")}
    if not ratios:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=_GREY)
    equal = [name for name, (ratio, _, _) in ratios.items() if 1 / MOST <= ratio <= MOST]
    for network in report["networks"] if ratios else []:
        ratio, low, high = ratios[network["name"]]
        row = found[network["name"]]
        if network["name"] in equal:  # they would hide one another
            aside = 1.06 ** (equal.index(network["name"]) - (len(equal) - 1) / 2) / ratio
            ratio, low, high = aside * ratio, aside * low, aside * high
        axes.errorbar(
            ratio,
            100 * row["mean"],
            xerr=[[ratio - low], [high - ratio]],
            yerr=_bars(row),
            fmt={"4": "s", "8": "^"}.get(network["label"][-1], "o"),
            ms=4,
            capsize=2,
            lw=1,
            color=_OPERATORS[network["label"].split()[0]],
        )
    axes.axhline(100 * found[first["name"]]["mean"], color=_GREY, lw=1, ls="--", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _counted(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of the complete seeds."""
    seeds = [run["seed"] for run in report["runs"]]
    whole = len(report["networks"])
    return [run for run in report["runs"] if seeds.count(run["seed"]) == whole]


def _bars(row: dict[str, Any]) -> list[list[float]] | None:
    """Return the lengths of the two bars of an interval in percent; None for one seed."""
    if "low" not in row:
        return None
    return [[100 * (row["mean"] - row["low"])], [100 * (row["high"] - row["mean"])]]


def off_budget(report: dict[str, Any], panel: str) -> dict[str, float]:
    """Find the networks whose time could not be made equal to the first network's.

    Args:
        report: report of `tbc compare`.
        panel: budget or ablation.

    Returns:
        For each network whose median time differs by more than `MOST` allows, its ratio to the
        first network's. Empty if the panel is not a time: counts are equal by construction.

    Example:
        >>> sc, tbc = ({"name": name, "panels": ["training"]} for name in ("SC, 8", "TBC B=2, 8"))
        >>> report = {"networks": [sc, tbc | {"times": {"training": (1.3, 1.2, 1.4)}}]}
        >>> off_budget(report, "training")
        {'TBC B=2, 8': 1.3}
    """
    return {
        network["name"]: ratio
        for network in report["networks"]
        if panel in network.get("times", {}) and panel in network["panels"]
        for ratio, _, _ in [network["times"][panel]]
        if not 1 / MOST <= ratio <= MOST
    }


def conclusions(report: dict[str, Any]) -> list[str]:
    """State which networks differ from the yardstick, in one sentence for each panel.

    Args:
        report: report of `tbc compare` with at least one complete seed.

    Returns:
        A sentence for each panel, with differences in percentage points and their 95 % intervals.
        Networks that are not at the budget (`off_budget`) are named at its end and not compared.

    Example:
        >>> networks = [{"name": name, "label": name} for name in ("SC", "TBC B=2")]
        >>> difference = {"mean": -0.02, "low": -0.03, "high": -0.01}
        >>> tbc = {"panel": "macs", "network": "TBC B=2", "difference": difference, "p_holm": 0.01}
        >>> rows = [{"panel": "macs", "network": "SC"}, tbc]
        >>> (sentence,) = conclusions({"networks": networks, "statistics": rows})
        >>> sentence.split("; ")[1]
        'worse than SC: TBC B=2 (-2.00 ± 1.00)'
    """
    labels = {network["name"]: network["label"] for network in report["networks"]}
    rows = report["statistics"]
    sentences = []
    for panel in dict.fromkeys(row["panel"] for row in rows):
        yardstick, *others = (row for row in rows if row["panel"] == panel)
        of = labels[yardstick["network"]]
        title = TITLES[panel]
        start = f"At {title}" if title.startswith("equal") else title[0].upper() + title[1:]
        better, worse = f"better than {of}", f"worse than {of}"
        found: dict[str, list[str]] = {better: [], worse: [], "no difference shown": []}
        off = off_budget(report, panel)
        for row in others:
            if row["network"] in off:
                continue
            if row["p_holm"] is None or row["p_holm"] >= 0.05:
                kind = "no difference shown"
            else:
                kind = better if row["difference"]["mean"] > 0 else worse
            found[kind].append(f"{labels[row['network']]} ({plus_minus(row['difference'], '+')})")
        words = "; ".join(f"{kind}: {', '.join(names) or 'none'}" for kind, names in found.items())
        if all("low" not in row["difference"] for row in others):
            words = "one seed shows no difference, whatever the accuracies"
        if off:
            apart = [
                f"{labels[name]} ({ratio:.2f} times {of}'s time)" for name, ratio in off.items()
            ]
            words += f"; not at the budget and so not compared: {', '.join(apart)}"
        sentences.append(f"{start}, {words}.")
    return sentences


def plus_minus(interval: dict[str, Any], sign: str = "") -> str:
    """Format a mean and the half-width of its interval, in percent.

    Args:
        interval: mean, low and high; the interval is symmetric. One seed has a mean only.
        sign: "+" to put a sign before positive means as well.

    Returns:
        The text.

    Example:
        >>> plus_minus({"mean": 0.01, "low": 0.005, "high": 0.015}, "+")
        '+1.00 ± 0.50'
    """
    mean = f"{100 * interval['mean']:{sign}.2f}"
    if "low" not in interval:
        return mean
    return f"{mean} ± {50 * (interval['high'] - interval['low']):.2f}"


def time_ratio(times: Sequence[float]) -> str:
    """Format a ratio of times and its quartiles.

    Args:
        times: median, first and third quartile.

    Returns:
        The text.

    Example:
        >>> time_ratio((0.98, 0.961, 1.0149))
        '0.98 [0.96, 1.01]'
    """
    median, low, high = times
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


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
