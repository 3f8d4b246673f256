"""How much the objects of one image hide one another: Eq. (5) of the paper."""

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_area
from torchvision.ops.boxes import _box_inter_union

Overlap = Literal["pairs", "pairs-twice", "covered"]
Total = Literal["sum", "union"]


def occlusion_ratio(
    instances: Tensor, *, overlap: Overlap = "pairs", total: Total = "sum"
) -> float:
    """Compute the occlusion ratio r of an image: overlapping area over total area, Eq. (5).

    The paper does not say how either area is counted, so both are options. The defaults are the
    most literal reading with which an image can reach the paper's r = 0.8.

    Args:
        instances: boxes (n, 4) as x1, y1, x2, y2 in pixels, or masks (n, H, W).
        overlap: "pairs" adds up the overlap of each pair of objects; "pairs-twice" counts each
            pair from both sides; "covered" is the area that two or more objects cover.
        total: "sum" adds up the areas of all objects; "union" is the area that they cover together.

    Returns:
        r, which is 0 if no two objects overlap or there are none. It can exceed 1 with "pairs",
        where three objects may share one place.

    Raises:
        ValueError: if `instances` has another shape, or an option is not one of the above.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
        >>> occlusion_ratio(boxes), occlusion_ratio(boxes, total="union")
        (0.25, 0.3333333333333333)
    """
    if overlap not in ("pairs", "pairs-twice", "covered"):
        raise ValueError(f'`overlap` (={overlap!r}) must be "pairs", "pairs-twice" or "covered"')
    if total not in ("sum", "union"):
        raise ValueError(f'`total` (={total!r}) must be "sum" or "union"')
    if instances.ndim == 2 and instances.shape[1] == 4:
        areas, shared, once, twice = _of_boxes(instances.double())
    elif instances.ndim == 3:
        areas, shared, once, twice = _of_masks(instances)
    else:
        raise ValueError(
            f"`instances` (shape {tuple(instances.shape)}) must be boxes (n, 4) or masks (n, H, W)"
        )
    whole = float(areas.sum()) if total == "sum" else once
    pairs = float(shared.triu(diagonal=1).sum())
    hidden = {"pairs": pairs, "pairs-twice": 2 * pairs, "covered": twice}[overlap]
    return hidden / whole if whole else 0.0


def _of_boxes(boxes: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Return areas, overlap of each pair, and the areas covered at least once and twice."""
    shared, _ = _box_inter_union(boxes, boxes)
    # All edges cut the plane into rectangles, each of which a box covers wholly or not at all.
    x, y = (boxes[:, axis::2].unique() for axis in (0, 1))
    inside_x = (boxes[:, 0, None] <= x[:-1]) & (x[1:] <= boxes[:, 2, None])
    inside_y = (boxes[:, 1, None] <= y[:-1]) & (y[1:] <= boxes[:, 3, None])
    times = torch.einsum("ny,nx->yx", inside_y.double(), inside_x.double())
    cells = y.diff()[:, None] * x.diff()
    once, twice = (float(cells[times >= n].sum()) for n in (1, 2))
    return box_area(boxes), shared, once, twice


def _of_masks(masks: Tensor) -> tuple[Tensor, Tensor, float, float]:
    flat = masks.flatten(1).bool().double()
    times = flat.sum(0)
    once, twice = (float((times >= n).sum()) for n in (1, 2))
    return flat.sum(1), flat @ flat.T, once, twice
