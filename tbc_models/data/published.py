"""Data sets that torchvision reads: Fashion-MNIST, CIFAR-10 and CIFAR-100."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST, VisionDataset

from tbc_models.data.base import Data, mean_and_std
from tbc_models.data.errors import DataError, short

# The title, torchvision's class, and the files that it looks for.
_READERS: dict[str, tuple[str, Any, str]] = {
    "fashion-mnist": (
        "Fashion-MNIST",
        FashionMNIST,
        "its four .gz files, or the same unpacked in FashionMNIST/raw",
    ),
    "cifar10": (
        "CIFAR-10",
        CIFAR10,
        "the folder cifar-10-batches-py, or cifar-10-batches-bin",
    ),
    "cifar100": ("CIFAR-100", CIFAR100, "the folder cifar-100-python"),
}
# The packages of Debian that have a data set, and where they install it.
_PACKAGES = {
    "fashion-mnist": ("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
}


def cache_folder() -> Path:
    """Find the folder that holds downloaded data sets, in torchvision's layout.

    torchvision has no such folder of its own, so the XDG base directories decide.

    Returns:
        $XDG_CACHE_HOME/tied-block-conv, or ~/.cache/tied-block-conv if the variable is not set.

    Example:
        >>> cache_folder().name
        'tied-block-conv'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tied-block-conv"


class PackedFashionMNIST(FashionMNIST):  # type: ignore[misc]
    """Fashion-MNIST in its four .gz files, as it was published and as Debian installs it.

    Args:
        root: the folder that holds them.
        train: whether to read the images for training, or those for testing.

    Raises:
        OSError: if a file is missing or damaged.
    """

    def __init__(self, root: Path, *, train: bool) -> None:
        VisionDataset.__init__(self, root)
        self.train = train
        part = "train" if train else "t10k"
        with gzip.open(root / f"{part}-images-idx3-ubyte.gz") as file:
            images = bytearray(file.read()[16:])  # after a magic number and three sizes
        with gzip.open(root / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = bytearray(file.read()[8:])
        self.data = torch.frombuffer(images, dtype=torch.uint8).view(-1, 28, 28)
        self.targets = torch.frombuffer(labels, dtype=torch.uint8).long()


class BinaryCIFAR10(CIFAR10):  # type: ignore[misc]
    """CIFAR-10 in the binary version of those who published it.

    Args:
        root: the folder that holds cifar-10-batches-bin.
        train: whether to read the images for training, or those for testing.

    Raises:
        OSError: if a file is missing.
        DataError: if a file does not have the size of its images.
    """

    images_of_a_file = 10_000

    def __init__(self, root: Path, *, train: bool) -> None:
        VisionDataset.__init__(self, root)
        self.train = train
        folder = root / "cifar-10-batches-bin"
        files = self.train_list if train else self.test_list
        rows = np.concatenate([self._rows(folder / f"{name}.bin") for name, _ in files])
        self.targets = rows[:, 0].tolist()
        self.data = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.classes = (folder / "batches.meta.txt").read_text().split()

    def _rows(self, file: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Read a file, in which each row is a label and an image (3, 32, 32)."""
        size, expected = file.stat().st_size, 3073 * self.images_of_a_file
        if size != expected:
            raise DataError(
                f"CIFAR-10 is damaged: {file} has {size:,} bytes, but its "
                f"{self.images_of_a_file:,} images need {expected:,}"
            )
        return np.fromfile(file, np.uint8).reshape(-1, 3073)


# The form in which the data were published, where torchvision reads another: what there is to see
# in the folder, and the class that reads it.
_AS_PUBLISHED: dict[str, tuple[str, Any]] = {
    "fashion-mnist": ("train-images-idx3-ubyte.gz", PackedFashionMNIST),
    "cifar10": ("cifar-10-batches-bin", BinaryCIFAR10),
}


def open_published(kind: str, path: Path | None, *, download: bool = False) -> Data:
    """Open a data set that torchvision reads, as `open_data` describes it."""
    if path is not None and path.exists() and not path.is_dir():
        title = _READERS[kind][0]
        raise DataError(f"{path} is not a folder; {title} is read from the folder that holds it")
    train, test = _read(kind, path, download)
    pixels = torch.as_tensor(train.data)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    mean, std = mean_and_std(pixels)
    return Data(
        name=kind if path is None else f"{kind}:{path.resolve()}",
        train=train,
        test=test,
        classes=tuple(train.classes),
        channels=pixels.shape[-1],
        size=pixels.shape[-2],
        mean=mean,
        std=std,
        # The shoes of Fashion-MNIST all point to the left, those for testing too.
        mirror=kind != "fashion-mnist",
    )


def _read(kind: str, path: Path | None, download: bool) -> list[Any]:
    """Read both parts from the first folder that has them, or download them."""
    title, reader, files = _READERS[kind]
    folder, parts = path or cache_folder(), (True, False)
    expected = f"{folder}, which should hold {files}"
    folders = [folder]
    if path is None and kind in _PACKAGES:
        package, installed = _PACKAGES[kind]
        folders.append(installed)
        expected += f", and not in {installed}, where Debian's package {package} installs it"
    if path is None:
        expected += f" (write {kind}:PATH for another folder)"
    for place in folders:
        seen, published = _AS_PUBLISHED.get(kind, ("no other form", reader))
        read = published if (place / seen).exists() else reader
        try:
            return [read(place, train=part) for part in parts]
        except DataError:  # it names the file
            raise
        except Exception:  # noqa: S112 (a damaged file raises many types)
            continue
    if not download:
        raise DataError(f"{title} is damaged or not in {expected}", option="download")
    try:
        return [reader(folder, train=part, download=True) for part in parts]
    except Exception as error:  # a lost connection and a damaged file raise many types
        raise DataError(
            f"{title} cannot be downloaded to {folder} ({short(error)}): "
            f"remove what is left of it there and try again, or put {files} there"
        ) from None
