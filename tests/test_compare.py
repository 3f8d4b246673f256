"""tbc compare: runs that can be repeated and resumed, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tbc_models.comparing import networks as compare
from tbc_models.comparing import reports as compare_reports
from tbc_models.comparing import runs as compare_runs
from tbc_models.comparing.networks import FAMILIES, families
from tbc_models.comparing.runs import CompareError, Plan
from tbc_models.data import open_data
from tbc_models.results import COMMITTED, committed, write
from tbc_models.training.classifier import DivergedError
from tbc_models.training.recipes import RECIPES

from .comparisons import PLAN, Trained, fake_training, run  # noqa: F401


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
