"""Trained networks are opened from checkpoints, from the weights of runs, and by name."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from tbc_models import exporting, files
from tbc_models.cli import app
from tbc_models.data import open_data
from tbc_models.training.run import evaluate
from tbc_models.training.settings import Machine, RunError
from tbc_models.training.trained import Trained, describe_training, open_trained

from . import runs
from .runs import go, refused, settings, tbc


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on digits."""
    out: Path = tmp_path_factory.mktemp("run")
    go(settings(epochs=2), out)
    return out


def test_a_checkpoint_and_its_weights_are_the_same_network(run: Path) -> None:
    opened = [open_trained(run / name) for name in ("last.ckpt", "weights.safetensors")]
    runs.assert_equal(dict(opened[0].state), dict(opened[1].state))
    assert opened[0].settings == settings(epochs=2)
    written, read = (json.dumps(asdict(one.settings)) for one in opened)
    assert written == read  # JSON has no tuples
    assert not opened[1].network().training
    ways: list[str | Trained] = [*opened, str(run / "last.ckpt")]
    scores = [evaluate(one, open_data("digits")).score for one in ways]
    assert scores[0] == scores[1] == scores[2]


def test_weights_that_ship_are_opened_by_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", tmp_path)
    name = "tied_resnet14_s.digits"
    with pytest.raises(RunError, match=r"digits does not exist; of trained networks, none ship"):
        open_trained(name)
    half = tmp_path / f"{name}.safetensors"
    exporting.round_to_half(run / "weights.safetensors", half)
    network, whole = open_trained(name).network(), open_trained(run / "last.ckpt").network()
    for rounded, value in zip(network.parameters(), whole.parameters(), strict=True):
        assert torch.equal(rounded, value.half().float())
    with pytest.raises(RunError, match=f"s.digit does not exist; .* ship are {re.escape(name)}$"):
        open_trained("tied_resnet14_s.digit")
    # A file is preferred to a name.
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "best.ckpt", name)
    assert open_trained(name).state["conv1.weight"].dtype == torch.float32


def test_what_is_no_trained_network_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is a folder: name a file in it, such as .*/last.ckpt"):
        open_trained(run)
    notes = tmp_path / "notes.txt"
    notes.write_text("not a network")
    with pytest.raises(RunError, match="is not a checkpoint of `tbc train`, nor weights that it"):
        open_trained(notes)
    other = tmp_path / "other.safetensors"
    exporting.save(other, open_trained(run / "last.ckpt").network(), name="tied_resnet14_s")
    with pytest.raises(RunError, match="does not say how it was trained: give a checkpoint or"):
        open_trained(other)


def test_the_commands_take_a_checkpoint_weights_or_a_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", tmp_path)
    name = "tied_resnet14_s.digits"
    shutil.copy(run / "weights.safetensors", tmp_path / f"{name}.safetensors")
    image = tmp_path / "five.png"
    digits: Any = open_data("digits").test
    Image.fromarray(digits[5][0][0].numpy()).save(image)
    ways = ([run / "last.ckpt"], [run / "weights.safetensors"], [name], ["--model", name])
    assert len({tbc("evaluate", *way) for way in ways}) == 1
    assert len({tbc("predict", *way, image, "--top", 2) for way in ways}) == 1
    for arguments in (["evaluate"], ["evaluate", run / "last.ckpt", "--model", name]):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert (result.exit_code, "CHECKPOINT or --model NAME" in result.output) == (2, True)
    result = CliRunner().invoke(app, ["predict", str(run / "last.ckpt")])
    assert (result.exit_code, "name at least one image" in result.output) == (2, True)
    assert f"digit does not exist; of trained networks, those that ship are {name}" in refused(
        "predict", "--model", "tied_resnet14_s.digit", image
    )


def test_data_without_a_path_must_be_named(run: Path, tmp_path: Path) -> None:
    settings, state = open_trained(run / "weights.safetensors")
    anonymous = Trained(replace(settings, data="imagefolder:/home/ada/photos"), state)
    weights = tmp_path / "weights.safetensors"
    described = describe_training(anonymous.settings, Machine())
    exporting.save(weights, anonymous.network(), name=settings.model, metadata=described)
    assert "/home/ada" not in str(described)
    assert refused("evaluate", weights).endswith("write imagefolder:PATH; name it with --data")


def test_weights_tell_how_they_were_trained_but_no_path(run: Path) -> None:
    with safe_open(run / "weights.safetensors", framework="pt") as opened:
        about = opened.metadata()
    assert Machine(**json.loads(about["machine"])) == Machine()
    assert json.loads(about["settings"])["seed"] == 0
    assert str(run) not in str(about)


def test_equal_weights_make_equal_files(run: Path, tmp_path: Path) -> None:
    for name in "ab":
        exporting.round_to_half(run / "weights.safetensors", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
