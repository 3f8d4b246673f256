"""What a run writes: its checkpoints, its history and its learning curves."""

import csv
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback, RichProgressBar
from matplotlib.figure import Figure

from tbc_models.files import replacing, write_text
from tbc_models.training.classifier import DivergedError
from tbc_models.training.settings import RunError, Settings, is_first

LAST, BEST = "last.ckpt", "best.ckpt"
METRICS, CURVES = "metrics.csv", "curves.png"

Row = dict[str, float]
S = TypeVar("S")


class Report(NamedTuple):
    """What a training reports after each epoch.

    Attributes:
        averaged: the means over a batch that `training_step` returns, to be averaged.
        tested: the numbers that are logged when the test images are scored.
        best: that of `tested` whose highest value makes best.ckpt.
        describe: a row of metrics.csv in words.
        curves: all rows in a figure.
    """

    averaged: tuple[str, ...]
    tested: tuple[str, ...]
    best: str
    describe: Callable[[Row], str]
    curves: Callable[[list[Row]], Figure]


class WriteError(OSError):
    """A file of a run that cannot be written."""

    option = "resume"
    """The parameter that continues the run when there is room again."""


def read_checkpoint(file: Path) -> tuple[Settings, dict[str, Any]]:
    """Read a checkpoint of `train`, without running any code that it may hold.

    Args:
        file: a file that `train` wrote.

    Returns:
        The settings of its run, and everything in the file, as Lightning lays it out.

    Raises:
        RunError: if it is not a checkpoint of `train`.
        OSError: if it cannot be read.

    Example:
        >>> read_checkpoint(Path(__file__))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: ...callbacks.py is not a checkpoint of `tbc train`
    """
    return read_settings(file, Settings, "tbc train")


def read_settings(file: Path, kind: type[S], command: str) -> tuple[S, dict[str, Any]]:
    """Read a checkpoint of any training, without running any code that it may hold.

    Args:
        file: a checkpoint.
        kind: class of the settings that it should hold.
        command: the command that writes such checkpoints.

    Returns:
        The settings, and everything in the file.

    Raises:
        RunError: if it is not a checkpoint with such settings.
        OSError: if it cannot be read.

    Example:
        >>> read_settings(Path(__file__), Settings, "tbc train")
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: ...callbacks.py is not a checkpoint of `tbc train`
    """
    with file.open("rb") as opened:
        try:
            content = torch.load(opened, map_location="cpu", weights_only=True)
            return kind(**content["hyper_parameters"]), content
        except Exception:  # other files raise many types
            raise RunError(f"{file} is not a checkpoint of `{command}`") from None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, and renames it when it is complete and on the disk.

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
        """Write a checkpoint; the old one stays until the new one is complete."""
        assert storage_options is None  # noqa: S101
        memory = io.BytesIO()  # if torch.save writes the file, a full disk gives an unclear error
        torch.save(checkpoint, memory)
        path = Path(path)
        with _writing(path), replacing(path) as temporary, temporary.open("wb") as file:
            file.write(memory.getbuffer())
            file.flush()
            os.fsync(file.fileno())


class Keeper(callbacks.Checkpoint):
    """Writes the last checkpoint and the best one.

    Args:
        out: folder of the run.
        every: the last checkpoint is written after this many steps, and at the end of each epoch.
        score: the best checkpoint is of the epoch in which this number is highest.

    Example:
        >>> Keeper(Path("run"), every=100, score="test/top-1").state_dict()
        {'best': -inf}
    """

    def __init__(self, out: Path, every: int, score: str) -> None:
        self.out, self.every, self.score, self.best = out, every, score, -math.inf

    def state_dict(self) -> dict[str, float]:
        """Return the best score so far, for checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore the best score."""
        self.best = state_dict["best"]

    def on_train_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *_: Any) -> None:
        """Save in the middle of an epoch; `on_train_epoch_end` saves at its end."""
        if trainer.global_step % self.every == 0 and not trainer.is_last_batch:
            self._save(trainer, learner, LAST)

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Save the last checkpoint, and the best one if no epoch was better."""
        score = float(trainer.callback_metrics[self.score])
        if score > self.best:
            self.best = score
            self._save(trainer, learner, BEST)
        self._save(trainer, learner, LAST)

    def _save(self, trainer: L.Trainer, learner: L.LightningModule, name: str) -> None:
        if not all(bool(value.isfinite().all()) for value in learner.state_dict().values()):
            raise DivergedError(f"a weight is not finite after step {trainer.global_step}")
        trainer.save_checkpoint(self.out / name)


class History(Callback):
    """Averages losses over each epoch, and writes metrics.csv and curves.png.

    Checkpoints hold the rows and the sums, so that a run that was killed and resumed has the same
    history as one that was not.

    Args:
        out: folder of the run.
        epochs: number of epochs.
        images: number of training images.
        report: what is reported after each epoch.
        say: called with a line of text after each epoch.
        bar: whether to log the averages for a progress bar.

    Example:
        >>> report = Report(("loss",), (), "", lambda row: "", lambda rows: Figure())
        >>> History(Path("run"), 2, 100, report, print, bar=False).state_dict()
        {'rows': [], 'sums': [0.0, 0.0]}
    """

    def __init__(
        self,
        out: Path,
        epochs: int,
        images: int,
        report: Report,
        say: Callable[[str], None],
        bar: bool,
    ) -> None:
        self.out, self.epochs, self.images, self.report = out, epochs, images, report
        self.say, self.bar = say, bar
        self.rows: list[Row] = []
        # Of each average, times the number of images; and that number.
        self.sums = torch.zeros(len(report.averaged) + 1, dtype=torch.float64)
        self.start = time.perf_counter()
        self.seen = self.seconds = self.lr = 0.0
        self.sum_over_processes: Callable[[torch.Tensor], Any] = torch.clone

    def state_dict(self) -> dict[str, Any]:
        """Return the rows of the completed epochs, and the sums of the current one."""
        return {"rows": self.rows, "sums": self.sum_over_processes(self.sums).tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows and the sums."""
        self.rows = state_dict["rows"]
        if is_first():  # the sums are those of all processes together
            self.sums = torch.tensor(state_dict["sums"], dtype=torch.float64)

    def on_train_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Move the sums to the device of the losses."""
        self.sums = self.sums.to(learner.device)
        self.sum_over_processes = lambda sums: trainer.strategy.reduce(
            sums.clone(), reduce_op="sum"
        )
        self.start, self.seen = time.perf_counter(), 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Reset the sums; Lightning does not call this when it resumes within an epoch."""
        self.sums.zero_()
        self.start, self.seen = time.perf_counter(), 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Store the learning rate of the step."""
        self.lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        learner: L.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Add a batch to the sums."""
        number = torch.tensor(len(batch[0]), device=self.sums.device, dtype=torch.float64)
        means = [outputs[name].double() for name in self.report.averaged]
        self.sums += torch.stack([*(mean * number for mean in means), number])
        self.seen += len(batch[0]) * trainer.world_size
        self.seconds = time.perf_counter() - self.start
        if self.bar:
            shown = self._means(self.sums) | {"images/s": self.seen / self.seconds}
            learner.log_dict(shown, prog_bar=True, logger=False)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write the row of the epoch."""
        means = self._means(self.sum_over_processes(self.sums))
        row = {
            "epoch": trainer.current_epoch + 1,
            "lr": self.lr,
            **{f"train/{name}": mean for name, mean in means.items()},
            **{name: float(trainer.callback_metrics[name]) for name in self.report.tested},
            "images/s": self.seen / self.seconds,
        }
        self.rows.append(row)
        if trainer.is_global_zero:
            with _writing(self.out):
                _write_rows(self.out / METRICS, self.rows)
                with replacing(self.out / CURVES) as temporary:
                    self.report.curves(self.rows).savefig(temporary, format="png", dpi=120)
            left = (self.epochs - row["epoch"]) * self.images / row["images/s"]
            self.say(
                f"epoch {row['epoch']:.0f}/{self.epochs}  {self.report.describe(row)}"
                f"  | {row['images/s']:.0f} images/s, {timedelta(seconds=round(left))} left"
            )

    def _means(self, sums: torch.Tensor) -> Row:
        means = (sums[:-1] / sums[-1]).tolist()
        return dict(zip(self.report.averaged, means, strict=True))


class Bar(RichProgressBar):
    """Lightning's progress bar, counting epochs from one.

    Example:
        >>> Bar().is_enabled
        True
    """

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the numbers to show: all but the version of TensorBoard's folder."""
        shown = dict(super().get_metrics(trainer, pl_module))
        shown.pop("v_num", None)
        return shown

    # Private, but Lightning has no public name for this text.
    def _get_train_description(self, current_epoch: int) -> str:
        text = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return text.ljust(len(self.validation_description))


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
