"""The folder of a run: begin or resume it there, and train with Lightning; for any learner."""

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tbc_models.files import WEIGHTS
from tbc_models.training.callbacks import (
    BEST,
    CURVES,
    LAST,
    METRICS,
    AtomicCheckpointIO,
    Bar,
    History,
    Keeper,
    Report,
    Row,
    WriteError,
    read_settings,
)
from tbc_models.training.classifier import DivergedError
from tbc_models.training.settings import Machine, RunError, is_first

NO_FILES: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


class StoppedError(RunError):
    """A run that a signal stopped.

    Args:
        message: when it stopped, in one line.
        by: the signal.
    """

    def __init__(self, message: str, by: signal.Signals) -> None:
        super().__init__(message, option="stopped")
        self.by = by


class RunSettings(Protocol):
    """What the settings of every kind of run, which are dataclasses, have in common."""

    @property
    def data(self) -> str:
        """Specification of the data set, with its path resolved."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""

    @property
    def images(self) -> int:
        """Number of training images."""

    @property
    def epochs(self) -> int:
        """Number of epochs."""


class Run:
    """A run in a folder.

    Args:
        out: folder of the run; it need not exist.
        settings: what the run learns.
        command: the command that writes such checkpoints.
        resume: whether to resume from last.ckpt in `out`. If there is none, the run starts.

    Raises:
        RunError: if `out` holds a run and `resume` is false, or if it holds another run.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> settings = prepare("tied_resnet14_s", open_data("digits"), "small", size=16)
        >>> Run(Path("no/such/folder"), settings, "tbc train", resume=True).step is None
        True
    """

    def __init__(self, out: Path, settings: RunSettings, command: str, *, resume: bool) -> None:
        self.out, self.settings, self.resume = out, settings, resume
        self.step = self._check(command)  # in every process, so that all of them stop
        """Number of steps that the run has taken; None if there is no run."""

    def begin(self, say: Callable[[str], None], summary: str) -> None:
        """Create the folder, remove what a killed run left incomplete, and say what will be done.

        Args:
            say: called with lines of text.
            summary: what the run learns.

        Raises:
            OSError: if the folder cannot be created.
        """
        if not is_first():
            return
        self.out.mkdir(parents=True, exist_ok=True)
        for name in (LAST, BEST, CURVES, METRICS, WEIGHTS):
            for unfinished in self.out.glob(f".{name}.*"):
                unfinished.unlink()
        if self.resume:
            folder = self.out.resolve()
            resumed = f"Resuming {folder} after step {self.step}."
            say(f"No run in {folder}: starting a new one." if self.step is None else resumed)
        say(summary)

    def fit(
        self,
        learner: L.LightningModule,
        loaders: L.LightningDataModule,
        machine: Machine,
        report: Report,
        *,
        save_every: int,
        say: Callable[[str], None],
        bar: bool,
        callbacks: Sequence[Callback] = (),
        **options: Any,
    ) -> Row:
        """Train, and write checkpoints, history and curves.

        Args:
            learner: what is trained.
            loaders: its training and test images.
            machine: where and how to compute.
            report: what is reported after each epoch.
            save_every: last.ckpt is written after this many steps, and at the end of each epoch.
            say: called with a line of text after each epoch.
            bar: whether to show a progress bar.
            callbacks: further callbacks of Lightning.
            options: further options of Lightning's Trainer.

        Returns:
            The last row of metrics.csv.

        Raises:
            DivergedError: if a loss or a weight is not finite; it names the last good checkpoint.
            WriteError: if a file cannot be written; the last good checkpoint stays.
            StoppedError: if SIGINT (Ctrl-C) or SIGTERM stopped the run.
        """
        out, last = self.out, self.out / LAST
        history = History(out, self.settings.epochs, self.settings.images, report, say, bar)
        keeper = Keeper(out, save_every, report.best)
        trainer = make_trainer(
            self.settings.epochs,
            machine,
            callbacks=[*callbacks, history, keeper, *([Bar()] if bar else [])],
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            plugins=[AtomicCheckpointIO()],
            default_root_dir=out,
            enable_progress_bar=bar,
            **options,
        )
        try:
            with quietly():
                resumed = None if self.step is None else last
                trainer.fit(learner, loaders, ckpt_path=resumed, weights_only=True)
        except (DivergedError, WriteError, SystemExit) as error:
            kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint yet"
            if isinstance(error, (DivergedError, WriteError)):
                raise type(error)(f"{error}; {kept}") from None
            by = signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT
            raise StoppedError(f"stopped after step {trainer.global_step}; {kept}", by) from None
        return history.rows[-1]

    def _check(self, command: str) -> int | None:
        """Check that a run in the folder has these settings, and return how far it is."""
        out, last, settings = self.out, self.out / LAST, self.settings
        if out.exists() and not out.is_dir():
            raise RunError(f"`out` (={out}) must be a folder, but it is a file")
        if not last.exists():
            return None
        if not self.resume:
            raise RunError(f"{out} already holds a run", option="resume")
        before, content = read_settings(last, type(settings), command)
        if before.classes != settings.classes:
            raise RunError(
                f"{settings.data} has {list_classes(settings.classes)}, but the run in {out} "
                f"knows {list_classes(before.classes)}",
                option="settings",
            )
        values: dict[str, Any] = asdict(settings)  # type: ignore[call-overload]
        for name, value in values.items():
            was = getattr(before, name)
            if name == "data" and was.partition(":")[0] == value.partition(":")[0]:
                continue  # it may have moved; the fingerprint shows whether it is the same
            if was == value:
                continue
            if name in ("start_fingerprint", "teacher_fingerprint"):
                if not (was and value):  # the file is gone, or the checkpoint is older than this
                    continue
                start = values["weights"] or values["tie_from"]
                file = start if name == "start_fingerprint" else values["teacher"]
                raise RunError(
                    f"{file} does not hold the weights that the run in {out} started with",
                    option="settings",
                )
            if name == "fingerprint":
                raise RunError(
                    f"the images of {settings.data} are not those that the run in {out} started "
                    "with: their names or labels differ",
                    option="settings",
                )
            raise RunError(
                f"the run in {out} started with {name.replace('_', ' ')} {was!r}, not {value!r}",
                option="settings",
            )
        step: int = content["global_step"]
        return step


def make_trainer(
    epochs: int, machine: Machine, *, callbacks: Sequence[Callback] = (), **options: Any
) -> L.Trainer:
    """Make Lightning's Trainer for a machine.

    Args:
        epochs: number of epochs.
        machine: where and how to compute.
        callbacks: callbacks of Lightning.
        options: further options of the Trainer, such as `NO_FILES`.

    Returns:
        The Trainer.

    Example:
        >>> make_trainer(3, Machine(), **NO_FILES).max_epochs
        3
    """
    several = machine.devices * machine.nodes > 1
    with quietly():
        return L.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=machine.devices,
            num_nodes=machine.nodes,
            strategy="ddp" if several else "auto",
            benchmark=True,
            sync_batchnorm=several and torch.cuda.is_available(),
            precision=machine.precision,
            callbacks=list(callbacks),
            use_distributed_sampler=False,  # `Batches` and the data modules divide the images
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_model_summary=False,
            **options,
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what Lightning prints about hardware, its products and its own settings."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", "Grad strides do not match")  # DDP, about 1×1 layers
        yield


def check_classes(
    data: str, classes: Sequence[str], what: str, known: Sequence[str], *, option: str = "data"
) -> None:
    """Check that a data set has the classes that were learned.

    Args:
        data: name of the data set.
        classes: its classes.
        what: what learned, such as "network".
        known: the classes that it learned.
        option: the parameter that would avoid the error.

    Raises:
        RunError: if they differ.
    """
    if list(classes) != list(known):
        raise RunError(
            f"{data} has {list_classes(classes)}, but the {what} knows {list_classes(known)}",
            option=option,
        )


def list_classes(names: Sequence[str]) -> str:
    """Write how many classes there are, and the first ones."""
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} classes ({some})"
