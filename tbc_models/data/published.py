"""Data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from tbc_models.data.base import Data, DataError, mean_and_std, short

PUBLISHED: dict[str, tuple[str, Any, str]] = {
    "fashion-mnist": ("Fashion-MNIST", FashionMNIST, "its four unpacked files in FashionMNIST/raw"),
    "cifar10": ("CIFAR-10", CIFAR10, "the folder cifar-10-batches-py"),
    "cifar100": ("CIFAR-100", CIFAR100, "the folder cifar-100-python"),
}


def open_published(
    spec: str, path: Path, title: str, dataset: Any, files: str, download: bool
) -> Data:
    """Open what torchvision reads, as `open_data` describes it."""
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is no folder: give the one that {title} is in")
    try:
        train, test = (dataset(path, train=part, download=download) for part in (True, False))
    except Exception as error:  # a lost line and a damaged file have many names
        if download:
            raise DataError(
                f"{title} cannot be downloaded to {path} ({short(error)}): "
                f"remove what is left of it there and try again, or put {files} there"
            ) from None
        raise DataError(
            f"{title} is not in {path}, or damaged: give --download, or put {files} there"
        ) from None
    pixels = torch.as_tensor(train.data)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    size, channels = pixels.shape[-2:]
    mean, std = mean_and_std(pixels)
    return Data(spec, train, test, tuple(train.classes), channels, size, mean, std, mirror=True)
