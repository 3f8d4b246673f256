"""How a detector is trained: the schedules of the paper's framework, and one for small images."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class DetectionRecipe:
    """How a detector is trained: everything but the detector, the data and the seed.

    Attributes:
        epochs: number of passes over the training images.
        batch_size: images of a step, over all processes.
        lr: learning rate after the warm-up, for `batch_size`.
        optimizer: "sgd" with a momentum of 0.9, or "adamw".
        schedule: "steps" divides the learning rate by 10 after two thirds and eleven twelfths of
            the epochs; "cosine" lowers it to zero, a little in every step.
        warmup: steps in which the learning rate rises from nearly zero; at most one epoch.
        weight_decay: weight decay of all parameters.
        clip: largest norm of the gradient of all parameters; 0 for no limit.
        small: whether the detector is the small variant.
        min_size: pixels that the short edge of an image is scaled to ...
        max_size: ... unless its long edge would then exceed this.
    """

    epochs: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["steps", "cosine"] = "steps"
    warmup: int = 500
    weight_decay: float = 1e-4
    clip: float = 0.0
    small: bool = False
    min_size: int = 800
    max_size: int = 1333

    def rate(self, step: int, steps: int) -> float:
        """Compute the learning rate of a step, relative to `lr`.

        Args:
            step: number of steps before it.
            steps: number of steps of an epoch.

        Returns:
            A factor from 0 to 1.

        Example:
            >>> [DETECTION_RECIPES["1x"].rate(epoch * 7330, 7330) for epoch in (0, 1, 8, 11)]
            [0.002, 1.0, 0.1, 0.01]
        """
        rising = min(1.0, (step + 1) / min(self.warmup, steps))
        if self.schedule == "cosine":
            return rising * (1 + math.cos(math.pi * step / (self.epochs * steps))) / 2
        epoch = step // steps
        # In integers, as 2/3 and 11/12 of an epoch number are not exact.
        drops = (3 * epoch >= 2 * self.epochs) + (12 * epoch >= 11 * self.epochs)
        return rising * (1.0, 0.1, 0.01)[drops]


DETECTION_RECIPES = {
    "1x": DetectionRecipe(epochs=12, batch_size=16, lr=0.02),
    "2x": DetectionRecipe(epochs=24, batch_size=16, lr=0.02),
    "small": DetectionRecipe(
        epochs=4,
        batch_size=8,
        lr=1e-3,
        optimizer="adamw",
        schedule="cosine",
        warmup=50,
        clip=5.0,
        small=True,
        min_size=96,
        max_size=160,
    ),
}
"""`1x` and `2x` are those of the framework that the paper used (Chen et al. 2019): SGD with 0.02
for 16 images, a warm-up of 500 steps, and a tenth of the rate after 8 and 11 of 12, or 16 and 22
of 24 epochs. The paper reports `2x`. `small` is ours, for images of about 100 pixels on a CPU."""


def detection_optimizer(
    detector: nn.Module, recipe: DetectionRecipe, steps: int
) -> tuple[Optimizer, LambdaLR]:
    """Make the optimizer of a recipe and the schedule of its learning rate.

    Args:
        detector: the detector to train; frozen parameters are left out.
        recipe: learning rate, weight decay and schedule.
        steps: steps of one epoch.

    Returns:
        The optimizer, and the schedule, to be stepped after every batch.

    Example:
        >>> sgd, _ = detection_optimizer(nn.Linear(2, 2), DETECTION_RECIPES["1x"], steps=7330)
        >>> round(sgd.param_groups[0]["lr"], 6)  # the first step of the warm-up
        4e-05
    """
    trained = [p for p in detector.parameters() if p.requires_grad]
    optimizer: Optimizer
    if recipe.optimizer == "adamw":
        optimizer = AdamW(trained, lr=recipe.lr, weight_decay=recipe.weight_decay)
    else:
        optimizer = SGD(trained, lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    return optimizer, LambdaLR(optimizer, lambda step: recipe.rate(step, steps))
