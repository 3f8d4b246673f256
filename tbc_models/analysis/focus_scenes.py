"""Crowded scenes for classifiers: white digits on black, each with a black border around it.

A classifier learns one class for each image, which a crowded scene does not have. So it is trained
on scenes with one digit, and then looks at scenes with three. The places and overlaps are those of
`tbc_models.data.scenes`, but not its colours and noise, which take a detector's training to learn.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tbc_models.analysis.focus_study import Objects
from tbc_models.data.instances import Target
from tbc_models.data.scenes import CLASSES, Scenes

SIZE = 48
"""Height and width of the scenes in pixels."""

BINS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6)
"""Edges of the bins of the occlusion ratio r."""


def drawn_in_white(target: Target) -> Tensor:
    """Draw the digits of a scene in white on black, later ones over earlier ones.

    A border of one black pixel keeps a digit apart from what it hides.

    Args:
        target: of `Scenes`.

    Returns:
        The image, (3, H, W), uint8.

    Example:
        >>> _, target = Scenes("test", 1, objects=2)[0]
        >>> drawn_in_white(target).unique().tolist()
        [0, 255]
    """
    image = torch.zeros(target["full_masks"].shape[1:])
    for mask in target["full_masks"].float():
        bordered = F.max_pool2d(mask[None], 3, stride=1, padding=1)[0]
        image = torch.where(bordered > 0, mask, image)
    return (image * 255).byte().expand(3, -1, -1)


def write_single_digits(folder: str | Path, *, train: int = 5000, test: int = 500) -> None:
    """Write scenes with one digit each, for `tbc train --data imagefolder:FOLDER`.

    Args:
        folder: where train/DIGIT/NUMBER.png and val/DIGIT/NUMBER.png are written; existing files
            are replaced.
        train: number of scenes for training.
        test: number of scenes for testing, whose digits are others.

    Raises:
        OSError: if the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_single_digits(folder, train=3, test=1)
        >>> len(list(folder.glob("train/*/*.png")))
        3
    """
    singles = {
        "train": Scenes("train", train, size=SIZE, objects=1),
        "val": Scenes("test", test, size=SIZE, objects=1),
    }
    for name, scenes in singles.items():
        for digit in CLASSES:
            (Path(folder) / name / digit).mkdir(parents=True, exist_ok=True)
        for number in range(len(scenes)):
            _, target = scenes[number]
            digit = CLASSES[int(target["labels"][0]) - 1]
            drawn = Image.fromarray(drawn_in_white(target)[0].numpy())
            drawn.save(Path(folder) / name / digit / f"{number:05}.png")


def crowded_scenes(count: int, bins: Sequence[float] = BINS) -> Iterator[tuple[Tensor, Target]]:
    """Make scenes of three digits, which no training scene shows.

    Args:
        count: number of scenes in each bin.
        bins: ascending edges of the bins of r, the occlusion ratio of the boxes.

    Yields:
        Each scene as `drawn_in_white` gives it, and its objects; those of the first bin first.

    Example:
        >>> [image.shape for image, _ in crowded_scenes(1, [0, 0.1])]
        [torch.Size([3, 48, 48])]
    """
    for place, ends in enumerate(pairwise(bins)):
        scenes = Scenes("test", count, size=SIZE, objects=3, occlusion=ends, seed=1 + place)
        for number in range(count):
            _, target = scenes[number]
            yield drawn_in_white(target), target


def objects_in_scenes(count: int, bins: Sequence[float] = BINS) -> Objects:
    """Collect what is visible of each class of digits in `crowded_scenes`.

    Args:
        count: number of scenes in each bin.
        bins: ascending edges of the bins of r.

    Returns:
        The objects, with the parts "all" and "r LOW to HIGH". Digits of one class in a scene are
        one object.

    Example:
        >>> objects = objects_in_scenes(2, [0, 0.1])
        >>> list(objects.parts), objects.masks.shape == objects.images[:, 0].shape
        (['all', 'r 0 to 0.1'], True)
    """
    images, masks, targets, present, sources, places = [], [], [], [], [], []
    for number, (drawn, scene) in enumerate(crowded_scenes(count, bins)):
        image = drawn.float() / 255
        labels = scene["labels"] - 1
        shown = np.isin(np.arange(len(CLASSES)), labels)
        for label in labels.unique().tolist():
            # The black border of a later digit hides a little more than the digit.
            mask = scene["masks"][labels == label].amax(0) * image[0]
            if not mask.any():
                continue
            images.append(image)
            masks.append(mask)
            targets.append(label)
            present.append(shown)
            sources.append(number)
            places.append(number // count)
    place = np.array(places)
    parts = {"all": np.ones(len(place), bool)}
    for i, (low, high) in enumerate(pairwise(bins)):
        parts[f"r {low:g} to {high:g}"] = place == i
    return Objects(
        images=torch.stack(images),
        masks=torch.stack(masks),
        targets=torch.tensor(targets),
        present=np.stack(present),
        sources=np.array(sources),
        parts=parts,
    )
