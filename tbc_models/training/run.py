"""A whole run: start it or resume it, train, and test the network."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tbc_models import exporting
from tbc_models.data import Data
from tbc_models.files import WEIGHTS
from tbc_models.training.callbacks import LAST, Report, Row
from tbc_models.training.classifier import Classifier, average
from tbc_models.training.launching import NO_FILES, Run, check_classes, make_trainer, quietly
from tbc_models.training.loading import LabelledImages
from tbc_models.training.plots import curves
from tbc_models.training.recipes import RECIPES, Recipe
from tbc_models.training.settings import Machine, RunError, Settings, is_first, scaled_rate
from tbc_models.training.starting import start, teaching_of
from tbc_models.training.trained import Trained, describe_training, open_trained


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
        RunError: if `out` holds a run and `resume` is false, if it holds another run, or if trained
            weights to start from, or a teacher, cannot be loaded or do not fit.
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
    machine.check(settings.batch_size, len(data.test))
    last = out / LAST
    run = Run(out, settings, "tbc train", resume=resume)
    network = start(settings) if run.step is None else settings.network()
    learner = _classifier(
        network, settings, machine, settings=asdict(settings), teaching=teaching_of(settings)
    )
    run.begin(say, _summary(settings, data))
    data = replace(data, mirror=settings.mirror)
    images = LabelledImages(
        data, learner.recipe, seed=settings.seed, size=settings.size, workers=machine.workers
    )
    report = Report(
        averaged=("loss", "top-1"),
        tested=("test/loss", "test/top-1", "test/top-5"),
        best="test/top-1",
        describe=_in_words,
        curves=lambda rows: curves(rows, settings.model),
    )
    row = run.fit(
        learner,
        images,
        machine,
        report,
        save_every=save_every,
        say=say,
        bar=bar,
        callbacks=_averaging(learner.recipe),
    )
    if is_first():
        exporting.save(
            out / WEIGHTS,
            open_trained(last).network(),
            name=settings.model,
            blocks=settings.blocks if settings.blocks > 1 else None,
            where=settings.where,
            options=settings.network_options()
            | {"pretrained_cfg_overlay": settings.trained_with()},
            metadata=describe_training(settings, machine),
        )
    return _score(row)


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
    trainer = make_trainer(recipe.epochs, Machine(), callbacks=_averaging(recipe), **NO_FILES)
    with quietly():
        trainer.fit(learner, LabelledImages(data, recipe, seed=seed, size=size))
    return _score({name: float(value) for name, value in trainer.callback_metrics.items()})


class EvaluationResult(NamedTuple):
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
    trained: str | Path | Trained, data: Data, machine: Machine | None = None
) -> EvaluationResult:
    """Test a trained network.

    Args:
        trained: a trained network, as `open_trained` takes it or returns it.
        data: images for testing; they must have the classes that the network knows.
        machine: where and how to compute; by default on one device.

    Returns:
        The score, which class was predicted for which, and the settings of the run.

    Raises:
        RunError: if there is no such trained network, or it is for other classes or images.
        OSError: if the file cannot be read.

    Example:
        >>> from tbc_models.data import open_data
        >>> evaluate(Path("/no/such/file"), open_data("digits"))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: /no/such/file does not exist; ...
    """
    if not isinstance(trained, Trained):
        trained = open_trained(trained)
    settings = trained.settings
    check_classes(data.name, data.classes, "network", settings.classes)
    if data.channels != settings.channels:
        raise RunError(
            f"the images of {data.name} have {data.channels} channels, but the network takes "
            f"{settings.channels}",
            option="data",
        )
    machine = machine or Machine()
    learner = _classifier(trained.network(), settings, machine)
    # Images are normalised as in training, not by the mean of the test data.
    data = replace(data, mean=tuple(settings.mean), std=tuple(settings.std))
    images = LabelledImages(
        data, learner.recipe, seed=0, size=settings.size, workers=machine.workers
    )
    trainer = make_trainer(
        learner.recipe.epochs, machine, callbacks=_averaging(learner.recipe), **NO_FILES
    )
    with quietly():
        (result,) = trainer.test(learner, images, verbose=False)
    return EvaluationResult(_score(result), learner.confusion.compute().cpu(), settings)


def _classifier(network: nn.Module, run: Settings, machine: Machine, **options: Any) -> Classifier:
    if machine.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Classifier(
        network,
        run.whole_recipe(),
        classes=len(run.classes),
        steps=run.steps,
        seed=run.seed,
        channels_last=machine.channels_last,
        compile=machine.compile,
        **options,
    )


def _averaging(recipe: Recipe) -> list[Callback]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return [average(recipe.ema, device)] if recipe.ema else []


def _score(tested: Mapping[str, float]) -> Score:
    return Score(tested["test/top-1"], tested["test/top-5"], tested["test/loss"])


def _in_words(row: Row) -> str:
    return (
        f"loss {row['train/loss']:.4f}  top-1 {row['train/top-1']:.2%}"
        f"  | test: loss {row['test/loss']:.4f}  top-1 {row['test/top-1']:.2%}"
        f"  top-5 {row['test/top-5']:.2%}"
    )


def _summary(settings: Settings, data: Data) -> str:
    recipe = RECIPES[settings.recipe]
    pixels = "×".join(map(str, (settings.channels, settings.size, settings.size)))
    rate = f"learning rate {settings.lr:g}"
    if settings.lr != recipe.lr and settings.lr == scaled_rate(recipe, settings.batch_size):
        rate += f" ({recipe.lr:g} × {settings.batch_size}/{recipe.batch_size}, for this batch size)"
    mirrored = ", images mirrored at random" if settings.mirror else ""
    tied = (
        f", layers {settings.where} tied with B = {settings.blocks}," if settings.blocks > 1 else ""
    )
    further = ""
    if settings.weights:
        further += f"\nstarts from the weights of {settings.weights}"
    if settings.tie_from:
        further += f"\nstarts from the tied weights nearest to those of {settings.tie_from}"
    if settings.teacher:
        further += (
            f"\nteacher {settings.teacher}: {settings.teacher_weight:g} of the loss, at a "
            f"temperature of {settings.temperature:g}"
        )
    return (
        f"{settings.model}{tied} on {settings.data}: {settings.images:,} images to train with, "
        f"{len(data.test):,} to test, {len(settings.classes)} classes, {pixels}\n"
        f"recipe {settings.recipe}: {settings.epochs} × {settings.steps} batches of "
        f"{settings.batch_size}, {rate}, seed {settings.seed}{mirrored}{further}"
    )
