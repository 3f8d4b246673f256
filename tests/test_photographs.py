"""Your own photographs: train, move them, resume from elsewhere, evaluate and predict."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

from tbc_models.cli import app
from tbc_models.data import open_data
from tbc_models.training.callbacks import read_checkpoint
from tbc_models.training.predict import predict

from .runs import DIGITS, TRAIN, refused, tbc

OPTIONS = ["--size", 32, "--epochs", 3, "--batch-size", 16, "--lr", "0.05", "--workers", 0]
CAT: Any = skimage.data.chelsea
COFFEE: Any = skimage.data.coffee


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pieces of two photographs, in PATH/CLASS."""
    root: Path = tmp_path_factory.mktemp("home") / "photos"
    for name, photo in (("cat", CAT()), ("coffee", COFFEE())):
        (root / name).mkdir(parents=True)
        for i in range(40):
            top, left = 48 * (i % 5), 48 * (i // 5)
            piece = Image.fromarray(photo[top : top + 48, left : left + 48])
            piece.save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    """A run that was started in the folder beside the photographs, with a relative path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(photos.parent)
        told = tbc(*TRAIN, "--data", "imagefolder:photos/", *OPTIONS)
    assert "images mirrored at random" in told
    (out,) = (photos.parent / "runs").glob("tied_resnet14_s-photos-??????-small")
    assert (out / "last.ckpt").exists()
    return out


@pytest.mark.parametrize("spelling", ["photos", "./photos/", "../home/photos", "{absolute}"])
def test_a_run_resumes_however_the_path_is_typed(
    spelling: str, photos: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    spelling = spelling.replace("../home", f"../{photos.parent.name}")
    data = f"imagefolder:{spelling.format(absolute=photos)}"
    told = tbc(*TRAIN, "--data", data, *OPTIONS, "--out", os.path.relpath(run), "--resume")
    assert f"Resuming {run} after step 12." in told
    assert "Trained: top-1" in told


def test_a_run_that_is_not_there_to_be_resumed_is_started_and_says_so(
    photos: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = tbc(*TRAIN, "--data", f"imagefolder:{photos}", *OPTIONS, "--epochs", 1, "--resume")
    assert f"No run in {tmp_path / 'runs' / run.name}: starting a new one." in told


def test_a_run_is_evaluated_from_another_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "16 test images of imagefolder:/" in tbc("evaluate", run / "last.ckpt", "--workers", 0)


def test_moved_photographs_are_accepted_when_they_are_named_again(
    photos: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(photos, tmp_path / "photos")
    out = tmp_path / "run"
    tbc(*TRAIN, "--data", f"imagefolder:{root}", *OPTIONS, "--out", out)
    moved = root.rename(tmp_path / "moved")
    told = refused("evaluate", out / "last.ckpt")
    assert f"{root} does not exist" in told
    assert told.endswith("; if the data has moved, name it with --data")
    again = ["--data", f"imagefolder:{moved}"]
    assert "16 test images" in tbc("evaluate", out / "last.ckpt", *again, "--workers", 0)
    assert "Trained" in tbc(*TRAIN, *again, *OPTIONS, "--out", out, "--resume")
    # The same number of images of the same classes, but not the same images.
    (moved / "cat" / "00.png").rename(moved / "cat" / "99.png")
    told = refused(*TRAIN, *again, *OPTIONS, "--out", out, "--resume")
    assert "their names or labels differ; use the settings that it started with, or" in told


def test_mirroring_belongs_to_the_settings(photos: Path, run: Path, tmp_path: Path) -> None:
    data = ["--data", f"imagefolder:{photos}"]
    told = refused(*TRAIN, *data, *OPTIONS, "--out", run, "--resume", "--no-mirror")
    assert "started with mirror True, not False; use the settings" in told
    out = tmp_path / "run"
    assert "mirrored" not in tbc(*TRAIN, *data, *OPTIONS, "--out", out, "--no-mirror")
    assert not read_checkpoint(out / "last.ckpt")[0].mirror
    states = (read_checkpoint(folder / "last.ckpt")[1]["state_dict"] for folder in (run, out))
    one, other = (state["network.fc.weight"] for state in states)
    assert not torch.equal(one, other)  # it learns something else


def test_predicting_gives_what_evaluating_gives(run: Path, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    tbc("evaluate", run / "last.ckpt", "--workers", 0, "--json", report)
    confusion = np.array(json.loads(report.read_text())["confusion"])
    files = sorted(photos.glob("*/*.png"))
    tested = [file for i, file in enumerate(files) if i % 5 == 4]  # as the folder is split
    found = np.zeros((2, 2), int)
    for prediction in predict(run / "last.ckpt", tested):
        true = ["cat", "coffee"].index(prediction.file.parent.name)
        found[true, ["cat", "coffee"].index(prediction.classes[0])] += 1
        assert sum(prediction.probabilities) == pytest.approx(1)
        assert prediction.probabilities == sorted(prediction.probabilities, reverse=True)
    np.testing.assert_array_equal(found, confusion)
    assert confusion.trace() > 10  # of 16: it has learned something


def test_a_photograph_is_named(run: Path, tmp_path: Path) -> None:
    for name, photo in (("holiday", CAT()), ("breakfast", COFFEE())):
        Image.fromarray(photo[60:260, 100:300]).save(tmp_path / f"{name}.jpg")
    files = [tmp_path / "holiday.jpg", tmp_path / "breakfast.jpg"]
    report = tmp_path / "report.json"
    told = tbc("predict", run / "last.ckpt", *files, "--top", 1, "--json", report)
    found = json.loads(report.read_text())
    assert found["network"] == "tied_resnet14_s"
    assert found["command"].startswith("tbc")
    rows = found["predictions"]
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert all(len(row["classes"]) == len(row["probabilities"]) == 1 for row in rows)
    assert all(0.5 <= row["probabilities"][0] <= 1 for row in rows)  # the larger of two
    for row in rows:
        assert f"{row['probabilities'][0]:.1%}" in told
        assert row["classes"][0] in told
    both = tbc("predict", run / "last.ckpt", files[0])
    assert all(name in both for name in ("cat", "coffee"))


def test_a_digit_is_named_in_grey(tmp_path: Path) -> None:
    tbc(*DIGITS, "--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", tmp_path / "run")
    images: Any = open_data("digits").test
    right = 0
    for i in range(40):
        image, label = images[i]
        Image.fromarray(image[0].numpy()).convert("RGB").save(tmp_path / "digit.png")
        (found,) = predict(tmp_path / "run" / "last.ckpt", [tmp_path / "digit.png"], top=99)
        assert len(found.classes) == 10
        right += found.classes[0] == str(label)
    assert right > 20


def test_bad_images_are_reported_in_one_line(run: Path, tmp_path: Path) -> None:
    bad = tmp_path / "half.png"
    bad.write_bytes(b"no image")
    last = run / "last.ckpt"
    assert refused("predict", last, bad) == f"Error: {bad} is truncated or not an image"
    assert (
        refused("predict", last, tmp_path) == f"Error: {tmp_path} cannot be read (Is a directory)"
    )
    assert refused("predict", last, "gone.jpg") == "Error: gone.jpg does not exist"
    assert "gone.ckpt does not exist; of trained networks, " in refused("predict", "gone.ckpt", bad)
    told = f"Error: {bad} is not a checkpoint of `tbc train`, nor weights that it saved"
    assert refused("predict", bad, bad) == told


def test_a_bad_image_does_not_hide_the_others(run: Path, tmp_path: Path) -> None:
    bad, good, report = tmp_path / "bad.jpg", tmp_path / "good.jpg", tmp_path / "report.json"
    bad.write_bytes(b"no image")
    Image.fromarray(CAT()[:200, :200]).save(good)
    arguments = ["predict", run / "last.ckpt", bad, good, "--json", report]
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert f"{good} " in result.stdout
    assert result.stderr == f"Error: {bad} is truncated or not an image\n"
    assert [row["file"] for row in json.loads(report.read_text())["predictions"]] == [str(good)]


def test_a_checkpoint_is_read_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    load = torch.load

    def counted(*arguments: Any, **options: Any) -> Any:
        read.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", counted)
    tbc("evaluate", run / "last.ckpt", "--workers", 0)
    assert len(read) == 1


def test_several_processes_do_not_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "SLURM_NTASKS", "2")
    command = [*TRAIN, "--data", "cifar10:here", "--download"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "several processes would download the data at the same time" in " ".join(
        result.output.replace("│", " ").split()
    )
