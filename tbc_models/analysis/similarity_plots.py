"""Plot what `tbc similarity` measured as Figs. 1 and 9 do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from tbc_models.analysis.similarity import bin_edges
from tbc_models.analysis.similarity_tables import (
    Row,
    layers_of,
    mean_of,
    networks_of,
    paired_layers,
    select_rows,
)
from tbc_models.draw import COLOURS

MEASURES = {"text": "cosine of averaged patterns", "code": "|correlation| of patterns"}
"""What the similarity of two filters is, for each method."""

_SHALLOW_TO_DEEP = LinearSegmentedColormap.from_list("depth", ["#2a86c7", "#c273a3", "#d9681d"])
"""Colours that can be seen on white and on black."""


def similarity_figure(report: Row) -> Figure:
    """Draw everything: histograms by depth, networks over one another if comparable, and matrices.

    Args:
        report: what `similarity_study` returned.

    Returns:
        The figure.

    Example:
        >>> rows = [{"network": "a", "weights": "trained", "layer": "conv1", "depth": 1}]
        >>> rows[0] |= {"histogram": [1] * 41, "matrix": [[1, 0.5], [0.5, 1]], "mean": 0.5}
        >>> len(similarity_figure({"method": "text", "rows": rows}).subfigs)
        2
    """
    names, layers = networks_of(report), _number_of_layers(report)
    compared = len(names) > 1 and bool(paired_layers(report, names))
    heights = [3.2 * _lines(len(names)), *[2.8 * _lines(layers)] * compared, 2.2 * len(names)]
    width = max(6.4, 4.2 * min(len(names), 2), 1.8 * layers)
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    draw_depths(report, parts[0])
    if compared:
        draw_compared(report, parts[1])
    draw_matrices(report, parts[-1])
    return figure


def means_figure(reports: Mapping[str, Row]) -> Figure:
    """Draw the mean similarity against depth, trained and untrained, a panel for each report.

    Args:
        reports: by title, what `similarity_study` returned.

    Returns:
        The figure. Bars reach to the seed that is farthest from the mean.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "depth": 1, "mean": 0.5}
        >>> figure = means_figure({"guided": {"method": "text", "rows": [row]}})
        >>> figure.axes[0].get_title()
        'guided'
    """
    lines = _lines(len(reports))
    layout = ConstrainedLayoutEngine(h_pad=0.08)
    figure = Figure(figsize=(5.8, 2.4 * lines + 0.7), layout=layout)
    panels = _panels(figure, len(reports), sharey=True)
    shown: dict[str, Any] = {}
    for axes, (title, report) in zip(panels, reports.items(), strict=True):
        for name, colour in zip(networks_of(report), COLOURS, strict=False):
            for weights, style in (("trained", "o-"), ("untrained", "x--")):
                layers = [
                    own
                    for layer in layers_of(report, name)
                    if (own := select_rows(report, name, weights, layer))
                ]
                depths = [own[0]["depth"] for own in layers]
                means = [mean_of(own) for own in layers]
                ends = [
                    max(abs(row["mean"] - mean) for row in own)
                    for own, mean in zip(layers, means, strict=True)
                ]
                if depths:
                    shown[f"{name}, {weights}"] = axes.errorbar(
                        depths, means, ends, fmt=style, color=colour, ms=5, capsize=2
                    )
        axes.axhline(0, color="0.5", lw=0.8)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("depth (convolutions)")
    for axes in panels[::2]:
        axes.set_ylabel("mean similarity")
    figure.legend(
        list(shown.values()), list(shown), loc="outside lower center", ncols=2, fontsize=9
    )
    return figure


def draw_depths(report: Row, figure: FigureBase) -> None:
    """Draw the histograms of each network's layers over one another, as Fig. 1b does.

    Solid lines are trained networks, dashed ones untrained. Colours go from blue for the first
    layer to orange for the deepest.

    Args:
        report: what `similarity_study` returned.
        figure: where to draw, an axes for each network.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "depth": 1}
        >>> rows = [row | {"histogram": [1] * 41}]
        >>> figure = Figure()
        >>> draw_depths({"method": "code", "rows": rows}, figure)
        >>> figure.axes[0].get_title()
        'a'
    """
    names = networks_of(report)
    for axes, name in zip(_panels(figure, len(names)), names, strict=True):
        layers = layers_of(report, name)
        colours = _SHALLOW_TO_DEEP(np.linspace(0, 1, len(layers)))
        for layer, colour in zip(layers, colours, strict=True):
            for weights, style in (("trained", "-"), ("untrained", "--")):
                if own := select_rows(report, name, weights, layer):
                    label = f"{layer} (depth {own[0]['depth']})" if weights == "trained" else None
                    _curve(axes, report, own, style, colour, label)
        axes.set_ylim(bottom=0)
        axes.set_title(name, fontsize=11)
        axes.legend(frameon=False, fontsize=9)
        axes.set_xlabel(MEASURES[report["method"]] + _dashed(report))


def draw_compared(report: Row, figure: FigureBase) -> None:
    """Draw the histograms of the networks over one another, layer by layer, as Fig. 9 does.

    Layers are paired by name if all networks have the same, otherwise in order of depth.

    Args:
        report: what `similarity_study` returned.
        figure: where to draw, an axes for each layer.

    Raises:
        ValueError: if the networks have different numbers of layers.

    Example:
        >>> row = {"weights": "trained", "layer": "conv1", "depth": 1, "histogram": [1] * 41}
        >>> rows = [row | {"network": name} for name in ("a", "b")]
        >>> figure = Figure()
        >>> draw_compared({"method": "code", "rows": rows}, figure)
        >>> figure.axes[0].get_title()
        'conv1'
    """
    names = networks_of(report)
    pairs = paired_layers(report, names)
    if not pairs:
        raise ValueError(f"{', '.join(names)} have different numbers of layers: name the `layers`")
    panels = _panels(figure, len(pairs))
    for axes, layers in zip(panels, pairs, strict=True):
        for i, (name, layer) in enumerate(zip(names, layers, strict=True)):
            for weights, style in (("trained", "-"), ("untrained", "--")):
                if own := select_rows(report, name, weights, layer):
                    label = name if weights == "trained" else None
                    _curve(axes, report, own, style, COLOURS[i % len(COLOURS)], label)
        axes.set_ylim(bottom=0)
        axes.set_title(" / ".join(dict.fromkeys(layers)), fontsize=10)
        axes.set_xlabel("similarity" + _dashed(report))
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)


def draw_matrices(report: Row, figure: FigureBase) -> None:
    r"""Draw the similarity of each pair of filters as a matrix, as Fig. 1a does.

    Args:
        report: what `similarity_study` returned.
        figure: where to draw, a row for each network and a column for each layer.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "depth": 1}
        >>> rows = [row | {"mean": 0.5, "matrix": [[1, 0.5], [0.5, 1]]}]
        >>> figure = Figure()
        >>> draw_matrices({"method": "text", "rows": rows}, figure)
        >>> figure.axes[0].get_title()
        'depth 1\nmean 0.50'
    """
    names = networks_of(report)
    grid: NDArray[Any] = figure.subplots(len(names), _number_of_layers(report), squeeze=False)
    least = -1 if report["method"] == "text" else 0
    image = None
    for line, name in zip(grid, names, strict=True):
        rows = [row for row in report["rows"] if row["network"] == name and "matrix" in row]
        for axes, row in zip(line, rows, strict=False):
            image = axes.imshow(row["matrix"], cmap="magma", vmin=least, vmax=1)
            axes.set_title(f"depth {row['depth']}\nmean {row['mean']:.2f}", fontsize=10)
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_frame_on(axes.has_data())
        line[0].set_ylabel(name)
    if image is not None:
        figure.colorbar(image, ax=grid, shrink=0.8)


def _number_of_layers(report: Row) -> int:
    return max(len(layers_of(report, name)) for name in networks_of(report))


def _dashed(report: Row) -> str:
    control = any(row["weights"] == "untrained" for row in report["rows"])
    return " (dashed: untrained)" if control else ""


def _lines(panels: int) -> int:
    return -(-panels // 2)


def _panels(figure: FigureBase, number: int, **options: Any) -> list[Axes]:
    """Divide a figure into panels, at most two beside one another."""
    grid: NDArray[Any] = figure.subplots(_lines(number), min(number, 2), squeeze=False, **options)
    for axes in grid.flat[number:]:
        axes.remove()
    return list(grid.flat[:number])


def _curve(
    axes: Axes, report: Row, rows: Sequence[Row], style: str, colour: Any, label: str | None
) -> None:
    """Draw the density of the values of all seeds together."""
    edges = bin_edges(report["method"])
    counts = np.sum([row["histogram"] for row in rows], axis=0)
    density = counts / counts.sum() / np.diff(edges)
    middles = (edges[1:] + edges[:-1]) / 2
    axes.plot(middles, density, style, color=colour, lw=1.5, label=label)
    axes.set_ylabel("density")
    axes.grid(alpha=0.3)
