"""From images to batches, such that a run can stop anywhere and go on as if it never had.

There is no state of a random generator to save: which images make a batch is a function of the
seed, the epoch and the batch, and how an image is cropped and coloured is one of the seed, the
epoch and the image. So it does not matter how many workers load, or where a run was killed.
"""

from collections.abc import Iterator
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from tbc_models.data import Data, Images
from tbc_models.training.recipes import Recipe, Transform, to_evaluate, to_train


def seed_of(*numbers: int) -> int:
    """Make one seed of several numbers, so that near numbers give unrelated seeds.

    Args:
        numbers: not negative; zeros at the end do not count.

    Returns:
        A seed of 63 bits.

    Example:
        >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Batches(Sampler[list[tuple[int, int]]]):
    """Which images make which batch: a new order every epoch, cut into whole batches.

    A batch is divided among the processes of a run, so that all of them together see what one
    process alone would have seen. Images that fill no batch wait for the next epoch's order.

    Args:
        images: how many there are.
        batch_size: images of a batch, over all processes.
        seed: of the orders.
        rank: which of the processes this is.
        ranks: how many processes there are.

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
        self.sampler = self  # where Lightning looks for `set_epoch`

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
    """Images to train with, each changed as the seed, the epoch and its index say.

    Args:
        images: that are there.
        transform: from an image as it is stored to what the network sees.
        seed: of all changes.

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
    """Images to test with: only resized and normalised.

    Args:
        images: that are there.
        transform: from an image as it is stored to what the network sees.

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


class ResumableLoader(DataLoader[tuple[Tensor, int]]):
    """A loader of `Batches` that tells in a checkpoint where it is, and goes on from there.

    Args:
        images: to train with.
        batches: which images make which batch.
        arguments: of torch's DataLoader.

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

    def __init__(self, images: Augmented, batches: Batches, **arguments: Any) -> None:
        super().__init__(images, batch_sampler=batches, **arguments)

    def __iter__(self) -> Any:
        # A generator: nothing is fetched before Lightning has set the epoch.
        self.given = self.batch_sampler.first
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Tell what was given: the batches of this epoch, not those that workers hold ready."""
        return {"epoch": self.batch_sampler.epoch, "batch": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that were given; after a whole epoch, with the next."""
        self.batch_sampler.set_epoch(state["epoch"])
        self.batch_sampler.first = state["batch"] % len(self.batch_sampler)


class LabelledImages(L.LightningDataModule):
    """The loaders of a run, for Lightning.

    Args:
        data: images to train and test with.
        recipe: how they are augmented, and the batch size over all processes.
        seed: of the order and the augmentation.
        size: pixels of an image as the network sees it; left out, the data's own.
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
        super().__init__()
        self.data, self.recipe, self.seed, self.workers = data, recipe, seed, workers
        self.size = size or data.size

    def train_dataloader(self) -> ResumableLoader:
        """Load this process's part of each batch."""
        rank, ranks = self._place()
        images = Augmented(self.data.train, to_train(self.recipe, self.data, self.size), self.seed)
        batches = Batches(len(images), self.recipe.batch_size, self.seed, rank=rank, ranks=ranks)
        return ResumableLoader(
            images,
            batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Load every ranks-th test image, each exactly once."""
        rank, ranks = self._place()
        images = Unchanged(self.data.test, to_evaluate(self.recipe, self.data, self.size))
        return DataLoader(
            Subset(images, range(rank, len(images), ranks)),
            batch_size=max(1, self.recipe.batch_size // ranks),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    test_dataloader = val_dataloader

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
