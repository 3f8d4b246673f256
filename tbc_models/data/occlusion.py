"""How much the objects of one image hide one another: Eq. (5) of the paper."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tbc_models.data.instances import InstanceData, Progress, Target, without_folders

Overlap = Literal["pairs", "pairs-twice", "covered"]
Total = Literal["sum", "union"]

_SHAPES = {"boxes": "(n, 4)", "masks": "(n, H, W)"}


def occlusion_ratio(
    instances: Tensor, *, overlap: Overlap = "pairs", total: Total = "sum"
) -> float:
    """Compute the occlusion ratio r of an image: overlapping area over total area, Eq. (5).

    The paper does not say how either area is counted, so both are options. The defaults are the
    most literal reading with which an image can reach the paper's r = 0.8.

    Args:
        instances: boxes (n, 4) as x1, y1, x2, y2 in pixels, or masks (n, H, W), where every value
            but 0 marks a pixel of the object. They may be on any device.
        overlap: "pairs" adds up the overlap of each pair of objects; "pairs-twice" counts each
            pair from both sides; "covered" is the area that two or more objects cover.
        total: "sum" adds up the areas of all objects; "union" is the area that they cover together.

    Returns:
        r, which is 0 if no two objects overlap or there are no objects. It can exceed 1 with
        "pairs" and "pairs-twice", which count a place several times if several objects share it.

    Raises:
        TypeError: if `instances` is not a tensor.
        ValueError: if `instances` has another shape, a box is not finite or has no area, a mask has
            no pixel, or an option is not one of the above.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
        >>> occlusion_ratio(boxes), occlusion_ratio(boxes, total="union")
        (0.25, 0.3333333333333333)
    """
    if overlap not in get_args(Overlap):
        raise ValueError(f'`overlap` (={overlap!r}) must be "pairs", "pairs-twice" or "covered"')
    if total not in get_args(Total):
        raise ValueError(f'`total` (={total!r}) must be "sum" or "union"')
    _check_shape("instances", instances, "boxes", "masks")
    everyone = torch.arange(len(instances))
    return _ratio(_areas("instances", instances, everyone), overlap, total)


def occlusion_ratios(target: Target) -> dict[str, float]:
    """Compute the occlusion ratio r of an image under every reading of Eq. (5).

    Args:
        target: the objects of the image, as `open_instances` describes them: `boxes` (n, 4), and
            optionally `masks` (n, H, W) and `iscrowd` (n). Crowds, whose `iscrowd` is 1, are left
            out.

    Returns:
        r of the boxes and then, if there are any, of the masks. Each key names what was measured,
        `overlap` and `total`; for example, "boxes, pairs / sum".

    Raises:
        TypeError: if `target` is not a dict, or its boxes or masks are not a tensor.
        ValueError: if `target` has no boxes, its parts differ in their number of rows, or
            `occlusion_ratio` would refuse its boxes or masks.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
        >>> for reading, ratio in occlusion_ratios({"boxes": boxes}).items():
        ...     print(f"{reading}: {ratio:.3f}")
        boxes, pairs / sum: 0.250
        boxes, pairs / union: 0.333
        boxes, pairs-twice / sum: 0.500
        boxes, pairs-twice / union: 0.667
        boxes, covered / sum: 0.250
        boxes, covered / union: 0.333
    """
    if not isinstance(target, dict):
        raise TypeError(f"`target` (a {type(target).__name__}) must be the dict of one image")
    if "boxes" not in target:
        raise ValueError(f"`target` (with the keys {list(target)}) must have boxes")
    kinds = [kind for kind in _SHAPES if kind in target]
    for kind in kinds:
        _check_shape(f"target['{kind}']", target[kind], kind)
    count = len(target["boxes"])
    if "iscrowd" in target and (shape := tuple(target["iscrowd"].shape)) != (count,):
        raise ValueError(
            f"`target['iscrowd']` (shape {shape}) must be ({count},), one for each box"
        )
    if "masks" in target and (rows := len(target["masks"])) != count:
        raise ValueError(f"`target['masks']` has {rows} rows, but `target['boxes']` has {count}")
    single = single_objects(target)
    ratios = {}
    for kind in kinds:
        areas = _areas(f"target['{kind}']", target[kind], single)
        for overlap, total in product(get_args(Overlap), get_args(Total)):
            ratios[f"{kind}, {overlap} / {total}"] = _ratio(areas, overlap, total)
    return ratios


@dataclass(frozen=True)
class Reading:
    """A reading of Eq. (5), which leaves open what overlaps and how areas are counted.

    Attributes:
        of: "boxes" or "masks".
        overlap: "pairs", "pairs-twice" or "covered"; see `occlusion_ratio`.
        total: "sum" or "union".

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
        >>> Reading().ratio({"boxes": boxes, "iscrowd": torch.tensor([0, 0])})
        0.25
    """

    of: Literal["boxes", "masks"] = "boxes"
    overlap: Overlap = "pairs"
    total: Total = "sum"

    def ratio(self, target: Target) -> float:
        """Compute r of an image; crowds are left out."""
        instances = target[self.of][single_objects(target)]
        return occlusion_ratio(instances, overlap=self.overlap, total=self.total)


def single_objects(target: Target) -> Tensor:
    """Return the indices of the objects that are not crowds.

    Args:
        target: objects of one image; without `iscrowd` none is a crowd.

    Returns:
        Their indices, int64.

    Example:
        >>> single_objects({"boxes": torch.zeros(3, 4), "iscrowd": torch.tensor([0, 1, 0])})
        tensor([0, 2])
    """
    crowd = torch.as_tensor(target.get("iscrowd", torch.zeros(len(target["boxes"])))).cpu()
    return (crowd != 1).nonzero().flatten()


def occlusion_distribution(
    data: InstanceData, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Compute how the occlusion ratio r is distributed under every reading of Eq. (5).

    Args:
        data: its images for training and testing are taken together.
        progress: called repeatedly with the number of images done so far and their total.

    Returns:
        A report with the number of images, of those without objects (their r is 0), the `ids` of
        the images, and `rows`, one for each reading, with the 0th, 1st, …, 100th percentile of r
        and the number of images whose r is at least 0.8, as in the paper's claim.

    Raises:
        ValueError: if an image has an object without area. The message names the image.
    """
    total = len(data.train) + len(data.test)
    ids: dict[str, list[Any]] = {"train": [], "test": []}
    ratios, empty = [], 0
    for split, images in (("train", data.train), ("test", data.test)):
        for i in range(len(images)):
            target = images[i][1]
            ids[split].append(target["image_id"])
            with naming_image(target):
                ratios.append(occlusion_ratios(target))
            empty += not len(single_objects(target))
            if progress is not None:
                progress(len(ratios), total)
    rows = []
    for reading in ratios[0]:
        own = np.array([one[reading] for one in ratios])
        percentiles = np.percentile(own, range(101)).round(5).tolist()
        rows.append(
            {"reading": reading, "from 0.8": int((own >= 0.8).sum()), "percentiles": percentiles}
        )
    return {
        "data": without_folders(data.name),
        "images": len(ratios),
        "without objects": int(empty),
        "ids": ids,
        "rows": rows,
    }


@contextmanager
def naming_image(target: Target) -> Iterator[None]:
    """Name the image in errors of `occlusion_ratio`.

    Args:
        target: objects of the image.

    Raises:
        ValueError: the error raised inside, with the `image_id` in front of its message.

    Example:
        >>> with naming_image({"image_id": 7}):
        ...     raise ValueError("`instances[0]` has no area")
        Traceback (most recent call last):
        ...
        ValueError: image 7: `instances[0]` has no area
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"image {target['image_id']}: {error}") from None


def _check_shape(name: str, instances: Any, *kinds: str) -> None:
    right = " or ".join(f"{kind} {_SHAPES[kind]}" for kind in kinds)
    if not isinstance(instances, Tensor):
        what = type(instances).__name__
        one_size = ", all of one size" if "masks" in kinds else ""
        raise TypeError(f"`{name}` (a {what}) must be one tensor: {right}{one_size}")
    shape = tuple(instances.shape)
    found = "masks" if len(shape) == 3 else "boxes" if shape[1:] == (4,) else None
    if found not in kinds:
        raise ValueError(f"`{name}` (shape {shape}) must be {right}")


def _ratio(areas: Tensor, overlap: Overlap, total: Total) -> float:
    k = torch.arange(len(areas), dtype=torch.float64)
    # A place that k objects share lies in k(k - 1)/2 overlaps of two, and is part of k areas.
    overlaps = {"pairs": k * (k - 1) / 2, "pairs-twice": k * (k - 1), "covered": k >= 2}[overlap]
    totals = {"sum": k, "union": k >= 1}[total]
    hidden, whole = (float((times * areas).sum()) for times in (overlaps, totals))
    return hidden / whole if whole else 0.0


def _areas(name: str, instances: Tensor, rows: Tensor) -> Tensor:
    """Return the areas that exactly 0, 1, 2, … of the objects in `rows` share."""
    objects = instances.detach().cpu()[rows]
    return (_areas_of_masks if objects.ndim == 3 else _areas_of_boxes)(name, objects, rows)


def _areas_of_boxes(name: str, boxes: Tensor, rows: Tensor) -> Tensor:
    boxes = boxes.double()
    for bad, reason in (
        (~boxes.isfinite().all(1), "must be finite: x1, y1, x2, y2 in pixels"),
        ((boxes[:, :2] >= boxes[:, 2:]).any(1), "has no area: a box needs x1 < x2 and y1 < y2"),
    ):
        if bad.any():
            i = int(bad.nonzero()[0])
            raise ValueError(f"`{name}[{rows[i]}]` (={boxes[i].tolist()}) {reason}")
    # All edges cut the plane into rectangles, each of which a box covers wholly or not at all.
    (x, right), (y, down) = (boxes[:, axis::2].unique(return_inverse=True) for axis in (0, 1))
    # Each box adds 1 to all rectangles right of and below its first corner, and subtracts it
    # again from those beyond its other corners.
    corners = torch.tensor([[1, -1], [-1, 1]]).expand(len(boxes), 2, 2)
    steps = torch.zeros(len(y), len(x), dtype=torch.int64)
    steps.index_put_((down[:, :, None], right[:, None, :]), corners, accumulate=True)
    sharing = steps.cumsum(0).cumsum(1)[:-1, :-1]
    cells = y.diff()[:, None] * x.diff()
    return sharing.flatten().bincount(weights=cells.flatten())


def _areas_of_masks(name: str, masks: Tensor, rows: Tensor) -> Tensor:
    masks = masks != 0
    empty = ~masks.flatten(1).any(1)
    if empty.any():
        row, shape = rows[empty][0], tuple(masks.shape[1:])
        raise ValueError(f"`{name}[{row}]` (shape {shape}) has no pixel: one must not be 0")
    return masks.sum(0, dtype=torch.int32).flatten().bincount()
