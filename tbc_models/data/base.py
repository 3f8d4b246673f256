"""What all sets of labelled images have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor


class Images(Protocol):
    """Labelled images in a fixed order: PIL images, or uint8 tensors (C, H, W).

    Example:
        >>> from tbc_models.data import open_data
        >>> images: Images = open_data("digits").train
        >>> image, label = images[0]
        >>> tuple(image.shape), image.dtype, label
        ((1, 8, 8), torch.uint8, 0)
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Image.Image | Tensor, int]: ...


@dataclass(frozen=True)
class Data:
    """Labelled images, split into those for training and those for testing."""

    name: str
    """Specification with its path resolved, so that it opens the data from every folder."""
    train: Images
    test: Images
    classes: tuple[str, ...]
    """Names of the classes; a label is an index into them."""
    channels: int
    """1 or 3."""
    size: int
    """Height and width in pixels that a network sees by default."""
    mean: tuple[float, ...]
    """Mean of each channel of the training images, in [0, 1]; ImageNet's for image folders."""
    std: tuple[float, ...]
    """Standard deviation of each channel, in [0, 1]."""
    mirror: bool
    """Whether a mirrored image belongs to the same class, so that training may mirror images."""
    skipped: tuple[Path, ...] = ()
    """Bad files that were skipped."""
    fingerprint: str = ""
    """Hash of the names and labels of image files; it stays the same when their folder moves."""


def mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the mean and standard deviation of each channel of uint8 pixels (..., C).

    They follow from how often each of the 256 values occurs, so no copy in floating point is made.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(-1):
        shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = shares @ values
        means.append(float(mean))
        stds.append(float((shares @ (values - mean) ** 2).sqrt()))
    return tuple(means), tuple(stds)
