"""Which errors a detector makes on an image.

An average precision says how good a detector is, not what it does wrong. TIDE (Bolya et al., "TIDE:
A General Toolbox for Identifying Object Detection Errors", ECCV 2020) gives each wrong detection
one reason, by the objects that it overlaps. Objects are missed if they are not found, and no badly
located or wrongly classified detection is about them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_area
from torchvision.ops.boxes import _box_inter_union

from tbc_models.data.instances import Target
from tbc_models.detection.evaluation import Prediction, check_image

ERRORS = ("class", "location", "both", "duplicate", "background", "missed")
"""The errors that `count_errors` tells apart."""

FOREGROUND = 0.5
"""IoU from which a detection finds an object."""

BACKGROUND = 0.1
"""IoU up to which a detection is about no object at all."""


def count_errors(
    prediction: Prediction, target: Target, *, least_score: float = 0.5
) -> dict[str, int]:
    """Count the objects that are found in an image, and the errors of each type, as TIDE does.

    Detections choose in descending order of their scores. Each finds the object of its class with
    the largest IoU among those not found yet, if that IoU is at least 0.5. A detection that finds
    none is ignored if more than half of it lies inside a crowd (`iscrowd`) of its class. All others
    are wrong. Let `own` be the largest IoU with any object of the detection's class, and `others`
    the largest IoU with any object of another class; crowds are not objects here, and objects that
    are found already are included. The error is the first of these whose rule holds:

    - "location": `own` is from 0.1 to 0.5.
    - "class": `others` is at least 0.5.
    - "duplicate": `own` is above 0.5, but another detection has found the object.
    - "background": `own` and `others` are at most 0.1.
    - "both": `others` is between 0.1 and 0.5, so that both class and location are wrong.

    An object that is not found is "missed", unless it is the one that gives `own` in an error of
    location or `others` in an error of class: without that error, it would be found.

    Args:
        prediction: detections of the image, as torchvision's detectors return them: `boxes` (n, 4)
            as x1, y1, x2, y2, `labels` (n) and `scores` (n).
        target: objects of the image, in the same format. Without `iscrowd` (n) none is a crowd.
        least_score: detections with a lower score are left out.

    Returns:
        Number of objects "found", then the number of each of `ERRORS`. The first five errors add up
        to the false positives; together with "found", to the detections that are neither left out
        nor ignored. "found" and "missed" add up to the objects that are not crowds, less those that
        would be found without an error of location or class.

    Raises:
        ValueError: if a dict is not in this format or `least_score` is not from 0 to 1.

    Example:
        >>> target = {
        ...     "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]),
        ...     "labels": torch.tensor([1, 1, 2]),
        ... }
        >>> prediction = {
        ...     "boxes": torch.tensor([[0.0, 0, 10, 9], [0, 0, 9, 10], [20, 0, 24, 10]]),
        ...     "labels": torch.tensor([1, 1, 1]),
        ...     "scores": torch.tensor([0.9, 0.8, 0.7]),
        ... }
        >>> counts = count_errors(prediction, target)
        >>> {name: count for name, count in counts.items() if count}
        {'found': 1, 'location': 1, 'duplicate': 1, 'missed': 1}
    """
    check_image("prediction", prediction, ("boxes", "labels", "scores"))
    check_image("target", target, ("boxes", "labels"))
    if not 0 <= least_score <= 1:
        raise ValueError(f"`least_score` (={least_score}) must be from 0 to 1")

    order = prediction["scores"].argsort(descending=True, stable=True)
    order = order[prediction["scores"][order] >= least_score]
    boxes, labels = (prediction[key][order].cpu() for key in ("boxes", "labels"))
    true_boxes, true_labels = (target[key].cpu() for key in ("boxes", "labels"))
    crowd = target.get("iscrowd", torch.zeros(len(true_labels))).cpu().bool()

    shared, union = _box_inter_union(boxes.double(), true_boxes.double())
    same = labels[:, None] == true_labels
    inside = shared / box_area(boxes.double())[:, None] > FOREGROUND
    ignored = (inside & same & crowd).any(1).tolist()
    ious = (shared / union).nan_to_num() * ~crowd  # boxes without area: 0 / 0
    # A last column of zeros stands for no object, so that each row has a maximum.
    own, others = (F.pad(part, (0, 1)) for part in (ious * same, ious * ~same))
    own_iou, own_nearest = (values.tolist() for values in own.max(1))
    other_iou, other_nearest = (values.tolist() for values in others.max(1))

    counts = dict.fromkeys(("found", *ERRORS), 0)
    missed = set((~crowd).nonzero().flatten().tolist())
    for i, found in enumerate(_match(own)):
        if found is not None:
            counts["found"] += 1
            missed.discard(found)
        elif not ignored[i]:
            error = _error(own_iou[i], other_iou[i])
            counts[error] += 1
            if error == "location":
                missed.discard(own_nearest[i])
            elif error == "class":
                missed.discard(other_nearest[i])
    counts["missed"] = len(missed)
    return counts


def _match(ious: Tensor) -> list[int | None]:
    """Return the object that each detection finds, given its IoUs with the objects of its class."""
    free = ious.clone()
    objects: list[int | None] = []
    for row in free:
        nearest = int(row.argmax())
        found = bool(row[nearest] >= FOREGROUND)
        objects.append(nearest if found else None)
        if found:
            free[:, nearest] = 0  # in all rows: no other detection finds it
    return objects


def _error(own: float, others: float) -> str:
    """Name the error of a detection by its largest IoU with objects of its class and of others."""
    if BACKGROUND <= own <= FOREGROUND:  # TIDE's code includes 0.5, its paper does not
        return "location"
    if others >= FOREGROUND:
        return "class"
    if own > FOREGROUND:
        return "duplicate"
    return "background" if others <= BACKGROUND else "both"
