"""A whole run: start it or resume it, train, and test the network."""

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from tbc_models import exporting
from tbc_models.data import Data
from tbc_models.files import WEIGHTS
from tbc_models.training.callbacks import (
    BEST,
    CURVES,
    LAST,
    METRICS,
    AtomicCheckpointIO,
    Bar,
    Checkpoint,
    History,
    Keeper,
    WriteError,
    read_checkpoint,
)
from tbc_models.training.classifier import Classifier, DivergedError, average
from tbc_models.training.loading import LabelledImages
from tbc_models.training.recipes import RECIPES, Recipe
from tbc_models.training.settings import Machine, RunError, Settings, is_first, scaled_rate

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
        super().__init__(message)
        self.by = by


class Score(NamedTuple):
    """Accuracy and loss of a network on test images.

    Attributes:
        top1: fraction of the images whose true class is the most probable one.
        top5: fraction of the images whose true class is among the five most probable ones.
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
    """Train a network, and write checkpoints from which a run that is killed can resume.

    `out` receives last.ckpt and best.ckpt (of the epoch with the highest top-1), metrics.csv,
    curves.png, events for TensorBoard and, when the run is complete, weights.safetensors: the
    weights of the last epoch, or their average if the recipe keeps one.

    Args:
        settings: what the run learns.
        data: the data set that `settings` were prepared for.
        out: folder of the run, created if it does not exist.
        machine: where and how to compute; by default on one device.
        resume: whether to resume from last.ckpt in `out`. If there is none, the run starts.
        save_every: last.ckpt is written after this many steps, and at the end of each epoch.
        say: called with a summary of the run, and with a line of text after each epoch.
        bar: whether to show a progress bar.

    Returns:
        The score on the test images after the last epoch.

    Raises:
        RunError: if `out` holds a run and `resume` is false, or if it holds another run.
        DivergedError: if a loss or a weight is not finite; it names the last good checkpoint.
        WriteError: if a file cannot be written; the last good checkpoint stays.
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
    step = _check_folder(out, settings, resume)
    if is_first():
        _open_folder(out)
        if resume:
            say(_beginning(out.resolve(), step))
        say(_summary(settings, data))
    resumed = None if step is None else last
    history = History(out, settings, say, bar)
    keeper = Keeper(out, save_every)
    learner = _classifier(settings.network(), settings, machine, asdict(settings))
    data = replace(data, mirror=settings.mirror)
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
            trainer.fit(learner, images, ckpt_path=resumed, weights_only=True)
    except (DivergedError, WriteError, SystemExit) as error:
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint yet"
        if isinstance(error, (DivergedError, WriteError)):
            raise type(error)(f"{error}; {kept}") from None
        by = signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT
        raise StoppedError(f"stopped after step {trainer.global_step}; {kept}", by) from None
    if trainer.is_global_zero:
        seen = {"input_size": [settings.channels, settings.size, settings.size]}
        exporting.save(
            out / WEIGHTS,
            read_checkpoint(last).network(),
            name=settings.model,
            options=settings.network_options() | {"pretrained_cfg_overlay": seen},
        )
    return _score(history.rows[-1])


def fit(
    network: nn.Module, data: Data, recipe: Recipe, *, seed: int = 0, size: int | None = None
) -> Score:
    """Train a network without output or files, for experiments of many small runs.

    Args:
        network: the network with its initial weights; it is trained in place.
        data: images for training and testing.
        recipe: training recipe.
        seed: seed of every random choice.
        size: height and width of the images that the network sees; by default the data's.

    Returns:
        The score on the test images after the last epoch.

    Raises:
        DivergedError: if a loss is not finite.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> _ = torch.manual_seed(0)
        >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> fit(linear, open_data("digits"), replace(RECIPES["small"], epochs=1)).top1 > 0.3
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
        score: score on the test images.
        confusion: number of images of class i that were predicted as class j, (classes, classes).
        settings: settings of the run that trained the network.
    """

    score: Score
    confusion: Tensor
    settings: Settings


def evaluate(
    checkpoint: Path | Checkpoint, data: Data, machine: Machine | None = None
) -> Evaluation:
    """Test a trained network.

    Args:
        checkpoint: a file that `train` wrote, or what `read_checkpoint` read from it.
        data: images for testing; they must have the classes that the network knows.
        machine: where and how to compute; by default on one device.

    Returns:
        The score, which class was predicted for which, and the settings of the run.

    Raises:
        RunError: if it is not a checkpoint of `train`, or not one for these classes or images.
        OSError: if the file cannot be read.

    Example:
        >>> from tbc_models.data import open_data
        >>> evaluate(Path("/no/such/file"), open_data("digits"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    if isinstance(checkpoint, Path):
        checkpoint = read_checkpoint(checkpoint)
    settings = checkpoint.settings
    if list(data.classes) != settings.classes:
        raise RunError(
            f"{data.name} has {_list_classes(data.classes)}, but the network knows "
            f"{_list_classes(settings.classes)}",
            option="data",
        )
    if data.channels != settings.channels:
        raise RunError(
            f"the images of {data.name} have {data.channels} channels, but the network takes "
            f"{settings.channels}",
            option="data",
        )
    machine = machine or Machine()
    learner = _classifier(checkpoint.network(), settings, machine)
    # Images are normalised as in training, not by the mean of the test data.
    data = replace(data, mean=tuple(settings.mean), std=tuple(settings.std))
    images = LabelledImages(
        data, learner.recipe, seed=0, size=settings.size, workers=machine.workers
    )
    trainer = _trainer(learner.recipe, machine, **NO_FILES)
    with _quietly():
        (result,) = trainer.test(learner, images, verbose=False)
    return Evaluation(_score(result), learner.confusion.compute().cpu(), settings)


def _classifier(
    network: nn.Module,
    settings: Settings,
    machine: Machine,
    checkpointed: dict[str, Any] | None = None,
) -> Classifier:
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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    averaging = [average(recipe.ema, device)] if recipe.ema else []
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
    """Silence what Lightning prints about hardware, its products and its own settings."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", "Grad strides do not match")  # DDP, about 1×1 layers
        yield


def _score(tested: Mapping[str, float]) -> Score:
    return Score(tested["test/top-1"], tested["test/top-5"], tested["test/loss"])


def _summary(settings: Settings, data: Data) -> str:
    recipe = RECIPES[settings.recipe]
    pixels = "×".join(map(str, (settings.channels, settings.size, settings.size)))
    rate = f"learning rate {settings.lr:g}"
    if settings.lr != recipe.lr and settings.lr == scaled_rate(recipe, settings.batch_size):
        rate += f" ({recipe.lr:g} × {settings.batch_size}/{recipe.batch_size}, for this batch size)"
    mirrored = ", images mirrored at random" if settings.mirror else ""
    return (
        f"{settings.model} on {settings.data}: {settings.images:,} images to train with, "
        f"{len(data.test):,} to test, {len(settings.classes)} classes, {pixels}\n"
        f"recipe {settings.recipe}: {settings.epochs} × {settings.steps} batches of "
        f"{settings.batch_size}, {rate}, seed {settings.seed}{mirrored}"
    )


def _open_folder(out: Path) -> None:
    """Create the folder of a run, and remove files that a killed run left incomplete."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (LAST, BEST, CURVES, METRICS, WEIGHTS):
        for unfinished in out.glob(f".{name}.*"):
            unfinished.unlink()


def _beginning(out: Path, step: int | None) -> str:
    if step is None:
        return f"No run in {out}: starting a new one."
    return f"Resuming {out} after step {step}."


def _check_folder(out: Path, settings: Settings, resume: bool) -> int | None:
    """Check that a run in the folder has these settings; every process does, so that all stop.

    Returns:
        The number of steps that the run has taken; None if there is no run.
    """
    last = out / LAST
    if out.exists() and not out.is_dir():
        raise RunError(f"`out` (={out}) must be a folder, but it is a file")
    if not last.exists():
        return None
    if not resume:
        raise RunError(f"{out} already holds a run", option="resume")
    before, content = read_checkpoint(last)
    if before.classes != settings.classes:
        raise RunError(
            f"{settings.data} has {_list_classes(settings.classes)}, but the run in {out} knows "
            f"{_list_classes(before.classes)}",
            option="settings",
        )
    for name, value in asdict(settings).items():
        was = getattr(before, name)
        if name == "data" and _kind(was) == _kind(value):
            continue  # it may have moved; the fingerprint shows whether it is the same
        if was == value:
            continue
        if name == "fingerprint":
            raise RunError(
                f"the images of {settings.data} are not those that the run in {out} started with: "
                "their names or labels differ",
                option="settings",
            )
        raise RunError(
            f"the run in {out} started with {name.replace('_', ' ')} {was!r}, not {value!r}",
            option="settings",
        )
    return cast("int", content["global_step"])


def _kind(data: str) -> str:
    return data.partition(":")[0]


def _list_classes(names: Sequence[str]) -> str:
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} classes ({some})"
