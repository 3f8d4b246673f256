"""The results of tbc compare: honest statistics, plots, tables and sentences."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats

from tbc_models.comparing import reports as compare_reports
from tbc_models.comparing import runs as compare_runs
from tbc_models.comparing.networks import FAMILIES, MOST, Candidate
from tbc_models.comparing.plots import compared, conclusions, overview
from tbc_models.comparing.runs import Plan, RunScore
from tbc_models.comparing.tables import details, summary
from tbc_models.data import DataError, open_data
from tbc_models.results import COMMITTED, committed
from tbc_models.statistics import compare_paired, holm, interval
from tbc_models.training.recipes import RECIPES

from .comparisons import PLAN, Trained, close_figures, fake_training  # noqa: F401

REPORTS = ["compare-mnist", "compare-digits"]


def test_statistics_of_an_example_by_hand() -> None:
    ours, theirs = [0.96, 0.98, 0.97], [0.95, 0.95, 0.95]  # differences 1, 3 and 2 points
    pair = compare_paired(ours, theirs)
    half = 4.302652729911275 * 0.01 / math.sqrt(3)  # t of two degrees of freedom
    assert pair.difference == pytest.approx((0.02, 0.02 - half, 0.02 + half))
    t = 0.02 / (0.01 / math.sqrt(3))
    assert pair.p == pytest.approx(2 * stats.t.sf(t, 2))
    assert pair.p == pytest.approx(1 - t / math.sqrt(2 + t**2))  # the formula for two
    assert interval(ours) == pytest.approx((0.97, 0.97 - half, 0.97 + half))


def test_the_interval_and_the_test_agree() -> None:
    torch.manual_seed(0)
    for shift in (0.0, 0.5, 1.0, 2.0):
        differences = (torch.randn(6) + shift).tolist()
        pair = compare_paired(differences, [0.0] * 6)
        assert pair.p is not None
        outside = pair.difference.low > 0 or pair.difference.high < 0
        assert outside == (pair.p < 0.05)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ours", [[0.9, 0.8, 0.7], [0.91, 0.81, 0.71]])
def test_without_spread_there_is_no_test_and_no_nan(ours: list[float]) -> None:
    pair = compare_paired(ours, [0.9, 0.8, 0.7])
    assert pair.p is None
    assert pair.difference.low == pair.difference.mean == pair.difference.high
    assert pair.difference.mean == pytest.approx(ours[0] - 0.9)


def test_statistics_refuse_what_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="2 numbers have no pairs among 3"):
        compare_paired([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least 2 numbers, not 1"):
        interval([1])


def test_holm_pays_for_every_comparison() -> None:
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None, 0.01]) == [None, 0.02]
    assert holm([]) == []


def test_statistics_are_over_complete_seeds() -> None:
    plan = replace(PLAN, seeds=3)
    top1 = {network.name: 0.9 + i / 100 for i, network in enumerate(plan.candidates)}
    made = [RunScore(name, seed, top1[name] + seed / 50, 1.0) for seed in range(3) for name in top1]
    two = compare_reports.report(replace(plan, seeds=2), made[: 2 * len(top1)])
    partial = compare_reports.report(plan, made[:-1])
    assert (partial["complete_seeds"], len(partial["runs"])) == (2, 3 * len(top1) - 1)
    assert partial["statistics"] == two["statistics"]
    assert [row["mean"] for row in partial["statistics"]] == pytest.approx(
        [mean + 1 / 100 for mean in top1.values()]
    )


@pytest.mark.usefixtures("closed")
def test_the_plot_shows_every_seed_mean_and_interval(trained: Trained) -> None:
    plan = replace(PLAN, panels=("parameters", "macs"))
    report = compare_reports.report(plan, list(compare_runs.runs(plan, [], 1)))
    panels = compared(report).axes
    assert [axes.get_title() for axes in panels] == ["equal parameters", "equal MACs"]
    for axes, panel in zip(panels, plan.panels, strict=True):
        rows = [row for row in report["statistics"] if row["panel"] == panel]
        points = [line for line in axes.lines if line.get_alpha() == 0.6]
        each = [len(line.get_xdata()) for line in points]  # type: ignore[arg-type]
        assert each == [3] * len(FAMILIES)
        bars: list[Any] = list(axes.containers)
        assert len(bars) == len(rows)
        drawn = [float(bar.lines[0].get_xdata()[0]) for bar in bars]
        assert drawn == pytest.approx([100 * row["mean"] for row in rows])
        assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["SC", "GC G=2"]
    assert trained


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_partial_report_is_drawn(trained: Trained, seeds: int) -> None:
    plan = replace(PLAN, panels=("parameters", "macs", "inference", "training"))
    plan = compare_runs.calibrated(plan)
    made = list(compare_runs.runs(plan, [], 1))[: seeds * len(plan.candidates) + 1]
    report = compare_reports.report(plan, made)
    assert report["complete_seeds"] == seeds
    panels = compared(report).axes
    assert [axes.get_title().split()[1] for axes in panels][2:] == ["inference", "training"]
    points = [line for line in panels[0].lines if line.get_alpha() == 0.6]
    each = [len(line.get_xdata()) for line in points]  # type: ignore[arg-type]
    assert each == [seeds] * len(FAMILIES)
    old = {name: committed(name) for name in REPORTS}
    together = {name: old_ for name, old_ in old.items() if old_} | {"new": report}
    assert len(overview(together).axes) == 3 * 2
    axes = overview(together, ("macs", "inference")).axes
    words = [[text.get_text() for text in one.texts] for one in axes]
    assert words == [[], ["not measured"], [], ["not measured"], [], []]
    drawn = [float(bar.lines[0].get_xdata()[0]) for bar in axes[5].containers]  # type: ignore[attr-defined]
    times = [network["times"]["inference"][0] for network in report["networks"]]
    assert len(set(drawn)) == len(times)  # those of equal time stand side by side
    assert drawn == pytest.approx(times, rel=0.5)
    assert [x for x, time in zip(drawn, times, strict=True) if not 1 / MOST <= time <= MOST] == [
        time for time in times if not 1 / MOST <= time <= MOST
    ]
    table = summary(together).splitlines()
    assert table[:3] == [
        "At equal parameters:",
        "",
        "| network | compare-mnist | compare-digits | new |",
    ]
    assert sum(line.startswith("At equal") for line in table) == 4
    assert sum("TBC B=8" in line for line in table) == 2  # in the old reports
    shown = details(report, "training").splitlines()
    assert len(shown) == 2 + len(FAMILIES)
    assert shown[0].count("time") == 2
    assert ("±" in shown[-1]) == (seeds > 1)
    assert len(conclusions(report)) == 4
    assert trained


def test_conclusions_follow_the_statistics() -> None:
    networks = [{"name": name, "label": name} for name in ("SC", "a", "b", "c", "d")]
    kinds = {"a": (0.01, 0.04), "b": (-0.01, 0.04), "c": (0.02, 0.06), "d": (0.02, None)}
    rows: list[dict[str, Any]] = [{"panel": "parameters", "network": "SC"}]
    rows += [
        {
            "panel": "parameters",
            "network": name,
            "difference": {"mean": mean, "low": mean - 0.005, "high": mean + 0.005},
            "p_holm": p,
        }
        for name, (mean, p) in kinds.items()
    ]
    expected = "At equal parameters, better than SC: a (+1.00 ± 0.50); worse than SC: "
    expected += "b (-1.00 ± 0.50); no difference shown: c (+2.00 ± 0.50), d (+2.00 ± 0.50)."
    assert conclusions({"networks": networks, "statistics": rows}) == [expected]


def seeds_of(report: dict[str, Any]) -> int:
    """The number of seeds with which every network has been trained; old reports have no other."""
    return int(report.get("complete_seeds", report["settings"]["seeds"]))


COMMITTED_NAMES = sorted(
    file.stem for kind in ("compare", "ablation") for file in COMMITTED.glob(f"{kind}-*.json")
)


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("name", COMMITTED_NAMES)
def test_committed_results_are_what_their_runs_say(name: str) -> None:
    """Small networks have at least three seeds; a report may lack runs, and says so."""
    report = committed(name)
    assert report is not None
    settings, networks = report["settings"], report["networks"]
    least = 1 if settings.get("scale") == "large" else 3
    assert least <= seeds_of(report) <= settings["seeds"]
    runs_of = Counter(run["seed"] for run in report["runs"])
    assert sum(number == len(networks) for number in runs_of.values()) == seeds_of(report)
    rest = {n: v for n, v in settings.items() if n.startswith("recipe: ")}
    recipe = replace(RECIPES["small"], **{n.removeprefix("recipe: "): v for n, v in rest.items()})
    panels, scale = tuple(settings["panels"]), settings.get("scale", "small")
    try:
        plan = Plan(open_data(settings["data"]), panels, settings["seeds"], recipe, scale)
        assert plan.settings().items() >= settings.items()
    except DataError:  # the data is not on this computer; the statistics need none of it
        plan = replace(PLAN, panels=panels, seeds=settings["seeds"], recipe=recipe)
    of = [one | {"panels": tuple(one["panels"])} for one in networks]
    plan = replace(plan, networks=tuple(Candidate(**one) for one in of))
    again = compare_reports.report(plan, [RunScore(**run) for run in report["runs"]])
    for ours, theirs in zip(again["statistics"], report["statistics"], strict=True):
        assert (ours["panel"], ours["network"]) == (theirs["panel"], theirs["network"])
        assert ours["mean"] == pytest.approx(theirs["mean"])
        assert ours.get("p_holm") == pytest.approx(theirs.get("p_holm"))
    assert len(compared(report).axes) == len(panels)
    assert len(conclusions(report)) == len(panels)
