"""Tables of the results of `tbc compare`, in Markdown."""

from collections.abc import Mapping
from typing import Any

from tbc_models.comparing.plots import TITLES, off_budget, p_value, plus_minus, time_ratio


def details(report: dict[str, Any], panel: str) -> str:
    """Tabulate the networks of a panel: what they cost, how accurate they are, and the test.

    Args:
        report: report of `tbc compare` with at least one complete seed.
        panel: budget or ablation.

    Returns:
        The table. Counts are followed by their ratio to the first network's in brackets; times are
        given as such ratios, with quartiles. Networks that are not at the budget (`off_budget`)
        are marked.

    Example:
        >>> row = {"panel": "macs", "network": "SC, 8", "mean": 0.95, "low": 0.94, "high": 0.96}
        >>> sc = {"name": "SC, 8", "label": "SC", "parameters": 900, "macs": 9000, "options": {}}
        >>> print(details({"networks": [sc], "statistics": [row]}, "macs").splitlines()[-1])
        | SC | 900 (1.00) | 9,000 (1.00) | 95.00 ± 1.00 | | |
    """
    networks = {network["name"]: network for network in report["networks"]}
    yardstick, *_ = rows = [row for row in report["statistics"] if row["panel"] == panel]
    base, off = networks[yardstick["network"]], off_budget(report, panel)
    words = ["network"] + ["widths"] * ("widths" in base["options"])
    numbers = ["parameters", "MACs"]
    numbers += ["inference time", "training time"] if base.get("times") else []
    numbers += ["top-1, %", f"− {base['label']}, points", "p"]
    lines = [_line(words + numbers), "|" + "---|" * len(words) + "--:|" * len(numbers)]
    for row in rows:
        network = networks[row["network"]]
        cells = [network["label"] + ", not at the budget" * (network["name"] in off)]
        if "widths" in words:
            cells.append(", ".join(map(str, network["options"]["widths"])))
        for cost in ("parameters", "macs"):
            cells.append(f"{network[cost]:,} ({network[cost] / base[cost]:.2f})")
        cells += [time_ratio(ratio) for ratio in network.get("times", {}).values()]
        cells.append(plus_minus(row))
        if "difference" in row:
            cells += [plus_minus(row["difference"], "+"), p_value(row["p_holm"])]
        lines.append(_line(cells) + " | |" * ("difference" not in row))
    return "\n".join(lines)


def summary(reports: Mapping[str, dict[str, Any]]) -> str:
    """Tabulate the differences from SC in all comparisons.

    Args:
        reports: reports of `tbc compare` with at least one complete seed, by title.

    Returns:
        A table with a column for each report, and a row for each family at each budget. Differences
        whose corrected p is below 0.05 are bold, unless the network is not at the budget
        (`off_budget`); then its time follows, relative to SC's.

    Example:
        >>> networks = [{"name": name, "label": name} for name in ("SC", "TBC B=2")]
        >>> difference = {"mean": -0.02, "low": -0.03, "high": -0.01}
        >>> tbc = {"panel": "macs", "network": "TBC B=2", "difference": difference, "p_holm": 0.01}
        >>> rows = [{"panel": "macs", "network": "SC", "mean": 0.9}, tbc]
        >>> print(summary({"Digits": {"networks": networks, "statistics": rows}}))
        |  | network | Digits |
        |---|---|--:|
        |  | SC | 90.00 |
        | equal MACs | TBC B=2 | **-2.00 ± 1.00** |
    """
    columns = [_differences(report) for report in reports.values()]
    lines = [_line(["", "network", *reports]), "|---|---|" + "--:|" * len(reports)]
    lines.append(_line(["", "SC", *(plus_minus(r["statistics"][0]) for r in reports.values())]))
    for panel, title in TITLES.items():
        labels = dict.fromkeys(label for column in columns for p, label in column if p == panel)
        for i, label in enumerate(labels):
            cells = [column.get((panel, label), "") for column in columns]
            lines.append(_line(["" if i else title, label, *cells]))
    return "\n".join(lines)


def _differences(report: dict[str, Any]) -> dict[tuple[str, str], str]:
    labels = {network["name"]: network["label"] for network in report["networks"]}
    found = {}
    for row in report["statistics"]:
        if "difference" in row:
            text = plus_minus(row["difference"], "+")
            if ratio := off_budget(report, row["panel"]).get(row["network"]):
                text += f" (time {ratio:.2f})"
            elif row["p_holm"] is not None and row["p_holm"] < 0.05:
                text = f"**{text}**"
            found[row["panel"], labels[row["network"]]] = text
    return found


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
