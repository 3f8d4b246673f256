"""Images with instances in COCO's format: one JSON file for each split."""

import json
import math
import reprlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from tbc_models.data.annotations import (
    OBJECT,
    AnnotatedImages,
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

# Where annotations are, and where their images may be; {} is the name of the split.
_LAYOUTS = (
    ("annotations/instances_{}2017.json", ("{}2017", "images/{}2017")),
    ("annotations/instances_{}2014.json", ("{}2014", "images/{}2014")),
    ("annotations/instances_{}.json", ("images/{}", "{}", "images")),
    ("annotations/{}.json", ("images/{}", "{}", "images")),
    ("instances_{}.json", ("images/{}", "{}", "images")),
    ("{}.json", ("images/{}", "{}", "images")),
    ("{}/_annotations.coco.json", ("{}",)),  # as Roboflow exports
)
_TEST = ("val", "valid", "test")
_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
_ONE = {"images": "image", "annotations": "annotation", "categories": "category"}
_LARGE = 1e9  # more pixels than any number of an annotation can mean
_TICK = 1000  # annotations that are checked between two reports of progress

# The polygons of an object, or bytes, which are COCO's compressed run lengths (RLE).
_Mask = tuple[np.ndarray | bytes, ...]


def open_coco(
    path: Path, *, masks: bool, skip_bad: bool, progress: Progress | None
) -> InstanceData:
    """Open images in COCO's format, as `open_instances` describes them."""
    problems = Problems(skip_bad)
    train, test = _find(path)
    labels = _labels(train, test, problems)
    total = len(train.content["annotations"]) + len(test.content["annotations"])
    checked = 0

    def tick() -> None:
        nonlocal checked
        checked += 1
        if progress is not None and checked % _TICK == 0:
            progress(checked, total)

    splits, complete = [], True
    for split in (train, test):
        if masks and not any(a.get("segmentation") for a in _dicts(split.content["annotations"])):
            raise DataError(f"{split.file} has no masks: each annotation needs a segmentation")
        records = _read(path, split, labels, problems, masks, tick)
        require_images(split.file, len(records))
        complete = complete and all(None not in record.masks for record in records)
        splits.append(records)
        split.content.clear()  # the annotations of COCO take gigabytes
    if progress is not None:
        progress(total, total)
    require_objects(train.file, splits[0])
    decode = _decode if complete else None
    return InstanceData(
        name=f"coco:{path}",
        train=AnnotatedImages(path, splits[0], decode),
        test=AnnotatedImages(path, splits[1], decode),
        classes=tuple(labels.names),
        masks=complete,
        mirror=True,
        skipped=tuple(problems.lines),
        fingerprint=fingerprint(labels.names, *splits),
    )


class _Split(NamedTuple):
    file: Path
    content: dict[str, list[Any]]
    folders: tuple[str, ...]  # where the images may be


class _Labels(NamedTuple):
    of: dict[int, int]  # category id -> label
    names: list[str]


class _Image(NamedTuple):
    file: str
    id: int
    width: int
    height: int


def _find(path: Path) -> tuple[_Split, _Split]:
    for layout, folders in _LAYOUTS:
        train = path / layout.format("train")
        if not train.is_file():
            continue
        for name in _TEST:
            test = path / layout.format(name)
            if test.is_file():
                return (
                    _Split(train, _load(train), tuple(f.format("train") for f in folders)),
                    _Split(test, _load(test), tuple(f.format(name) for f in folders)),
                )
        raise DataError(f"{train} exists but not {path / layout.format('val')} (or test): add it")
    files = ", ".join(layout.format("train") for layout, _ in _LAYOUTS)
    raise DataError(
        f"{path} has no annotations in COCO's format: add one of {files}, and the same for val"
    )


def _load(file: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{file} is not JSON: {error.msg} ({where})") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} must be an object with the lists {', '.join(_KEYS)}")
    for key in _KEYS:
        if not isinstance(content.get(key), list):
            what = "must be a list" if key in content else "is missing"
            raise DataError(f"{file}: {key} {what}; COCO's format has lists {', '.join(_KEYS)}")
    return content


def _labels(train: _Split, test: _Split, problems: Problems) -> _Labels:
    """Number the categories from 1, in the order of their ids."""
    both = []
    for split in (train, test):
        names = {e["id"]: str(e["name"]) for _, e in _entries(split, "categories", problems)}
        both.append(dict(sorted(names.items())))
    if both[0] != both[1]:
        differ = min(i for i in both[0] | both[1] if both[0].get(i) != both[1].get(i))
        one, other = (names.get(differ, "missing") for names in both)
        raise DataError(
            f"{train.file} and {test.file.name} must have the same categories: id {differ} is "
            f"{one} in one and {other} in the other"
        )
    if not both[0]:
        raise DataError(f"{train.file} has no categories: it needs at least one")
    return _Labels({i: label for label, i in enumerate(both[0], 1)}, list(both[0].values()))


def _entries(split: _Split, key: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the entries with all keys and an id of their own, each with what it is called."""
    seen: set[int] = set()
    for number, entry in enumerate(split.content[key]):
        name = f"{split.file}: {_ONE[key]} number {number + 1}"
        if not isinstance(entry, dict):
            problems.add(f"{name} must be an object with {', '.join(_KEYS[key])}")
            continue
        missing = [k for k in _KEYS[key] if k not in entry]
        if missing and "id" in entry:
            name = f"{split.file}: {_ONE[key]} {_show(entry['id'])}"
        if missing:
            problems.add(f"{name} has no {', '.join(missing)}: add what is missing")
        elif type(entry["id"]) is not int:
            problems.add(f"{name} has the id {_show(entry['id'])}: ids must be integers")
        elif entry["id"] in seen:
            problems.add(f"{name} has the id {entry['id']} of an earlier one: ids must differ")
        else:
            seen.add(entry["id"])
            yield f"{split.file}: {_ONE[key]} {entry['id']}", entry


def _read(
    path: Path,
    split: _Split,
    labels: _Labels,
    problems: Problems,
    masks: bool,
    tick: Callable[[], None],
) -> list[Record]:
    folder = _image_folder(path, split)
    images: dict[int, _Image] = {}
    for name, entry in _entries(split, "images", problems):
        try:
            images[entry["id"]] = _parse_image(entry, folder, path)
        except ValueError as error:
            problems.add(f"{name} {error}")
    # Annotations of an image that is left out are not reported again.
    known = {e.get("id") for e in _dicts(split.content["images"]) if type(e.get("id")) is int}
    found: dict[int, list[tuple[int, Any, _Mask | None]]] = {i: [] for i in images}
    for name, entry in _entries(split, "annotations", problems):
        tick()
        try:
            image_id, category = entry["image_id"], entry["category_id"]
            if type(image_id) is not int or image_id not in known:
                raise ValueError(f"has the image_id {_show(image_id)}, which no image has")
            if type(category) is not int or category not in labels.of:
                raise ValueError(f"has the category_id {_show(category)}, which no category has")
            if image_id in images:
                label = labels.of[category]
                found[image_id].append(_parse_object(entry, images[image_id], label, masks))
        except ValueError as error:
            problems.add(f"{name} {error}")
    records = []
    for i, own in sorted(found.items()):
        own.sort(key=lambda one: one[0])
        objects = np.array([values for _, values, _ in own], OBJECT)
        records.append(Record(*images[i], objects, tuple(mask for *_, mask in own)))
    return records


def _image_folder(path: Path, split: _Split) -> Names:
    """Choose the folder that holds most of the images."""
    folders = [Names(path / name) for name in split.folders if (path / name).is_dir()]
    if not folders:
        choices = " or ".join(str(path / name) for name in split.folders)
        raise DataError(f"the images of {split.file} are missing: put them into {choices}")
    files = [e.get("file_name") for e in _dicts(split.content["images"])]
    return max(folders, key=lambda names: sum(isinstance(f, str) and f in names for f in files))


def _parse_image(entry: dict[str, Any], folder: Names, path: Path) -> _Image:
    file = entry["file_name"]
    for key in ("width", "height"):
        if type(entry[key]) is not int or entry[key] < 1:
            raise ValueError(f"has the {key} {_show(entry[key])}, which must be a positive integer")
    if not isinstance(file, str) or file.startswith("/") or file not in folder:
        raise ValueError(f"has the file_name {_show(file)}, which is not in {folder.folder}")
    relative = (folder.folder / file).relative_to(path)
    return _Image(relative.as_posix(), entry["id"], entry["width"], entry["height"])


def _parse_object(
    entry: dict[str, Any], image: _Image, label: int, need_mask: bool
) -> tuple[int, Any, _Mask | None]:
    """Return the id, the fields of `OBJECT` and the mask, if there is one."""
    bbox, crowd, area = entry["bbox"], entry.get("iscrowd", 0), entry.get("area")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise ValueError(
            f"has the bbox {_show(bbox)}, which must be four finite numbers: x, y, width, height"
        )
    x, y, width, height = bbox
    try:
        box = clip_box((x, y, x + width, y + height), image.width, image.height)
    except ValueError as error:
        raise ValueError(f"has the bbox {bbox}, which {error}") from None
    if crowd not in (0, 1):
        raise ValueError(f"has iscrowd {_show(crowd)}, which must be 0 or 1")
    if area is not None and not (_is_number(area) and area >= 0):
        raise ValueError(f"has the area {_show(area)}, which must be a number of pixels")
    mask: _Mask | None = None
    try:
        mask = _parse_mask(entry.get("segmentation"), image.width, image.height)
    except ValueError as error:
        if need_mask and not (crowd and not entry.get("segmentation")):
            raise ValueError(f"has a segmentation {error}") from None
    if area is None:
        x1, y1, x2, y2 = box
        area = (x2 - x1) * (y2 - y1)
        if mask is not None:
            area = _runs(mask, image.width, image.height)[1::2].sum()
    if mask is None and crowd:  # a crowd is no object to learn, and its box will do
        x1, y1, x2, y2 = box
        mask = (np.array([x1, y1, x2, y1, x2, y2, x1, y2]),)
    return entry["id"], (box, label, int(crowd), area, 0), mask


def _parse_mask(segmentation: Any, width: int, height: int) -> _Mask:
    if isinstance(segmentation, dict):
        return (_parse_rle(segmentation, width, height),)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("that is empty or missing: it must be polygons or run lengths (RLE)")
    return tuple(_parse_polygon(polygon, max(width, height)) for polygon in segmentation)


def _parse_polygon(polygon: Any, side: int) -> np.ndarray:
    try:
        points = array("d", polygon)
    except (TypeError, OverflowError):
        raise ValueError(f"with {_show(polygon)}, which must be numbers x, y, x, y …") from None
    if len(points) < 6 or len(points) % 2:
        raise ValueError(f"with a polygon of {len(points)} numbers: an even number from 6 is right")
    # The decoder clips polygons; only far outside would it need endless memory.
    if not (math.isfinite(sum(points)) and -side <= min(points) and max(points) <= 2 * side):
        raise ValueError(f"with the polygon {_show(polygon)}, which must lie within the image")
    return np.array(points)


def _parse_rle(rle: dict[str, Any], width: int, height: int) -> bytes:
    from faster_coco_eval.core.mask import frPyObjects

    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        raise ValueError(f"of size {_show(size)}, which must be [{height}, {width}], as its image")
    try:
        if isinstance(counts, str):
            compressed = counts.encode("ascii")
        else:
            compressed = frPyObjects({"size": size, "counts": counts}, height, width)["counts"]
        pixels = int(_runs((compressed,), width, height).sum())
    except Exception:  # the decoder raises many types
        raise ValueError(f"whose counts {_show(counts)} do not decode: export them again") from None
    if pixels != width * height:
        raise ValueError(
            f"whose counts describe {pixels} pixels: they must describe {width * height}"
        )
    return compressed


def _runs(mask: _Mask, width: int, height: int) -> np.ndarray:
    """Return the lengths of the runs of zeros and ones in turn, column by column."""
    from faster_coco_eval.core.mask import frPyObjects, merge
    from faster_coco_eval.mask_api_new_cpp import toUncompressedRLE

    if isinstance(mask[0], bytes):
        rle = {"size": [height, width], "counts": mask[0]}
    else:
        rle = merge(frPyObjects([np.asarray(polygon).tolist() for polygon in mask], height, width))
    return np.array(toUncompressedRLE([rle])[0]["counts"], np.int64)


def _decode(record: Record) -> np.ndarray:
    masks = np.empty((len(record.masks), record.width, record.height), np.uint8)
    for pixels, mask in zip(masks, cast("tuple[_Mask, ...]", record.masks), strict=True):
        runs = _runs(mask, record.width, record.height)
        pixels.reshape(-1)[:] = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs)
    return np.ascontiguousarray(masks.transpose(0, 2, 1))


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < _LARGE  # not true for NaN either


def _dicts(entries: list[Any]) -> Iterator[dict[str, Any]]:
    return (entry for entry in entries if isinstance(entry, dict))


def _show(value: Any) -> str:
    return reprlib.repr(value)
