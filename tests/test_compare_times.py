"""tbc compare at equal time: measured once, and said where it is not equal."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tbc_models.comparing import networks as compare
from tbc_models.comparing import times as compare_times
from tbc_models.comparing.networks import FAMILIES, Candidate, Mode, families
from tbc_models.comparing.plots import compared, conclusions, off_budget
from tbc_models.comparing.tables import details, summary
from tbc_models.comparing.times import Timer, equal_time, families_by_time, timed

from .comparisons import DIGITS, MNIST, FakeTimer, Trained, close_figures, fake_training, run  # noqa: F401


@pytest.mark.parametrize(("groups", "blocks"), FAMILIES)
@pytest.mark.parametrize("scale", ["small", "large"])
def test_equal_time_is_the_nearest_that_the_family_can_have(
    groups: int, blocks: int, scale: Any
) -> None:
    timer = FakeTimer(MNIST)

    def time(widths: tuple[int, ...]) -> float:
        (taken,) = timer([compare.trunk_candidate(widths, groups, blocks, MNIST)], "inference")
        return taken

    found = time(equal_time("inference", groups, blocks, timer, scale)) / time_of_sc(timer, scale)
    possible = [time(w) for w in compare.possible_widths(groups, blocks, scale)]
    nearest = min(possible, key=lambda taken: abs(math.log(taken / time_of_sc(timer, scale))))
    assert found == pytest.approx(nearest / time_of_sc(timer, scale))


def time_of_sc(timer: Timer, scale: Any) -> float:
    (taken,) = timer(families(["macs"], timer.images, scale)[:1], "inference")
    return taken


def test_a_few_measurements_find_the_widths_of_a_family() -> None:
    FakeTimer.turns = 0
    equal_time("training", 1, 4, FakeTimer(MNIST))
    assert FakeTimer.turns <= 9 * compare_times.SEARCHES


def test_times_are_ratios_with_quartiles() -> None:
    class Uneven(FakeTimer):
        """SC takes 10 ms; the others take 10, 11, …, 16 in turn."""

        def __call__(self, candidates: Sequence[Candidate], _: Mode) -> list[float]:
            FakeTimer.turns += 1
            return [10.0] + [10.0 + FakeTimer.turns % 7] * (len(candidates) - 1)

    sc, other, *_ = timed(families(["macs"], MNIST), Uneven(MNIST))
    assert sc.times == {"inference": (1, 1, 1), "training": (1, 1, 1)}
    assert other.times == {"inference": (1.3, 1.1, 1.5), "training": (1.3, 1.1, 1.5)}


def test_real_times_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_times, "SECONDS", 0.001)
    monkeypatch.setattr(compare, "FAMILIES", ((1, 1), (1, 4)))
    timer = Timer(DIGITS)
    networks = timed(families_by_time(["inference", "training"], timer, "small"), timer)
    assert networks[0].panels == ("inference", "training")
    assert {panel for network in networks[1:] for panel in network.panels} == set(
        networks[0].panels
    )
    for network in networks:
        for low, middle, high in (sorted(network.times[mode]) for mode in network.times):
            assert 0 < low <= middle <= high
        assert sorted(network.times) == ["inference", "training"]
        compare.build_candidate(network, DIGITS)


def test_a_comparison_by_time_is_measured_once(tmp_path: Path, trained: Trained) -> None:
    file = tmp_path / "compare.json"
    arguments = ("--data", "digits", "--budget", "time", "--seeds", "2", "--json", file, "--resume")
    trained.error = (0, KeyboardInterrupt())
    run(*arguments, code=130)  # after the measurement, before the first run
    before = json.loads(file.read_text())
    assert before["runs"] == []
    assert len(before["networks"]) > len(FAMILIES)
    trained.error, FakeTimer.turns = None, 0
    run(*arguments)
    after = json.loads(file.read_text())
    assert FakeTimer.turns == 0
    assert after["networks"] == before["networks"]
    assert [row["panel"] for row in after["statistics"]] == (
        ["inference"] * len(FAMILIES) + ["training"] * len(FAMILIES)
    )


def test_networks_of_equal_time_can_be_trained_again(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    arguments = ("--data", "digits", "--budget", "time", "--seeds", "2", "--json")
    run(*arguments, first)

    def slower(_: FakeTimer, candidates: Sequence[Candidate], __: Mode) -> list[float]:
        return [float(one.parameters) for one in candidates]

    monkeypatch.setattr(FakeTimer, "__call__", slower)
    run(*arguments, second, "--networks-from", first)
    ours, theirs = (json.loads(file.read_text()) for file in (first, second))
    assert ours["runs"] == theirs["runs"]
    assert ours["networks"][1]["times"] != theirs["networks"][1]["times"]
    count_ = len(trained)
    told = run(*arguments, second, "--networks-from", first, "--scale", "large", code=1)
    assert "has networks for scale = small, not large" in told
    told = run(*arguments, second, "--networks-from", tmp_path / "no.json", code=1)
    assert "no.json does not exist" in told
    # A file that is resumed has its networks already.
    run(*arguments, second, "--networks-from", first, "--resume")
    third = tmp_path / "third.json"
    run(*arguments, third, "--seeds", "1")
    count_ = len(trained)
    told = run(*arguments, third, "--networks-from", first, "--resume", code=1)
    assert "third.json cannot be resumed with other networks than its own, such as " in told
    assert len(trained) == count_


def by_time(ratios: dict[str, float], p: float | None = 0.01) -> dict[str, Any]:
    """A report of networks that are 2 points worse than SC, by their time of inference."""
    networks: list[dict[str, Any]] = []
    for name, ratio in {"SC": 1.0, **ratios}.items():
        times = {"inference": [ratio] * 3, "training": [1.5] * 3}
        costs = {"parameters": 900, "macs": 9000, "options": {}, "times": times}
        networks.append({"name": name, "label": name, "panels": ["inference"]} | costs)
    rows: list[dict[str, Any]] = [{"panel": "inference", "network": "SC", "mean": 0.9}]
    for name in ratios:
        difference = {"mean": -0.02} | ({} if p is None else {"low": -0.03, "high": -0.01})
        row = {"panel": "inference", "network": name, "mean": 0.88, "p_holm": p}
        rows.append(row | {"difference": difference})
    return {"networks": networks, "statistics": rows, "runs": []}


def test_networks_that_are_not_as_fast_as_sc_are_named_and_not_compared() -> None:
    ratios = {"GC G=2": 1.32, "GC G=4": 1.051, "TBC B=2": 1.049, "TBC B=4": 0.953, "TGC": 0.95}
    report = by_time(ratios)
    assert off_budget(report, "inference") == {"GC G=2": 1.32, "GC G=4": 1.051, "TGC": 0.95}
    assert off_budget(report, "training") == off_budget(report, "macs") == {}
    (sentence,) = conclusions(report)
    assert sentence == (
        "At equal inference time, better than SC: none; worse than SC: TBC B=2 (-2.00 ± 1.00), "
        "TBC B=4 (-2.00 ± 1.00); no difference shown: none; not at the budget and so not compared: "
        "GC G=2 (1.32 times SC's time), GC G=4 (1.05 times SC's time), TGC (0.95 times SC's time)."
    )
    (sentence,) = conclusions(by_time({"GC G=2": 1.32}, p=None))
    assert sentence == (
        "At equal inference time, one seed shows no difference, whatever the accuracies; not at "
        "the budget and so not compared: GC G=2 (1.32 times SC's time)."
    )


@pytest.mark.usefixtures("closed")
def test_plot_and_tables_show_which_networks_are_not_as_fast_as_sc() -> None:
    report = by_time({"GC G=2": 1.32, "TBC B=2": 1.049})
    (axes,) = compared(report).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "SC",
        "GC G=2\n(1.32 times SC's time)",
        "TBC B=2",
    ]
    inside = [bar.lines[0].get_markerfacecolor() for bar in axes.containers]  # type: ignore[attr-defined]
    assert [colour == "none" for colour in inside] == [False, True, False]
    shown = details(report, "inference").splitlines()
    assert [line.split(" | ")[0] for line in shown[2:]] == [
        "| SC",
        "| GC G=2, not at the budget",
        "| TBC B=2",
    ]
    assert summary({"Digits": report}).splitlines()[-2:] == [
        "| GC G=2 | -2.00 ± 1.00 (time 1.32) |",
        "| TBC B=2 | **-2.00 ± 1.00** |",
    ]


def test_the_command_marks_networks_that_are_not_as_fast_as_sc(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_groups(_: FakeTimer, candidates: Sequence[Candidate], __: Mode) -> list[float]:
        return [float(one.macs) * (9 if one.options["groups"] > 1 else 1) for one in candidates]

    monkeypatch.setattr(FakeTimer, "__call__", slow_groups)
    told = run("--data", "digits", "--budget", "time", "--seeds", "2")
    assert "GC G=2, not equal" in told
    assert "TBC B=2, not equal" not in told
    sentence = told.split("At equal inference time, ")[1].split("At equal training time")[0]
    compared_, apart = sentence.split("; not at the budget and so not compared: ")
    assert "TBC B=2" in compared_
    assert "G=2" not in compared_
    assert "GC G=2 (" in apart
    assert trained
