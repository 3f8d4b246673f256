"""How much of a map lies on an object: "focuses on target objects" (Fig. 8) as a number.

Energy is the part of the map's sum that lies inside a mask, the energy-based pointing game of Wang
et al. (2020, Score-CAM). Pointing says whether the map's maximum does, the pointing game of Zhang
et al. (2018), here without their margin of 15 pixels. A uniform map has as energy, and as pointing,
the mask's share of the image: that is the control for large objects. The control for objects that
tend to lie where maps tend to be large, such as the centre, is the map of another image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class Focus(NamedTuple):
    """Energy and pointing of the maps that are not zero everywhere.

    Attributes:
        kept: indices of those maps, (M,).
        energy: part of the sum of each map that lies inside its mask, (M,).
        pointing: part of the pixels with the largest value that lies inside: 1 or 0, unless several
            pixels share that value, (M,).
        share: the mask's share of the image, which is both numbers of a uniform map, (M,).
        empty: number of maps that are zero everywhere; they are left out.
    """

    kept: NDArray[np.int64]
    energy: Floats
    pointing: Floats
    share: Floats
    empty: int


def measure_focus(maps: Tensor, masks: Tensor) -> Focus:
    """Measure how much of each map lies inside its mask.

    Args:
        maps: (N, H, W), from 0 up, as `grad_cam` gives them.
        masks: (N, H, W), from 0 to 1, the part of each pixel that belongs to the object.

    Returns:
        The energy and the pointing of the maps.

    Raises:
        ValueError: if the shapes differ, a map has negative values, or a mask is empty.

    Example:
        >>> maps = torch.tensor([[[3.0, 1.0]], [[0.0, 0.0]]])
        >>> found = measure_focus(maps, torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]))
        >>> found.energy.tolist(), found.pointing.tolist(), found.share.tolist(), found.empty
        ([0.75], [1.0], [0.5], 1)
    """
    _check(maps, masks)
    mass = maps.double().flatten(1).cpu()
    inside = masks.double().flatten(1).cpu()
    kept = mass.sum(1) > 0
    mass, inside = mass[kept], inside[kept]
    largest = (mass == mass.amax(1, keepdim=True)).double()
    return Focus(
        kept=kept.nonzero()[:, 0].numpy(),
        energy=((mass * inside).sum(1) / mass.sum(1)).numpy(),
        pointing=((largest * inside).sum(1) / largest.sum(1)).numpy(),
        share=inside.mean(1).numpy(),
        empty=int((~kept).sum()),
    )


def energy_of_others(maps: Tensor, masks: Tensor, images: Sequence[int]) -> Floats:
    """Compute the mean energy that the maps of other images have inside each mask.

    It is the control for objects that lie where any map is large.

    Args:
        maps: (N, H, W), from 0 up. Those that are zero everywhere are left out.
        masks: (N, H, W), from 0 to 1.
        images: which image each map and mask belongs to, (N,).

    Returns:
        For each mask, the mean over the maps of all other images, (N,).

    Raises:
        ValueError: as `measure_focus`, and if all maps belong to one image.

    Example:
        >>> maps = torch.tensor([[[1.0, 0.0]], [[3.0, 1.0]], [[1.0, 1.0]]])
        >>> masks = torch.tensor([[[1.0, 0.0]]]).expand(3, 1, 2)
        >>> energy_of_others(maps, masks, [0, 1, 1]).tolist()
        [0.625, 1.0, 1.0]
    """
    _check(maps, masks)
    mass = maps.double().flatten(1).cpu()
    total = mass.sum(1, keepdim=True)
    parts = torch.where(total > 0, mass / total.where(total > 0, 1), 0)
    places = torch.as_tensor(np.unique(images, return_inverse=True)[1])
    sums = torch.zeros(int(places.max()) + 1, mass.shape[1], dtype=torch.float64)
    counts = torch.zeros(len(sums), dtype=torch.float64)
    sums.index_add_(0, places, parts)
    counts.index_add_(0, places, (total[:, 0] > 0).double())
    number = counts.sum() - counts[places]
    if not number.all():
        raise ValueError("`images` must name several images that have maps")
    others = (sums.sum(0) - sums[places]) / number[:, None]
    found: Floats = (others * masks.double().flatten(1).cpu()).sum(1).numpy()
    return found


def box_mask(box: Sequence[float], height: int, width: int) -> Tensor:
    """Fill a box: the part of each pixel that it covers.

    Args:
        box: x1, y1, x2, y2 in pixels; parts outside the image are cut off.
        height: of the image.
        width: of the image.

    Returns:
        The mask, (height, width), from 0 to 1.

    Example:
        >>> box_mask([0.5, 0, 2, 1], 2, 2).tolist()
        [[0.5, 1.0], [0.0, 0.0]]
    """
    x1, y1, x2, y2 = box

    def covered(low: float, high: float, size: int) -> Tensor:
        start = torch.arange(size, dtype=torch.float64)
        return ((start + 1).clamp(max=high) - start.clamp(min=low)).clamp(min=0)

    return torch.outer(covered(y1, y2, height), covered(x1, x2, width)).float()


def _check(maps: Tensor, masks: Tensor) -> None:
    shapes = f"`maps` (shape {tuple(maps.shape)}) and `masks` (shape {tuple(masks.shape)})"
    if maps.ndim != 3 or maps.shape != masks.shape:
        raise ValueError(f"{shapes} must both be (N, H, W)")
    if not len(maps):
        raise ValueError(f"{shapes} must hold at least one map")
    if not bool((maps >= 0).all()) or not bool(maps.isfinite().all()):
        raise ValueError("`maps` must be finite and not negative")
    if not bool(((masks >= 0) & (masks <= 1)).all()):
        raise ValueError("`masks` must be from 0 to 1")
    empty = ~masks.flatten(1).any(1)
    if empty.any():
        raise ValueError(f"`masks[{int(empty.nonzero()[0])}]` is zero everywhere")
