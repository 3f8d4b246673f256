"""How a network is trained: the paper's recipe, a stronger one, and one for small images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms import v2

Transform = Callable[[Any], Tensor]


class Pixels(Protocol):
    """What the preparation of images depends on: attributes that `Data` and `Settings` share."""

    @property
    def mean(self) -> Sequence[float]:
        """Mean of each channel, in [0, 1]."""

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation of each channel, in [0, 1]."""

    @property
    def mirror(self) -> bool:
        """Whether training images are mirrored at random."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: everything but the network, the data and the seed.

    Attributes:
        epochs: number of passes over the training images.
        batch_size: images of a step, over all processes.
        lr: learning rate at the start, or after the warm-up, for `batch_size`.
        weight_decay: weight decay of all parameters.
        schedule: "steps" divides the learning rate by 10 after 30 %, 60 % and 90 % of the epochs;
            "cosine" lowers it to zero, a little in every step.
        crop: "resized" takes a random part at a random scale; "shifted" moves the image by up to
            an eighth of its size.
        warmup: fraction of the training in which the learning rate rises from zero.
        label_smoothing: probability that is spread over all classes.
        mixup: parameter of the Beta distribution from which the weights of mixed images are drawn;
            0 for no mixup.
        randaugment: number of random operations on each image; 0 for none.
        ema: decay of the average of the weights, which is tested instead of the weights; 0 for no
            average.
        momentum: momentum of SGD.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: Literal["steps", "cosine"]
    crop: Literal["resized", "shifted"]
    warmup: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    randaugment: int = 0
    ema: float = 0.0
    momentum: float = 0.9

    def rate(self, progress: float) -> float:
        """Compute the learning rate after a part of the training, relative to `lr`.

        Args:
            progress: number of epochs that have passed, with fractions.

        Returns:
            A factor from 0 to 1.

        Example:
            >>> [round(RECIPES["paper"].rate(epoch), 3) for epoch in (0, 29, 30, 60, 90)]
            [1.0, 1.0, 0.1, 0.01, 0.001]
        """
        if self.schedule == "steps":
            return float(0.1 ** (10 * progress // (3 * self.epochs)))
        rising = self.warmup * self.epochs
        if progress < rising:
            return progress / rising
        return (1 + math.cos(math.pi * (progress - rising) / (self.epochs - rising))) / 2


RECIPES = {
    "paper": Recipe(
        epochs=100, batch_size=256, lr=0.1, weight_decay=1e-4, schedule="steps", crop="resized"
    ),
    "strong": Recipe(
        epochs=300,
        batch_size=256,
        lr=0.1,
        weight_decay=1e-4,
        schedule="cosine",
        crop="resized",
        warmup=5 / 300,
        label_smoothing=0.1,
        mixup=0.2,
        randaugment=2,
        ema=0.9999,
    ),
    "small": Recipe(
        epochs=20,
        batch_size=128,
        lr=0.1,
        weight_decay=5e-4,
        schedule="cosine",
        crop="shifted",
        warmup=0.05,
    ),
}
"""The paper (section Implementation) gives these parts of `paper`: SGD with a momentum of 0.9,
batches of 256, a learning rate of 0.1 divided by 10 every 30 epochs, 100 epochs, and "random
cropping". It does not give the weight decay or mention mirroring: our weight decay, mirroring and
random resized crop are standard practice for ResNets on ImageNet. For the rows marked † the paper
lists "larger epochs, label smoothing, cosine learning scheduler and heavier data augmentation"
without numbers; those of `strong` are ours. `small`, for images of 8 to 64 pixels, is ours as well.
"""


def usual_recipe(size: int) -> str:
    """Name the recipe that suits images of a size.

    Args:
        size: height and width in pixels of what the network sees.

    Returns:
        "small" for images of up to 64 pixels, otherwise "paper".

    Example:
        >>> usual_recipe(32), usual_recipe(224)
        ('small', 'paper')
    """
    return "small" if size <= 64 else "paper"


def optimizer(network: nn.Module, recipe: Recipe, steps: int) -> tuple[SGD, LambdaLR]:
    """Make SGD and the schedule of its learning rate.

    Args:
        network: the network to train.
        recipe: learning rate, momentum, weight decay and schedule.
        steps: steps of one epoch.

    Returns:
        The optimizer, and the schedule, to be stepped after every batch.

    Example:
        >>> sgd, schedule = optimizer(nn.Linear(2, 2), RECIPES["paper"], steps=10)
        >>> sgd.param_groups[0]["lr"]
        0.1
    """
    sgd = SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    by_step = recipe.schedule == "cosine"

    def factor(step: int) -> float:
        return recipe.rate(step / steps if by_step else step // steps)

    return sgd, LambdaLR(sgd, factor)


def to_train(recipe: Recipe, data: Pixels, size: int) -> Transform:
    """Make the random transform that prepares a stored image for training.

    Args:
        recipe: how images are augmented.
        data: the data set of the images, or the settings of a run on it.
        size: height and width in pixels of what the network sees.

    Returns:
        A function from a PIL image or a uint8 tensor (C, H, W) to a normalised tensor
        (C, size, size). It draws from PyTorch's default generator.

    Example:
        >>> from tbc_models.data import open_data
        >>> data = open_data("digits")
        >>> tuple(to_train(RECIPES["small"], data, 16)(data.train[0][0]).shape)
        (1, 16, 16)
    """
    steps: list[Any] = [v2.ToImage()]
    if recipe.crop == "resized":
        steps.append(v2.RandomResizedCrop(size))
    else:
        steps += [v2.Resize(size), v2.CenterCrop(size)]
        steps.append(v2.RandomCrop(size, padding=max(1, size // 8)))
    if data.mirror:
        steps.append(v2.RandomHorizontalFlip())
    if recipe.randaugment:
        steps.append(v2.RandAugment(recipe.randaugment))
    return _then_normalise(steps, data)


def to_evaluate(recipe: Recipe, data: Pixels, size: int) -> Transform:
    """Make the transform that prepares a stored image for testing.

    Args:
        recipe: recipe that the network is trained with. If it trains on random parts of images, an
            eighth of a tested one is cut off at the borders (256 → 224 pixels), as is usual on
            ImageNet.
        data: the data set that the network is trained on, or the settings of that run.
        size: height and width in pixels of what the network sees.

    Returns:
        A function from a PIL image or a uint8 tensor (C, H, W) to a normalised tensor
        (C, size, size).

    Example:
        >>> from tbc_models.data import open_data
        >>> data = open_data("digits")
        >>> tuple(to_evaluate(RECIPES["small"], data, 8)(data.test[0][0]).shape)
        (1, 8, 8)
    """
    whole = size * 8 // 7 if recipe.crop == "resized" else size
    steps = [v2.ToImage(), v2.Resize(whole), v2.CenterCrop(size)]
    return _then_normalise(steps, data)


def _then_normalise(steps: list[Any], data: Pixels) -> Transform:
    steps = [*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)]
    return cast("Transform", v2.Compose([*steps, v2.ToPureTensor()]))
