"""What the readers of COCO, Pascal VOC and Cityscapes share: records, checks and reading."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tbc_models.data.errors import BadImageError, DataError
from tbc_models.data.folders import read_image
from tbc_models.data.instances import Target

_SLACK = 1.0  # pixels by which a box may leave its image; it is clipped

OBJECT = np.dtype(
    [("box", "<f4", 4), ("label", "<i8"), ("iscrowd", "<i8"), ("area", "<f4"), ("difficult", "<i8")]
)
"""What is stored of an object. An array of these for each image, rather than Python objects, keeps
the memory of large data sets small and shared between the workers of a DataLoader."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Record:
    """An image and its objects, as they are annotated."""

    file: str
    """Name of the image file, from the folder of its data set."""
    id: int
    width: int
    height: int
    objects: np.ndarray
    """Array of `OBJECT`."""
    masks: tuple[tuple[bytes | np.ndarray, ...] | None, ...] = ()
    """What the reader of the format decodes the masks from."""


class AnnotatedImages:
    """Images with the objects of their records; see `ImagesWithInstances`.

    Args:
        path: folder of the data set.
        records: the images and their objects.
        decode: how the masks (n, H, W) of a record are made, or None if there are none.
        difficult: whether the format marks difficult objects.
    """

    def __init__(
        self,
        path: Path,
        records: Sequence[Record],
        decode: Callable[[Record], np.ndarray] | None,
        *,
        difficult: bool = False,
    ) -> None:
        self.path, self.records = path, records
        self.decode, self.difficult = decode, difficult

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int, /) -> tuple[Image.Image, Target]:
        record = self.records[index]
        image = read_annotated(self.path / record.file, record.width, record.height)
        target: Target = {
            "boxes": _tensor(record.objects["box"]),
            "labels": _tensor(record.objects["label"]),
            "iscrowd": _tensor(record.objects["iscrowd"]),
            "area": _tensor(record.objects["area"]),
            "image_id": record.id,
        }
        if self.decode is not None:
            target["masks"] = torch.from_numpy(self.decode(record))
        if self.difficult:
            target["difficult"] = _tensor(record.objects["difficult"])
        return image, target


class Problems:
    """Collect what is wrong with single annotations and images, or raise the first.

    Args:
        skip_bad: whether to collect.
    """

    def __init__(self, skip_bad: bool) -> None:
        self.skip_bad = skip_bad
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Raise `DataError`, or note that what the line names is left out.

        Args:
            line: the file, the id, what is wrong and what would be right.

        Raises:
            DataError: unless bad annotations are to be skipped.
        """
        if not self.skip_bad:
            raise DataError(line, option="skip_bad")
        self.lines.append(line)


class Names:
    """Names of the files below a folder; each folder in it is listed once.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: dict[str, set[str]] = {}

    def __contains__(self, name: str) -> bool:
        parent, _, base = name.rpartition("/")
        if parent not in self._listed:
            try:
                self._listed[parent] = {f.name for f in os.scandir(self.folder / parent)}
            except (OSError, ValueError):  # the latter for a name with a null character
                self._listed[parent] = set()
        return base in self._listed[parent]


def clip_box(box: Box, width: int, height: int) -> Box:
    """Check a box and clip it to its image.

    Args:
        box: x1, y1, x2, y2 in pixels; the upper ends lie behind the last pixel.
        width: of the image.
        height: of the image.

    Returns:
        The box, which now lies within the image.

    Raises:
        ValueError: if it is not finite, has no area or leaves the image by more than a pixel.
    """
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)):
        raise ValueError("must be finite numbers")
    if x2 <= x1 or y2 <= y1:
        raise ValueError("has no area: width and height must be positive")
    if min(x1, y1) < -_SLACK or x2 > width + _SLACK or y2 > height + _SLACK:
        raise ValueError(f"must lie within the image of {width}×{height} pixels")
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"lies outside the image of {width}×{height} pixels")
    return x1, y1, x2, y2


def read_annotated(file: Path, width: int, height: int) -> Image.Image:
    """Read an image and compare its size with that in its annotations.

    Args:
        file: the image file.
        width: as annotated.
        height: as annotated.

    Returns:
        The image, as RGB.

    Raises:
        DataError: if the file cannot be read, or the image has another size.
    """
    try:
        image = read_image(file)
    except BadImageError as error:
        # Without its option: annotations are skipped when they are opened, images are read later.
        raise DataError(f"{error}: replace the file, or remove it and its annotations") from None
    if image.size == (width, height):
        return image
    advice = "annotate this image, or restore the one that was annotated"
    if image.size == (height, width) and _is_rotated(file):
        advice = "its EXIF data rotate it, so store it upright or annotate it upright"
    raise DataError(
        f"{file} has {image.width}×{image.height} pixels and its annotations are for "
        f"{width}×{height}: {advice}"
    )


def fingerprint(classes: Iterable[str], *splits: Iterable[Record]) -> str:
    """Hash the names, sizes and annotations of images; the place of their folder does not count.

    Args:
        classes: names of the classes.
        splits: records of the images for training, and of those for testing.

    Returns:
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for records in splits:
        for r in records:
            digest.update(f"{r.file!r} {r.id} {r.width} {r.height} {len(r.objects)}\n".encode())
            digest.update(r.objects.tobytes())
            for part in (bytes(part) for mask in r.masks for part in mask or ()):
                digest.update(len(part).to_bytes(8))
                digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()


def require_objects(where: Path, records: Sequence[Record]) -> None:
    """Check that there is something to learn from.

    Args:
        where: the file or folder that lists the images, for the message.
        records: the images for training.

    Raises:
        DataError: if no image has an object that is not a crowd.
    """
    if not any((record.objects["iscrowd"] == 0).any() for record in records):
        raise DataError(f"{where} has no image with an object: training needs some")


def require_images(where: Path, number: int) -> None:
    """Check that a split is not empty.

    Args:
        where: the file or folder that lists the images, for the message.
        number: how many there are.

    Raises:
        DataError: if there are none.
    """
    if not number:
        raise DataError(f"{where} has no images: add some, for training and for testing")


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.copy())  # a copy, because a field is a view of the record


def _is_rotated(file: Path) -> bool:
    with Image.open(file) as image:
        return bool(image.getexif().get(0x0112, 1) != 1)  # Orientation
