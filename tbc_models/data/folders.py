"""Image files in folders: your own, with a folder for each class, and ImageNet."""

import hashlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageOps
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder, ImageNet
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.datasets.imagenet import ARCHIVE_META, META_FILE

from tbc_models.data.base import Data
from tbc_models.data.errors import BadImageError, DataError, short

_BATCH = 256  # files that are decoded between two reports of progress

Progress = Callable[[int, int], None]


def open_folders(
    kind: str, path: Path, *, skip_bad_images: bool = False, progress: Progress | None = None
) -> Data:
    """Open a folder of images, or ImageNet, as `open_data` describes them."""
    try:
        folders = _imagenet(path) if kind == "imagenet" else _image_folders(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {short(error)}") from None
    for folder in folders:
        lack = f"has no images ({', '.join(IMG_EXTENSIONS)})"
        _require_classes(folder, range(len(folder)), lack)
    if len(folders) == 2:
        _require_same_classes(*folders)
    bad: set[str] = set()
    if skip_bad_images:
        bad = _find_bad([file for folder in folders for file, _ in folder.samples], progress)
    folders, indices = _split(folders, bad)
    train, test = (Subset(folder, own) for folder, own in zip(folders, indices, strict=True))
    return Data(
        name=f"{kind}:{path.resolve()}",
        train=train,
        test=test,
        classes=tuple(c if isinstance(c, str) else c[0] for c in folders[0].classes),
        channels=3,
        size=224,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        mirror=True,
        skipped=tuple(Path(file) for file in sorted(bad)),
        fingerprint=_fingerprint(folders, indices),
    )


def read_image(file: str | Path) -> Image.Image:
    """Read a whole image file, not only its header, as RGB with 8 bits for each channel.

    Args:
        file: in any format that Pillow reads. Images with 16 bits, and images of floating-point
            numbers from 0 to 1, are scaled to 8 bits.

    Returns:
        The upright image. A camera that is held sideways stores the rotation beside the pixels
        (EXIF), and it is applied here.

    Raises:
        BadImageError: if the file cannot be read, is not an image or is not complete.

    Example:
        >>> read_image("/no/such/file.jpg")
        Traceback (most recent call last):
        ...
        tbc_models.data.errors.BadImageError: /no/such/file.jpg cannot be read (No such file ...
    """
    try:
        with Path(file).open("rb") as opened, Image.open(opened) as image:
            deep = image.mode.startswith(("I", "F"))  # `convert` would clip all values above 255
            upright = _upright(image)
            return (_to_eight_bits(upright) if deep else upright).convert("RGB")
    except Exception as error:  # Pillow raises a dozen types for damaged files and for huge ones
        what = "is truncated or not an image"
        if isinstance(error, Image.DecompressionBombError):
            what = "has too many pixels"
        elif isinstance(error, BadImageError):
            what = str(error)
        elif isinstance(error, OSError) and error.strerror:
            what = f"cannot be read ({error.strerror})"
        raise BadImageError(f"{file} {what}") from None


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # here, because an error in the pixels makes the image bad
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises many types, but the pixels are good
        return image


def read_images(
    files: Iterable[Path], skipped: Callable[[BadImageError], None] | None = None
) -> Iterator[tuple[Path, Image.Image]]:
    """Read image files one after another.

    Args:
        files: image files.
        skipped: called with the error of each file that is not a readable image. By default the
            first such error is raised.

    Yields:
        Each file that is readable, and its image.

    Raises:
        BadImageError: if a file is not a readable image and `skipped` is None.

    Example:
        >>> list(read_images([Path("/no/such/file.jpg")], skipped=lambda error: None))
        []
    """
    for file in files:
        try:
            image = read_image(file)
        except BadImageError as error:
            if skipped is None:
                raise
            skipped(error)
        else:
            yield file, image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    most = 1 if image.mode.startswith("F") else 65535
    if not (values.min() >= 0 and values.max() <= most):  # true for NaN as well
        raise BadImageError(f"has values outside 0 to {most}")
    return Image.fromarray((values / most * 255).round().astype(np.uint8))


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
    """Open the folder that is to be split, or those for training and for testing."""
    parts = [path / name for name in ("train", "val", "test") if (path / name).is_dir()]
    if len(parts) > 1 and parts[0].name == "train":
        roots = parts[:2]
    elif any(map(_class_folders, parts)):  # otherwise a class has this name
        missing = "val" if parts[0].name == "train" else "train"
        raise DataError(
            f"{path} has {parts[0].name} but no {missing}: add it, or use imagefolder:{parts[0]}, "
            "where every fifth image is for testing"
        )
    else:
        roots = [path]
    for root in roots:
        _require_class_folders(root)
    return [_Folder(root, loader=read_image, allow_empty=True) for root in roots]


def _imagenet(path: Path) -> list[ImageFolder]:
    stored = {META_FILE: "devkit", "train": "train", "val": "val"}
    missing = [
        f"{name} (or {ARCHIVE_META[part][0]})"
        for name, part in stored.items()
        if not (path / name).exists() and not (path / ARCHIVE_META[part][0]).exists()
    ]
    if missing:  # torchvision would unpack one archive before it finds that another is missing
        raise DataError(
            f"ImageNet is incomplete in {path}: put {', '.join(missing)} there, "
            "as torchvision.datasets.ImageNet stores it"
        )
    parts = ("train", "val")
    for root in (path / part for part in parts):
        if root.is_dir():
            _require_class_folders(root)
    try:
        return [ImageNet(path, part, loader=read_image, allow_empty=True) for part in parts]
    except KeyError as error:
        raise DataError(
            f"{path} has a class folder {error.args[0]} that {META_FILE} does not list: remove it"
        ) from None
    except Exception as error:  # damaged files raise many types
        raise DataError(f"ImageNet in {path} cannot be read: {short(error)}") from None


def _is_bad(file: str) -> bool:
    try:
        read_image(file)
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


def _split(folders: list[ImageFolder], bad: set[str]) -> tuple[list[ImageFolder], list[list[int]]]:
    """Choose the folder and the indices of the good images for training, and for testing."""
    indices = [[i for i, (file, _) in enumerate(f.samples) if file not in bad] for f in folders]
    for folder, own in zip(folders, indices, strict=True):
        _require_classes(folder, own, "has no readable image")
    if len(folders) == 1:
        indices = _every_fifth(folders[0].targets, indices[0])
        folders = folders * 2
    if not indices[1]:
        raise DataError(
            f"{folders[0].root} has one image of each class, which leaves none for testing: "
            "add more images"
        )
    return folders, indices


def _fingerprint(folders: list[ImageFolder], indices: list[list[int]]) -> str:
    """Hash the names and labels of the images; the place of their folder does not count."""
    digest = hashlib.sha256()
    for folder, own in zip(folders, indices, strict=True):
        begin = len(str(_root(folder)))
        for file, label in (folder.samples[i] for i in own):
            digest.update(f"{file[begin:]}\0{label}\n".encode(errors="surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()


def _class_names(folder: ImageFolder) -> list[str]:
    """Return the names of the class folders; ImageNet's `classes` are words for them."""
    return cast("list[str]", folder.wnids if isinstance(folder, ImageNet) else folder.classes)


def _root(folder: ImageFolder) -> Path:
    return Path(folder.split_folder if isinstance(folder, ImageNet) else folder.root)


def _require_classes(folder: ImageFolder, indices: Iterable[int], lack: str) -> None:
    names = _class_names(folder)
    if len(names) == 1:
        raise DataError(f"{_root(folder)} has only one class, {names[0]}: add another")
    have = {folder.targets[i] for i in indices}
    without = [name for i, name in enumerate(names) if i not in have]
    if without:
        others = len(without) - 1
        more = f", like {others} other class folder{'s' * (others > 1)}" if others else ""
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
    """Split into training and testing: the fifth, tenth, ... image of each class is for testing.

    Of two to four images it is the last one; a single image is for training.
    """
    classes: dict[int, list[int]] = {}
    for i in indices:
        classes.setdefault(labels[i], []).append(i)
    test = [i for own in classes.values() for i in own[4::5] or own[1:][-1:]]
    for_test = set(test)
    return [[i for own in classes.values() for i in own if i not in for_test], test]
