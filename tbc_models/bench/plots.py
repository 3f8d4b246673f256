"""Plot the results of `tbc bench` from the files that it wrote."""

from itertools import product
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.ticker import LogLocator

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
GREY = "#999999"
WIDTH = 5.6  # inches, so that the text can be read on a phone, too
WORDS = {"channels_last": "channels-last (NHWC)", "contiguous": "contiguous (NCHW)"}
CANDIDATES = {  # from the top of a plot to its bottom
    CHOSEN: "tied_block_conv2d",
    **{name: name for name in ("dilated", "conv3d", "gemm", "grouped", "fold_channels_last")},
    BACK: "authors' fold,\ncopied back",
    STANDARD: "SC, with B times\nthe MACs",
}


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
    """Plot each algorithm's time over that of the authors' fold: a dot for each kernel and stride.

    Circles are 3x3 kernels and squares 1x1 kernels; hollow ones have a stride above 1.

    Args:
        report: report of `tbc bench layers`.
        training: whether to show forward with backward, or forward alone.

    Returns:
        The axes of each layout, dtype and batch size.

    Example:
        >>> times = {name: Time(1, 1, 1) for name in (CHOSEN, "authors")}
        >>> row = LayerRow(LayerCase(8, 8, 3, 1, 8, blocks=2), times)
        >>> [axes.get_title() for axes in layers({"rows": [row.record()]})]
        ['channels-last (NHWC), float32, N = 8']
    """
    alike = {a: rows for a, rows in classes(layer_rows(report)).items() if a.training == training}
    kinds = sorted({(a.kernel_size, a.stride) for a in alike}, key=lambda kind: (-kind[0], kind[1]))
    means: dict[tuple[str, str, int], dict[str, dict[tuple[int, int], float]]] = {}
    for layout, dtype, batch in product(
        WORDS, dict.fromkeys(a.dtype for a in alike), dict.fromkeys(a.batch for a in alike)
    ):
        of = {kind: alike.get(Alike(layout, *kind, training, dtype, batch), []) for kind in kinds}
        if any(of.values()):
            means[layout, dtype, batch] = {
                name: ratios
                for name in CANDIDATES
                if (ratios := {k: r for k in kinds if (r := mean_ratio(of[k], name)) is not None})
            }
    heights = [len(by_name) for by_name in means.values()]
    figure, panels = plt.subplots(
        *(len(means), 1),
        figsize=(WIDTH, 1.2 + 0.5 * len(means) + 0.36 * sum(heights)),
        sharex=True,
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    for axes, (of_panel, by_name) in zip(panels[:, 0], means.items(), strict=True):
        _dots(axes, by_name, kinds)
        axes.set_title("{}, {}, N = {}".format(WORDS[of_panel[0]], *of_panel[1:]))
    axes.set_xlabel("time ÷ time of the authors' fold of a contiguous input")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return list(panels[:, 0])


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
    figure, panels = plt.subplots(
        1, len(layouts), figsize=(WIDTH, 3.3), sharey=True, squeeze=False, layout="constrained"
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
        axes.set(title=WORDS[layout], xlabel="B: blocks of TBC, groups of GC")
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(B) for B in counts])
        axes.axhline(1, color=GREY, lw=1, ls=":")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("time ÷ time of B = 1")
    shown = panels[0][0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower center", ncols=2)
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
    figure, axes = plt.subplots(figsize=(WIDTH, 1 + 0.8 * len(ways)), layout="constrained")
    colours = dict(zip(names, [GREY, BLUE, GREEN, ORANGE, RED] * len(names), strict=False))
    for y, way in enumerate(ways):
        same = [row for row in rows if (row["mode"], row["compiled"]) == way]
        for k, row in enumerate(same):
            name = row["network"]
            bar = _bar(axes, y, k, len(same), row["ratio"], colour=colours[name], label=name)
            axes.bar_label(bar, fmt="%.2f", padding=2)
    labels = [f"{mode},\ncompiled" if compiled else mode for mode, compiled in ways]
    axes.set_yticks(range(len(ways)), labels)
    axes.invert_yaxis()
    axes.axvline(1, color=GREY, lw=1, ls="--")
    axes.margins(x=0.1)
    axes.set_xlabel(f"time ÷ that of {names[0]}")
    shown = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=3)
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
        *(len(modes), 1),
        figsize=(WIDTH, 0.8 + len(modes) * (0.8 + 0.35 * names)),
        squeeze=False,
        layout="constrained",
    )
    colours = (BLUE, ORANGE, GREEN, RED, PINK, GREY)
    for axes, mode in zip(panels[:, 0], modes, strict=True):
        for row in (row for row in rows if row["mode"] == mode):
            left = 0.0
            for (kind, spent), colour in zip(row["parts"].items(), colours, strict=False):
                axes.barh(row["network"], spent, left=left, color=colour, label=kind)
                left += spent
        axes.invert_yaxis()
        axes.set_title(mode)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("milliseconds for a batch")
    shown = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=3)
    return list(panels[:, 0])


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
    _, axes = plt.subplots(figsize=(WIDTH, 0.6 + 0.5 * len(ratios)), layout="constrained")
    bars = axes.barh(labels, ratios, color=BLUE)
    axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.axvline(4, color=RED, ls="--")
    axes.text(4.05, -0.4, "aim", color=RED, va="center")
    axes.invert_yaxis()
    axes.set(xlabel="time of tbc_ref ÷ time of PyTorch", xlim=(0, max(4.5, *ratios)))
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _dots(
    axes: Axes, by_name: dict[str, dict[tuple[int, int], float]], kinds: list[tuple[int, int]]
) -> None:
    """Draw a row of dots for each candidate: round or square by kernel, hollow with a stride."""
    axes.axvline(1, color=GREY, lw=1, ls="--")
    kernels = sorted({kernel for kernel, _ in kinds}, reverse=True)
    for k, kind in enumerate(kinds):
        kernel, stride = kind
        shown = [(r[kind], y) for y, r in enumerate(by_name.values()) if kind in r]
        colour = (BLUE, RED, GREEN)[kernels.index(kernel) % 3]
        axes.plot(
            [ratio for ratio, _ in shown],
            [y + 0.17 * (k - (len(kinds) - 1) / 2) for _, y in shown],
            "os^"[kernels.index(kernel) % 3],
            color=colour,
            mfc=colour if stride == 1 else "none",
            label=f"{kernel}×{kernel}, stride {stride}",
        )
    axes.set_yticks(range(len(by_name)), [CANDIDATES[name] for name in by_name])
    axes.set_ylim(len(by_name) - 0.5, -0.5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, subs=(1, 1.5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, axis="y", lw=0.6, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _bar(
    axes: Axes, y: int, k: int, count: int, length: float, *, colour: str, label: str = ""
) -> BarContainer:
    """Draw bar k of `count` bars around the height y."""
    height = 0.8 / count
    return axes.barh(y + (k + 0.5) * height - 0.4, length, height, color=colour, label=label)
