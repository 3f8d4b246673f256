"""Images with instances in Pascal VOC's format: one XML file for each image."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, cast
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from PIL import Image

from tbc_models.data.annotations import (
    OBJECT,
    AnnotatedImages,
    Box,
    Names,
    Problems,
    Record,
    clip_box,
    fingerprint,
    require_images,
    require_objects,
)
from tbc_models.data.errors import DataError
from tbc_models.data.instances import InstanceData, Progress

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""The twenty classes of Pascal VOC."""

_FOLDERS = ("JPEGImages", "Annotations", "ImageSets")
_BORDER = 255  # in a mask: between objects, and around what was too hard to label
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def open_voc(path: Path, *, masks: bool, skip_bad: bool, progress: Progress | None) -> InstanceData:
    """Open images in Pascal VOC's format, as `open_instances` describes them."""
    root = _find(path)
    problems = Problems(skip_bad)
    images = {f.stem: f.name for f in sorted((root / "JPEGImages").iterdir())}
    lists = _lists(root, masks)
    ids = [_ids(file, problems) for file in lists]
    total, checked = sum(map(len, ids)), 0
    splits: list[list[_Annotated]] = [[], []]
    for own, split in zip(ids, splits, strict=True):
        for name in own:
            try:
                split.append(_read(root, name, images, masks, problems))
            except ValueError as error:
                problems.add(str(error))
            checked += 1
            if progress is not None:
                progress(checked, total)
    classes = _classes(*splits)
    labels = {name: label for label, name in enumerate(classes, 1)}
    train, test = (
        [_record(one, i, labels, problems) for i, one in enumerate(split)] for split in splits
    )
    require_images(lists[0], len(train))
    require_images(lists[1], len(test))
    require_objects(lists[0], train)
    decode = _decode if masks else None
    return InstanceData(
        name=f"voc:{path}",
        train=AnnotatedImages(root, train, decode, difficult=True),
        test=AnnotatedImages(root, test, decode, difficult=True),
        classes=classes,
        masks=masks,
        mirror=True,
        metric="voc",
        skipped=tuple(problems.lines),
        fingerprint=fingerprint(classes, train, test),
    )


class _Object(NamedTuple):
    number: int  # in its file, from 1
    name: str  # of its class
    box: Box
    area: float
    difficult: int


class _Annotated(NamedTuple):
    xml: Path
    image: str
    width: int
    height: int
    objects: list[_Object]
    mask: bytes | None  # a PNG file, whose pixels are numbers of objects


def _find(path: Path) -> Path:
    """Find the folder in PATH, VOCdevkit/VOC2012 in it, or VOC2012 if PATH is VOCdevkit."""
    choices = [path, *sorted(path.glob("VOCdevkit/*")), *sorted(path.glob("*"))]
    found = [one for one in choices if all((one / name).is_dir() for name in _FOLDERS)]
    if not found:
        raise DataError(
            f"{path} is not in Pascal VOC's format: it needs the folders {', '.join(_FOLDERS)}"
        )
    if len(found) > 1 and found[0] != path:
        names = " or ".join(str(one) for one in found)
        raise DataError(f"{path} holds several data sets: name one of them, {names}")
    return found[0]


def _lists(root: Path, masks: bool) -> tuple[Path, Path]:
    """Choose the files that list the images for training and for testing."""
    kind, folder, suffix = "Main", "Annotations", "xml"
    if masks:
        kind, folder, suffix = "Segmentation", "SegmentationObject", "png"
    sets = root / "ImageSets" / kind
    if masks and not (sets.is_dir() and (root / folder).is_dir()):
        raise DataError(f"{root} has no masks: it needs the folders ImageSets/{kind} and {folder}")
    annotated = Names(root / folder)
    chosen = ("train", "val")
    if (sets / "trainval.txt").is_file() and (sets / "test.txt").is_file():
        lines = _lines(sets / "test.txt")  # without annotations where they are held back
        if any(f"{name}.{suffix}" in annotated for name in lines):
            chosen = ("trainval", "test")
    files = tuple(sets / f"{name}.txt" for name in chosen)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} does not exist: list the images in it, one name on a line")
    return files[0], files[1]


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def _ids(file: Path, problems: Problems) -> list[str]:
    seen: set[str] = set()
    for number, name in enumerate(_lines(file), 1):
        if name in seen:
            problems.add(f"{file}: line {number} lists {name} again: list each image once")
        seen.add(name)
    return sorted(seen)


def _read(
    root: Path, name: str, images: dict[str, str], masks: bool, problems: Problems
) -> _Annotated:
    """Read an image's annotations. Raise ValueError if the image cannot be used."""
    xml = root / "Annotations" / f"{name}.xml"
    if name not in images:
        raise ValueError(
            f"{root / 'JPEGImages' / name}.jpg does not exist: add it, or remove "
            f"{name} from ImageSets"
        )
    try:
        annotation = ElementTree.parse(xml).getroot()  # noqa: S314 # expat limits expansion
    except OSError as error:
        raise ValueError(f"{xml} cannot be read ({error.strerror})") from None
    except ElementTree.ParseError as error:  # its message has line and column
        raise ValueError(f"{xml} is not XML: {error}") from None
    width, height = (_size(xml, annotation, axis) for axis in ("width", "height"))
    objects = []
    for number, element in enumerate(annotation.findall("object"), 1):
        try:
            objects.append(_object(element, number, width, height))
        except ValueError as error:
            problems.add(f"{xml}: object {number} {error}")
    mask = None
    if masks:
        file = root / "SegmentationObject" / f"{name}.png"
        last = len(annotation.findall("object"))
        mask, areas = _mask(file, width, height, last)
        for one in objects:
            if not areas[one.number]:
                problems.add(f"{file} has no pixel of object {one.number} in {xml.name}: draw it")
        objects = [o._replace(area=areas[o.number]) for o in objects if areas[o.number]]
    return _Annotated(xml, f"JPEGImages/{images[name]}", width, height, objects, mask)


def _size(xml: Path, annotation: Element, axis: str) -> int:
    text = annotation.findtext(f"size/{axis}", "").strip()
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError(f"{xml} has the {axis} {text!r}: size/{axis} must be a positive integer")
    return int(text)


def _object(element: Element, number: int, width: int, height: int) -> _Object:
    name = element.findtext("name", "").strip()
    if not name:
        raise ValueError("has no name: name its class")
    texts = [element.findtext(f"bndbox/{corner}", "").strip() for corner in _CORNERS]
    shown = f"has the bndbox {', '.join(map(repr, texts))}"
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
    except ValueError:
        raise ValueError(f"{shown}: {', '.join(_CORNERS)} must be numbers") from None
    try:  # pixels are counted from 1, and the last one belongs to the object
        box = clip_box((xmin - 1, ymin - 1, xmax, ymax), width, height)
    except ValueError as error:
        raise ValueError(f"{shown}, which {error}") from None
    area = (box[2] - box[0]) * (box[3] - box[1])
    return _Object(number, name, box, area, int(element.findtext("difficult", "").strip() == "1"))


def _mask(file: Path, width: int, height: int, last: int) -> tuple[bytes, list[int]]:
    """Return a mask file and the area of each number in it. Raise ValueError if it is bad."""
    try:
        content = file.read_bytes()
        numbers = _numbers(content)
    except Exception as error:  # Pillow raises many types for damaged files
        reason = isinstance(error, OSError) and error.strerror
        raise ValueError(f"{file} cannot be read ({reason or 'it is not an image'})") from None
    if numbers.dtype != np.uint8 or numbers.ndim != 2:
        raise ValueError(f"{file} must be a palette image: its pixels are numbers of objects")
    if numbers.shape != (height, width):
        raise ValueError(
            f"{file} has {numbers.shape[1]}×{numbers.shape[0]} pixels: it must have "
            f"{width}×{height}, as its image"
        )
    areas = np.bincount(numbers.ravel(), minlength=_BORDER + 1)
    shown = np.flatnonzero(areas[:_BORDER])
    if shown.size and shown[-1] > last:
        raise ValueError(f"{file} shows an object {shown[-1]}, and its XML has {last}: add it")
    return content, areas.tolist()


def _numbers(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)


def _classes(train: Iterable[_Annotated], test: Iterable[_Annotated]) -> tuple[str, ...]:
    learned, tested = ({o.name for one in split for o in one.objects} for split in (train, test))
    return CLASSES if learned | tested <= set(CLASSES) else tuple(sorted(learned))


def _record(one: _Annotated, i: int, labels: dict[str, int], problems: Problems) -> Record:
    objects = []
    for found in one.objects:
        if found.name in labels:
            objects.append(found)
            continue
        problems.add(
            f"{one.xml}: object {found.number} has the name {found.name!r}, which no object for "
            "training has"
        )
    values = [(o.box, labels[o.name], 0, o.area, o.difficult) for o in objects]
    mask = None if one.mask is None else (np.array([o.number for o in objects], "<i8"), one.mask)
    return Record(one.image, i, one.width, one.height, np.array(values, OBJECT), (mask,))


def _decode(record: Record) -> np.ndarray:
    numbers, content = cast("tuple[np.ndarray, bytes]", record.masks[0])
    masks: np.ndarray = _numbers(content) == numbers[:, None, None]
    return masks.astype(np.uint8)
