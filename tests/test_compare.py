"""tbc compare: equal budgets, honest statistics, runs that can be repeated and resumed."""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
import typer
from PIL import Image
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from tbc_gpu import TiedBlockConv2d
from tbc_models import count
from tbc_models.cli.compare import compare_networks as command
from tbc_models.comparing import networks as compare
from tbc_models.comparing import reports as compare_reports
from tbc_models.comparing import runs as compare_runs
from tbc_models.comparing import times as compare_times
from tbc_models.comparing.networks import (
    FAMILIES,
    MOST,
    WIDTHS,
    Candidate,
    ImageShape,
    Mode,
    SmallTrunk,
    families,
    trunk_cost,
)
from tbc_models.comparing.plots import compared, conclusions, overview
from tbc_models.comparing.runs import CompareError, Plan, RunScore
from tbc_models.comparing.tables import details, summary
from tbc_models.comparing.times import Timer, equal_time, families_by_time, timed
from tbc_models.data import open_data
from tbc_models.results import COMMITTED, committed, write
from tbc_models.statistics import compare_paired, holm, interval
from tbc_models.training.classifier import DivergedError
from tbc_models.training.recipes import RECIPES
from tbc_models.training.run import Score

MNIST, DIGITS = ImageShape(1, 28, 10), ImageShape(1, 8, 10)
PLAN = Plan(open_data("digits"), ("macs",), 3, RECIPES["small"])
app = typer.Typer()
app.command()(command)


class FakeTimer(Timer):
    """A machine on which inference takes as long as the MACs say, and training longer."""

    turns = 0

    def __call__(self, candidates: Sequence[Candidate], mode: Mode) -> list[float]:
        FakeTimer.turns += 1
        per_weight = 0 if mode == "inference" else 50
        return [float(one.macs + per_weight * one.parameters) for one in candidates]


class Trained(list[tuple[int, int]]):
    """Parameters and seed of what would have been trained, up to an error."""

    error: tuple[int, BaseException] | None = None


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Nothing is trained, nor timed."""
    noted = Trained()

    def fit(network: nn.Module, *_: object, seed: int) -> Score:
        if noted.error and len(noted) == noted.error[0]:
            raise noted.error[1]
        parameters = sum(p.numel() for p in network.parameters())
        noted.append((parameters, seed))
        return Score(0.9 + parameters % 7 / 100 + seed % 3 / 1000 * (parameters % 5), 1.0, 0.5)

    def here(_: int, plan: Plan) -> Executor:
        compare_runs._remember(plan)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(compare_runs, "fit", fit)
    monkeypatch.setattr(compare_runs, "_processes", here)
    monkeypatch.setattr(compare_runs, "Timer", FakeTimer)
    return noted


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("images", [MNIST, DIGITS, ImageShape(3, 32, 100)])
@pytest.mark.parametrize("budget", ["parameters", "macs"])
@pytest.mark.parametrize("scale", ["small", "large"])
def test_budgets_are_equal_and_counted_right(budget: Any, images: ImageShape, scale: Any) -> None:
    networks = families([budget], images, scale)
    assert len(networks) == len(FAMILIES)
    for network in networks:
        of_sc = getattr(network, budget) / getattr(networks[0], budget)
        assert 1 / MOST <= of_sc <= MOST
        measured = count.measure(compare.build_candidate(network, images), images.size)
        assert (measured.parameters, measured.macs) == (network.parameters, network.macs)


def test_the_large_trunk_has_sixteen_times_the_weights() -> None:
    for images in (MNIST, ImageShape(3, 32, 10)):
        small, large = (trunk_cost(widths, images=images)[0] for widths in WIDTHS.values())
        assert 14_000 < small < 17_000
        assert 150_000 < large < 300_000


def test_a_time_is_not_counted() -> None:
    with pytest.raises(
        ValueError, match=r"`budget` \(='training'\) must be 'parameters' or 'macs'"
    ):
        families(["training"], MNIST)  # type: ignore[list-item, unused-ignore]


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


def test_a_trunk_is_counted_as_by_hand() -> None:
    stem, layers = (
        9 * 16,
        (32 // 4) * (16 // 4) * 9 + (64 // 4) * (32 // 4) * 9 + (64 // 4) ** 2 * 9,
    )
    scales, classifier = 2 * (16 + 32 + 64 + 64), 64 * 10 + 10
    macs = 9 * 16 * 14**2 + 64 * 10
    macs += 4 * 9 * (8 * 4 * 7**2 + 16 * 8 * 7**2 + 16 * 16 * 4**2)
    expected = (stem + layers + scales + classifier, macs)
    assert trunk_cost((16, 32, 64, 64), blocks=4, images=MNIST) == expected


def test_at_one_block_a_family_is_the_plain_one() -> None:
    for groups in (1, 2):
        assert trunk_cost((8, 16, 32, 32), groups=groups, blocks=1, images=MNIST) == trunk_cost(
            (8, 16, 32, 32), groups=groups, images=MNIST
        )
    torch.manual_seed(0)
    trunk = SmallTrunk((8, 16, 32, 32), images=DIGITS)
    torch.manual_seed(0)
    drawn: list[nn.Module] = []
    for layer in trunk:
        if isinstance(layer, nn.Conv2d):
            options: Any = {"stride": layer.stride, "padding": 1, "bias": False, "blocks": 1}
            drawn.append(TiedBlockConv2d(layer.in_channels, layer.out_channels, 3, **options))
        elif isinstance(layer, nn.Linear):
            drawn.append(nn.Linear(32, 10))
        else:
            drawn.append(layer)
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(nn.Sequential(*drawn)(x), trunk(x))


def test_widths_must_fit() -> None:
    with pytest.raises(ValueError, match=r"`widths` \(=\(8, 16, 12, 32\)\) must be 4 multiples"):
        SmallTrunk((8, 16, 12, 32), groups=2, blocks=4, images=MNIST)
    with pytest.raises(ValueError, match="must be 4 multiples"):
        SmallTrunk((8, 16, 32), images=MNIST)


def test_ablations_have_the_papers_rows() -> None:
    networks = compare.ablation("splits", MNIST)
    assert [n.name for n in networks] == ["4s32w", "2s48w", "6s24w", "8s18w"]
    for network in networks + compare.ablation("mixer", MNIST):
        measured = count.measure(compare.build_candidate(network, MNIST), MNIST.size)
        assert (measured.parameters, measured.macs) == (network.parameters, network.macs)
    by_sum, by_concatenation, without = compare.ablation("mixer", MNIST)
    assert by_concatenation.parameters > by_sum.parameters > without.parameters
    assert by_sum.parameters == networks[0].parameters


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


def test_every_network_is_trained_with_every_seed_once(trained: Trained) -> None:
    made = list(compare_runs.runs(PLAN, [], jobs=1))
    assert len(made) == len(set(trained)) == 3 * len(FAMILIES)
    assert {seed for _, seed in trained} == {0, 1, 2}
    report = compare_reports.report(PLAN, made)
    assert compare_reports.report(PLAN, made[::-1]) == report
    assert len(report["statistics"]) == len(FAMILIES)


def test_a_network_that_fits_both_budgets_is_trained_once(trained: Trained) -> None:
    plan = replace(PLAN, panels=("parameters", "macs"), seeds=2)
    made = list(compare_runs.runs(plan, [], jobs=1))
    assert len(made) == len(trained) <= 2 * 2 * len(FAMILIES) - 2  # at least SC
    rows = compare_reports.report(plan, made)["statistics"]
    whole = len(FAMILIES)
    assert [row["panel"] for row in rows] == ["parameters"] * whole + ["macs"] * whole
    assert rows[0]["mean"] == rows[whole]["mean"]  # of SC
    assert len({row["network"] for row in rows}) == len(plan.candidates)


def test_a_run_is_a_function_of_its_seed() -> None:
    plan = replace(PLAN, recipe=replace(RECIPES["small"], epochs=1))
    tied = plan.candidates[4]
    first = compare_runs.run_once(tied, 1, plan)
    torch.rand(7)  # the state of the generator does not matter
    assert compare_runs.run_once(tied, 1, plan) == first
    assert compare_runs.run_once(tied, 2, plan) != first


def test_a_plan_lists_its_networks_once(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []

    def noted(*arguments: Any) -> Any:
        listed.append("")
        return families(*arguments)

    monkeypatch.setattr(compare_runs, "families", noted)
    plan = replace(PLAN, seeds=2)
    made = list(compare_runs.runs(plan, [], jobs=1))
    for _ in range(3):
        compare_reports.report(plan, made)
    assert len(made) == len(trained)
    assert len(listed) == 1


@pytest.mark.parametrize("name", ["compare-digits", "ablation-splits"])
def test_results_of_the_old_random_streams_are_not_resumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = committed(name)
    assert report is not None
    monkeypatch.setattr(compare_reports, "machine", lambda *_: report["machine"])
    settings = report["settings"]
    recipe = replace(RECIPES["small"], epochs=settings["recipe: epochs"])
    panels = tuple(settings["panels"])
    plan = Plan(open_data(settings["data"]), panels, settings["seeds"], recipe)
    with pytest.raises(CompareError, match="the same seeds gave other batches and other augment"):
        compare_reports.resumed(COMMITTED / f"{name}.json", plan)
    # Nothing else is wrong with them.
    file = tmp_path / "compare.json"
    write(file, report | {"settings": plan.settings() | settings})
    made = compare_reports.resumed(file, plan)[1]
    assert len(made) == len(report["runs"])
    assert {run.network for run in made} == {one["name"] for one in report["networks"]}


def test_a_killed_comparison_is_resumed(tmp_path: Path, trained: Trained) -> None:
    file, whole = tmp_path / "killed.json", tmp_path / "whole.json"
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "2", "--json")
    run(*arguments, whole)
    trained.clear()
    trained.error = (5, KeyboardInterrupt())
    run(*arguments, file, code=130)
    partial = json.loads(file.read_text())
    assert len(partial["runs"]) == 5
    assert (partial["complete_seeds"], partial["statistics"]) == (0, [])
    trained.error = None
    run(*arguments, file, "--resume")
    assert len(trained) == len(set(trained)) == 2 * len(FAMILIES)
    runs, expected = (json.loads(f.read_text())["runs"] for f in (file, whole))
    assert runs == expected
    trained.clear()
    run(*arguments, file, "--resume")  # nothing is left to do
    assert trained == []
    assert json.loads(file.read_text())["statistics"]


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
    assert len(trained) == count_


def test_seeds_can_be_added(tmp_path: Path, trained: Trained) -> None:
    file, whole = tmp_path / "compare.json", tmp_path / "whole.json"
    arguments = ("--data", "digits", "--budget", "macs", "--json")
    told = run(*arguments, file, "--seeds", "1")
    assert "1 seed gives neither an interval nor a test" in told
    assert "At equal MACs, one seed shows no difference, whatever the accuracies." in told
    report = json.loads(file.read_text())
    assert report["complete_seeds"] == 1
    assert not any("low" in row or row.get("p") for row in report["statistics"])
    trained.clear()
    run(*arguments, file, "--seeds", "3", "--resume")
    assert {seed for _, seed in trained} == {1, 2}
    run(*arguments, whole, "--seeds", "3")
    added, at_once = (json.loads(f.read_text()) for f in (file, whole))
    assert added["runs"] == at_once["runs"]
    assert added["statistics"] == at_once["statistics"]


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


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (("--seeds", "2"), "with seeds = 3, not 2"),
        (("--scale", "large"), "with scale = small, not large"),
        (("--epochs", "3"), "with recipe: epochs = 8, not 3"),
        (("--budget", "parameters"), "with panels = ['macs'], not ['parameters']"),
        (("--data", "mnist"), "with data = digits, not mnist"),
    ],
)
def test_another_comparison_is_not_resumed(
    changed: tuple[str, ...], text: str, tmp_path: Path, trained: Trained
) -> None:
    file = tmp_path / "compare.json"
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "3", "--json", file)
    run(*arguments)
    before, count_ = file.read_bytes(), len(trained)
    assert text in run(*arguments, *changed, "--resume", code=1)
    assert (file.read_bytes(), len(trained)) == (before, count_)


def test_mirroring_and_the_images_belong_to_the_settings(tmp_path: Path, trained: Trained) -> None:
    for name in ("dark", "light"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (32, 32)).save(tmp_path / "photos" / name / f"{i}.png")
    arguments = ("--data", f"imagefolder:{tmp_path / 'photos'}", "--budget", "macs", "--seeds", "2")
    files = {"--json": tmp_path / "mirrored.json", "--no-mirror": tmp_path / "unmirrored.json"}
    run(*arguments, "--json", files["--json"])
    run(*arguments, "--no-mirror", "--json", files["--no-mirror"])
    mirrored, unmirrored = (json.loads(f.read_text())["settings"] for f in files.values())
    assert (mirrored["mirror"], unmirrored["mirror"]) == (True, False)
    assert len(mirrored["fingerprint"]) == 64
    resumed = (*arguments, "--json", files["--json"], "--resume")
    assert "with mirror = True, not False" in run(*resumed, "--no-mirror", code=1)
    (tmp_path / "photos" / "dark" / "0.png").rename(tmp_path / "photos" / "dark" / "9.png")
    assert f"with fingerprint = {mirrored['fingerprint']}, not" in run(*resumed, code=1)
    assert len(trained) == 2 * 2 * len(FAMILIES)


def test_another_machine_does_not_resume(tmp_path: Path, trained: Trained) -> None:
    file = tmp_path / "compare.json"
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "2", "--json", file)
    run(*arguments)
    text = file.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"')
    file.write_text(text)
    assert "with torch = 1.0, not" in run(*arguments, "--resume", code=1)
    assert len(trained) == 2 * len(FAMILIES)
    for broken in ("[]", "{", '{"settings": {}, "machine": {}, "runs": [{}]}'):
        file.write_text(broken)
        assert "no results of `tbc compare`" in run(*arguments, "--resume", code=1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--seeds", "0"], "greater than or equal to 1"),
        (["--resume"], "needs --json with the file to resume."),
        (["--ablation", "mixer", "--budget", "macs"], "of an ablation are fixed; omit --budget"),
        (["--ablation", "mixer", "--scale", "large"], "of an ablation are fixed; omit --scale"),
        (["--budget", "money"], "'money' is not one of"),
        pytest.param(
            ["--data", "digits", "--device", "cuda"],
            "PyTorch finds no CUDA device here.",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has one"),
        ),
        (["--epochs", "0"], "greater than or equal to 1"),
        (["--json", "/nowhere/file.json"], "/nowhere/file.json cannot be written"),
        (["--plot", "/nowhere/file.png"], "/nowhere/file.png cannot be written"),
        (["--plot", "result.bmp"], "result.bmp must end in .png, .svg or .pdf"),
    ],
)
def test_bad_input(arguments: list[str], text: str, trained: Trained) -> None:
    assert text in run(*arguments, code=2)
    assert trained == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--ablation", "splits", "--data", "digits"], "must be at least 16x16 pixels"),
        (["--data", "dogits"], "'dogits' is not a data set: did you mean digits?"),
    ],
)
def test_data_that_cannot_be_used(arguments: list[str], text: str) -> None:
    assert text in run(*arguments, code=1)


def test_a_run_that_diverges_is_named(tmp_path: Path, trained: Trained) -> None:
    trained.error = (len(FAMILIES) + 2, DivergedError("the loss is nan at step 5"))
    file = tmp_path / "compare.json"
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "2", "--json", file)
    told = run(*arguments, code=1)
    assert "GC G=4, 16-32-60-60, seed 1: the loss is nan at step 5" in told
    assert len(json.loads(file.read_text())["runs"]) == len(FAMILIES) + 2


def test_what_is_shown(tmp_path: Path, trained: Trained) -> None:  # noqa: ARG001
    file, plot = tmp_path / "compare.json", tmp_path / "compare.svg"
    told = run("--data", "digits", "--seeds", "2", "--json", file, "--plot", plot)
    assert "2 seeds are few" in told
    assert "equal parameters SC" in told
    assert "equal MACs SC" in told
    assert "TGC G=2 B=2 16 32 60 60 7,876 0.506 129,768 0.969" in told
    assert "TGC G=2 B=2 macs 0.97 [0.97, 0.97] 0.57 [0.57, 0.57]" in told
    assert "1.00 [1.00, 1.00]" in told
    assert "</svg>" in plot.read_text()
    report = json.loads(file.read_text())
    assert str(Path.home()) not in json.dumps(report["machine"])
    assert {run["seed"] for run in report["runs"]} == {0, 1}
    assert "few" not in run("--data", "digits", "--seeds", "5")


@pytest.fixture
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.usefixtures("_closed")
def test_the_plot_shows_every_seed_mean_and_interval(trained: Trained) -> None:
    plan = replace(PLAN, panels=("parameters", "macs"))
    report = compare_reports.report(plan, list(compare_runs.runs(plan, [], 1)))
    panels = compared(report).axes
    assert [axes.get_title() for axes in panels] == ["equal parameters", "equal MACs"]
    for axes, panel in zip(panels, plan.panels, strict=True):
        rows = [row for row in report["statistics"] if row["panel"] == panel]
        points = [line for line in axes.lines if line.get_alpha() == 0.4]
        each = [len(line.get_xdata()) for line in points]  # type: ignore[arg-type]
        assert each == [3] * len(FAMILIES)
        bars: list[Any] = list(axes.containers)
        assert len(bars) == len(rows)
        drawn = [float(bar.lines[0].get_xdata()[0]) for bar in bars]
        assert drawn == pytest.approx([100 * row["mean"] for row in rows])
        assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["SC", "GC G=2"]
    assert trained


REPORTS = ["compare-mnist", "compare-digits"]


@pytest.mark.usefixtures("_closed")
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_partial_report_is_drawn(trained: Trained, seeds: int) -> None:
    plan = replace(PLAN, panels=("parameters", "macs", "inference", "training"))
    plan = compare_runs.calibrated(plan)
    made = list(compare_runs.runs(plan, [], 1))[: seeds * len(plan.candidates) + 1]
    report = compare_reports.report(plan, made)
    assert report["complete_seeds"] == seeds
    panels = compared(report).axes
    assert [axes.get_title().split()[1] for axes in panels][2:] == ["inference", "training"]
    points = [line for line in panels[0].lines if line.get_alpha() == 0.4]
    each = [len(line.get_xdata()) for line in points]  # type: ignore[arg-type]
    assert each == [seeds] * len(FAMILIES)
    old = {name: committed(name) for name in REPORTS}
    together = {name: old_ for name, old_ in old.items() if old_} | {"new": report}
    axes = overview(together).axes
    assert len(axes) == 3 * 4
    assert [[text.get_text() for text in one.texts] for one in axes[:4]] == [
        [],
        [],
        ["not measured"],
        ["not measured"],
    ]
    drawn = [[float(bar.lines[0].get_xdata()[0]) for bar in one.containers] for one in axes[8:]]  # type: ignore[attr-defined]
    assert drawn[2] == [network["times"]["inference"][0] for network in report["networks"]]
    table = summary(together).splitlines()
    assert table[0] == "|  | network | compare-mnist | compare-digits | new |"
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


@pytest.mark.usefixtures("_closed")
@pytest.mark.parametrize(
    "name", ["compare-mnist", "compare-digits", "ablation-splits", "ablation-mixer"]
)
def test_committed_results_are_whole_and_say_what_their_runs_say(name: str) -> None:
    report = committed(name)
    assert report is not None
    seeds = report["settings"]["seeds"]
    assert seeds >= 5
    assert len(report["runs"]) == seeds * len(report["networks"])
    rest = {n: v for n, v in report["settings"].items() if n.startswith("recipe: ")}
    recipe = replace(RECIPES["small"], **{n.removeprefix("recipe: "): v for n, v in rest.items()})
    panels = tuple(report["settings"]["panels"])
    plan = Plan(open_data(report["settings"]["data"]), panels, seeds, recipe)
    assert plan.settings().items() >= report["settings"].items()
    of = [one | {"panels": tuple(one["panels"])} for one in report["networks"]]
    plan = replace(plan, networks=tuple(Candidate(**one) for one in of))
    again = compare_reports.report(plan, [RunScore(**run) for run in report["runs"]])
    for ours, theirs in zip(again["statistics"], report["statistics"], strict=True):
        assert (ours["panel"], ours["network"]) == (theirs["panel"], theirs["network"])
        assert ours["mean"] == pytest.approx(theirs["mean"])
        assert ours.get("p_holm") == pytest.approx(theirs.get("p_holm"))
    assert len(compared(report).axes) == len(panels)
    assert len(conclusions(report)) == len(panels)


@pytest.mark.slow
def test_processes_train_as_this_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "FAMILIES", ((1, 1), (1, 4)))
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "2", "--epochs", "1")
    made = []
    for jobs in ("1", "2"):
        file = tmp_path / f"{jobs}.json"
        run(*arguments, "--jobs", jobs, "--json", file)
        made.append(json.loads(file.read_text())["runs"])
    assert made[0] == made[1]
    plan = Plan(open_data("digits"), ("macs",), 2, replace(RECIPES["small"], epochs=1))
    here = [compare_runs.run_once(n, s, plan)._asdict() for s in (0, 1) for n in plan.candidates]
    assert here == made[0]
