"""Average precision of masks as Cityscapes defines it (evalInstanceLevelSemanticLabeling.py)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tbc_models.data.instances import Target
from tbc_models.detection.evaluation import NO_OBJECTS, Evaluation, Prediction, binary

Numbers = NDArray[Any]

IOUS = np.arange(0.5, 1, 0.05)
_LEAST_PIXELS = 100


class FoundMasks(NamedTuple):
    """What was found of one class in one image."""

    objects: int
    """Number of objects to be found."""
    scores: Numbers
    """Scores (n) of the detections."""
    correct: Numbers
    """Whether each finds an object at each IoU (n, 10)."""
    counts: Numbers
    """Whether each counts at each IoU (n, 10)."""


class CityscapesEvaluation(Evaluation[dict[int, FoundMasks]]):
    """Cityscapes' average precision, batch by batch; `cityscapes_average_precision` explains it.

    Example:
        >>> import torch
        >>> found = {"masks": torch.ones(1, 10, 10, dtype=torch.uint8), "labels": torch.tensor([1])}
        >>> evaluation = CityscapesEvaluation()
        >>> evaluation.update([found | {"scores": torch.tensor([0.9])}], [found])
        >>> evaluation.compute()
        {'AP': 1.0, 'AP50': 1.0, 'AP/1': 1.0, 'AP50/1': 1.0}
    """

    def __init__(self) -> None:
        super().__init__("masks")

    def record(self, prediction: Prediction, target: Target) -> dict[int, FoundMasks]:
        """Match detections with objects, class by class."""
        scores = prediction["scores"].double().cpu().numpy()
        detections, objects = (binary(image["masks"]) for image in (prediction, target))
        crowd = target.get("iscrowd", target["labels"] * 0).bool().cpu().numpy()
        void = target["void"].bool().cpu().numpy()[None] if "void" in target else objects[:0]
        detected, true = (image["labels"].cpu().numpy() for image in (prediction, target))
        return {
            label: _match(
                scores[detected == label],
                detections[detected == label],
                objects[true == label],
                crowd[true == label],
                void,
            )
            for label in np.union1d(detected, true).tolist()
        }

    def summarize(self, records: Sequence[dict[int, FoundMasks]]) -> dict[str, float]:
        """Compute the average precision of each class, and their mean."""
        aps: dict[int, Numbers] = {}
        for label in sorted({label for record in records for label in record}):
            images = [record[label] for record in records if label in record]
            objects = sum(image.objects for image in images)
            if objects:
                scores, correct, counts = (
                    np.concatenate([image[field] for image in images]) for field in (1, 2, 3)
                )
                aps[label] = np.array(
                    [
                        _area(objects, scores[counts[:, t]], correct[counts[:, t], t])
                        for t in range(len(IOUS))
                    ]
                )
        mean = np.mean([*aps.values()], axis=0) if aps else np.full(len(IOUS), NO_OBJECTS)
        result = {"AP": float(mean.mean()), "AP50": float(mean[0])}
        for label, ap in aps.items():
            result |= {f"AP/{label}": float(ap.mean()), f"AP50/{label}": float(ap[0])}
        return result


def _match(
    scores: Numbers, detections: Numbers, objects: Numbers, crowd: Numbers, void: Numbers
) -> FoundMasks:
    seen = detections.any((1, 2))  # an empty mask is no detection
    scores, detections = scores[seen], detections[seen]
    common, outside = _common(detections, objects), _common(detections, void)
    pixels, sizes = detections.sum((1, 2)), objects.sum((1, 2))
    ious = common / (pixels[:, None] + sizes - common)
    small = sizes < _LEAST_PIXELS
    counted = ~crowd & ~small
    # The official script adds the pixels of small crowds twice.
    ignored = outside.sum(1) + common[:, crowd].sum(1) + common[:, small].sum(1)
    found = (ious[..., None] > IOUS) & counted[:, None]  # (detections, objects, IoUs)
    # Of all detections of one object, that with the highest score is correct.
    best = np.where(found, scores[:, None, None], -np.inf)
    first = best.argmax(0) == np.arange(len(scores))[:, None, None] if len(scores) else found
    return FoundMasks(
        objects=int(counted.sum()),
        scores=scores,
        correct=(found & first).any(1),
        counts=found.any(1) | ((ignored / pixels)[:, None] <= IOUS),
    )


def _common(a: Numbers, b: Numbers) -> Numbers:
    """Count the pixels that each mask of a (n, H, W) shares with each of b (m, H, W)."""
    first, second = a.astype(np.float32), b.astype(np.float32)  # exact below 2^24 pixels
    return np.tensordot(first, second, axes=((1, 2), (1, 2))).astype(np.int64)


def _area(objects: int, scores: Numbers, correct: Numbers) -> float:
    """Compute the area below the curve of precision over recall, by the trapezoidal rule.

    The curve has a point for each score, and starts at a precision of 1 and a recall of 0.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of detections that are tied
    found = correct[order].cumsum()[last]
    precision = np.concatenate([[1], found / (last + 1)])
    recall = np.concatenate([[0], found / objects])
    return float(np.trapezoid(precision, recall))


def cityscapes_average_precision(
    predictions: Sequence[Prediction], targets: Sequence[Target]
) -> dict[str, float]:
    """Compute Cityscapes' average precision of masks: the mean over classes and 10 IoUs.

    A detection finds an object if their IoU exceeds 0.5, 0.55, …, 0.95. Of several, the one with
    the highest score finds it and the others are false positives. Crowds and objects of less than
    100 pixels are not to be found. A detection that finds nothing does not count if a larger part
    of it than that IoU lies in crowds, small objects and `void`.

    Args:
        predictions: detections of each image: `masks` (n, 1, H, W) as probabilities or (n, H, W) as
            bool or uint8, `labels` (n) and `scores` (n).
        targets: objects of each image, in the same format, and optionally `iscrowd` (n) and `void`
            (H, W), 1 for pixels that nobody labelled.

    Returns:
        The mean over all classes that have objects, "AP", and at an IoU of 0.5, "AP50", or -1 if
        there are none; and those of each class, "AP/1" and "AP50/1" for label 1.

    Raises:
        ValueError: if an argument is not in this format. The message names the image.

    Example:
        >>> import torch
        >>> masks = torch.zeros(2, 20, 20, dtype=torch.bool)
        >>> masks[0, :10], masks[1, 10:] = True, True
        >>> target = {"masks": masks, "labels": torch.tensor([1, 1])}
        >>> found = {"masks": masks[:1], "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
        >>> cityscapes_average_precision([found], [target])
        {'AP': 0.5, 'AP50': 0.5, 'AP/1': 0.5, 'AP50/1': 0.5}
    """
    evaluation = CityscapesEvaluation()
    evaluation.update(predictions, targets)
    return evaluation.compute()
