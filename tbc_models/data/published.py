"""Data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST

from tbc_models.data.base import Data, mean_and_std
from tbc_models.data.errors import DataError, short

# The title, torchvision's class, and the files that it looks for.
_READERS: dict[str, tuple[str, Any, str]] = {
    "fashion-mnist": ("Fashion-MNIST", FashionMNIST, "its four unpacked files in FashionMNIST/raw"),
    "cifar10": ("CIFAR-10", CIFAR10, "the folder cifar-10-batches-py"),
    "cifar100": ("CIFAR-100", CIFAR100, "the folder cifar-100-python"),
}


def open_published(kind: str, path: Path, *, download: bool = False) -> Data:
    """Open a data set that torchvision reads, as `open_data` describes it."""
    title, reader, files = _READERS[kind]
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is not a folder; {title} is read from the folder that holds it")
    try:
        train, test = (reader(path, train=part, download=download) for part in (True, False))
    except Exception as error:  # a lost connection and a damaged file raise many types
        if download:
            raise DataError(
                f"{title} cannot be downloaded to {path} ({short(error)}): "
                f"remove what is left of it there and try again, or put {files} there"
            ) from None
        raise DataError(
            f"{title} is damaged or not in {path}, which should hold {files}", option="download"
        ) from None
    pixels = torch.as_tensor(train.data)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    mean, std = mean_and_std(pixels)
    return Data(
        name=f"{kind}:{path.resolve()}",
        train=train,
        test=test,
        classes=tuple(train.classes),
        channels=pixels.shape[-1],
        size=pixels.shape[-2],
        mean=mean,
        std=std,
        mirror=True,
    )
