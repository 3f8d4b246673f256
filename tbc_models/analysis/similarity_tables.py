"""Put what `tbc similarity` measured into tables and sentences."""

from collections.abc import Sequence
from operator import lt
from typing import Any

import numpy as np

Row = dict[str, Any]


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
        The headers, and a row for each layer. Of several seeds, a cell has the mean and the range,
        as `mean_in_words` formats them. If filters are dead, the last column has their number in
        the trained networks and, after a slash, in the untrained ones.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "depth": 1, "dead": 0}
        >>> similarity_table({"rows": [row | {"filters": 8, "mean": 0.25}]}, "a")[1]
        [['conv1', '1', '8', '0.250', '–']]
    """
    headers, lines = ["layer", "depth", "filters", "trained", "untrained"], []
    some_dead = any(row["dead"] for row in report["rows"] if row["network"] == network)
    headers += ["dead"] * some_dead
    for layer in layers_of(report, network):
        trained = select_rows(report, network, "trained", layer)
        control = select_rows(report, network, "untrained", layer)
        first = trained[0]
        counts = [str(first["depth"]), str(first["filters"] + first["dead"])]
        lines.append([layer, *counts, mean_in_words(trained), mean_in_words(control)])
        if some_dead:
            dead = [str(sum(row["dead"] for row in rows)) for rows in (trained, control) if rows]
            lines[-1].append(" / ".join(dead))
    return headers, lines


def block_table(report: Row, network: str) -> tuple[list[str], list[list[str]]]:
    """Put the means of pairs in the same block and in different ones into a table.

    Args:
        report: what `similarity_study` returned.
        network: label of the network.

    Returns:
        The headers, and rows for each layer with blocks or groups, trained and untrained. No rows
        if no layer has any.

    Example:
        >>> row = {"network": "a", "weights": "trained", "layer": "conv1", "mean": 0.5}
        >>> block_table({"rows": [row | {"within": 0.75, "between": 0.25}]}, "a")[1]
        [['conv1', 'trained', '0.750', '0.250']]
    """
    lines = []
    for layer in layers_of(report, network):
        for weights in ("trained", "untrained"):
            rows = select_rows(report, network, weights, layer)
            divided = [row for row in rows if "within" in row]
            cells = [mean_in_words(divided, part) for part in ("within", "between")]
            lines += [[layer, weights, *cells]] * bool(divided)
    return ["layer", "weights", "same block", "other block"], lines


def ends_table(report: Row) -> tuple[list[str], list[list[str]]]:
    """Put each network's mean at its first and at its deepest layer into a table.

    Args:
        report: what `similarity_study` returned.

    Returns:
        The headers, and a row for each network. With several networks, the last column has in how
        many layers the mean is below the first network's, trained and, after a slash, untrained.

    Example:
        >>> row = {"network": "a", "weights": "trained"}
        >>> rows = [row | {"layer": "conv1", "depth": 1, "mean": 0.2}]
        >>> rows += [row | {"layer": "conv9", "depth": 9, "mean": 0.6}]
        >>> ends_table({"rows": rows})[1]
        [['a', '1 → 9', '0.200 → 0.600', '–']]
    """
    first, *others = networks_of(report)
    headers = ["network", "depth", "trained", "untrained"]
    headers += [f"layers below {first}"] * bool(others)
    lines = []
    for name in (first, *others):
        layers = layers_of(report, name)
        cells = []
        for weights in ("trained", "untrained"):
            rows = [select_rows(report, name, weights, layer) for layer in (layers[0], layers[-1])]
            cells.append(" → ".join(_number(mean_of(own)) for own in rows) if rows[0] else "–")
        depths = [select_rows(report, name, "trained", layers[end])[0]["depth"] for end in (0, -1)]
        lines.append([name, f"{depths[0]} → {depths[1]}", *cells])
        if others:
            below = _layers_below(report, first, name).values() if name != first else ()
            lines[-1].append(" / ".join(f"{some} of {of}" for some, of in below) or "–")
    return headers, lines


def mean_in_words(rows: Sequence[Row], key: str = "mean") -> str:
    """Format the mean over the seeds and, of several, the lowest and the highest in brackets.

    Two or three networks are too few for an interval: by Student's t it would reach beyond 1.

    Args:
        rows: rows of a layer, one for each seed.
        key: "mean", or "within" or "between" for pairs in the same block or in different ones.

    Returns:
        The text; a dash if there are no rows.

    Example:
        >>> mean_in_words([{"mean": 0.5}, {"mean": 0.51}])
        '0.505 [0.500, 0.510]'
    """
    if not rows:
        return "–"
    values = [row[key] for row in rows]
    text = _number(mean_of(rows, key))
    return f"{text} [{_number(min(values))}, {_number(max(values))}]" if len(rows) > 1 else text


def seeds_in_words(report: Row) -> list[str]:
    """State how many networks the means are of, and what brackets mean.

    Args:
        report: what `similarity_study` returned.

    Returns:
        A sentence for the untrained networks if there are any, and one for brackets.

    Example:
        >>> row = {"network": "a", "weights": "untrained", "layer": "conv1"}
        >>> seeds_in_words({"rows": [row, row]})[0]
        'Untrained: two networks with random weights, no interval.'
    """
    groups: dict[tuple[str, ...], int] = {}
    for row in report["rows"]:
        key = (row["weights"], row["network"], row["layer"])
        groups[key] = groups.get(key, 0) + 1
    most = max((n for (weights, *_), n in groups.items() if weights == "untrained"), default=0)
    sentences = []
    if most:
        number = ("no", "one", "two", "three", "four", "five")[most] if most < 6 else str(most)
        networks = "network" if most == 1 else "networks"
        sentences.append(f"Untrained: {number} {networks} with random weights, no interval.")
    if max(groups.values()) > 1:
        sentences.append("In brackets: the lowest and the highest network.")
    return sentences


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
                told = (f"{_number(mean_of(end))} at depth {end[0]['depth']}" for end in ends)
                sentences.append(f"{name}, {weights}: from {' to '.join(told)}.")
    first, *others = networks_of(report)
    for name in others:
        if not (pairs := paired_layers(report, [first, name])):
            sentences.append(f"{name} and {first} have different numbers of layers: not compared.")
            continue
        how = "" if all(its == own for its, own in pairs) else ", compared in order of depth"
        sentences += [
            f"{name}, {weights}: its mean is below that of {first} in {below} of {of} layers{how}."
            for weights, (below, of) in _layers_below(report, first, name).items()
        ]
    return sentences


def paired_layers(report: Row, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Pair the layers of networks by name or, if they have equally many, by depth.

    Args:
        report: what `similarity_study` returned.
        names: labels of the networks.

    Returns:
        A layer of each network for each pair; nothing if they have different numbers of layers.

    Example:
        >>> rows = [{"network": "a", "layer": "conv1"}, {"network": "b", "layer": "stem"}]
        >>> paired_layers({"rows": rows}, ["a", "b"])
        [('conv1', 'stem')]
    """
    layers = [layers_of(report, name) for name in names]
    if all(set(own) == set(layers[0]) for own in layers):
        return [(layer,) * len(names) for layer in layers[0]]
    if any(len(own) != len(layers[0]) for own in layers):
        return []
    return list(zip(*layers, strict=True))


def mean_of(rows: Sequence[Row], key: str = "mean") -> float:
    """Average a number of a layer over the seeds.

    Args:
        rows: rows of the layer, one for each seed.
        key: which number.

    Returns:
        The mean.

    Example:
        >>> mean_of([{"mean": 0.25}, {"mean": 0.75}])
        0.5
    """
    return float(np.mean([row[key] for row in rows]))


def _layers_below(report: Row, first: str, name: str) -> dict[str, tuple[int, int]]:
    """For trained and untrained: in how many of all layers a network is below the first one."""
    pairs, counts = paired_layers(report, [first, name]), {}
    for weights in ("trained", "untrained"):
        theirs = [select_rows(report, first, weights, its) for its, _ in pairs]
        ours = [select_rows(report, name, weights, own) for _, own in pairs]
        if pairs and all([*theirs, *ours]):
            counts[weights] = (sum(map(lt, map(mean_of, ours), map(mean_of, theirs))), len(pairs))
    return counts


def _number(value: float) -> str:
    return f"{round(value, 3) + 0:.3f}".replace("-", "−")  # no minus before 0.000
