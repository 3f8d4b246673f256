"""Runs of training that happen in processes of their own, because they are killed."""

import os
import signal
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch

from tbc_models.data import open_data
from tbc_models.training import run
from tbc_models.training.callbacks import Keeper
from tbc_models.training.settings import Settings, prepare

# The smallest of our networks that has all four splits.
SMALL = {"channels": (16, 16, 16, 16), "base_width": 32}

Moment = Literal["half a file", "before renaming", "while it draws", "between best and last"]


def settings(*, recipe: str = "small", epochs: int = 3, **numbers: float) -> Settings:
    chosen = {"size": 16, "batch_size": 256} | numbers
    data = open_data("digits")
    return prepare("tied_resnet14_s", data, recipe, options=SMALL, epochs=epochs, **chosen)  # type: ignore[arg-type]


def go(chosen: Settings, out: Path, *, resume: bool = False, save_every: int = 2) -> None:
    """Train on one thread: two processes with two threads each hinder one another."""
    torch.set_num_threads(1)
    run.train(
        chosen, open_data("digits"), out, resume=resume, save_every=save_every, say=lambda _: None
    )


def go_until(moment: Moment, number: int, chosen: Settings, out: Path) -> None:
    """Train, and die in the middle of writing the `number`-th checkpoint."""
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
