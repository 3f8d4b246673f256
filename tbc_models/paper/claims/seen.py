"""What `tbc similarity` and `tbc focus` have found, as checks of claims about Figs. 1, 8 and 9.

Each function reads all committed reports anew whose names begin with "similarity-" or "focus-". So
a report that is made again, or a new one, changes the ledger. What an untrained network does stands
beside each number. The status of similarity follows from the reports that measure as the paper's
text says; results of other methods are named with their method.
"""

from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np

from tbc_models import results
from tbc_models.paper.claims import UNREAD, Finding, in_small, signed
from tbc_models.paper.claims.occlusion import sides
from tbc_models.statistics import interval

Report = dict[str, Any]


def _reports(kind: str) -> list[Report]:
    names = sorted(path.stem for path in results.COMMITTED.glob(f"{kind}-*.json"))
    return [report for name in names if (report := results.committed(name)) is not None]


def _how(report: Report) -> tuple[bool, str]:
    """Say if a report measures as the paper's text does, and how it measures, in words."""
    words = [
        f"method {report['method']}",
        f"{report.get('gradient', 'guided')} gradients",
        f"{report.get('filters', 'responses')} filters",
    ]
    as_printed = ["method text", "guided gradients", "responses filters"]
    shown = [word for word, usual in zip(words, as_printed, strict=True) if word != usual]
    return words == as_printed, f" ({', '.join(shown)})" if shown else ""


def _is_tied(name: str) -> bool:
    return name.startswith(("tied_", "tbc_")) or "_tied_" in name


def _layers(report: Report, network: str, weights: str) -> list[list[Report]]:
    """Return the rows of each layer in order of depth, one for each seed."""
    own: dict[str, list[Report]] = {}
    rows = [r for r in report["rows"] if (r["network"], r["weights"]) == (network, weights)]
    for row in sorted(rows, key=lambda row: row["depth"]):
        own.setdefault(row["layer"], []).append(row)
    return list(own.values())


def _pairs(report: Report, ours: str, theirs: str, weights: str) -> list[dict[Any, float]]:
    """Return the difference of two networks in mean similarity, layer by layer, by seed.

    Layers are those with one name in both networks; where the names differ, as in a bottleneck
    of another kind, those of one rank, if both networks have as many.
    """
    first, second = (_layers(report, name, weights) for name in (ours, theirs))
    names = {rows[0]["layer"]: rows for rows in second}
    shared = [(rows, names[rows[0]["layer"]]) for rows in first if rows[0]["layer"] in names]
    if len(first) == len(second):
        shared = shared if len(shared) == len(first) else [*zip(first, second, strict=True)]
    found = []
    for mine, others in shared:
        means = {row["seed"]: row["mean"] for row in others}
        found.append({r["seed"]: r["mean"] - means[r["seed"]] for r in mine if r["seed"] in means})
    return [differences for differences in found if differences]


def _networks(report: Report) -> list[str]:
    return list(dict.fromkeys(row["network"] for row in report["rows"]))


def more_alike() -> Finding:
    """Compare the filter similarity of plain networks at their first and last measured layers."""
    return _along_depth("mean similarity", lambda _, row: float(row["mean"]), 1)


def narrower() -> Finding:
    """Compare the width of the histograms of plain networks at their first and last layers."""
    return _along_depth("standard deviation of the similarities", _width, -1)


def _width(report: Report, row: Report) -> float:
    counts = np.array(row["histogram"], float)
    edges = np.linspace(-1 if report["method"] == "text" else 0, 1, len(counts) + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    mean = np.average(middles, weights=counts)
    return float(np.sqrt(np.average((middles - mean) ** 2, weights=counts)))


def _along_depth(what: str, quantity: Callable[[Report, Report], float], direction: int) -> Finding:
    """Tell how a quantity changes from the first layer to the last, also without training."""
    told, commands = [], []
    changed: dict[str, list[bool]] = {"trained": [], "untrained": []}
    for report in _reports("similarity"):
        as_printed, how = _how(report)
        for network in (name for name in _networks(report) if not _is_tied(name)):
            ends = {}
            for weights, known in changed.items():
                layers = [
                    fmean(quantity(report, row) for row in rows)
                    for rows in _layers(report, network, weights)
                ]
                if len(layers) > 1:
                    ends[weights] = (layers[0], layers[-1])
                    if as_printed:
                        known.append(direction * (layers[-1] - layers[0]) > 0)
                        commands.append(report["command"])
            words = (
                f"{signed(first, 2)} to {signed(last, 2)} {w}".replace("+", "")
                for w, (first, last) in ends.items()
            )
            text = f"{network}{how} {', '.join(words)}"
            if ends and text not in told:
                told.append(text)
    trained, untrained = changed.values()
    if not trained:
        return UNREAD
    way = "rises" if direction > 0 else "falls"
    ours = f"{what} from the first measured layer to the last: {'; '.join(told)}"
    if untrained:
        ours += (
            f". As the paper measures it, it {way} in {sum(trained)} of {len(trained)} trained "
            f"networks, and without training in {sum(untrained)} of {len(untrained)}"
        )
    return in_small(all(trained), ours, commands[0])


def less_alike() -> Finding:
    """Compare the filter similarity of tied networks with a plain one, layer by layer."""
    told, lower, layers, command = [], 0, 0, ""
    for report in _reports("similarity"):
        names = _networks(report)
        as_printed, how = _how(report)
        tied = [name for name in names if _is_tied(name)]
        plain = [name for name in names if not _is_tied(name)]
        for name in tied if plain else ():
            command = command or (report["command"] if as_printed else "")
            words = []
            for weights in ("trained", "untrained"):
                pairs = _pairs(report, name, plain[0], weights)
                below = sum(fmean(pair.values()) < 0 for pair in pairs)
                if weights == "trained" and as_printed:
                    lower, layers = lower + below, layers + len(pairs)
                if pairs:
                    mean = _difference(pairs)
                    words.append(f"{weights} {below} of {len(pairs)} layers, on average {mean}")
            told.append(f"{name} against {plain[0]}{how}: {', '.join(words)}")
    if not layers:
        return UNREAD
    return in_small(
        lower == layers, f"layers in which the tied one is less similar: {'; '.join(told)}", command
    )


def _difference(pairs: list[dict[Any, float]]) -> str:
    """Format the difference averaged over layers, with its interval over several seeds."""
    seeds = [seed for seed in pairs[0] if all(seed in pair for pair in pairs)]
    means = [fmean(pair[seed] for pair in pairs) for seed in seeds]
    if len(means) == 1:
        return signed(means[0], 3)
    found = interval(means)
    low, high = signed(found.low, 3), signed(found.high, 3)
    return f"{signed(found.mean, 3)} [{low}, {high}] over seeds"


def focus() -> Finding:
    """Compare how much of their Grad-CAM tied and plain networks have on the object."""
    told, shown, compared, command = [], 0, 0, ""
    for report in _reports("focus"):
        first = report["networks"][0]["name"]
        rows = [r for r in report["differences"] if (r["part"], r["what"]) == ("all", "energy")]
        for row in rows:
            if row["value"] is None or not _is_tied(row["network"]):
                continue
            if row["minus"] not in (first, "untrained"):
                continue
            command = command or (report["command"] if row["minus"] == first else "")
            text = (
                f"{row['network']} − {row['minus']} on {report['data']} {signed(row['value'], 3)}"
            )
            if row["low"] is not None:
                text += f" [{signed(row['low'], 3)}, {signed(row['high'], 3)}]"
            if "seeds_low" in row:
                ends = (signed(row[key], 3) for key in ("seeds_low", "seeds_high"))
                text += f", over seeds [{', '.join(ends)}]"
            told.append(text)
            if row["minus"] == first:
                compared += 1
                shown += sides(row) == 1
    if not compared:
        return UNREAD
    ours = f"differences in the share of the map on the object, all objects: {'; '.join(told)}"
    return in_small(shown == compared, ours, command)
