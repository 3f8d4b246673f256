"""What all sets of images with instances have in common, and how one is opened by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tbc_models.data.errors import DataError

if TYPE_CHECKING:  # so that a wrong name is refused without PyTorch
    from PIL import Image
    from torch import Tensor

Target = dict[str, Any]
"""The objects of one image in torchvision's format.

`boxes` (n, 4), float32, as x1, y1, x2, y2 in pixels; `labels` (n), int64, from 1, since 0 is the
background; `masks` (n, H, W), uint8, if the data has masks; `iscrowd` (n), int64, 1 for a region of
many objects, which is neither learned nor counted; `area` (n), float32, in pixels; `image_id`.
Pascal VOC adds `difficult` (n), int64, 1 for objects that its evaluation does not count; Cityscapes
adds `void` (H, W), where detections do not count as wrong. Scenes add `full_masks` (n, H, W), with
the parts that are hidden."""

Progress = Callable[[int, int], None]

FORMS = ("scenes", "coco:PATH", "voc:PATH", "cityscapes:PATH")


class ImagesWithInstances(Protocol):
    """Images in a fixed order, PIL images or uint8 tensors (3, H, W), each with its objects.

    Example:
        >>> images: ImagesWithInstances = open_instances("scenes").train
        >>> image, target = images[0]
        >>> tuple(image.shape), tuple(target["boxes"].shape)[1]
        ((3, 96, 96), 4)
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> "tuple[Image.Image | Tensor, Target]": ...


@dataclass(frozen=True)
class InstanceData:
    """Images with instances, split into those for training and those for testing."""

    name: str
    """Specification with its path resolved, so that it opens the data from every folder."""
    train: ImagesWithInstances
    test: ImagesWithInstances
    classes: tuple[str, ...]
    """Names of the classes. Label i is `classes[i - 1]`."""
    masks: bool
    """Whether each object has a mask."""
    mirror: bool
    """Whether a mirrored image shows objects of the same classes."""
    metric: Literal["coco", "voc", "cityscapes"] = "coco"
    """Whose average precision is reported beside COCO's."""
    skipped: tuple[str, ...] = ()
    """Bad files and annotations that were skipped, each in one line."""
    fingerprint: str = ""
    """Hash of all file names and annotations; it stays the same when their folder moves."""


def open_instances(
    spec: str, *, masks: bool = False, skip_bad: bool = False, progress: Progress | None = None
) -> InstanceData:
    """Open images with boxes and, where there are any, masks.

    `scenes` are crowded scenes of handwritten digits and need no file. `coco:PATH` reads COCO's
    JSON, `voc:PATH` Pascal VOC's XML and `cityscapes:PATH` the instance images of Cityscapes.

    Args:
        spec: which images, and the folder that holds them.
        masks: whether masks are needed. For Pascal VOC this chooses the images that have some.
        skip_bad: whether to leave out bad annotations and images instead of raising an error.
        progress: called repeatedly with the number of annotations checked so far and their total.

    Returns:
        The images, whose annotations are checked. Each image is read when it is indexed.

    Raises:
        DataError: if there is no such data set, or it is incomplete or malformed. The message
            names the file, the id and what would be right.

    Example:
        >>> data = open_instances("scenes")
        >>> len(data.classes), data.masks
        (10, True)
    """
    kind, path = parse_instances(spec)
    if path is None:
        from tbc_models.data.scenes import open_scenes

        return open_scenes()
    if kind == "coco":
        from tbc_models.data.coco import open_coco

        return open_coco(path, masks=masks, skip_bad=skip_bad, progress=progress)
    if kind == "voc":
        from tbc_models.data.voc import open_voc

        return open_voc(path, masks=masks, skip_bad=skip_bad, progress=progress)
    from tbc_models.data.cityscapes import open_cityscapes

    return open_cityscapes(path, skip_bad=skip_bad, progress=progress)


def parse_instances(spec: str) -> tuple[str, Path | None]:
    """Find out which images a specification names, and that their folder exists.

    Args:
        spec: KIND or KIND:PATH, as `open_instances` describes it.

    Returns:
        The kind, and the resolved path; None for embedded images.

    Raises:
        DataError: if there is no such kind, it needs a path or takes none, or there is no folder.

    Example:
        >>> parse_instances("scenes")
        ('scenes', None)
    """
    kind, colon, where = spec.partition(":")
    if kind == "scenes":
        if colon:
            raise DataError("scenes is embedded and takes no path: write scenes alone")
        return kind, None
    if kind not in ("coco", "voc", "cityscapes"):
        raise DataError(
            f"{spec!r} is not a data set with instances: choose one of {', '.join(FORMS)}"
        )
    if not where:
        raise DataError(f"{kind} needs the folder that holds it: write {kind}:PATH")
    path = Path(where).expanduser().resolve()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder" if path.exists() else f"{path} does not exist")
    return kind, path


def without_folders(spec: str) -> str:
    """Name a data set by its last folder only, so that a report tells nothing about a machine.

    Args:
        spec: KIND or KIND:PATH.

    Returns:
        KIND, or KIND and the name of the folder.

    Example:
        >>> without_folders("coco:/home/ada/photos"), without_folders("scenes")
        ('coco:photos', 'scenes')
    """
    kind, colon, path = spec.partition(":")
    return f"{kind}{colon}{Path(path).name}"
