"""Train a detector, and read and save trained ones."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import nn

from tbc_models import exporting
from tbc_models.data.instances import InstanceData
from tbc_models.detection.evaluation import COCO_NAMES
from tbc_models.detection.learner import DetectorLearner
from tbc_models.detection.loading import DetectionImages
from tbc_models.detection.plots import detection_curves
from tbc_models.detection.settings import DetectionSettings
from tbc_models.detection.shipped import find_detector
from tbc_models.files import WEIGHTS
from tbc_models.training.callbacks import LAST, Report, Row, read_settings
from tbc_models.training.launching import Run
from tbc_models.training.settings import Machine, RunError, is_first

_COMMAND = "tbc detect train"


class TrainedDetector(NamedTuple):
    """A detector with its weights.

    Attributes:
        settings: settings of the run that trained it.
        detector: the detector, in evaluation mode.
    """

    settings: DetectionSettings
    detector: nn.Module


def train_detector(
    settings: DetectionSettings,
    data: InstanceData,
    out: Path,
    machine: Machine | None = None,
    *,
    weights: str | Path | None = None,
    resume: bool = False,
    save_every: int = 1000,
    say: Callable[[str], None] = print,
    bar: bool = False,
) -> Row:
    """Train a detector, and write checkpoints from which a run that is killed can resume.

    `out` receives last.ckpt and best.ckpt (of the epoch with the highest AP of boxes), metrics.csv,
    curves.png, events for TensorBoard and, when the run is complete, weights.safetensors.

    Args:
        settings: what the run learns.
        data: the data set that `settings` were prepared for.
        out: folder of the run, created if it does not exist.
        machine: where and how to compute; by default on one device.
        weights: initial weights of the backbone, as given to `prepare_detection`.
        resume: whether to resume from last.ckpt in `out`. If there is none, the run starts.
        save_every: last.ckpt is written after this many steps, and at the end of each epoch.
        say: called with a summary of the run, and with a line of text after each epoch.
        bar: whether to show a progress bar.

    Returns:
        The last row of metrics.csv, with the average precisions on the test images.

    Raises:
        RunError: if `out` holds a run and `resume` is false, or if it holds another run.
        ValueError: if `weights` are not those of the backbone.
        DivergedError: if a loss or a weight is not finite; it names the last good checkpoint.
        WriteError: if a file cannot be written; the last good checkpoint stays.
        StoppedError: if SIGINT (Ctrl-C) or SIGTERM stopped the run.
    """
    machine = (machine or Machine()).launched()
    machine.check(settings.batch_size, len(data.test))
    run = Run(out, settings, _COMMAND, resume=resume)
    detector = settings.build(weights if run.step is None else None)  # or refuses the weights
    run.begin(say, _summary(settings, data))
    recipe = settings.whole_recipe()
    learner = DetectorLearner(
        detector,
        recipe,
        steps=settings.steps,
        seed=settings.seed,
        masks=settings.masks,
        settings=asdict(settings),
    )
    loaders = DetectionImages(
        data,
        settings.batch_size,
        masks=settings.masks,
        mirror=settings.mirror,
        seed=settings.seed,
        workers=machine.workers,
    )
    kinds = ("box", "mask") if settings.masks else ("box",)
    title = f"{settings.detector} on {settings.backbone}"
    report = Report(
        averaged=("loss",),
        tested=tuple(f"test/{kind} {name}" for kind in kinds for name in COCO_NAMES),
        best="test/box AP",
        describe=_in_words,
        curves=lambda rows: detection_curves(rows, title),
    )
    row = run.fit(
        learner,
        loaders,
        machine,
        report,
        save_every=save_every,
        say=say,
        bar=bar,
        gradient_clip_val=recipe.clip or None,
    )
    if is_first():
        save_detector(out / WEIGHTS, read_detector(out / LAST))
    return row


def read_detector(where: str | Path) -> TrainedDetector:
    """Read a trained detector, without running any code that the file may hold.

    Args:
        where: last.ckpt, best.ckpt or weights.safetensors of a run, or the name of a detector that
            ships with the package.

    Returns:
        The detector, and the settings of its run.

    Raises:
        RunError: if no such file or detector exists, or the file is of another kind.
        OSError: if it cannot be read.

    Example:
        >>> read_detector("mask-rcnn-tied_resnet14_s-scenes").settings.classes[:3]
        ['0', '1', '2']
        >>> read_detector(Path(__file__))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: ...run.py is not a checkpoint of `tbc detect train`
    """
    file = find_detector(where)
    try:
        with safe_open(file, framework="pt") as opened:
            held = json.loads((opened.metadata() or {})["options"])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        settings = DetectionSettings(**held)
    except (SafetensorError, KeyError, ValueError, TypeError):
        settings, content = read_settings(file, DetectionSettings, _COMMAND)
        weights = {
            name.removeprefix("detector."): value for name, value in content["state_dict"].items()
        }
    detector = settings.build()
    try:
        detector.load_state_dict(weights)
    except RuntimeError:
        raise RunError(
            f"{file} does not hold the weights of {settings.detector} on {settings.backbone}"
        ) from None
    return TrainedDetector(settings, detector.eval())


def save_detector(file: Path, trained: TrainedDetector) -> None:
    """Save the weights of a detector, with what is needed to build it again.

    Args:
        file: safetensors file to write; an existing one is replaced once the new one is complete.
        trained: the detector, and the settings of its run.

    Raises:
        OSError: if the file cannot be written.
    """
    settings, detector = trained
    exporting.save(file, detector, name=settings.detector, options=asdict(settings))


def _in_words(row: Row) -> str:
    text = f"loss {row['train/loss']:.3f}  | test: box AP {row['test/box AP']:.3f}"
    text += f"  AP50 {row['test/box AP50']:.3f}"
    if "test/mask AP" in row:
        text += f"  mask AP {row['test/mask AP']:.3f}  AP50 {row['test/mask AP50']:.3f}"
    return text


def _summary(settings: DetectionSettings, data: InstanceData) -> str:
    begins = ""
    if settings.weights:
        begins = ", from trained weights, with the stem and the first stage frozen"
    mirrored = ", images mirrored at random" if settings.mirror else ""
    return (
        f"{settings.detector} on {settings.backbone}{begins}\n"
        f"{settings.data}: {settings.images:,} images to train with, {len(data.test):,} to test, "
        f"{len(settings.classes)} classes\n"
        f"recipe {settings.recipe}: {settings.epochs} × {settings.steps} batches of "
        f"{settings.batch_size}, learning rate {settings.lr:g}, short edges of "
        f"{settings.min_size} pixels, long ones of at most {settings.max_size}, seed "
        f"{settings.seed}{mirrored}"
    )
