"""Average precision as Pascal VOC defines it (VOCevaldet.m and VOCap.m of its development kit)."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchvision.ops import box_iou

from tbc_models.data.instances import Target
from tbc_models.detection.evaluation import NO_OBJECTS, Evaluation, Prediction

Numbers = NDArray[Any]


class FoundBoxes(NamedTuple):
    """What was found of one class in one image."""

    objects: int
    """Number of objects to be found."""
    scores: Numbers
    """Scores of the detections that count."""
    correct: Numbers
    """Whether each of them finds an object."""


class VOCEvaluation(Evaluation[dict[int, FoundBoxes]]):
    """Pascal VOC's average precision, batch by batch; `voc_average_precision` explains it.

    Args:
        points: 11 for the form of 2007, None for that of 2010 and later.

    Example:
        >>> import torch
        >>> found = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1])}
        >>> evaluation = VOCEvaluation()
        >>> evaluation.update([found | {"scores": torch.tensor([0.9])}], [found])
        >>> evaluation.compute()
        {'AP50': 1.0, 'AP50/1': 1.0}
    """

    def __init__(self, points: Literal[11] | None = None) -> None:
        if points not in (None, 11):
            raise ValueError(f"`points` (={points!r}) must be 11 or None")
        super().__init__("boxes")
        self.points = points

    def record(self, prediction: Prediction, target: Target) -> dict[int, FoundBoxes]:
        """Match detections with objects, class by class."""
        no_difficult = target["labels"] * 0
        difficult = target.get("difficult", no_difficult).bool().cpu().numpy()
        scores = prediction["scores"].double().cpu().numpy()
        boxes, true_boxes = (image["boxes"].double().cpu() for image in (prediction, target))
        ious = box_iou(boxes, true_boxes).numpy()
        detected, true = (image["labels"].cpu().numpy() for image in (prediction, target))
        order = np.argsort(-scores, kind="stable")
        record = {}
        for label in np.union1d(detected, true).tolist():
            rows, columns = order[detected[order] == label], true == label
            correct = _match(ious[rows][:, columns], difficult[columns])
            counts = [c is not None for c in correct]
            record[label] = FoundBoxes(
                objects=int((~difficult[columns]).sum()),
                scores=scores[rows][counts],
                correct=np.array([c for c in correct if c is not None], bool),
            )
        return record

    def summarize(self, records: Sequence[dict[int, FoundBoxes]]) -> dict[str, float]:
        """Compute the average precision of each class, and their mean."""
        aps = {}
        for label in sorted({label for record in records for label in record}):
            images = [record[label] for record in records if label in record]
            objects = sum(image.objects for image in images)
            if objects:
                order = np.argsort(-np.concatenate([i.scores for i in images]), kind="stable")
                correct = np.concatenate([i.correct for i in images])[order].cumsum()
                precision, recall = correct / np.arange(1, len(order) + 1), correct / objects
                area = _eleven_points if self.points else _area
                aps[f"AP50/{label}"] = area(precision, recall)
        return {"AP50": float(np.mean([*aps.values()])) if aps else NO_OBJECTS, **aps}


def _match(ious: Numbers, difficult: Numbers) -> list[bool | None]:
    """Tell whether each detection, by descending score, is correct; None if it does not count."""
    correct: list[bool | None] = []
    taken: set[int] = set()
    for row in ious:
        nearest = int(row.argmax()) if row.size else None
        if nearest is None or row[nearest] < 0.5:
            correct.append(False)
        elif difficult[nearest]:
            correct.append(None)
        else:
            correct.append(nearest not in taken)  # finding an object twice is a mistake
            taken.add(nearest)
    return correct


def _eleven_points(precision: Numbers, recall: Numbers) -> float:
    """Average the best precision that has at least a recall of 0, 0.1, …, 1."""
    return float(np.mean([precision[recall >= k / 10].max(initial=0) for k in range(11)]))


def _area(precision: Numbers, recall: Numbers) -> float:
    """Compute the area below the curve, where precision is the best at that recall or above."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * best).sum())


def voc_average_precision(
    predictions: Sequence[Prediction],
    targets: Sequence[Target],
    *,
    points: Literal[11] | None = None,
) -> dict[str, float]:
    """Compute Pascal VOC's average precision of boxes.

    A detection belongs to the object of its class that it overlaps most, if their IoU is at least
    0.5. The one with the highest score finds the object and the others are false positives. Objects
    that are `difficult` are not to be found, and detections that belong to them do not count.

    Args:
        predictions: detections of each image: `boxes` (n, 4) as x1, y1, x2, y2, `labels` (n) and
            `scores` (n).
        targets: objects of each image, in the same format, and optionally `difficult` (n).
        points: 11 for the mean of the precision at 11 recalls, as in 2007; None for the area below
            the curve, as from 2010 on.

    Returns:
        The mean over all classes that have objects, "AP50", or -1 if there are none; and the
        average precision of each, "AP50/1" for label 1.

    Raises:
        ValueError: if an argument is not in this format. The message names the image.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
        >>> target = {"boxes": boxes, "labels": torch.tensor([1, 1])}
        >>> found = {"boxes": boxes[:1], "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
        >>> voc_average_precision([found], [target])
        {'AP50': 0.5, 'AP50/1': 0.5}
        >>> round(voc_average_precision([found], [target], points=11)["AP50"], 3)
        0.545
    """
    evaluation = VOCEvaluation(points)
    evaluation.update(predictions, targets)
    return evaluation.compute()
