"""What is kept of a run: its checkpoints, its history and its learning curves."""

import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar

from tbc_models.files import replacing, write_text
from tbc_models.training.classifier import DivergedError
from tbc_models.training.plots import draw_curves
from tbc_models.training.settings import RunError, Settings, is_first

LAST, BEST = "last.ckpt", "best.ckpt"
METRICS, CURVES = "metrics.csv", "curves.png"
TESTED = ("test/loss", "test/top-1", "test/top-5")


class WriteError(OSError):
    """A file of a run that cannot be written.

    Args:
        message: which, and why, in one line.

    Example:
        >>> raise WriteError("run/last.ckpt cannot be written: the disk is full")
        Traceback (most recent call last):
        ...
        tbc_models.training.callbacks.WriteError: run/last.ckpt cannot be written: the disk is full
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


def read_checkpoint(file: Path) -> tuple[Settings, dict[str, Any]]:
    """Read a checkpoint, without running anything that it may hold.

    Args:
        file: that `train` wrote.

    Returns:
        The settings of its run, and all that is in it.

    Raises:
        RunError: if it is no checkpoint of `train`.
        OSError: if it cannot be read.

    Example:
        >>> read_checkpoint(Path(__file__))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: ...keeping.py is no checkpoint of `tbc train`
    """
    with file.open("rb") as opened:
        try:
            read = torch.load(opened, map_location="cpu", weights_only=True)
            return Settings(**read["hyper_parameters"]), read
        except Exception:  # of bytes that are something else there are all kinds
            raise RunError(f"{file} is no checkpoint of `tbc train`") from None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, and renames it when it is whole and on the disk.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "last.ckpt"
        >>> AtomicCheckpointIO().save_checkpoint({"step": 3}, file)
        >>> AtomicCheckpointIO().load_checkpoint(file, weights_only=True)
        {'step': 3}
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; one that is there stays whole until the new one is."""
        assert storage_options is None  # noqa: S101
        memory = io.BytesIO()  # torch's own file writing tells of a full disk in riddles
        torch.save(checkpoint, memory)
        path = Path(path)
        with _writing(path), replacing(path) as temporary, temporary.open("wb") as file:
            file.write(memory.getbuffer())
            file.flush()
            os.fsync(file.fileno())


class Keeper(Checkpoint):
    """Keeps the last checkpoint and the best one.

    Args:
        out: the folder.
        every: steps after which the last one is written, besides the end of each epoch.

    Example:
        >>> Keeper(Path("run"), every=100).state_dict()
        {'best': -1.0}
    """

    def __init__(self, out: Path, every: int) -> None:
        self.out, self.every, self.best = out, every, -1.0

    def state_dict(self) -> dict[str, float]:
        """Remember the best top-1."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Recall the best top-1."""
        self.best = state_dict["best"]

    def on_train_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *_: Any) -> None:
        """Save in the middle of an epoch; its end is `on_train_epoch_end`'s."""
        loop = trainer.fit_loop.epoch_loop
        if trainer.global_step % self.every == 0 and not loop.batch_progress.is_last_batch:
            self._save(trainer, learner, LAST)

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Save, and once more if no epoch was better."""
        top1 = float(trainer.callback_metrics["test/top-1"])
        if top1 > self.best:
            self.best = top1
            self._save(trainer, learner, BEST)
        self._save(trainer, learner, LAST)

    def _save(self, trainer: L.Trainer, learner: L.LightningModule, name: str) -> None:
        if not all(bool(value.isfinite().all()) for value in learner.state_dict().values()):
            raise DivergedError(f"a weight is not finite after step {trainer.global_step}")
        trainer.save_checkpoint(self.out / name)


class History(Callback):
    """Adds up each epoch, and writes metrics.csv and curves.png.

    Checkpoints hold the rows and the sums, so that a run that was killed has the same history as
    one that was not.

    Args:
        out: the folder.
        settings: of the run.
        say: is given a line for each epoch.
        bar: whether a progress bar wants to know how it goes.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> settings = prepare("tied_resnet14_s", open_data("digits"), "small", size=16)
        >>> History(Path("run"), settings, print, bar=False).state_dict()
        {'rows': [], 'sums': [0.0, 0.0, 0.0]}
    """

    def __init__(
        self, out: Path, settings: Settings, say: Callable[[str], None], bar: bool
    ) -> None:
        self.out, self.settings, self.say, self.bar = out, settings, say, bar
        self.rows: list[dict[str, float]] = []
        self.sums = torch.zeros(3, dtype=torch.float64)  # loss, correct, images
        self.begun = time.perf_counter()
        self.seen = self.seconds = self.lr = 0.0
        self.added_up: Callable[[torch.Tensor], Any] = torch.clone  # over all processes

    def state_dict(self) -> dict[str, Any]:
        """Remember the epochs that are through, and the sums of the one that is not."""
        return {"rows": self.rows, "sums": self.added_up(self.sums).tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Recall them."""
        self.rows = state_dict["rows"]
        if is_first():  # the sums are of all processes
            self.sums = torch.tensor(state_dict["sums"], dtype=torch.float64)

    def on_train_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Put the sums where the losses are."""
        self.sums = self.sums.to(learner.device)
        self.added_up = lambda sums: trainer.strategy.reduce(sums.clone(), reduce_op="sum")
        self.begun, self.seen = time.perf_counter(), 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Begin anew; Lightning does not call this in the middle of an epoch."""
        self.sums.zero_()
        self.begun, self.seen = time.perf_counter(), 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the learning rate of the step."""
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        learner: L.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Add up a batch."""
        number = torch.tensor(len(batch[0]), device=self.sums.device)
        loss, correct = outputs["loss"].double() * number, outputs["correct"]
        self.sums += torch.stack([loss, correct.double(), number.double()])
        self.seen += len(batch[0]) * trainer.world_size
        self.seconds = time.perf_counter() - self.begun
        if self.bar:
            means = (self.sums / self.sums[2]).tolist()
            shown = {"loss": means[0], "top-1": means[1], "images/s": self.seen / self.seconds}
            learner.log_dict(shown, prog_bar=True, logger=False)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write the epoch down."""
        sums = self.added_up(self.sums)
        means = (sums / sums[2]).tolist()
        row = {
            "epoch": trainer.current_epoch + 1,
            "lr": self.lr,
            "train/loss": means[0],
            "train/top-1": means[1],
            **{name: float(trainer.callback_metrics[name]) for name in TESTED},
            "images/s": self.seen / self.seconds,
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            with _writing(self.out):
                _write_rows(self.out / METRICS, self.rows)
                draw_curves(self.out / CURVES, self.rows, title=self.settings.model)
            self._tell(row)

    def _tell(self, row: dict[str, float]) -> None:
        left = (self.settings.epochs - row["epoch"]) * self.settings.images / row["images/s"]
        self.say(
            f"epoch {row['epoch']:.0f}/{self.settings.epochs}"
            f"  loss {row['train/loss']:.4f}  top-1 {row['train/top-1']:.2%}"
            f"  | test: loss {row['test/loss']:.4f}  top-1 {row['test/top-1']:.2%}"
            f"  top-5 {row['test/top-5']:.2%}"
            f"  | {row['images/s']:.0f} images/s, {timedelta(seconds=round(left))} left"
        )


class Bar(RichProgressBar):
    """Lightning's progress bar, which counts epochs from one and tells only how it goes.

    Example:
        >>> Bar().is_enabled
        True
    """

    def __init__(self) -> None:
        super().__init__()

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Leave out the name of TensorBoard's folder."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown

    def _get_train_description(self, current_epoch: int) -> str:
        told = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return told.ljust(len(self.validation_description))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from None


def _write_rows(file: Path, rows: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())
