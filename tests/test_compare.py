"""tbc compare: equal budgets, honest statistics, runs that can be repeated and resumed."""

import json
import math
from collections.abc import Iterator
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
from tbc_models.comparing import runs as compare_runs
from tbc_models.comparing.networks import (
    FAMILIES,
    MOST,
    ImageShape,
    SmallTrunk,
    families,
    trunk_cost,
)
from tbc_models.comparing.plots import compared, conclusions
from tbc_models.comparing.runs import CompareError, Plan, RunScore
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


class Trained(list[tuple[int, int]]):
    """Parameters and seed of what would have been trained, up to an error."""

    error: tuple[int, BaseException] | None = None


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Nothing is trained."""
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
    return noted


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("images", [MNIST, DIGITS, ImageShape(3, 32, 100)])
@pytest.mark.parametrize("budget", ["parameters", "macs"])
def test_budgets_are_equal_and_counted_right(budget: Any, images: ImageShape) -> None:
    networks = families([budget], images)
    assert len(networks) == len(FAMILIES)
    for network in networks:
        of_sc = getattr(network, budget) / getattr(networks[0], budget)
        assert 1 / MOST <= of_sc <= MOST
        measured = count.measure(compare.build_candidate(network, images), images.size)
        assert (measured.parameters, measured.macs) == (network.parameters, network.macs)


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
    report = compare_runs.report(PLAN, made)
    assert compare_runs.report(PLAN, made[::-1]) == report
    assert len(report["statistics"]) == len(FAMILIES)


def test_a_network_that_fits_both_budgets_is_trained_once(trained: Trained) -> None:
    plan = replace(PLAN, panels=("parameters", "macs"), seeds=2)
    made = list(compare_runs.runs(plan, [], jobs=1))
    assert len(made) == len(trained) < 2 * 2 * len(FAMILIES) - 2
    rows = compare_runs.report(plan, made)["statistics"]
    assert [row["panel"] for row in rows] == ["parameters"] * 10 + ["macs"] * 10
    assert rows[0]["mean"] == rows[10]["mean"]  # of SC
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
        compare_runs.report(plan, made)
    assert len(made) == len(trained)
    assert len(listed) == 1


@pytest.mark.parametrize("name", ["compare-digits", "ablation-splits"])
def test_results_of_the_old_random_streams_are_not_resumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = committed(name)
    assert report is not None
    monkeypatch.setattr(compare_runs, "machine", lambda *_: report["machine"])
    settings = report["settings"]
    recipe = replace(RECIPES["small"], epochs=settings["recipe: epochs"])
    panels = tuple(settings["panels"])
    plan = Plan(open_data(settings["data"]), panels, settings["seeds"], recipe)
    with pytest.raises(CompareError, match="the same seeds gave other batches and other augment"):
        compare_runs.read_runs(COMMITTED / f"{name}.json", plan)
    # Nothing else is wrong with them.
    file = tmp_path / "compare.json"
    write(file, report | {"settings": plan.settings() | settings})
    made = compare_runs.read_runs(file, plan)
    assert len(made) == len(report["runs"])
    assert {run.network for run in made} == {candidate.name for candidate in plan.candidates}


def test_a_killed_comparison_is_resumed(tmp_path: Path, trained: Trained) -> None:
    file, whole = tmp_path / "killed.json", tmp_path / "whole.json"
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "2", "--json")
    run(*arguments, whole)
    trained.clear()
    trained.error = (7, KeyboardInterrupt())
    run(*arguments, file, code=130)
    partial = json.loads(file.read_text())
    assert len(partial["runs"]) == 7
    assert partial["statistics"] == []
    trained.error = None
    run(*arguments, file, "--resume")
    assert len(trained) == len(set(trained)) == 20
    runs, expected = (json.loads(f.read_text())["runs"] for f in (file, whole))
    assert runs == expected
    trained.clear()
    run(*arguments, file, "--resume")  # nothing is left to do
    assert trained == []
    assert json.loads(file.read_text())["statistics"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (("--seeds", "4"), "with seeds = 3, not 4"),
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
    assert len(trained) == 20
    for broken in ("[]", "{", '{"settings": {}, "machine": {}, "runs": [{}]}'):
        file.write_text(broken)
        assert "no results of `tbc compare`" in run(*arguments, "--resume", code=1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--seeds", "1"], "1 gives no interval; use at least 2."),
        (["--resume"], "needs --json with the file to resume."),
        (["--ablation", "mixer", "--budget", "macs"], "the networks of an ablation differ in cost"),
        (["--budget", "time"], "'time' is not one of"),
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
    trained.error = (12, DivergedError("the loss is nan at step 5"))
    file = tmp_path / "compare.json"
    arguments = ("--data", "digits", "--budget", "macs", "--seeds", "2", "--json", file)
    told = run(*arguments, code=1)
    assert "GC G=4, 16-32-60-60, seed 1: the loss is nan at step 5" in told
    assert len(json.loads(file.read_text())["runs"]) == 12


def test_what_is_shown(tmp_path: Path, trained: Trained) -> None:  # noqa: ARG001
    file, plot = tmp_path / "compare.json", tmp_path / "compare.svg"
    told = run("--data", "digits", "--seeds", "2", "--json", file, "--plot", plot)
    assert "2 seeds are few" in told
    assert "equal parameters SC" in told
    assert "equal MACs SC" in told
    assert "TGC G=2 B=8 32 64 112 112 macs 3,588 0.231 130,720 0.976" in told
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
    report = compare_runs.report(plan, list(compare_runs.runs(plan, [], 1)))
    panels = compared(report).axes
    assert [axes.get_title() for axes in panels] == ["equal parameters", "equal MACs"]
    for axes, panel in zip(panels, plan.panels, strict=True):
        rows = [row for row in report["statistics"] if row["panel"] == panel]
        points = [line for line in axes.lines if line.get_alpha() == 0.4]
        assert [len(line.get_xdata()) for line in points] == [3] * 10  # type: ignore[arg-type]
        bars: list[Any] = list(axes.containers)
        assert len(bars) == len(rows)
        drawn = [float(bar.lines[0].get_xdata()[0]) for bar in bars]
        assert drawn == pytest.approx([100 * row["mean"] for row in rows])
        assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["SC", "GC G=2"]
    assert trained


def test_conclusions_follow_the_statistics() -> None:
    networks = [{"name": name, "label": name} for name in ("SC", "a", "b", "c", "d")]
    kinds = {"a": (0.01, 0.04), "b": (-0.01, 0.04), "c": (0.02, 0.06), "d": (0.02, None)}
    rows: list[dict[str, Any]] = [{"panel": "parameters", "network": "SC"}]
    rows += [
        {"panel": "parameters", "network": name, "difference": {"mean": mean}, "p_holm": p}
        for name, (mean, p) in kinds.items()
    ]
    expected = "At equal parameters, better than SC: a; worse than SC: b; "
    expected += "no difference shown: c, d."
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
    again = compare_runs.report(plan, [RunScore(**run) for run in report["runs"]])
    assert json.loads(json.dumps(again["networks"])) == report["networks"]  # lists for tuples
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
