"""Images with instances of Cityscapes: one PNG file with the number of each pixel's object."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

from tbc_models.data.annotations import (
    OBJECT,
    Problems,
    Record,
    fingerprint,
    read_annotated,
    require_images,
)
from tbc_models.data.errors import DataError
from tbc_models.data.instances import InstanceData, Progress, Target

CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""The classes of Cityscapes that have instances."""

_IDS = (24, 25, 26, 27, 28, 31, 32, 33)  # of these classes
_LABELS = {number: label for label, number in enumerate(_IDS, 1)}
_PER_CLASS = 1000  # an object's pixels are 1000 · id + its number; those of a group are the id
_IMAGE, _INSTANCES = "_leftImg8bit.png", "_gtFine_instanceIds.png"

# What the labels of Cityscapes call ignored in evaluation, from "unlabeled" to "trailer".
_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)


def open_cityscapes(path: Path, *, skip_bad: bool, progress: Progress | None) -> InstanceData:
    """Open Cityscapes, as `open_instances` describes it."""
    problems = Problems(skip_bad)
    found = [_find(path, split, problems) for split in ("train", "val")]
    total, checked = sum(map(len, found)), 0
    splits: list[list[Record]] = [[], []]
    for names, split in zip(found, splits, strict=True):
        for name in names:
            try:
                split.append(_read(path, name, len(split)))
            except ValueError as error:
                problems.add(str(error))
            checked += 1
            if progress is not None:
                progress(checked, total)
    train, test = splits
    require_images(path / "leftImg8bit" / "train", len(train))
    require_images(path / "leftImg8bit" / "val", len(test))
    return InstanceData(
        name=f"cityscapes:{path}",
        train=CityscapesImages(path, train),
        test=CityscapesImages(path, test),
        classes=CLASSES,
        masks=True,
        mirror=True,
        metric="cityscapes",
        skipped=tuple(problems.lines),
        fingerprint=fingerprint(CLASSES, train, test),
    )


class CityscapesImages:
    """Images of Cityscapes with the objects that their instance files show.

    Args:
        path: folder of the data set.
        records: the images; their objects are read when they are indexed.
    """

    def __init__(self, path: Path, records: Sequence[Record]) -> None:
        self.path, self.records = path, records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int, /) -> tuple[Image.Image, Target]:
        record = self.records[index]
        image = read_annotated(self.path / record.file, record.width, record.height)
        pixels = _pixels(self.path / _instances_of(record.file))
        found = [(number, *_meaning(number)) for number in _present(pixels)]
        objects = [(number, label, crowd) for number, label, crowd in found if label]
        numbers, labels, crowds = np.array(objects, np.int64).reshape(-1, 3).T
        masks = torch.from_numpy((pixels == numbers[:, None, None]).astype(np.uint8))
        boxes = masks_to_boxes(masks)
        boxes[:, 2:] += 1  # `masks_to_boxes` gives the last pixel, and a box ends behind it
        target = {
            "boxes": boxes,
            "labels": torch.from_numpy(labels.copy()),
            "masks": masks,
            "iscrowd": torch.from_numpy(crowds.copy()),
            "area": masks.flatten(1).sum(1).float(),
            "image_id": record.id,
            "void": torch.from_numpy(np.isin(pixels, _VOID)),
        }
        return image, target


def _find(path: Path, split: str, problems: Problems) -> list[str]:
    """Return the names of the images that have instances, as CITY/IMAGE without the endings."""
    images, instances = path / "leftImg8bit" / split, path / "gtFine" / split
    for folder in (images, instances):
        if not folder.is_dir():
            raise DataError(
                f"{folder} does not exist: Cityscapes has leftImg8bit/{split}/CITY/*{_IMAGE} and "
                f"gtFine/{split}/CITY/*{_INSTANCES}"
            )
    names, annotated = set(_names(images, _IMAGE)), set(_names(instances, _INSTANCES))
    for name in sorted(names - annotated):
        problems.add(f"{images / name}{_IMAGE} has no {instances / name}{_INSTANCES}: add it")
    for name in sorted(annotated - names):
        problems.add(f"{instances / name}{_INSTANCES} has no {images / name}{_IMAGE}: add it")
    return [f"{split}/{name}" for name in sorted(names & annotated)]


def _names(folder: Path, ending: str) -> Iterator[str]:
    for city in sorted(one for one in folder.iterdir() if one.is_dir()):
        for file in os.scandir(city):
            if file.name.endswith(ending):
                yield f"{city.name}/{file.name.removesuffix(ending)}"


def _read(path: Path, name: str, i: int) -> Record:
    """Check the header of an instance file. Raise ValueError if it is bad."""
    file = path / "gtFine" / f"{name}{_INSTANCES}"
    try:
        content = file.read_bytes()
        with Image.open(BytesIO(content)) as image:
            (width, height), mode = image.size, image.mode
    except Exception as error:  # Pillow raises many types for damaged files
        raise ValueError(f"{file} is not an image or cannot be read: replace it") from error
    if mode not in ("I;16", "I", "L"):
        raise ValueError(f"{file} has the mode {mode}: numbers of 16 bits for each pixel are right")
    digest = hashlib.sha256(content).digest()
    objects = np.array([], OBJECT)
    return Record(f"leftImg8bit/{name}{_IMAGE}", i, width, height, objects, ((digest,),))


def _instances_of(image: str) -> str:
    return f"gtFine/{image.removeprefix('leftImg8bit/').removesuffix(_IMAGE)}{_INSTANCES}"


def _pixels(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image).astype(np.uint16)  # PNG has no more bits
    except Exception:  # Pillow raises many types for damaged files
        raise DataError(f"{file} is truncated or cannot be read: replace it") from None


def _present(pixels: np.ndarray) -> list[int]:
    return [int(number) for number in np.flatnonzero(np.bincount(pixels.ravel()))]


def _meaning(number: int) -> tuple[int, int]:
    """Return the label, or 0 if the pixels are no object, and whether they are a group."""
    group = number < _PER_CLASS
    return _LABELS.get(number if group else number // _PER_CLASS, 0), int(group)
