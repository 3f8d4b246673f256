"""Crowded scenes made of real handwritten digits, where every object and its overlap is known.

A scene is a square of coloured noise on which digits lie, later ones hiding parts of earlier ones.
The digits of test scenes never occur in training scenes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchvision.ops import masks_to_boxes

from tbc_models.data.errors import DataError
from tbc_models.data.instances import ImagesWithInstances, InstanceData, Target
from tbc_models.data.occlusion import occlusion_ratio

CLASSES = tuple("0123456789")
_LEAST_VISIBLE = 0.25  # of the pixels of every digit
_LEAST_CONTRAST = 120  # distance of a digit's colour from that of the ground, of 255 a channel
_PARTS = 5  # of a bin
_DRAWS, _PLACES, _BISECTIONS = 50, 20, 8  # of digits, places for them, and sizes of their window


class Scenes:
    """Scenes of digits with boxes and masks, each determined by its split, its index and a seed.

    Boxes and `masks` are those of the visible parts, as people draw them on photographs;
    `full_masks` (n, H, W) are the digits with the parts that others hide. At least a quarter of
    each digit is visible.

    Args:
        split: "train" or "test": which digits are used.
        count: number of scenes.
        size: height and width in pixels.
        seed: seed of every random choice.
        objects: number of digits of a scene, or the least and the largest number.
        occlusion: least and largest occlusion ratio r of the boxes (`occlusion_ratio`); by default
            whatever random positions give.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> scenes = Scenes("test", 100, objects=4, occlusion=(0.3, 0.4))
        >>> image, target = scenes[7]
        >>> tuple(image.shape), tuple(target["masks"].shape)
        ((3, 96, 96), (4, 96, 96))
        >>> 0.3 <= occlusion_ratio(target["boxes"]) <= 0.4
        True
    """

    def __init__(
        self,
        split: Literal["train", "test"],
        count: int,
        *,
        size: int = 96,
        seed: int = 0,
        objects: int | tuple[int, int] = (3, 6),
        occlusion: tuple[float, float] | None = None,
    ) -> None:
        least, most = (objects, objects) if isinstance(objects, int) else objects
        if split not in ("train", "test"):
            raise ValueError(f'`split` (={split!r}) must be "train" or "test"')
        if count < 0 or seed < 0:
            name, value = ("count", count) if count < 0 else ("seed", seed)
            raise ValueError(f"`{name}` (={value}) must not be negative")
        if size < 48:
            raise ValueError(f"`size` (={size}) must be at least 48 pixels, or digits do not fit")
        if not 0 <= least <= most:
            raise ValueError(f"`objects` (={objects}) must be a number, or two in ascending order")
        if occlusion is not None and not 0 <= occlusion[0] <= occlusion[1]:
            raise ValueError(f"`occlusion` (={occlusion}) must be two ratios in ascending order")
        self.split, self.count, self.size, self.seed = split, count, size, seed
        self.objects, self.occlusion = (least, most), occlusion

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]:
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} scenes, and none has the index {index}")
        random = np.random.default_rng([self.seed, self.split == "test", index])
        least, most = self.objects
        digits, placed = self._place(int(random.integers(least, most + 1)), random)
        ground = random.uniform(60, 196, 3)
        image = random.normal(ground, 20, (self.size, self.size, 3))
        for digit, (top, left) in zip(digits, placed.corners, strict=True):
            height, width = digit.ink.shape
            under = image[top : top + height, left : left + width]
            under += digit.ink[..., None] * (_colour(random, ground) - under)
        pixels = torch.from_numpy(image.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1)
        target = {
            "boxes": placed.boxes,
            "labels": torch.tensor([digit.label for digit in digits], dtype=torch.int64),
            "masks": placed.visible,
            "full_masks": placed.full,
            "iscrowd": torch.zeros(len(digits), dtype=torch.int64),
            "area": placed.visible.flatten(1).sum(1).float(),
            "image_id": index,
        }
        return pixels.contiguous(), target

    def _digit(self, random: np.random.Generator) -> "_Digit":
        """Draw a digit, enlarged so that its box is about a quarter to two fifths of the scene."""
        images, labels = _digits(self.split)
        number = int(random.integers(len(labels)))
        side = round(random.uniform(0.3, 0.5) * self.size)
        drawn = Image.fromarray(images[number]).resize((side, side), Image.Resampling.BILINEAR)
        ink = np.asarray(drawn) / 255
        rows, columns = (np.flatnonzero((ink >= 0.5).any(axis)) for axis in (1, 0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return _Digit(ink, int(labels[number]) + 1)

    def _place(self, number: int, random: np.random.Generator) -> tuple[list["_Digit"], "_Placed"]:
        """Draw digits and places until enough of each is visible and r is in its range."""
        for _ in range(_DRAWS):
            digits = [self._digit(random) for _ in range(number)]
            for _ in range(_PLACES):
                corner, inside = random.uniform(size=2), random.uniform(size=(number, 2))
                if placed := self._gather(digits, corner, inside):
                    return digits, placed
        what = f"{number} digits in {self.size} pixels"
        if self.occlusion is None:
            raise ValueError(
                f"`objects` (={self.objects}) are too many to stay visible: there is no place for "
                f"{what}"
            )
        raise ValueError(
            f"`occlusion` (={self.occlusion}) cannot be reached with {what}: choose a wider range, "
            "or another number of `objects`"
        )

    def _gather(
        self, digits: list["_Digit"], corner: np.ndarray, inside: np.ndarray
    ) -> "_Placed | None":
        """Put digits into a window, and find the size of it that gives an r in the range.

        In a smaller window they overlap more.
        """
        smallest, largest, window = 0.0, 1.0, 1.0
        for _ in range(_BISECTIONS):
            corners = [
                ((corner * (1 - window) + window * place) * (self.size - np.array(digit.ink.shape)))
                for digit, place in zip(digits, inside, strict=True)
            ]
            placed = self._stack(digits, [place.astype(int) for place in corners])
            visible, whole = (masks.flatten(1).sum(1) for masks in (placed.visible, placed.full))
            hidden = not bool((visible >= _LEAST_VISIBLE * whole).all())
            if self.occlusion is None:
                return None if hidden else placed
            least, most = self.occlusion
            if hidden or (ratio := occlusion_ratio(placed.boxes)) > most:
                if window == 1:  # nor does a smaller window help
                    return None
                smallest = window
            elif ratio < least:
                largest = window
            else:
                return placed
            window = (smallest + largest) / 2
        return None

    def _stack(self, digits: list["_Digit"], corners: list[np.ndarray]) -> "_Placed":
        full = torch.zeros(len(digits), self.size, self.size, dtype=torch.uint8)
        for mask, digit, (top, left) in zip(full, digits, corners, strict=True):
            height, width = digit.ink.shape
            mask[top : top + height, left : left + width] = torch.from_numpy(digit.ink >= 0.5)
        above = full.flip(0).cumsum(0).flip(0) - full  # how many later digits hide a pixel
        visible = full * (above == 0)
        if not visible.flatten(1).any(1).all():  # a box needs a pixel; `_place` refuses this one
            return _Placed(corners, full, visible, torch.zeros(len(digits), 4))
        boxes = masks_to_boxes(visible)
        boxes[:, 2:] += 1  # `masks_to_boxes` gives the last pixel, and a box ends behind it
        return _Placed(corners, full, visible, boxes)


def open_scenes() -> InstanceData:
    """Open 5,000 scenes for training and 500 for testing, as `open_instances` describes them."""
    train, test = Scenes("train", 5000), Scenes("test", 500)
    return InstanceData("scenes", train, test, CLASSES, masks=True, mirror=False)


def open_scenes_in_bins(bins: Sequence[float], count: int) -> InstanceData:
    """Open the scenes for training, and test scenes whose occlusion ratio is chosen.

    Each test scene has three digits, whatever its r, so that occlusion is all that differs. r is
    that of `occlusion_ratio`'s defaults, and spreads evenly over each bin. Scenes are kept in
    memory, because those with a large r take up to a second.

    Args:
        bins: ascending edges of the bins of r.
        count: number of test scenes in each bin.

    Returns:
        The scenes, those of the first bin first.

    Raises:
        DataError: if three digits cannot reach r of a bin.

    Example:
        >>> len(open_scenes_in_bins([0, 0.1, 0.3], 50).test)
        100
    """
    parts = []
    for place, (low, high) in enumerate(pairwise(bins)):
        ends = np.linspace(low, high, _PARTS + 1).tolist()
        for part, own in enumerate(np.array_split(range(count), _PARTS)):
            seed = place * _PARTS + part
            scenes = Scenes(
                "test", len(own), objects=3, occlusion=tuple(ends[part : part + 2]), seed=seed
            )
            try:
                if scenes.count:
                    scenes[0]
            except ValueError as error:
                raise DataError(str(error), option="bins") from None
            parts.append(scenes)
    return replace(open_scenes(), test=_Kept(ConcatDataset(parts)))  # type: ignore[arg-type]


class _Kept:
    """Images that are made once."""

    def __init__(self, images: ImagesWithInstances) -> None:
        self.images = images
        self.kept: dict[int, tuple[Any, Target]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Any, Target]:
        if index not in self.kept:
            self.kept[index] = self.images[index]
        return self.kept[index]


class _Digit(NamedTuple):
    ink: np.ndarray  # from 0 to 1
    label: int


class _Placed(NamedTuple):
    corners: list[np.ndarray]
    full: Tensor
    visible: Tensor
    boxes: Tensor


def _colour(random: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    while True:
        colour = random.uniform(0, 255, 3)
        if np.linalg.norm(colour - ground) >= _LEAST_CONTRAST:
            return colour


@cache
def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    from tbc_models.data.embedded import open_embedded

    mnist = open_embedded("mnist")
    own = mnist.train if split == "train" else mnist.test
    images, labels = zip(*(own[i] for i in range(len(own))), strict=True)
    return torch.cat(images).numpy(), np.array(labels)
