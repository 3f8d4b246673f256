"""Tiny data sets in the formats of COCO, Pascal VOC and Cityscapes, with all that is awkward."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tbc_models.data.errors import DataError
from tbc_models.data.instances import open_instances

TRAIN, VAL = "annotations/instances_train2017.json", "annotations/instances_val2017.json"
CATEGORIES = [{"id": 7, "name": "kite"}, {"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}]


def photograph(file: Path, width: int, height: int, mode: str = "RGB", **options: Any) -> None:
    """Write noise as an image file."""
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).convert(mode).save(file, **options)


def make_coco(folder: Path, *, masks: bool = True) -> None:
    """Write a data set with the layout of COCO 2017: four images for training and two for testing.

    It has polygons, one of two parts, run lengths of both kinds, a crowd, a box of one pixel,
    an image without objects, a greyscale and a CMYK JPEG; ids are neither contiguous nor sorted.
    """
    images: list[dict[str, Any]] = [
        {"id": 9, "file_name": "rgb.jpg", "width": 64, "height": 48},
        {"id": 4, "file_name": "grey.jpg", "width": 40, "height": 56},
        {"id": 2, "file_name": "cmyk.jpg", "width": 48, "height": 48},
        {"id": 30, "file_name": "empty.jpg", "width": 32, "height": 40},
    ]
    crowd = np.zeros((48, 64), np.uint8)
    crowd[30:40, 5:60:2] = 1
    annotations = [
        _polygons(21, 9, 7, [[5, 5, 25.5, 5, 25.5, 20, 5, 20], [30, 8, 40, 8, 35, 18.25]]),
        _polygons(20, 9, 3, [[50, 40, 51, 40, 51, 41, 50, 41]]),
        _rle(8, 9, 3, crowd, iscrowd=1),
        _polygons(10, 4, 18, [[10, 10, 39.5, 20, 12, 50]]),
        {
            **_polygons(11, 4, 3, [[2, 3, 12, 3, 12, 9, 2, 9]]),
            # The same rectangle as compressed run lengths, from pycocotools.
            "segmentation": {"size": [56, 40], "counts": "c36b100000000000000000m`1"},
        },
        _polygons(12, 2, 18, [[0, 0, 47.5, 0, 47.5, 30, 20, 30]]),
    ]
    _write_coco(folder, "train", images, annotations, masks)
    for image in images:
        mode = {"grey.jpg": "L", "cmyk.jpg": "CMYK"}.get(image["file_name"], "RGB")
        file = folder / "train2017" / image["file_name"]
        photograph(file, image["width"], image["height"], mode)
    images = [
        {"id": 1, "file_name": "one.jpg", "width": 64, "height": 64},
        {"id": 5, "file_name": "two.jpg", "width": 48, "height": 64},
    ]
    annotations = [
        _polygons(1, 1, 3, [[8, 8, 32, 8, 32, 40, 8, 40]]),
        _polygons(2, 1, 7, [[28, 30, 60, 30, 44, 60]]),
        _polygons(3, 5, 18, [[4, 4, 40, 8, 40, 56, 4, 60]]),
    ]
    _write_coco(folder, "val", images, annotations, masks)
    photograph(folder / "val2017/one.jpg", 64, 64)
    photograph(folder / "val2017/two.jpg", 48, 64)


def refusal(spec: str, **options: Any) -> DataError:
    """Open a data set that is refused, in one line."""
    with pytest.raises(DataError) as caught:
        open_instances(spec, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@contextmanager
def edited(file: Path) -> Iterator[Any]:
    """Change what a JSON file holds."""
    content = json.loads(file.read_text())
    yield content
    file.write_text(json.dumps(content))


def _write_coco(
    folder: Path, split: str, images: list[Any], annotations: list[Any], masks: bool
) -> None:
    if not masks:
        annotations = [{k: v for k, v in one.items() if k != "segmentation"} for one in annotations]
    file = folder / f"annotations/instances_{split}2017.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    file.write_text(json.dumps(content))


def _polygons(i: int, image: int, category: int, polygons: list[list[float]]) -> dict[str, Any]:
    xs, ys = ([v for polygon in polygons for v in polygon[axis::2]] for axis in (0, 1))
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return _annotation(i, image, category, box, polygons)


def _rle(i: int, image: int, category: int, mask: np.ndarray, iscrowd: int) -> dict[str, Any]:
    """Encode a mask as uncompressed run lengths, column by column from zeros."""
    edges = np.flatnonzero(np.diff(np.r_[0, mask.ravel("F")])).tolist()
    counts = np.diff([0, *edges, mask.size]).tolist()
    rows, columns = (np.flatnonzero(mask.any(axis)).tolist() for axis in (1, 0))
    box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    segmentation = {"size": list(mask.shape), "counts": counts}
    return _annotation(i, image, category, box, segmentation, iscrowd)


def _annotation(
    i: int, image: int, category: int, box: Sequence[float], segmentation: Any, iscrowd: int = 0
) -> dict[str, Any]:
    return {
        "id": i,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3] / 2,  # as annotated, which is neither the mask's nor the box's
        "iscrowd": iscrowd,
        "segmentation": segmentation,
    }


def make_voc(folder: Path, names: tuple[str, str] = ("dog", "person")) -> None:
    """Write a data set in Pascal VOC's format: three images for training and one for testing.

    It has masks of two training images and the test image, an object of one pixel, a difficult
    object, an image without objects, a greyscale and a CMYK JPEG.
    """
    images = {
        "2007_01": ("L", 60, 40, [(3, 4, 20, 30, 0, 0), (59, 39, 60, 40, 1, 1)]),
        "2007_02": ("CMYK", 40, 60, [(10, 10, 40, 60, 1, 0)]),
        "2007_03": ("RGB", 32, 32, []),
        "2007_04": ("RGB", 64, 48, [(0, 0, 30, 40, 1, 0), (25, 10, 64, 48, 0, 1)]),
    }
    for name, (mode, width, height, objects) in images.items():
        photograph(folder / f"JPEGImages/{name}.jpg", width, height, mode)
        numbers = np.zeros((height, width), np.uint8)
        xml = ""
        for number, (x1, y1, x2, y2, kind, difficult) in enumerate(objects, 1):
            numbers[y1:y2, x1:x2] = number
            xml += f"""<object><name>{names[kind]}</name><difficult>{difficult}</difficult>
                <part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><bndbox>
                <xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>
                </bndbox></object>"""
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        annotations = folder / "Annotations"
        annotations.mkdir(exist_ok=True)
        (annotations / f"{name}.xml").write_text(f"<annotation>{size}{xml}</annotation>")
        if objects:
            numbers[0, -2:] = 255
            mask = Image.fromarray(numbers)
            mask.putpalette(list(range(256)) * 3)
            (folder / "SegmentationObject").mkdir(exist_ok=True)
            mask.save(folder / f"SegmentationObject/{name}.png")
    for purpose, train in (
        ("Main", "2007_01\n2007_02\n2007_03\n"),
        ("Segmentation", "2007_02\n2007_01"),
    ):
        sets = folder / "ImageSets" / purpose
        sets.mkdir(parents=True)
        (sets / "train.txt").write_text(train)
        (sets / "val.txt").write_text("2007_04\n")
        (sets / "trainval.txt").write_text(f"{train}\n2007_04\n")


def make_cityscapes(folder: Path) -> None:
    """Write a data set with the layout of Cityscapes: three images for training, one for testing.

    It has objects of four classes, groups, roads and caravans (which are no objects), an object of
    one pixel and an image without objects.
    """
    street = np.full((32, 64), 7)
    street[5:20, 4:16] = 24001  # two persons, of whom one hides the other
    street[5:20, 10:22] = 24000
    street[22:30, 30:60] = 26000  # a car
    street[0:4, 0:40] = 26  # a group of cars
    street[8, 50] = 33004  # a bicycle
    street[8:12, 52:60] = 29000  # a caravan
    street[30:, 0:10] = 3  # outside the region of interest
    train = np.full((32, 64), 11)
    train[2:30, 8:50] = 31000
    scenes = {
        "train/aachen/aachen_000000_000019": street,
        "train/aachen/aachen_000001_000019": np.full((32, 64), 8),
        "train/bonn/bonn_000000_000019": train,
        "val/ulm/ulm_000000_000019": street[:, ::-1],
    }
    for name, numbers in scenes.items():
        photograph(folder / f"leftImg8bit/{name}_leftImg8bit.png", 64, 32)
        file = folder / f"gtFine/{name}_gtFine_instanceIds.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.astype(np.uint16)).save(file)
