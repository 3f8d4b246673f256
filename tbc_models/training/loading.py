"""From images to batches, so that a run can stop anywhere and resume as if it never had.

No state of a random generator needs saving: the images of a batch are a function of the seed, the
epoch and the batch, and the crop and the colours of an image are a function of the seed, the epoch
and the image. So it does not matter how many workers load images, or where a run was killed.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from tbc_models.data import Data, Images
from tbc_models.training.recipes import Recipe, Transform, to_evaluate, to_train

STREAMS = 2
"""Version of the random streams, to be raised when the same seeds give other batches or other
augmentation. Version 1 gave some seeds of different length the same stream."""


def seed_of(*numbers: int) -> int:
    """Combine several numbers into one seed; different numbers give unrelated seeds.

    Args:
        numbers: integers, such as a seed, an epoch and the index of an image.

    Returns:
        A seed of 63 bits.

    Example:
        >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
        (True, False)
        >>> seed_of(0, 1) == seed_of(0, 1, 0)
        False
    """
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


class Batches(Sampler[list[tuple[int, int]]]):
    """The images of each batch: a new order every epoch, cut into full batches.

    A batch is divided among the processes of a run, so that together they see the same images as
    one process would. Images left over after the last full batch are not used in that epoch.

    Args:
        images: number of images.
        batch_size: images of a batch, over all processes.
        seed: seed of the orders.
        rank: index of this process.
        ranks: number of processes.

    Example:
        >>> whole = Batches(images=10, batch_size=4, seed=0)
        >>> halves = [Batches(images=10, batch_size=4, seed=0, rank=r, ranks=2) for r in (0, 1)]
        >>> [sorted(a + b) for a, b in zip(*halves)] == [sorted(batch) for batch in whole]
        True
    """

    def __init__(
        self, images: int, batch_size: int, seed: int, *, rank: int = 0, ranks: int = 1
    ) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = self.first = 0
        self.sampler = self  # Lightning looks there for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.images // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(self.images, generator=generator).tolist()
        first, self.first = self.first, 0
        for batch in range(first, len(self)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, index) for index in whole[self.rank :: self.ranks]]


class Augmented(Dataset[tuple[Tensor, int]]):
    """Training images, each augmented as the seed, the epoch and its index determine.

    Args:
        images: the images as they are stored.
        transform: turns a stored image into what the network sees.
        seed: seed of the augmentation.

    Example:
        >>> from torchvision.transforms import v2
        >>> turned = Augmented([(torch.arange(9), 0)], v2.RandomApply([torch.flipud]), seed=0)
        >>> all(bool((turned[e, 0][0] == turned[e, 0][0]).all()) for e in range(9))
        True
    """

    def __init__(self, images: Images, transform: Transform, seed: int) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image, label = self.images[index]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.seed, epoch, index))
            return self.transform(image), label


class Unchanged(Dataset[tuple[Tensor, int]]):
    """Test images: only resized and normalised.

    Args:
        images: the images as they are stored.
        transform: turns a stored image into what the network sees.

    Example:
        >>> len(Unchanged([(torch.zeros(9), 0)], lambda image: image))
        1
    """

    def __init__(self, images: Images, transform: Transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label


class ResumableLoader(DataLoader[Any]):
    """A loader of `Batches` that stores its position in a checkpoint and continues from there.

    Args:
        images: training images.
        batches: which images are in which batch.
        arguments: arguments of torch's DataLoader.

    Example:
        >>> batches = Batches(images=10, batch_size=2, seed=0)
        >>> images = Augmented([(torch.tensor(i), i) for i in range(10)], lambda i: i, seed=0)
        >>> loader = ResumableLoader(images, batches)
        >>> through = iter(loader)
        >>> _ = next(through), next(through)
        >>> other = ResumableLoader(images, Batches(images=10, batch_size=2, seed=0))
        >>> other.load_state_dict(loader.state_dict())
        >>> bool((next(iter(other))[1] == next(through)[1]).all())
        True
    """

    batch_sampler: Batches

    def __init__(self, images: Dataset[Any], batches: Batches, **arguments: Any) -> None:
        super().__init__(images, batch_sampler=batches, **arguments)
        self.yielded = batches.first

    def __iter__(self) -> Any:
        # A generator, so that nothing is loaded before Lightning has set the epoch.
        self.yielded = self.batch_sampler.first
        for batch in super().__iter__():
            self.yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were yielded, not loaded ahead."""
        return {"epoch": self.batch_sampler.epoch, "batch": self.yielded}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after the batches that were yielded; after the last one, with a new epoch."""
        self.batch_sampler.set_epoch(state_dict["epoch"])
        self.yielded = state_dict["batch"]
        self.batch_sampler.first = self.yielded % len(self.batch_sampler)


class DividedImages(L.LightningDataModule):
    """The loaders of a run, for Lightning, divided among its processes.

    Args:
        batch_size: images of a step, over all processes.
        seed: seed of the order of the training images.
        workers: processes that load images, for each process that trains.
    """

    collate: Callable[[Any], Any] | None = None
    """How the images of a batch are put together; by default they are stacked."""

    def __init__(self, batch_size: int, *, seed: int, workers: int = 0) -> None:
        super().__init__()
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def training_images(self) -> Dataset[Any]:
        """Return the training images, indexed by epoch and number."""
        raise NotImplementedError

    def test_images(self) -> Dataset[Any]:
        """Return the test images."""
        raise NotImplementedError

    def train_dataloader(self) -> ResumableLoader:
        """Load the part of each training batch that belongs to this process."""
        rank, ranks = self._place()
        images: Any = self.training_images()
        batches = Batches(len(images), self.batch_size, self.seed, rank=rank, ranks=ranks)
        return ResumableLoader(images, batches, **self._options())

    def val_dataloader(self) -> DataLoader[Any]:
        """Load this process's share of the test images; each image is tested exactly once."""
        rank, ranks = self._place()
        images: Any = self.test_images()
        return DataLoader(
            Subset(images, range(rank, len(images), ranks)),
            batch_size=max(1, self.batch_size // ranks),
            **self._options(),
        )

    test_dataloader = val_dataloader

    def _options(self) -> dict[str, Any]:
        return {
            "collate_fn": self.collate,
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)


class LabelledImages(DividedImages):
    """Labelled images for training and testing.

    Args:
        data: images for training and testing.
        recipe: how they are augmented, and the batch size over all processes.
        seed: seed of the order and the augmentation.
        size: height and width of the images that the network sees; by default the data's own.
        workers: processes that load images, for each process that trains.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> images = LabelledImages(open_data("digits"), RECIPES["small"], seed=0)
        >>> [tuple(x.shape) for x in next(iter(images.val_dataloader()))]
        [(128, 1, 8, 8), (128,)]
    """

    def __init__(
        self, data: Data, recipe: Recipe, *, seed: int, size: int | None = None, workers: int = 0
    ) -> None:
        super().__init__(recipe.batch_size, seed=seed, workers=workers)
        self.data, self.recipe = data, recipe
        self.size = size or data.size

    def training_images(self) -> Augmented:
        """Return the training images, augmented as the recipe says."""
        return Augmented(self.data.train, to_train(self.recipe, self.data, self.size), self.seed)

    def test_images(self) -> Unchanged:
        """Return the test images, resized and normalised."""
        return Unchanged(self.data.test, to_evaluate(self.recipe, self.data, self.size))
