"""Test a trained detector, and find objects on single images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

from tbc_models.data.errors import BadImageError
from tbc_models.data.folders import read_images
from tbc_models.data.instances import InstanceData, Progress, Target
from tbc_models.detection.cityscapes_ap import CityscapesEvaluation
from tbc_models.detection.evaluation import Evaluation, coco_evaluations
from tbc_models.detection.loading import DetectionImages
from tbc_models.detection.run import TrainedDetector
from tbc_models.detection.voc_ap import VOCEvaluation
from tbc_models.training.launching import check_classes
from tbc_models.training.settings import RunError


class DetectionScores(NamedTuple):
    """What `evaluate_detector` finds.

    Attributes:
        box: average precisions of boxes.
        mask: average precisions of masks; None if the detector predicts none.
        more: average precisions by other definitions: Pascal VOC's and Cityscapes'.
        precision: precision of boxes at the recalls 0, 0.01, …, 1, for some IoUs.
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
    progress: Progress | None = None,
) -> DetectionScores:
    """Test a detector.

    Args:
        trained: what `read_detector` returned.
        data: images for testing; they must have the classes that the detector knows, and masks if
            it predicts masks.
        workers: processes that load images.
        progress: called repeatedly with the number of images tested so far and their total.

    Returns:
        Average precisions as COCO defines them, and as the data set's own benchmark does.

    Raises:
        RunError: if the data set has other classes, or no masks although the detector predicts
            some.
    """
    check_data(trained, data)
    coco = coco_evaluations(trained.settings.masks)
    evaluations: dict[str, Evaluation[Any]] = {**coco, **_others(data, trained.settings.masks)}
    for found, targets in detections(trained, data, workers=workers, progress=progress):
        for evaluation in evaluations.values():
            evaluation.update(found, targets)
    results = {name: evaluation.compute() for name, evaluation in evaluations.items()}
    precision = coco["box"].precision_recall()
    return DetectionScores(results.pop("box"), results.pop("mask", None), results, precision)


def check_data(trained: TrainedDetector, data: InstanceData) -> None:
    """Check that a detector can be tested on a data set.

    Args:
        trained: what `read_detector` returned.
        data: images for testing.

    Raises:
        RunError: if the data set has other classes, or no masks although the detector predicts
            some.
    """
    settings = trained.settings
    check_classes(data.name, data.classes, "detector", settings.classes)
    if settings.masks and not data.masks:
        raise RunError(
            f"{settings.detector} predicts masks, but {data.name} has none to compare them with",
            option="data",
        )


def detections(
    trained: TrainedDetector,
    data: InstanceData,
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> Iterator[tuple[list[dict[str, Tensor]], tuple[Target, ...]]]:
    """Detect the objects of all test images; on a GPU if there is one, where the detector stays.

    Args:
        trained: what `read_detector` returned.
        data: images for testing.
        workers: processes that load images.
        progress: called repeatedly with the number of images tested so far and their total.

    Yields:
        Detections and objects of a batch of images, both on the CPU.
    """
    settings, detector = trained
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector.to(device)
    loaders = DetectionImages(
        data, settings.batch_size, masks=settings.masks, mirror=False, seed=0, workers=workers
    )
    done = 0
    for images, targets in loaders.test_dataloader():
        with torch.no_grad():
            found = [_on_cpu(one) for one in detector([image.to(device) for image in images])]
        yield found, targets
        done += len(images)
        if progress is not None:
            progress(done, len(data.test))


class Detection(NamedTuple):
    """The objects that were found on an image.

    Attributes:
        file: the image file.
        image: its pixels, uint8 (3, H, W).
        boxes: (n, 4) as x1, y1, x2, y2 in pixels.
        classes: class of each object.
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
    """Choose the evaluations that the data set's own benchmark uses."""
    if data.metric == "voc":
        return {"VOC2007, 11 points": VOCEvaluation(11), "VOC2010, area": VOCEvaluation()}
    if data.metric == "cityscapes" and masks:
        return {"Cityscapes": CityscapesEvaluation()}
    return {}


def _on_cpu(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in found.items()}
