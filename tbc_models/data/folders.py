"""Image files in folders: your own, a folder for each class, and ImageNet."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder, ImageNet
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.datasets.imagenet import ARCHIVE_META, META_FILE

from tbc_models.data.base import Data, DataError, short

_BATCH = 256  # files that are decoded between two reports of progress

Progress = Callable[[int, int], None]


def open_folders(
    spec: str, path: Path, *, skip_bad_images: bool = False, progress: Progress | None = None
) -> Data:
    """Open a folder of images, or ImageNet, as `open_data` describes them."""
    try:
        _require_folder(path)
        opened = _imagenet(path) if spec.startswith("imagenet:") else _image_folders(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {short(error)}") from None
    return _split(spec, opened, skip_bad_images, progress)


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
            f"ImageNet in {path} cannot be read ({short(error)}): put whole files there"
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
