"""What all labelled images have in common, and how an error in them is told."""

import textwrap
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
    """Labelled images, split in those to train with and those to test with."""

    name: str
    """As it was asked for."""
    train: Images
    test: Images
    classes: tuple[str, ...]
    """Names; a label is an index into them."""
    channels: int
    """1 or 3."""
    size: int
    """Height and width in pixels that a network sees by default."""
    mean: tuple[float, ...]
    """Of each channel of the images to train with, values in [0, 1]; ImageNet's for folders."""
    std: tuple[float, ...]
    """Their standard deviation, likewise."""
    mirror: bool
    """Whether a mirrored image is of the same class."""
    skipped: tuple[Path, ...] = ()
    """Bad files that were left out."""


class DataError(ValueError):
    """Data that cannot be used, and what to do about it.

    Args:
        message: one line. Workers of a DataLoader put a traceback before it: see `one_line`.

    Example:
        >>> raise DataError("photos is empty")
        Traceback (most recent call last):
        ...
        tbc_models.data.base.DataError: photos is empty
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


def one_line(error: BaseException) -> str:
    r"""Tell an error in one line, also one that a worker of a DataLoader passed on.

    Args:
        error: whose text may hold a whole traceback.

    Returns:
        Its last line.

    Example:
        >>> one_line(DataError("Caught DataError in worker process 0\nphotos is empty"))
        'photos is empty'
    """
    last = str(error).rstrip("\n").split("\n")[-1]
    return last.removeprefix(f"{DataError.__module__}.DataError: ")


def short(error: Exception) -> str:
    """Word another's error in a part of a line."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error), 160, placeholder=' …')}"


def mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Take both of each channel, the last axis, from counts of the 256 values: no float copy."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(-1):
        shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = shares @ values
        means.append(float(mean))
        stds.append(float((shares @ (values - mean) ** 2).sqrt()))
    return tuple(means), tuple(stds)
