"""Tables of the results of `tbc compare`, in Markdown."""

from collections.abc import Mapping
from typing import Any

from tbc_models.comparing.plots import TITLES, off_budget, p_value, plus_minus, time_ratio


def details(report: dict[str, Any], panel: str) -> str:
    """Tabulate the networks of a panel, with their accuracy, the test, and what they cost.

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
        | SC | 95.00 ± 1.00 |  |  | 900 (1.00) | 9,000 (1.00) |
    """
    networks = {network["name"]: network for network in report["networks"]}
    yardstick, *_ = rows = [row for row in report["statistics"] if row["panel"] == panel]
    base, off = networks[yardstick["network"]], off_budget(report, panel)
    timed, sized = bool(base.get("times")), "widths" in base["options"]
    head = ["network", "top-1, %", f"− {base['label']}, points", "p", "parameters", "MACs"]
    head += ["inference time", "training time"] * timed + ["widths"] * sized
    lines = [_line(head), "|---|" + "--:|" * (5 + 2 * timed) + "---|" * sized]
    for row in rows:
        network = networks[row["network"]]
        cells = [network["label"] + ", not at the budget" * (network["name"] in off)]
        cells.append(plus_minus(row))
        if "difference" in row:
            cells += [plus_minus(row["difference"], "+"), p_value(row["p_holm"])]
        else:
            cells += ["", ""]
        for cost in ("parameters", "macs"):
            cells.append(f"{network[cost]:,} ({network[cost] / base[cost]:.2f})")
        cells += [time_ratio(ratio) for ratio in network.get("times", {}).values()]
        if sized:
            cells.append(", ".join(map(str, network["options"]["widths"])))
        lines.append(_line(cells))
    return "\n".join(lines)


def summary(reports: Mapping[str, dict[str, Any]]) -> str:
    """Tabulate the differences from SC in all comparisons.

    Args:
        reports: reports of `tbc compare` with at least one complete seed, by title.

    Returns:
        A table for each budget, below a line that names it, with a row for each family and a column
        for each report. Differences whose corrected p is below 0.05 are bold, unless the network is
        not at the budget (`off_budget`); then its time follows, relative to SC's.

    Example:
        >>> networks = [{"name": name, "label": name} for name in ("SC", "TBC B=2")]
        >>> difference = {"mean": -0.02, "low": -0.03, "high": -0.01}
        >>> tbc = {"panel": "macs", "network": "TBC B=2", "difference": difference, "p_holm": 0.01}
        >>> rows = [{"panel": "macs", "network": "SC", "mean": 0.9}, tbc]
        >>> print(summary({"Digits": {"networks": networks, "statistics": rows}}))
        At equal MACs:
        <BLANKLINE>
        | network | Digits |
        |---|--:|
        | SC | 90.00 |
        | TBC B=2 | **-2.00 ± 1.00** |
    """
    columns = [_differences(report) for report in reports.values()]
    yardstick = _line(["SC", *(plus_minus(r["statistics"][0]) for r in reports.values())])
    tables = []
    for panel, title in TITLES.items():
        labels = dict.fromkeys(label for column in columns for p, label in column if p == panel)
        if not labels:
            continue
        lines = [f"At {title}:", "", _line(["network", *reports])]
        lines += ["|---|" + "--:|" * len(reports), yardstick]
        for label in labels:
            lines.append(_line([label, *(column.get((panel, label), "") for column in columns)]))
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


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
