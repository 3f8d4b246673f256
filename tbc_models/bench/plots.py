"""Plot the results of `tbc bench` from the files that it wrote."""

from itertools import product
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from tbc_models.bench.layers import (
    BACK,
    CHOSEN,
    STANDARD,
    Alike,
    LayerCase,
    LayerRow,
    classes,
    mean_ratio,
)
from tbc_models.bench.timing import Time
from tbc_models.draw import COLOURS

BLUE, RED, GREEN, PINK, SKY, ORANGE = COLOURS
YELLOW, GREY = "#F0E442", "#999999"
WORDS = {"channels_last": "channels-last (NHWC)", "contiguous": "contiguous (NCHW)"}


def layer_rows(report: dict[str, Any]) -> list[LayerRow]:
    """Read the rows of a file that `tbc bench layers` wrote.

    Args:
        report: the parsed JSON.

    Returns:
        The times of each case.

    Example:
        >>> row = LayerRow(LayerCase(8, 8, 3, 1, 8, blocks=2), {"fold": Time(1, 1, 1)})
        >>> layer_rows({"rows": [row.record()]}) == [row]
        True
    """
    return [
        LayerRow(LayerCase(**row["case"]), {name: Time(*time) for name, time in row["ms"].items()})
        for row in report["rows"]
    ]


def layers(report: dict[str, Any], *, training: bool = False) -> list[Axes]:
    """Plot each algorithm's time over that of the authors' fold, by layout, kernel and stride.

    Args:
        report: report of `tbc bench layers`.
        training: whether to show forward with backward, or forward alone.

    Returns:
        The axes of both layouts.

    Example:
        >>> times = {name: Time(1, 1, 1) for name in (CHOSEN, "authors")}
        >>> row = LayerRow(LayerCase(8, 8, 3, 1, 8, blocks=2), times)
        >>> [axes.get_title() for axes in layers({"rows": [row.record()]})]
        ['channels-last (NHWC)', 'contiguous (NCHW)']
    """
    candidates = {
        STANDARD: ("SC, which computes B times more", GREY),
        BACK: ("authors' fold, copied back", ORANGE),
        "fold_channels_last": ("fold_channels_last", PINK),
        "grouped": ("grouped", YELLOW),
        "gemm": ("gemm", SKY),
        "conv3d": ("conv3d", GREEN),
        "dilated": ("dilated", RED),
        CHOSEN: ("tied_block_conv2d, which chooses", BLUE),
    }
    by_class = classes(layer_rows(report))
    kernels = sorted({(a.kernel_size, a.stride, a.dtype, a.batch) for a in by_class})
    figure, panels = plt.subplots(
        1, 2, figsize=(10, 1.6 + 0.9 * len(kernels)), sharey=True, layout="constrained"
    )
    for axes, layout in zip(panels, WORDS, strict=True):
        axes.axvline(1, color="black", lw=1, ls="--")
        for y, (kernel, stride, dtype, batch) in enumerate(kernels):
            same = by_class.get(Alike(layout, kernel, stride, training, dtype, batch), [])
            shown = {n: r for n in candidates if (r := mean_ratio(same, n)) is not None}
            for k, (name, ratio) in enumerate(shown.items()):
                label, colour = candidates[name]
                bar = _bar(axes, y, k, len(shown), ratio, colour=colour, label=label)
                axes.bar_label(bar, fmt="%.2f", padding=2, fontsize=8)
        axes.set(title=WORDS[layout], xlabel="time ÷ the authors' fold of a contiguous input")
        words = [f"{k}×{k}, stride {s}\n{d}, N = {n}" for k, s, d, n in kernels]
        axes.set_yticks(range(len(kernels)), words)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    legend = {
        text: bar
        for axes in panels
        for bar, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=3, frameon=False)
    return list(panels)


def blocks(report: dict[str, Any]) -> list[Axes]:
    """Plot time against B at fixed MACs: Fig. 3 of the paper, with our numbers.

    Args:
        report: report of `tbc bench blocks`.

    Returns:
        The axes of each layout.

    Example:
        >>> series = {"kernel_size": 3, "dtype": "float32", "batch": 1, "layout": "contiguous"}
        >>> times = {"operator": "TBC", "times": {"1": [2, 2, 2], "8": [3, 3, 3]}}
        >>> [axes.get_title() for axes in blocks({"rows": [series | times]})]
        ['contiguous (NCHW)']
    """
    layouts = [w for w in WORDS if any(row["layout"] == w for row in report["rows"])]
    _, panels = plt.subplots(
        1, len(layouts), figsize=(10, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, layout in zip(panels[0], layouts, strict=True):
        for row in report["rows"]:
            if row["layout"] != layout:
                continue
            counts = [int(B) for B in row["times"]]
            median, low, high = zip(*row["times"].values(), strict=True)
            ratios = [time / median[0] for time in median]
            tied = row["operator"] == "TBC"
            label = f"{row['operator']}, {row['dtype']}, N = {row['batch']}"
            (line,) = axes.plot(
                counts,
                ratios,
                "o-" if tied else "s--",
                color=BLUE if tied else RED,
                alpha=1 if row["dtype"] == "float32" else 0.5,
                label=label,
            )
            spread = [[t / median[0] for t in side] for side in (low, high)]
            axes.fill_between(counts, *spread, color=line.get_color(), alpha=0.15, lw=0)
        axes.set(title=WORDS[layout], xlabel="blocks of TBC, groups of GC")
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(B) for B in counts])
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("time ÷ time of B = 1")
    panels[0][0].set_ylim(bottom=0)  # after everything is drawn, or the limit would not fit all
    return list(panels[0])


def networks(report: dict[str, Any]) -> Axes:
    """Plot each network's time divided by that of the first.

    Args:
        report: report of `tbc bench networks`.

    Returns:
        The axes.

    Example:
        >>> row = {"network": "resnet50", "mode": "inference", "compiled": False, "ratio": 1.0}
        >>> networks({"rows": [row]}).get_xlabel()
        'time ÷ that of resnet50'
    """
    rows = report["rows"]
    names = list(dict.fromkeys(row["network"] for row in rows))
    ways = list(product(dict.fromkeys(row["mode"] for row in rows), (False, True)))
    ways = [way for way in ways if any((row["mode"], row["compiled"]) == way for row in rows)]
    _, axes = plt.subplots(figsize=(8, 0.8 + 0.9 * len(ways)), layout="constrained")
    colours = dict(zip(names, [GREY, BLUE, GREEN, ORANGE, RED] * len(names), strict=False))
    for y, way in enumerate(ways):
        same = [row for row in rows if (row["mode"], row["compiled"]) == way]
        for k, row in enumerate(same):
            name = row["network"]
            bar = _bar(axes, y, k, len(same), row["ratio"], colour=colours[name])
            axes.bar_label(bar, fmt=f"%.2f  {name}", padding=2, fontsize=9)
    labels = [f"{mode},\ncompiled" if compiled else mode for mode, compiled in ways]
    axes.set_yticks(range(len(ways)), labels)
    axes.invert_yaxis()
    axes.axvline(1, color="black", lw=1, ls="--")
    axes.margins(x=0.25)
    axes.set_xlabel(f"time ÷ that of {names[0]}")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def parts(report: dict[str, Any]) -> list[Axes]:
    """Plot the milliseconds of each network by kind of operation, for inference and training.

    Args:
        report: report of `tbc bench networks`.

    Returns:
        The axes of each mode.

    Example:
        >>> row = {"network": "resnet50", "mode": "inference", "parts": {"convolution": 9.0}}
        >>> [axes.get_title() for axes in parts({"rows": [row]})]
        ['inference']
    """
    rows = [row for row in report["rows"] if row["parts"]]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    names = len({row["network"] for row in rows})
    figure, panels = plt.subplots(
        1, len(modes), figsize=(10, 1.2 + 0.45 * names), squeeze=False, layout="constrained"
    )
    colours = (BLUE, ORANGE, GREEN, RED, PINK, GREY)
    for axes, mode in zip(panels[0], modes, strict=True):
        for row in (row for row in rows if row["mode"] == mode):
            left = 0.0
            for (kind, spent), colour in zip(row["parts"].items(), colours, strict=False):
                axes.barh(row["network"], spent, left=left, color=colour, label=kind)
                left += spent
        axes.invert_yaxis()
        axes.set(title=mode, xlabel="milliseconds of a batch")
        axes.spines[["top", "right"]].set_visible(False)
    shown = dict(zip(*panels[0][0].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=6, frameon=False)
    return list(panels[0])


def reference(report: dict[str, Any]) -> Axes:
    """Plot the reference's time divided by PyTorch's.

    Args:
        report: report of `tbc bench reference`.

    Returns:
        The axes.

    Example:
        >>> times = {"tbc_ref": [3, 3, 3], "torch": [2, 2, 2]}
        >>> row = {"input": [8, 64, 56, 56], "blocks": 4, "computed": "forward", "times": times}
        >>> reference({"rows": [row]}).get_xlabel()
        'time of tbc_ref ÷ time of PyTorch'
    """
    labels, ratios = [], []
    for row in report["rows"]:
        labels.append(f"{'×'.join(map(str, row['input']))}\nB = {row['blocks']}, {row['computed']}")
        ratios.append(row["times"]["tbc_ref"][0] / row["times"]["torch"][0])
    _, axes = plt.subplots(figsize=(7.5, 0.6 + 0.5 * len(ratios)), layout="constrained")
    bars = axes.barh(labels, ratios, color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(4, color=RED, ls="--")
    axes.text(3.95, len(ratios) - 0.5, "aim", color=RED, ha="right", va="center")
    axes.invert_yaxis()
    axes.set(xlabel="time of tbc_ref ÷ time of PyTorch", xlim=(0, max(4.4, *ratios)))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _bar(
    axes: Axes, y: int, k: int, count: int, length: float, *, colour: str, label: str = ""
) -> BarContainer:
    """Draw bar k of `count` bars around the height y."""
    height = 0.8 / count
    return axes.barh(y + (k + 0.5) * height - 0.4, length, height, color=colour, label=label)
