"""Trained networks are opened from checkpoints, from the weights of runs, and by name."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tbc_models import exporting, files
from tbc_models.data import open_data
from tbc_models.training.run import evaluate
from tbc_models.training.settings import RunError
from tbc_models.training.trained import open_trained

from . import runs
from .runs import go, settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on digits."""
    out: Path = tmp_path_factory.mktemp("run")
    go(settings(epochs=2), out)
    return out


def test_a_checkpoint_and_its_weights_are_the_same_network(run: Path) -> None:
    opened = [open_trained(run / name) for name in ("last.ckpt", "weights.safetensors")]
    runs.assert_equal(*(dict(one.state) for one in opened))
    assert opened[0].settings == settings(epochs=2)
    written, read = (json.dumps(asdict(one.settings)) for one in opened)
    assert written == read  # JSON has no tuples
    assert not opened[1].network().training
    scores = [evaluate(one, open_data("digits")).score for one in (*opened, str(run / "last.ckpt"))]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0].top1 > 0.3


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


def test_weights_tell_how_they_were_trained_but_no_path(run: Path) -> None:
    with safe_open(run / "weights.safetensors", framework="pt") as opened:
        about = opened.metadata()
    assert about["precision"] == "32-true"
    assert json.loads(about["settings"])["seed"] == 0
    assert str(run) not in str(about)


def test_equal_weights_make_equal_files(run: Path, tmp_path: Path) -> None:
    for name in "ab":
        exporting.round_to_half(run / "weights.safetensors", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
