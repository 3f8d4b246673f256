"""Batches of images with instances, reproducible wherever a run was stopped."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_dtype, to_image

from tbc_models.data.instances import ImagesWithInstances, InstanceData, Target
from tbc_models.training.loading import DividedImages, seed_of

Pictures = tuple[tuple[Tensor, ...], tuple[Target, ...]]
_LEARNED = ("boxes", "labels", "masks")


class TrainingImages(Dataset[tuple[Tensor, Target]]):
    """Training images, mirrored at random as the seed, the epoch and the index determine.

    Regions of crowds are left out. A target also holds the `seed` from which the detector samples
    boxes of this image.

    Args:
        images: the images as they are stored.
        mirror: whether to mirror one in two.
        masks: whether masks are learned.
        seed: seed of every random choice.

    Example:
        >>> from tbc_models.data.scenes import Scenes
        >>> scenes = Scenes("train", 9)
        >>> image, target = TrainingImages(scenes, mirror=False, masks=True, seed=0)[0, 3]
        >>> image.dtype, sorted(target)
        (torch.float32, ['boxes', 'labels', 'masks', 'seed'])
    """

    def __init__(
        self, images: ImagesWithInstances, *, mirror: bool, masks: bool, seed: int
    ) -> None:
        self.images, self.mirror, self.seed = images, mirror, seed
        self.learned = _LEARNED if masks else _LEARNED[:2]
        self.flip = v2.RandomHorizontalFlip()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Target]:
        epoch, index = key
        stored, objects = self.images[index]
        image = _as_float(stored)
        single = objects["iscrowd"] == 0
        target = {name: objects[name][single] for name in self.learned}
        if self.mirror:
            wrapped = dict(target)
            wrapped["boxes"] = tv_tensors.BoundingBoxes(
                target["boxes"],
                format="XYXY",
                canvas_size=(image.shape[-2], image.shape[-1]),
            )
            if "masks" in target:
                wrapped["masks"] = tv_tensors.Mask(target["masks"])
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed_of(self.seed, epoch, index))
                image, wrapped = self.flip(tv_tensors.Image(image), wrapped)
            image = image.as_subclass(Tensor)
            target = {name: value.as_subclass(Tensor) for name, value in wrapped.items()}
        return image, target | {"seed": seed_of(self.seed, epoch, index, 2)}


class TestImages(Dataset[tuple[Tensor, Target]]):
    """Test images as they are stored, with all their objects.

    Args:
        images: the images as they are stored.

    Example:
        >>> from tbc_models.data.scenes import Scenes
        >>> TestImages(Scenes("test", 9))[3][0].dtype
        torch.float32
    """

    __test__ = False  # no test of pytest

    def __init__(self, images: ImagesWithInstances) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        stored, objects = self.images[index]
        return _as_float(stored), objects


def _as_lists(batch: Sequence[tuple[Tensor, Target]]) -> Pictures:
    """Keep the images of a batch apart: each has a size and a number of objects of its own."""
    images, targets = zip(*batch, strict=True)
    return images, targets


class DetectionImages(DividedImages):
    """Images with instances for training and testing: lists of images and of targets.

    Args:
        data: images for training and testing.
        batch_size: images of a step, over all processes.
        masks: whether masks are learned.
        mirror: whether training images are mirrored at random.
        seed: seed of the order and of the augmentation.
        workers: processes that load images, for each process that trains.

    Example:
        >>> from tbc_models.data import open_instances
        >>> loaders = DetectionImages(
        ...     open_instances("scenes"), 4, masks=False, mirror=False, seed=0
        ... )
        >>> images, targets = next(iter(loaders.train_dataloader()))
        >>> len(images), "masks" in targets[0]
        (4, False)
    """

    collate = staticmethod(_as_lists)

    def __init__(
        self,
        data: InstanceData,
        batch_size: int,
        *,
        masks: bool,
        mirror: bool,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__(batch_size, seed=seed, workers=workers)
        self.data, self.masks, self.mirror = data, masks, mirror

    def training_images(self) -> TrainingImages:
        """Return the training images, mirrored at random if that is asked for."""
        return TrainingImages(self.data.train, mirror=self.mirror, masks=self.masks, seed=self.seed)

    def test_images(self) -> TestImages:
        """Return the test images."""
        return TestImages(self.data.test)


def _as_float(stored: Any) -> Tensor:
    image: Tensor = to_dtype(to_image(stored), torch.float32, scale=True).as_subclass(Tensor)
    return image
