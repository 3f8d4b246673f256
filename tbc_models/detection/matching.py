"""Average precision of many selections of the same images, for bootstrap intervals.

Each image's detections are matched with its objects once, by COCO's rule. A selection then says how
many times each image counts, so that a thousand selections cost a thousand sums, not a thousand
evaluations.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)

_LIMIT = 100  # detections of a class in an image
_AT_ONCE = 100  # selections, to bound the memory


class Matches(NamedTuple):
    """The detections of one image, and which of them find an object.

    Attributes:
        labels: (d,) class of each detection, at most 100 of a class.
        scores: (d,) its score.
        found: (10, d) whether it finds an object, at each IoU from 0.5 to 0.95.
        counted: (10, d) whether it counts; those inside crowds do not.
        objects: (n,) class of each object that is to be found.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    found: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    objects: NDArray[np.int64]


def match(record: dict[str, Any]) -> Matches:
    """Match the detections of an image with its objects, as COCO does.

    Detections choose in descending order of their scores. Each takes the object with the largest
    IoU among those of its class that no other has taken, if that IoU is large enough.

    Args:
        record: what `COCOEvaluation` keeps of the image.

    Returns:
        The detections of all classes, each class in descending order of scores.

    Example:
        >>> import torch
        >>> from tbc_models.detection.evaluation import COCOEvaluation
        >>> target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
        >>> twice = {"boxes": torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 10]])}
        >>> twice |= {"labels": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.8])}
        >>> match(COCOEvaluation("bbox").record(twice, target)).found[0].tolist()
        [True, False]
    """
    detections: list[dict[str, Any]] = []
    found, counted = [np.empty((len(IOUS), 0), bool)], [np.empty((len(IOUS), 0), bool)]
    for label in sorted({one["category_id"] for one in record["detections"]}):
        own = [one for one in record["detections"] if one["category_id"] == label]
        own = sorted(own, key=lambda one: -float(one["score"]))[:_LIMIT]
        objects = [one for one in record["objects"] if one["category_id"] == label]
        detections += own
        taking, inside = _match_class(own, objects)
        found.append(taking)
        counted.append(~inside)
    return Matches(
        np.array([one["category_id"] for one in detections], np.int64),
        np.array([one["score"] for one in detections], np.float64),
        np.concatenate(found, axis=1),
        np.concatenate(counted, axis=1),
        np.array([o["category_id"] for o in record["objects"] if not o.get("iscrowd")], np.int64),
    )


def _match_class(
    detections: list[dict[str, Any]], objects: list[dict[str, Any]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections of a class find an object, and which only lie in a crowd."""
    found = np.zeros((len(IOUS), len(detections)), bool)
    inside = np.zeros_like(found)
    if not objects:
        return found, inside
    from faster_coco_eval.core import mask

    shapes = "bbox" if "bbox" in objects[0] else "segmentation"
    crowd = np.array([bool(one.get("iscrowd")) for one in objects])
    ious = np.asarray(
        mask.iou([d[shapes] for d in detections], [o[shapes] for o in objects], crowd.tolist())
    )
    every = np.arange(len(IOUS))
    taken = np.tile(crowd, (len(IOUS), 1))
    for i, row in enumerate(ious):
        free = np.where(taken, -1.0, row)
        best = len(objects) - 1 - free[:, ::-1].argmax(axis=1)  # of equal IoUs the last, as in COCO
        found[:, i] = free[every, best] >= IOUS
        taken[every[found[:, i]], best[found[:, i]]] = True
        inside[:, i] = ~found[:, i] & (np.max(row[crowd], initial=-1.0) >= IOUS)
    return found, inside


def average_precisions(
    images: Sequence[Matches], selections: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute COCO's average precision at each IoU, for many selections of some images.

    Args:
        images: the images, matched.
        selections: (selections, images) how many times each image counts.

    Returns:
        (selections, 10) means over the classes that a selection has objects of; NaN if there are
        none.

    Example:
        >>> labels, scores = np.array([1, 1]), np.array([0.9, 0.8])
        >>> found = np.tile([True, False], (10, 1))
        >>> image = Matches(labels, scores, found, np.ones_like(found), np.array([1, 1]))
        >>> average_precisions([image], np.array([[1], [0]]))[:, 0].round(3)
        array([0.505,   nan])
    """
    classes = sorted({int(label) for image in images for label in image.objects})
    if not classes:
        return np.full((len(selections), len(IOUS)), np.nan)
    labels = np.concatenate([image.labels for image in images])
    scores = np.concatenate([image.scores for image in images])
    found = np.concatenate([image.found for image in images], axis=1)
    wrong = np.concatenate([image.counted for image in images], axis=1) & ~found
    owner = np.repeat(np.arange(len(images)), [len(image.labels) for image in images])
    totals = np.zeros((len(selections), len(IOUS)))
    present = np.zeros((len(selections), 1))
    for label in classes:
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(-scores[own], kind="stable")]
        own_objects = np.array([(image.objects == label).sum() for image in images])
        objects: NDArray[np.int64] = selections @ own_objects
        present += (objects > 0)[:, None]
        for first in range(0, len(selections), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            times = selections[part][:, owner[own]]
            totals[part] += _class_precisions(times, objects[part], found[:, own], wrong[:, own])
    return np.divide(totals, present, out=np.full_like(totals, np.nan), where=present > 0)


def _class_precisions(
    times: NDArray[np.int64],
    objects: NDArray[np.int64],
    found: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Compute the average precision of one class at each IoU; 0 where it has no objects.

    The precision at a recall is the largest at that or any higher recall, and only a detection that
    finds an object raises the recall. So only precisions at those are needed.
    """
    precisions = np.zeros((len(times), len(IOUS)))
    for t in range(len(IOUS)):
        at = np.flatnonzero(found[t])
        right = np.cumsum(times[:, at], axis=1)
        precision = right / np.maximum(1, right + np.cumsum(times * wrong[t], axis=1)[:, at])
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, right / np.maximum(1, objects)[:, None], side="right")
        steps = np.diff(reached, axis=1, prepend=0)
        precisions[:, t] = (precision * steps).sum(axis=1) / len(RECALLS)
    return precisions
