"""Train a detector, test it, and find objects on single images."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

from tbc_models import exporting
from tbc_models.data.errors import BadImageError
from tbc_models.data.folders import read_images
from tbc_models.data.instances import InstanceData
from tbc_models.detection.cityscapes_ap import CityscapesEvaluation
from tbc_models.detection.evaluation import COCO_NAMES, Evaluation, coco_evaluations
from tbc_models.detection.learner import DetectorLearner
from tbc_models.detection.loading import DetectionImages
from tbc_models.detection.plots import detection_curves
from tbc_models.detection.settings import DetectionSettings
from tbc_models.detection.voc_ap import VOCEvaluation
from tbc_models.files import WEIGHTS
from tbc_models.training.callbacks import LAST, Report, Row, read_settings
from tbc_models.training.launching import Run, list_classes
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


def read_detector(file: Path) -> TrainedDetector:
    """Read a trained detector, without running any code that the file may hold.

    Args:
        file: last.ckpt, best.ckpt or weights.safetensors of a run.

    Returns:
        The detector, and the settings of its run.

    Raises:
        RunError: if it is not such a file.
        OSError: if it cannot be read.

    Example:
        >>> read_detector(Path(__file__))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: ...run.py is not a checkpoint of `tbc detect train`
    """
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


class DetectionScores(NamedTuple):
    """What `evaluate_detector` finds.

    Attributes:
        box: average precisions of boxes.
        mask: average precisions of masks; None if the detector predicts none.
        more: those of other definitions: Pascal VOC's and Cityscapes'.
        precision: of boxes at the recalls 0, 0.01, …, 1, for some IoUs.
    """

    box: dict[str, float]
    mask: dict[str, float] | None
    more: dict[str, dict[str, float]]
    precision: dict[str, list[float]]


def evaluate_detector(
    trained: TrainedDetector,
    data: InstanceData,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionScores:
    """Test a detector.

    Args:
        trained: what `read_detector` returned.
        data: images for testing; they must have the classes that the detector knows, and masks if
            it predicts some.
        workers: processes that load images.
        progress: called repeatedly with the number of images tested so far and their total.

    Returns:
        Average precisions as COCO defines them, and as the data set itself does.

    Raises:
        RunError: if the data set has other classes, or no masks although the detector predicts
            some.
    """
    settings, detector = trained
    if list(data.classes) != settings.classes:
        raise RunError(
            f"{data.name} has {list_classes(data.classes)}, but the detector knows "
            f"{list_classes(settings.classes)}",
            option="data",
        )
    if settings.masks and not data.masks:
        raise RunError(
            f"{settings.detector} predicts masks, but {data.name} has none to compare them with",
            option="data",
        )
    coco = coco_evaluations(settings.masks)
    evaluations: dict[str, Evaluation[Any]] = {**coco, **_others(data, settings.masks)}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector.to(device)
    loaders = DetectionImages(
        data, settings.batch_size, masks=settings.masks, mirror=False, seed=0, workers=workers
    )
    done = 0
    with torch.no_grad():
        for images, targets in loaders.test_dataloader():
            found = [_on_cpu(one) for one in detector([image.to(device) for image in images])]
            for evaluation in evaluations.values():
                evaluation.update(found, targets)
            done += len(images)
            if progress is not None:
                progress(done, len(data.test))
    results = {name: evaluation.compute() for name, evaluation in evaluations.items()}
    precision = coco["box"].precision_recall()
    return DetectionScores(results.pop("box"), results.pop("mask", None), results, precision)


class Detection(NamedTuple):
    """The objects that were found on an image.

    Attributes:
        file: the image file.
        image: its pixels, uint8 (3, H, W).
        boxes: (n, 4) as x1, y1, x2, y2 in pixels.
        classes: the class of each.
        scores: how sure the detector is, from 0 to 1, in descending order.
        masks: bool (n, H, W); None if the detector predicts none.
    """

    file: Path
    image: Tensor
    boxes: Tensor
    classes: list[str]
    scores: list[float]
    masks: Tensor | None


def detect(
    trained: TrainedDetector,
    images: Sequence[Path],
    *,
    least: float = 0.5,
    skipped: Callable[[BadImageError], None] | None = None,
) -> Iterator[Detection]:
    """Find the objects on image files.

    Args:
        trained: what `read_detector` returned.
        images: image files.
        least: objects with a lower score are left out.
        skipped: called with the error of each file that is not a readable image. By default the
            first such error is raised.

    Yields:
        What was found, for each image.

    Raises:
        BadImageError: if a file is not a readable image and `skipped` is None; it names the file.
    """
    settings, detector = trained
    device = next(detector.parameters()).device
    for file, image in read_images(images, skipped):
        pixels = pil_to_tensor(image)
        with torch.no_grad():
            (found,) = detector([to_dtype(pixels, torch.float32, scale=True).to(device)])
            found = _on_cpu(found)
        kept = found["scores"] >= least
        yield Detection(
            file,
            pixels,
            found["boxes"][kept],
            [settings.classes[label - 1] for label in found["labels"][kept].tolist()],
            found["scores"][kept].tolist(),
            found["masks"][kept, 0] > 0.5 if "masks" in found else None,
        )


def _others(data: InstanceData, masks: bool) -> dict[str, Evaluation[Any]]:
    """Choose the evaluations of the data set itself."""
    if data.metric == "voc":
        return {"VOC2007, 11 points": VOCEvaluation(11), "VOC2010, area": VOCEvaluation()}
    if data.metric == "cityscapes" and masks:
        return {"Cityscapes": CityscapesEvaluation()}
    return {}


def _on_cpu(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in found.items()}


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
