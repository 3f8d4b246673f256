"""What the tests of training share: the command, small runs, and runs in other processes."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from safetensors import safe_open
from typer.testing import CliRunner

from tbc_models import exporting
from tbc_models.cli import app
from tbc_models.data import open_data
from tbc_models.training import run
from tbc_models.training.callbacks import Keeper, read_checkpoint
from tbc_models.training.classifier import Classifier
from tbc_models.training.settings import Machine, Settings, prepare
from tbc_models.training.trained import describe_training

# The smallest of our networks that has all four splits.
SMALL = {"channels": (16, 16, 16, 16), "base_width": 32}

TRAIN = ["train", "--model", "tied_resnet14_s", *(f"--set={k}={v}" for k, v in SMALL.items())]
DIGITS = [*TRAIN, "--data", "digits", "--size", "16"]

Moment = Literal["half a file", "before renaming", "while it draws", "between best and last"]


def tbc(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 1, result.output
    *_, last = result.output.strip().splitlines()
    assert "Traceback" not in result.output
    assert last.startswith("Error: ")
    return last


def launched(*command: str) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def history(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def same(one: Path, other: Path) -> None:
    """Assert that two runs ended with the same bits."""
    for name in ("last.ckpt", "best.ckpt"):
        states = []
        for out in (one, other):
            _, read = read_checkpoint(out / name)
            for row in read["callbacks"]["History"]["rows"]:
                del row["images/s"]
            del read["loops"]  # Lightning's own counts, some of which begin anew
            states.append(read)
        assert_equal(states[0], states[1])
    weights = []
    for out in (one, other):
        with safe_open(out / "weights.safetensors", framework="pt") as file:
            weights.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert_equal(weights[0], weights[1])
    histories = [history(out) for out in (one, other)]
    for rows in histories:
        for row in rows:
            del row["images/s"]
    assert histories[0] == histories[1]


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, other, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def settings(*, recipe: str = "small", epochs: int = 3, **numbers: float) -> Settings:
    chosen = {"size": 16, "batch_size": 256} | numbers
    data = open_data("digits")
    return prepare("tied_resnet14_s", data, recipe, options=SMALL, epochs=epochs, **chosen)  # type: ignore[arg-type]


def write_weights(file: Path, chosen: Settings) -> None:
    """Write the weights that a run begins with, as a run writes those that it ends with."""
    exporting.save(
        file,
        chosen.network(),
        name=chosen.model,
        options=chosen.network_options() | {"pretrained_cfg_overlay": chosen.trained_with()},
        metadata=describe_training(chosen, Machine()),
    )


def go(
    chosen: Settings, out: Path, *, resume: bool = False, save_every: int = 2, steps: Any = None
) -> None:
    """Train quietly; `steps` is shared memory that counts the steps that have started."""
    if steps is not None:
        start = Classifier.on_train_batch_start

        def counted(self: Classifier, batch: Any, batch_idx: int) -> None:
            steps.value += 1
            start(self, batch, batch_idx)

        mock.patch.object(Classifier, "on_train_batch_start", counted).start()
    run.train(
        chosen, open_data("digits"), out, resume=resume, save_every=save_every, say=lambda _: None
    )


def go_until(moment: Moment, number: int, chosen: Settings, out: Path) -> None:
    """Train, and die while the `number`-th checkpoint is written."""
    written = 0

    def die() -> None:
        nonlocal written
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_whatever(*_: object, **__: object) -> None:
        die()

    if moment == "between best and last":
        save = Keeper._save

        def save_then_die(self: Keeper, trainer: Any, learner: Any, name: str) -> None:
            save(self, trainer, learner, name)
            if name == "best.ckpt":
                die()

        Keeper._save = save_then_die  # type: ignore[method-assign]
    elif moment == "while it draws":
        mock.patch("matplotlib.figure.Figure.savefig", side_effect=die_whatever).start()
    else:
        synced = os.fsync

        def sync_then_die(handle: int) -> None:
            if moment == "half a file" and written + 1 == number:
                os.truncate(handle, os.fstat(handle).st_size // 2)
            synced(handle)
            die()

        mock.patch("os.fsync", sync_then_die).start()
    go(chosen, out)
