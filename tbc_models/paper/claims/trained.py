"""What our small trainings have found, as checks of claims about accuracy.

Each function reads committed reports anew, so a report that is made again changes the ledger. A
claim counts as reproduced in small only if an interval over seeds, or a corrected test, excludes
that nothing differs, on the side that the paper reports.
"""

from collections.abc import Callable
from typing import Any

from tbc_models import results
from tbc_models.networks.pretrained import shipped_networks
from tbc_models.paper.claims import UNREAD, Finding, Status, in_small, signed
from tbc_models.statistics import compare_paired

Report = dict[str, Any]


def _comparisons() -> list[Report]:
    names = sorted(path.stem for path in results.COMMITTED.glob("compare-*.json"))
    reports = [report for name in names if (report := results.committed(name))]
    return [report for report in reports if any("p_holm" in row for row in report["statistics"])]


def against(operator: str, *panels: str) -> Callable[[], Finding]:
    """Return a check of a family against standard convolutions in the committed comparisons.

    Args:
        operator: the family, such as "TBC".
        panels: budgets to look at, such as "parameters"; by default all.

    Returns:
        The function that a `Claim` takes as `find`: in how many comparisons the family is better,
        and in how many worse, after the correction for their number.

    Example:
        >>> "better in" in against("TBC")().ours
        True
    """

    def find() -> Finding:
        reports = _comparisons()
        if not reports:
            return UNREAD
        better = worse = 0
        rows = []
        for report in reports:
            labels = {network["name"]: network["label"] for network in report["networks"]}
            for row in report["statistics"]:
                if labels[row["network"]].split()[0] != operator or "difference" not in row:
                    continue
                if not panels or row["panel"] in panels:
                    rows.append(row)
                    shown = row["p_holm"] is not None and row["p_holm"] < 0.05
                    better += shown and row["difference"]["mean"] > 0
                    worse += shown and row["difference"]["mean"] < 0
        at = " or ".join({"macs": "MACs"}.get(panel, panel) for panel in panels)
        ours = f"of {len(rows)} comparisons with SC at equal {at or 'cost'}, over seeds on "
        ours += f"{len(reports)} small data sets, {operator} is better in {better} and worse in "
        ours += f"{worse}; in {len(rows) - better - worse} no difference is shown"
        return in_small(2 * better > len(rows), ours)

    return find


def against_group(panel: str) -> Callable[[], Finding]:
    """Return a check of TBC against GC with as many groups as TBC has blocks, seed by seed.

    Args:
        panel: the budget, "parameters" or "macs".

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> "TBC − GC" in against_group("parameters")().ours
        True
    """

    def find() -> Finding:
        told, better, pairs = [], 0, 0
        for report in _comparisons():
            of = {n["label"]: n["name"] for n in report["networks"] if panel in n["panels"]}
            for label, name in of.items():
                tied = f"TBC B={label[5:]}"
                if not label.startswith("GC G=") or tied not in of:
                    continue
                found = compare_paired(*(_top1(report, n) for n in (of[tied], name))).difference
                pairs += 1
                better += found.low > 0
                mean, low, high = (signed(100 * n, 2) for n in found)
                data = report["settings"]["data"]
                told.append(f"{data} B = {label[5:]} {mean} [{low}, {high}]")
        if not told:
            return UNREAD
        at = {"macs": "MACs"}.get(panel, panel)
        ours = f"top-1 of TBC − GC at equal {at}, in points, over seeds: {'; '.join(told)}"
        return in_small(2 * better > pairs, ours)

    return find


def _top1(report: Report, network: str) -> list[float]:
    """Return the accuracies of a network over the seeds with which all networks were trained."""
    seeds = [run["seed"] for run in report["runs"]]
    whole = {seed for seed in seeds if seeds.count(seed) == len(report["networks"])}
    own = [run for run in report["runs"] if run["network"] == network and run["seed"] in whole]
    return [run["top1"] for run in sorted(own, key=lambda run: run["seed"])]


def ablation(name: str, network: str, side: int) -> Callable[[], Finding]:
    """Return a check of a row of our small ablations against its yardstick.

    Args:
        name: "splits" or "mixer".
        network: the row, such as "2s48w".
        side: −1 if the paper's row is worse than the yardstick, 1 if it is better.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> ablation("splits", "2s48w", -1)().ours.startswith("on mnist")
        True
    """

    def find() -> Finding:
        report = results.committed(f"ablation-{name}")
        if report is None:
            return UNREAD
        first, *rows = report["statistics"]
        (row,) = (row for row in rows if row["network"] == network)
        mean, low, high = (100 * row["difference"][key] for key in ("mean", "low", "high"))
        counts = {n["name"]: n["parameters"] for n in report["networks"]}
        ours = f"on {report['settings']['data']}, over seeds, {network} − {first['network']} is "
        ours += f"{signed(mean, 2)} [{signed(low, 2)}, {signed(high, 2)}] points of top-1, with "
        ours += f"{counts[network]:,} and {counts[first['network']]:,} parameters"
        shown = low > 0 if side > 0 else high < 0
        return in_small(shown, ours, report["command"])

    return find


def trade_off(name: str, chosen: str, *rivals: str) -> Callable[[], Finding]:
    """Return a check whether one row of a small ablation has the best trade-off.

    It has, if rows with no more parameters are worse, and if rows with more parameters gain less
    than 0.4 points, which the paper counts as a drop where it compares numbers of splits.

    Args:
        name: "splits" or "mixer".
        chosen: the row that the paper prefers; the report compares the others with it.
        rivals: the rows that the paper compares it with; by default all.

    Returns:
        The function that a `Claim` takes as `find`.

    Example:
        >>> trade_off("splits", "4s32w")().status.value
        'came out otherwise'
    """

    def find() -> Finding:
        report = results.committed(f"ablation-{name}")
        if report is None:
            return UNREAD
        counts = {n["name"]: n["parameters"] for n in report["networks"]}
        first, *rows = report["statistics"]
        told, shown = [], first["network"] == chosen
        for row in rows:
            if rivals and row["network"] not in rivals:
                continue
            mean, low, high = (100 * row["difference"][k] for k in ("mean", "low", "high"))
            more = counts[row["network"]] - counts[chosen]
            shown = shown and high < (0.4 if more > 0 else 0)
            span = f"{signed(mean, 2)} [{signed(low, 2)}, {signed(high, 2)}]"
            told.append(f"{row['network']} {span} with {signed(more / 1000, 1)} k parameters")
        ours = f"on {report['settings']['data']}, over seeds, top-1 minus that of "
        ours += f"{first['network']}, in points: {', '.join(told)}"
        ours += "" if shown else "; the intervals do not show a better trade-off"
        return in_small(shown, ours, report["command"])

    return find


def tied_after_training() -> Finding:
    """Read what tying does at once to a network that was trained without ties.

    The paper does not claim that this works, so it is told beside its claim, without a verdict.
    """
    report = results.committed("tying-cifar10")
    if report is None:
        return UNREAD
    chosen = {"blocks": 2, "where": "layer*", "start": "nearest"}
    rows = [row for row in report["rows"] if chosen.items() <= row.items()]
    last = max(rows, key=lambda row: row["epochs"])
    ours = f"a trained ResNet-20 on CIFAR-10 falls from {100 * last['untied']:.1f} to "
    ours += (
        f"{100 * last['at_once']:.1f} % top-1 when its stages are tied at B = 2 with the nearest "
    )
    ours += f"weights, and reaches {100 * last['tuned']:.1f} % after {last['epochs']} more epochs"
    ours = f"we have no experiment on this reason; tied only after its training, {ours}"
    return Finding(Status.untried, ours, report["command"])


def shipped() -> Finding:
    """Compare the trained ResNet-20 that ships with its tied twin, which shows no gain.

    One seed each gives no interval, so this cannot count as reproduced.
    """
    facts = {found.name: found.facts for found in shipped_networks()}
    plain, tied = facts["resnet20.cifar10"], facts["tbc_resnet20.cifar10"]
    top1 = [100 * one.correct / one.images for one in (plain, tied)]
    ours = f"on CIFAR-10, ResNet-20 has {plain.parameters:,} parameters and {top1[0]:.1f} % top-1; "
    ours += f"tied at B = 2 it has {tied.parameters:,} and {top1[1]:.1f} %; one seed each, "
    return Finding(Status.otherwise, f"{ours}which is too few to show a gain")
