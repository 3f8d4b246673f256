"""What a run writes: its checkpoints, its history and its learning curves."""

import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import nn

from tbc_models.files import replacing, write_text
from tbc_models.training.classifier import DivergedError
from tbc_models.training.plots import draw_curves
from tbc_models.training.settings import RunError, Settings, is_first

LAST, BEST = "last.ckpt", "best.ckpt"
METRICS, CURVES = "metrics.csv", "curves.png"
TESTED = ("test/loss", "test/top-1", "test/top-5")


class WriteError(OSError):
    """A file of a run that cannot be written."""

    option = "resume"
    """The parameter that continues the run when there is room again."""


class Checkpoint(NamedTuple):
    """What `read_checkpoint` reads.

    Attributes:
        settings: settings of the run that wrote it.
        content: everything in the file, as Lightning lays it out.
    """

    settings: Settings
    content: dict[str, Any]

    def network(self) -> nn.Module:
        """Build the network with the weights that are tested: their average, if there is one.

        Returns:
            The network, in evaluation mode.

        Raises:
            RunError: if the weights are not those of the network.
        """
        network = self.settings.network()
        weights = {
            name.removeprefix("network."): value
            for name, value in self.content["state_dict"].items()
            if name.startswith("network.")
        }
        try:
            network.load_state_dict(weights)
        except RuntimeError:
            raise RunError(
                f"the checkpoint does not hold the weights of {self.settings.model}"
            ) from None
        return network.eval()


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint, without running any code that it may hold.

    Args:
        file: a file that `train` wrote.

    Returns:
        The settings of its run, and everything in it.

    Raises:
        RunError: if it is not a checkpoint of `train`.
        OSError: if it cannot be read.

    Example:
        >>> read_checkpoint(Path(__file__))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: ...callbacks.py is not a checkpoint of `tbc train`
    """
    with file.open("rb") as opened:
        try:
            content = torch.load(opened, map_location="cpu", weights_only=True)
            return Checkpoint(Settings(**content["hyper_parameters"]), content)
        except Exception:  # other files raise many types
            raise RunError(f"{file} is not a checkpoint of `tbc train`") from None


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

    Example:
        >>> Keeper(Path("run"), every=100).state_dict()
        {'best': -1.0}
    """

    def __init__(self, out: Path, every: int) -> None:
        self.out, self.every, self.best = out, every, -1.0

    def state_dict(self) -> dict[str, float]:
        """Return the best top-1 so far, for checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore the best top-1."""
        self.best = state_dict["best"]

    def on_train_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *_: Any) -> None:
        """Save in the middle of an epoch; `on_train_epoch_end` saves at its end."""
        if trainer.global_step % self.every == 0 and not trainer.is_last_batch:
            self._save(trainer, learner, LAST)

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        """Save the last checkpoint, and the best one if no epoch was better."""
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
    """Averages loss and accuracy over each epoch, and writes metrics.csv and curves.png.

    Checkpoints hold the rows and the sums, so that a run that was killed and resumed has the same
    history as one that was not.

    Args:
        out: folder of the run.
        settings: settings of the run.
        say: called with a line of text after each epoch.
        bar: whether to log the averages for a progress bar.

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
        number = torch.tensor(len(batch[0]), device=self.sums.device)
        loss, correct = outputs["loss"].double() * number, outputs["correct"]
        self.sums += torch.stack([loss, correct.double(), number.double()])
        self.seen += len(batch[0]) * trainer.world_size
        self.seconds = time.perf_counter() - self.start
        if self.bar:
            means = (self.sums / self.sums[2]).tolist()
            shown = {"loss": means[0], "top-1": means[1], "images/s": self.seen / self.seconds}
            learner.log_dict(shown, prog_bar=True, logger=False)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write the row of the epoch."""
        sums = self.sum_over_processes(self.sums)
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
            self._say(row)

    def _say(self, row: dict[str, float]) -> None:
        left = (self.settings.epochs - row["epoch"]) * self.settings.images / row["images/s"]
        self.say(
            f"epoch {row['epoch']:.0f}/{self.settings.epochs}"
            f"  loss {row['train/loss']:.4f}  top-1 {row['train/top-1']:.2%}"
            f"  | test: loss {row['test/loss']:.4f}  top-1 {row['test/top-1']:.2%}"
            f"  top-5 {row['test/top-5']:.2%}"
            f"  | {row['images/s']:.0f} images/s, {timedelta(seconds=round(left))} left"
        )


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
