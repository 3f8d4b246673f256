"""A whole training: how it begins, what is kept of it, how it goes on, and what came out."""

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from tbc_models import exporting
from tbc_models.data import Data
from tbc_models.training.callbacks import (
    BEST,
    CURVES,
    LAST,
    METRICS,
    AtomicCheckpointIO,
    Bar,
    History,
    Keeper,
    WriteError,
    read_checkpoint,
)
from tbc_models.training.classifier import Classifier, DivergedError, average
from tbc_models.training.loading import LabelledImages
from tbc_models.training.recipes import RECIPES, Recipe
from tbc_models.training.settings import Machine, RunError, Settings, is_first, scaled_rate

WEIGHTS = "weights.safetensors"
NO_FILES: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


class StoppedError(RunError):
    """A run that a signal stopped.

    Args:
        message: when, in one line.
        by: the signal.

    Example:
        >>> StoppedError("stopped after step 3", signal.SIGINT).by.name
        'SIGINT'
    """

    def __init__(self, message: str, by: signal.Signals) -> None:
        super().__init__(message)
        self.by = by


class Score(NamedTuple):
    """How well a network does on images that it has not learned from.

    Attributes:
        top1: part of them whose class is the most probable one.
        top5: part of them whose class is among the five most probable ones.
        loss: mean cross entropy.
    """

    top1: float
    top5: float
    loss: float


def train(
    settings: Settings,
    data: Data,
    out: Path,
    machine: Machine | None = None,
    *,
    resume: bool = False,
    save_every: int = 1000,
    say: Callable[[str], None] = print,
    bar: bool = False,
) -> Score:
    """Train a network, and keep all that the run needs to go on if it is killed.

    `out` gets last.ckpt and best.ckpt (the epoch with the highest top-1), metrics.csv, curves.png,
    events for TensorBoard, and when the run is through weights.safetensors, which holds the
    weights of the last epoch, or their average where the recipe keeps one.

    Args:
        settings: what is learned.
        data: that `settings` were made for.
        out: a folder, made where it is missing.
        machine: where and how; left out, one device.
        resume: whether to go on from last.ckpt in `out`; a run that was killed before there was
            one begins anew.
        save_every: steps after which last.ckpt is written, besides the end of each epoch.
        say: is given a line for each epoch.
        bar: whether to show a progress bar.

    Returns:
        The score on the test images after the last epoch.

    Raises:
        RunError: if `out` holds a run and `resume` is not given, or another run and it is.
        DivergedError: if a loss or a weight is not finite; it names the last good checkpoint.
        WriteError: if something cannot be written; the last good checkpoint stays.
        StoppedError: if SIGINT (Ctrl-C) or SIGTERM stopped the run.

    Example:
        >>> import tempfile
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> digits = open_data("digits")
        >>> settings = prepare("tied_resnet14_s", digits, "small", size=16, epochs=1)
        >>> score = train(settings, digits, Path(tempfile.mkdtemp()), say=lambda line: None)
        >>> score.top1 <= score.top5
        True
    """
    machine = (machine or Machine()).launched()
    last = out / LAST
    machine.check(settings.batch_size, len(data.test))
    _check_folder(out, settings, resume)
    if is_first():
        _open_folder(out)
        say(_beginning(settings, data))
    go_on = resume and last.exists()
    history = History(out, settings, say, bar)
    keeper = Keeper(out, save_every)
    learner = _learner(settings, machine, asdict(settings))
    images = LabelledImages(
        data, learner.recipe, seed=settings.seed, size=settings.size, workers=machine.workers
    )
    trainer = _trainer(
        learner.recipe,
        machine,
        callbacks=[history, keeper, *([Bar()] if bar else [])],
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        plugins=[AtomicCheckpointIO()],
        default_root_dir=out,
        enable_progress_bar=bar,
    )
    try:
        with _quietly():
            trainer.fit(learner, images, ckpt_path=last if go_on else None, weights_only=True)
    except (DivergedError, WriteError, SystemExit) as error:
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint yet"
        if isinstance(error, DivergedError):
            raise DivergedError(f"{error}; {kept}. Try a lower --lr.") from None
        if isinstance(error, WriteError):
            raise WriteError(f"{error}; {kept}. Make room, then --resume.") from None
        by = signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT
        raise StoppedError(f"stopped after step {trainer.global_step}; {kept}", by) from None
    if trainer.is_global_zero:
        _, state = read_checkpoint(last)  # of the average, where there is one
        learner.load_state_dict(state["state_dict"])
        seen = {"input_size": [settings.channels, settings.size, settings.size]}
        exporting.save(
            out / WEIGHTS,
            learner.network,
            name=settings.model,
            options=settings.network_options() | {"pretrained_cfg_overlay": seen},
        )
    return _score(history.rows[-1])


def fit(
    network: nn.Module, data: Data, recipe: Recipe, *, seed: int = 0, size: int | None = None
) -> Score:
    """Train a network without a word and without files, for experiments of many small runs.

    Args:
        network: with its first weights; it is changed.
        data: images to train and test with.
        recipe: how to train.
        seed: of the batches and what else is random.
        size: pixels that the network sees; left out, the data's.

    Returns:
        The score on the test images after the last epoch.

    Raises:
        DivergedError: if a loss is not finite.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> fit(linear, open_data("digits"), replace(RECIPES["small"], epochs=1)).top1 > 0.5
        True
    """
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(data.train)))
    steps = len(data.train) // recipe.batch_size
    learner = Classifier(network, recipe, classes=len(data.classes), steps=steps, seed=seed)
    trainer = _trainer(recipe, Machine(), **NO_FILES)
    with _quietly():
        trainer.fit(learner, LabelledImages(data, recipe, seed=seed, size=size))
    return _score({name: float(value) for name, value in trainer.callback_metrics.items()})


class Evaluation(NamedTuple):
    """What `evaluate` finds.

    Attributes:
        score: on the test images.
        confusion: images of class i that were taken for class j, (classes, classes).
        settings: of the run that trained the network.
    """

    score: Score
    confusion: Tensor
    settings: Settings


def evaluate(checkpoint: Path, data: Data, machine: Machine | None = None) -> Evaluation:
    """Test a trained network.

    Args:
        checkpoint: that `train` wrote.
        data: on whose test images; it must have the classes that the network knows.
        machine: where and how; left out, one device.

    Returns:
        The score, which class was taken for which, and the settings of the run.

    Raises:
        RunError: if the file is no checkpoint of `train`, or of other classes or images.
        OSError: if the file cannot be read.

    Example:
        >>> from tbc_models.data import open_data
        >>> evaluate(Path("/no/such/file"), open_data("digits"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    settings, read = read_checkpoint(checkpoint)
    if list(data.classes) != settings.classes:
        raise RunError(
            f"{data.name} has {_classes(data.classes)}, but {checkpoint} knows "
            f"{_classes(settings.classes)}"
        )
    if data.channels != settings.channels:
        raise RunError(
            f"{data.name} has images of {data.channels} channels, but {checkpoint} is for "
            f"{settings.channels}"
        )
    machine = machine or Machine()
    learner = _learner(settings, machine)
    try:
        learner.load_state_dict(read["state_dict"])
    except RuntimeError:
        raise RunError(f"{checkpoint} does not hold the weights of {settings.model}") from None
    images = LabelledImages(
        data, learner.recipe, seed=0, size=settings.size, workers=machine.workers
    )
    trainer = _trainer(learner.recipe, machine, **NO_FILES)
    with _quietly():
        (result,) = trainer.test(learner, images, verbose=False)
    return Evaluation(_score(result), learner.confusion.compute().cpu(), settings)


def _learner(
    settings: Settings, machine: Machine, checkpointed: dict[str, Any] | None = None
) -> Classifier:
    network = settings.network()
    if machine.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Classifier(
        network,
        settings.whole_recipe(),
        classes=len(settings.classes),
        steps=settings.steps,
        seed=settings.seed,
        channels_last=machine.channels_last,
        compile=machine.compile,
        settings=checkpointed,
    )


def _trainer(
    recipe: Recipe, machine: Machine, *, callbacks: Sequence[Callback] = (), **options: Any
) -> L.Trainer:
    averaging = [average(recipe.ema)] if recipe.ema else []
    several = machine.devices * machine.nodes > 1
    with _quietly():
        return L.Trainer(
            max_epochs=recipe.epochs,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=machine.devices,
            num_nodes=machine.nodes,
            strategy="ddp" if several else "auto",
            benchmark=True,
            sync_batchnorm=several and torch.cuda.is_available(),
            precision=machine.precision,
            callbacks=[*averaging, *callbacks],
            use_distributed_sampler=False,  # `Batches` and `LabelledImages` divide the images
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_model_summary=False,
            **options,
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Spare the reader what Lightning remarks on hardware, products and its own settings."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", "Grad strides do not match")  # of DDP, on 1x1 layers
        yield


def _score(tested: Mapping[str, float]) -> Score:
    return Score(tested["test/top-1"], tested["test/top-5"], tested["test/loss"])


def _beginning(settings: Settings, data: Data) -> str:
    recipe = RECIPES[settings.recipe]
    pixels = "×".join(map(str, (settings.channels, settings.size, settings.size)))
    rate = f"learning rate {settings.lr:g}"
    if settings.lr != recipe.lr and settings.lr == scaled_rate(recipe, settings.batch_size):
        rate += f" ({recipe.lr:g} × {settings.batch_size}/{recipe.batch_size}, as the batch)"
    return (
        f"{settings.model} on {settings.data}: {settings.images:,} images to train with, "
        f"{len(data.test):,} to test, {len(settings.classes)} classes, {pixels}\n"
        f"recipe {settings.recipe}: {settings.epochs} × {settings.steps} batches of "
        f"{settings.batch_size}, {rate}, seed {settings.seed}"
    )


def _open_folder(out: Path) -> None:
    """Make the folder of a run; remove what a killed run had not finished writing."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (LAST, BEST, CURVES, METRICS, WEIGHTS):
        for half in out.glob(f".{name}.*"):
            half.unlink()


def _check_folder(out: Path, settings: Settings, resume: bool) -> None:
    """See that what is in a folder is this run. Every process does, so that all of them stop."""
    last = out / LAST
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file: give a folder as --out")
    if last.exists() and not resume:
        raise RunError(f"{out} holds a run: give --resume to go on with it, or another --out")
    if not last.exists():
        return
    begun, _ = read_checkpoint(last)
    if begun.classes != settings.classes:
        raise RunError(
            f"{settings.data} has {_classes(settings.classes)}, but the run in {out} knows "
            f"{_classes(begun.classes)}: give another --out"
        )
    for name, value in asdict(settings).items():
        if (was := getattr(begun, name)) != value:
            raise RunError(
                f"the run in {out} was begun with {name.replace('_', ' ')} {was!r}, not {value!r}: "
                "give what it was begun with, or another --out"
            )


def _classes(names: Sequence[str]) -> str:
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} classes ({some})"
