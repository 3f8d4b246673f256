"""Plot what `tbc similarity` measured as Figs. 1 and 9 do; state it in a table and sentences."""

from collections.abc import Mapping, Sequence
from operator import lt
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from tbc_models.analysis.similarity import bin_edges
from tbc_models.draw import COLOURS
from tbc_models.statistics import interval

Row = dict[str, Any]

MEASURES = {"text": "cosine of averaged patterns", "code": "|correlation| of patterns"}
"""What the similarity of two filters is, for each method."""


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
    compared = len(names) > 1 and bool(_paired_layers(report, names))
    heights = [3.2, *[2.8] * compared, 2.2 * len(names)]
    width = max(4.2 * len(names), 2.4 * layers)
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
    figure = Figure(figsize=(1.5 + 2.8 * len(reports), 3.2), layout="constrained")
    panels = _axes(figure, 1, len(reports), sharey=True)[0]
    for axes, (title, report) in zip(panels, reports.items(), strict=True):
        for name, colour in zip(networks_of(report), COLOURS, strict=False):
            for weights, style in (("trained", "o-"), ("untrained", "x--")):
                layers = [
                    own
                    for layer in layers_of(report, name)
                    if (own := select_rows(report, name, weights, layer))
                ]
                depths = [own[0]["depth"] for own in layers]
                means = [_mean(own) for own in layers]
                ends = [
                    max(abs(row["mean"] - mean) for row in own)
                    for own, mean in zip(layers, means, strict=True)
                ]
                if depths:
                    label, look = f"{name}, {weights}", {"lw": 1.3, "ms": 5, "capsize": 2}
                    axes.errorbar(depths, means, ends, fmt=style, color=colour, label=label, **look)
        axes.axhline(0, color="black", lw=0.5)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("depth (convolutions)")
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("mean similarity of a pair of filters", fontsize=9)
    return figure


def draw_depths(report: Row, figure: FigureBase) -> None:
    """Draw the histograms of each network's layers over one another, as Fig. 1b does.

    Solid lines are trained networks, dashed ones untrained; the deeper the layer, the brighter.

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
    for axes, name in zip(_axes(figure, 1, len(names))[0], names, strict=True):
        layers = layers_of(report, name)
        colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(layers)))
        for layer, colour in zip(layers, colours, strict=True):
            for weights, style in (("trained", "-"), ("untrained", "--")):
                if own := select_rows(report, name, weights, layer):
                    label = f"{layer} (depth {own[0]['depth']})" if weights == "trained" else None
                    _curve(axes, report, own, style, colour, label)
        axes.set_ylim(bottom=0)
        axes.set_title(name, fontsize=10)
        axes.legend(frameon=False, fontsize=7)
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
    pairs = _paired_layers(report, names)
    if not pairs:
        raise ValueError(f"{', '.join(names)} have different numbers of layers: name the `layers`")
    grid = _axes(figure, 1, len(pairs))[0]
    for axes, layers in zip(grid, pairs, strict=True):
        for i, (name, layer) in enumerate(zip(names, layers, strict=True)):
            for weights, style in (("trained", "-"), ("untrained", "--")):
                if own := select_rows(report, name, weights, layer):
                    label = name if weights == "trained" else None
                    _curve(axes, report, own, style, COLOURS[i % len(COLOURS)], label)
        axes.set_ylim(bottom=0)
        axes.set_title(" / ".join(dict.fromkeys(layers)), fontsize=9)
        axes.set_xlabel("similarity" + _dashed(report), fontsize=8)
    grid[0].legend(frameon=False, fontsize=7)


def draw_matrices(report: Row, figure: FigureBase) -> None:
    """Draw the similarity of each pair of filters as a matrix, as Fig. 1a does.

    Args:
        report: what `similarity_study` returned.
        figure: where to draw, a row for each network and a column for each layer.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "depth": 1}
        >>> rows = [row | {"mean": 0.5, "matrix": [[1, 0.5], [0.5, 1]]}]
        >>> figure = Figure()
        >>> draw_matrices({"method": "text", "rows": rows}, figure)
        >>> figure.axes[0].get_title()
        'conv1, mean 0.50'
    """
    names = networks_of(report)
    grid = _axes(figure, len(names), _number_of_layers(report))
    least = -1 if report["method"] == "text" else 0
    image = None
    for line, name in zip(grid, names, strict=True):
        rows = [row for row in report["rows"] if row["network"] == name and "matrix" in row]
        for axes, row in zip(line, rows, strict=False):
            image = axes.imshow(row["matrix"], cmap="magma", vmin=least, vmax=1)
            axes.set_title(f"{row['layer']}, mean {row['mean']:.2f}", fontsize=8)
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_frame_on(axes.has_data())
        line[0].set_ylabel(name, fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=grid, shrink=0.8)


def networks_of(report: Row) -> list[str]:
    """List the networks of a report.

    Args:
        report: what `similarity_study` returned.

    Returns:
        Their labels, in order.

    Example:
        >>> networks_of({"rows": [{"network": "b"}, {"network": "a"}, {"network": "b"}]})
        ['b', 'a']
    """
    return list(dict.fromkeys(row["network"] for row in report["rows"]))


def layers_of(report: Row, network: str) -> list[str]:
    """List the layers that were measured of a network.

    Args:
        report: what `similarity_study` returned.
        network: its label.

    Returns:
        Their names, in order.

    Example:
        >>> layers_of({"rows": [{"network": "a", "layer": "conv1"}]}, "a")
        ['conv1']
    """
    own = (row["layer"] for row in report["rows"] if row["network"] == network)
    return list(dict.fromkeys(own))


def select_rows(report: Row, network: str, weights: str, layer: str) -> list[Row]:
    """Choose the rows of a layer, one for each seed.

    Args:
        report: what `similarity_study` returned.
        network: label of the network.
        weights: "trained" or "untrained".
        layer: name of the layer.

    Returns:
        The rows.

    Example:
        >>> select_rows({"rows": []}, "a", "trained", "conv1")
        []
    """
    wanted = (network, weights, layer)
    return [r for r in report["rows"] if (r["network"], r["weights"], r["layer"]) == wanted]


def similarity_table(report: Row, network: str) -> tuple[list[str], list[list[str]]]:
    """Put a network's means into a table, trained beside untrained.

    Args:
        report: what `similarity_study` returned.
        network: label of the network.

    Returns:
        The headers, and a row for each layer. An interval is over seeds. Dead filters are those
        of the trained network and, after a slash, of the untrained ones. If layers have blocks or
        groups, two more columns have the trained network's means of pairs in the same one and in
        different ones.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "depth": 1, "dead": 0}
        >>> similarity_table({"rows": [row | {"filters": 8, "mean": 0.25}]}, "a")[1]
        [['conv1', '1', '8', '0.250', '–', '0']]
    """
    headers, lines = ["layer", "depth", "filters", "trained", "untrained", "dead"], []
    divided = any("within" in row for row in report["rows"] if row["network"] == network)
    if divided:
        headers += ["same block", "other block"]
    for layer in layers_of(report, network):
        trained = select_rows(report, network, "trained", layer)
        control = select_rows(report, network, "untrained", layer)
        first = trained[0]
        lines.append(
            [
                layer,
                str(first["depth"]),
                str(first["filters"] + first["dead"]),
                mean_in_words(trained),
                mean_in_words(control),
                f"{_dead(trained)} / {_dead(control)}" if control else _dead(trained),
            ]
        )
        if divided:
            lines[-1] += [
                mean_in_words([{"mean": row[part]} for row in trained if part in row])
                for part in ("within", "between")
            ]
    return headers, lines


def mean_in_words(rows: Sequence[Row]) -> str:
    """Format the mean similarity over seeds with the half-width of its 95 % interval.

    Args:
        rows: rows of a layer, one for each seed.

    Returns:
        The text; a dash if there are no rows, and no interval for a single one.

    Example:
        >>> mean_in_words([{"mean": 0.5}, {"mean": 0.51}])
        '0.505 ± 0.064'
    """
    if not rows:
        return "–"
    if len(rows) == 1:
        return f"{rows[0]['mean']:.3f}".replace("-", "−")
    found = interval([row["mean"] for row in rows])
    return f"{found.mean:.3f} ± {found.high - found.mean:.3f}".replace("-", "−")


def similarity_conclusions(report: Row) -> list[str]:
    """State how the mean similarity changes with depth, and how networks differ.

    Layers are paired by name if both networks have the same, otherwise in order of depth.

    Args:
        report: what `similarity_study` returned.

    Returns:
        The sentences.

    Example:
        >>> row = {"network": "a", "weights": "trained", "dead": 0}
        >>> shallow = row | {"layer": "conv1", "depth": 1, "mean": 0.2}
        >>> rows = [shallow, row | {"layer": "conv9", "depth": 9, "mean": 0.6}]
        >>> similarity_conclusions({"rows": rows})
        ['a, trained: from 0.200 at depth 1 to 0.600 at depth 9.']
    """
    sentences = []
    for name in networks_of(report):
        layers = layers_of(report, name)
        for weights in ("trained", "untrained"):
            ends = [select_rows(report, name, weights, layer) for layer in (layers[0], layers[-1])]
            if ends[0] and len(layers) > 1:
                told = (f"{mean_in_words(end)} at depth {end[0]['depth']}" for end in ends)
                sentences.append(f"{name}, {weights}: from {' to '.join(told)}.")
    first, *others = networks_of(report)
    for name in others:
        if not (pairs := _paired_layers(report, [first, name])):
            sentences.append(f"{name} and {first} have different numbers of layers: not compared.")
            continue
        how = "" if all(its == own for its, own in pairs) else ", compared in order of depth"
        for weights in ("trained", "untrained"):
            theirs = [select_rows(report, first, weights, its) for its, _ in pairs]
            ours = [select_rows(report, name, weights, own) for _, own in pairs]
            if all([*theirs, *ours]):
                below = sum(map(lt, map(_mean, ours), map(_mean, theirs)))
                places = f"{below} of {len(pairs)} layers{how}"
                sentences.append(
                    f"{name}, {weights}: its mean is below that of {first} in {places}."
                )
    return sentences


def _paired_layers(report: Row, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Pair the layers of networks by name or, if equally many, by depth; none otherwise."""
    layers = [layers_of(report, name) for name in names]
    if all(set(own) == set(layers[0]) for own in layers):
        return [(layer,) * len(names) for layer in layers[0]]
    if any(len(own) != len(layers[0]) for own in layers):
        return []
    return list(zip(*layers, strict=True))


def _mean(rows: Sequence[Row]) -> float:
    return float(np.mean([row["mean"] for row in rows]))


def _dead(rows: Sequence[Row]) -> str:
    return ", ".join(str(row["dead"]) for row in rows) if any(row["dead"] for row in rows) else "0"


def _number_of_layers(report: Row) -> int:
    return max(len(layers_of(report, name)) for name in networks_of(report))


def _dashed(report: Row) -> str:
    control = any(row["weights"] == "untrained" for row in report["rows"])
    return " (dashed: untrained)" if control else ""


def _axes(figure: FigureBase, rows: int, columns: int, **options: Any) -> NDArray[Any]:
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **options)
    return grid


def _curve(
    axes: Axes, report: Row, rows: Sequence[Row], style: str, colour: Any, label: str | None
) -> None:
    """Draw the density of the values of all seeds together."""
    edges = bin_edges(report["method"])
    counts = np.sum([row["histogram"] for row in rows], axis=0)
    density = counts / counts.sum() / np.diff(edges)
    middles = (edges[1:] + edges[:-1]) / 2
    axes.plot(middles, density, style, color=colour, lw=1.3, label=label)
    axes.set_ylabel("density", fontsize=8)
    axes.grid(alpha=0.3)
