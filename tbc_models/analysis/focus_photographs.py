"""Objects of photographs with boxes, each in a square crop around it.

A classifier of single objects sees one object at a time: the crop is a square of twice the longer
side of the box. The square is moved into the photograph if it would leave it, and is never larger
than the photograph's shorter side. So a box fills a quarter of the crop or less if the photograph
has room for the square, and up to the whole crop if it has not.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from tbc_models.analysis.focus import box_mask
from tbc_models.analysis.focus_study import Objects, Progress
from tbc_models.data.annotations import Box, clip_box
from tbc_models.data.errors import DataError, first_line
from tbc_models.data.instances import InstanceData

OTHER_NAMES = {"aeroplane": "airplane", "boat": "ship", "car": "automobile"}
"""Classes of COCO and Pascal VOC that CIFAR-10 names otherwise. It has no motorcycles and buses."""

LEAST_SIDE = 32
"""Least length of the longer side of a box, in pixels."""


def objects_in_photographs(
    data: InstanceData,
    classes: Sequence[str],
    size: int,
    *,
    progress: Progress | None = None,
) -> tuple[Objects, dict[str, list[int]]]:
    """Crop the objects whose class a network knows out of photographs.

    Boxes whose longer side is shorter than 32 pixels, or longer than the shorter side of the
    photograph, are left out, and so are crowds. The mask is what all boxes of the class cover, so
    that another object of the same class in the crop does not count as outside. A class is present
    if any of its boxes reaches into the crop, also one that is left out.

    Args:
        data: photographs with boxes; those for training and for testing are used alike.
        classes: names of the classes of the network.
        size: height and width of the crops, to which they are resized.
        progress: called repeatedly with the number of photographs that are done and their total.

    Returns:
        The objects, with the parts "all" and one for each class; and the `image_id` of the
        photographs that they are from, for training ("train") and testing ("test").

    Raises:
        DataError: if no box is of such a class.

    Example:
        >>> from tbc_models.data.instances import open_instances
        >>> objects_in_photographs(open_instances("scenes"), ["cat"], 32)
        Traceback (most recent call last):
        ...
        tbc_models.data.errors.DataError: no box of scenes can be used: its classes are 0, 1, ...
    """
    indices = {name: i for i, name in enumerate(classes)}
    wanted = {
        label: indices[OTHER_NAMES.get(name, name)]
        for label, name in enumerate(data.classes, 1)
        if OTHER_NAMES.get(name, name) in indices
    }
    images, masks, targets, present, sources = [], [], [], [], []
    used: dict[str, list[int]] = {"train": [], "test": []}
    total, done = len(data.train) + len(data.test), 0
    for split, photographs in (("train", data.train), ("test", data.test)):
        for i in range(len(photographs) if wanted else 0):
            image, target = photographs[i]
            picture = image if isinstance(image, Tensor) else F.pil_to_tensor(image)
            for place in _usable(target, wanted, picture.shape[-2:]):
                label = int(target["labels"][place])
                left, top, side = square_around(target["boxes"][place].tolist(), picture.shape[-2:])
                crop = picture[:, top : top + side, left : left + side]
                images.append(F.resize(crop, [size, size], antialias=True).float() / 255)
                corner = torch.tensor([left, top, left, top])
                scaled = ((target["boxes"] - corner) * (size / side)).tolist()
                covered = torch.stack([box_mask(box, size, size) for box in scaled])
                masks.append(covered[target["labels"] == label].amax(0))
                visible = target["labels"][covered.flatten(1).any(1)].tolist()
                known = [wanted[one] for one in visible if one in wanted]
                present.append(np.isin(np.arange(len(classes)), known))
                targets.append(wanted[label])
                sources.append(done)
                if target["image_id"] not in used[split][-1:]:
                    used[split].append(target["image_id"])
            done += 1
            if progress is not None:
                progress(done, total)
    if not images:
        raise DataError(
            f"no box of {data.name} can be used: its classes are {_some(data.classes)}, and the "
            f"network knows {_some(classes)}"
        )
    index = np.array(targets)
    parts = {"all": np.ones(len(index), bool)}
    for label in sorted(set(targets)):
        parts[classes[label]] = index == label
    objects = Objects(
        images=torch.stack(images),
        masks=torch.stack(masks),
        targets=torch.tensor(targets),
        present=np.stack(present),
        sources=np.array(sources),
        parts=parts,
    )
    return objects, used


def square_around(box: Sequence[float], size: Sequence[int]) -> tuple[int, int, int]:
    """Choose the square that is cropped around a box.

    Args:
        box: x1, y1, x2, y2 in pixels.
        size: height and width of the photograph.

    Returns:
        The left and the top pixel of the square, and its side.

    Example:
        >>> square_around([0, 40, 20, 50], (100, 200))
        (0, 25, 40)
    """
    x1, y1, x2, y2 = box
    side = min(round(2 * max(x2 - x1, y2 - y1)), *size)
    height, width = size
    left = min(max(round((x1 + x2 - side) / 2), 0), width - side)
    top = min(max(round((y1 + y2 - side) / 2), 0), height - side)
    return left, top, side


def _usable(target: dict[str, Tensor], wanted: dict[int, int], size: Sequence[int]) -> list[int]:
    sides = (target["boxes"][:, 2:] - target["boxes"][:, :2]).amax(1)
    fits = (sides >= LEAST_SIDE) & (sides <= min(size)) & (target["iscrowd"] == 0)
    known = torch.tensor([label in wanted for label in target["labels"].tolist()], dtype=torch.bool)
    return cast("list[int]", (fits & known).nonzero()[:, 0].tolist())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def read_boxes(file: Path) -> dict[str, list[tuple[str, Box]]]:
    """Read the boxes of photographs from a file in COCO's format.

    Args:
        file: a JSON file with the lists images, annotations and categories.

    Returns:
        For each image file, named as in the JSON file, the class and the box of its objects, as
        x1, y1, x2, y2 in pixels. Crowds are left out.

    Raises:
        DataError: if the file cannot be read, or is not in this format.

    Example:
        >>> read_boxes(Path("/no/such/file.json"))
        Traceback (most recent call last):
        ...
        tbc_models.data.errors.DataError: /no/such/file.json cannot be read (No such file ...
    """
    try:
        content = json.loads(file.read_bytes())
        names = {one["id"]: str(one["name"]) for one in content["categories"]}
        images = {one["id"]: one for one in content["images"]}
        found: dict[str, list[tuple[str, Box]]] = {
            str(PurePosixPath(one["file_name"])): [] for one in images.values()
        }
        for one in content["annotations"]:
            if not one.get("iscrowd"):
                x, y, width, height = map(float, one["bbox"])
                image = images[one["image_id"]]
                box = clip_box((x, y, x + width, y + height), image["width"], image["height"])
                name = str(PurePosixPath(image["file_name"]))
                found[name].append((names[one["category_id"]], box))
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            f"{file} is not in COCO's format, with images, annotations and categories "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None
    return found


def match_images(files: Sequence[Path], names: Iterable[str]) -> dict[Path, str]:
    """Find out which image of an annotation file each image file is.

    Names may have folders, such as `val/1.jpg`. A file has the name that shares the most parts of
    its path, counted from the end, and at least the last; if several files have one name, it is of
    the file that shares the most.

    Args:
        files: image files.
        names: the names, as `read_boxes` gives them.

    Returns:
        For each file that has one, its name.

    Raises:
        DataError: if several names suit a file equally well, or several files a name.

    Example:
        >>> match_images([Path("photos/a/1.jpg"), Path("photos/b/1.jpg")], ["a/1.jpg"])
        {PosixPath('photos/a/1.jpg'): 'a/1.jpg'}
    """
    by_last: dict[str, list[str]] = {}
    for name in names:
        by_last.setdefault(PurePosixPath(name).name, []).append(name)
    best: dict[str, tuple[int, list[Path]]] = {}
    for file in dict.fromkeys(files):
        own = [(_shared(file, name), name) for name in by_last.get(file.name, ())]
        most = max((shared for shared, _ in own), default=0)
        suited = [name for shared, name in own if shared == most]
        if len(suited) > 1:
            raise DataError(
                f"{file} may be {' or '.join(suited)}: keep it in a folder of the same name"
            )
        for name in suited:
            before, rivals = best.get(name, (0, []))
            if most >= before:
                best[name] = (most, [*rivals, file] if most == before else [file])
    for name, (_, rivals) in best.items():
        if len({file.resolve() for file in rivals}) > 1:
            raise DataError(f"{name} may be {' or '.join(map(str, rivals))}: name one of them")
    return {file: name for name, (_, rivals) in best.items() for file in rivals}


def _shared(file: Path, name: str) -> int:
    """Count the last parts of two paths that are the same."""
    pairs = zip(reversed(file.absolute().parts), reversed(PurePosixPath(name).parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
