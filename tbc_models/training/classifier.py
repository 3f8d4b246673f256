"""One step of training and one of testing, for Lightning; and the average of the weights."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchvision.transforms import v2

from tbc_models.training.loading import seed_of
from tbc_models.training.recipes import Recipe, optimizer

Batch = tuple[Tensor, Tensor]


class DivergedError(ArithmeticError):
    """A loss or a weight is infinite or not a number."""

    option = "lr"
    """The parameter that would avoid it."""


class Learner(L.LightningModule):
    """What learns in a run that can be stopped and resumed.

    Every step starts from a random state that depends on the seed, the step and the process only.
    So dropout and mixup are the same in a run that was stopped and resumed.

    Args:
        seed: seed of every random choice in a step.
        settings: settings of the run, stored in its checkpoints.
    """

    def __init__(self, seed: int, settings: dict[str, Any] | None) -> None:
        super().__init__()
        self.seed = seed
        self.save_hyperparameters(settings or {})

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Start the step from its own random state."""
        torch.manual_seed(seed_of(self.seed, self.global_step, self.global_rank, 1))

    def log_loss(self, loss: Tensor) -> None:
        """Log the loss of a step; stop the run if it is not finite.

        Args:
            loss: a number, of this process.

        Raises:
            DivergedError: in all processes, if the loss of one is not finite.
        """
        # Summed over all processes, so that all of them stop if one diverges.
        total = cast("Tensor", self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="sum"))
        if not total.isfinite():
            raise DivergedError(f"the loss is {total.item():.3g} at step {self.global_step + 1}")
        self.log("train/loss", loss.detach())


class Teaching(NamedTuple):
    """How a trained network, the teacher, takes part in the loss (Hinton et al. 2015).

    The loss becomes (1 − w) · L + w · T² · KL(softmax(teacher / T) ‖ softmax(network / T)), where L
    compares with the labels, and T² keeps the gradients as large as without a temperature. A
    `NamedTuple`, so that PyTorch does not take the teacher for a part of the network: checkpoints
    and averages are without it.

    Attributes:
        teacher: in evaluation mode; it sees the same augmented images.
        temperature: T, which softens both outputs.
        weight: w, from 0 to 1.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> teaching = Teaching(lambda images: logits, temperature=4.0, weight=0.5)
        >>> teaching.loss(torch.tensor(0.6), torch.zeros(1, 3, 8, 8), logits)
        tensor(0.3000)
    """

    teacher: nn.Module
    temperature: float
    weight: float

    def loss(self, loss: Tensor, images: Tensor, logits: Tensor) -> Tensor:
        """Mix the loss of a batch with the distance of its logits from the teacher's.

        Args:
            loss: that compares with the labels, a number.
            images: the batch, (N, C, H, W).
            logits: outputs of the network that learns, (N, classes).

        Returns:
            The loss, a number.
        """
        with torch.no_grad():
            soft_targets = (self.teacher(images).float() / self.temperature).log_softmax(1)
        softened = (logits.float() / self.temperature).log_softmax(1)
        distance = F.kl_div(softened, soft_targets, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * distance


class Classifier(Learner):
    """A network that learns to tell classes apart.

    Args:
        network: maps images (N, C, H, W) to logits (N, classes).
        recipe: how it is trained.
        classes: number of classes.
        steps: steps of an epoch.
        seed: seed of every random choice in a step.
        channels_last: whether images are stored in the channels-last memory format; the network's
            weights should be, too.
        compile: whether to compile the network before the first step.
        settings: settings of the run, stored in its checkpoints.
        teaching: a trained network whose outputs are targets too.

    Example:
        >>> from tbc_models.training.recipes import RECIPES
        >>> learner = Classifier(nn.Flatten(), RECIPES["small"], classes=4, steps=1, seed=0)
        >>> images, labels = torch.eye(4).reshape(4, 1, 2, 2), torch.arange(4)
        >>> round(learner.loss(learner(images), labels).item(), 3)
        0.744
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        classes: int,
        steps: int,
        seed: int,
        channels_last: bool = False,
        compile: bool = False,
        settings: dict[str, Any] | None = None,
        teaching: Teaching | None = None,
    ) -> None:
        super().__init__(seed, settings)
        self.teaching = teaching
        self.network, self.recipe, self.steps = network, recipe, steps
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.compiled = compile
        mixed = v2.MixUp(alpha=recipe.mixup, num_classes=classes) if recipe.mixup else None
        self.mix: Callable[[Tensor, Tensor], Batch] = mixed or _unmixed
        self.scores = MetricCollection(
            {
                "top-1": MulticlassAccuracy(classes, average="micro"),
                "top-5": MulticlassAccuracy(classes, average="micro", top_k=min(5, classes)),
            },
            prefix="test/",
        )
        self.mean_loss = MeanMetric()
        self.confusion = MulticlassConfusionMatrix(classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, classes) of images (N, C, H, W)."""
        return cast("Tensor", self.network(images.contiguous(memory_format=self.memory_format)))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean cross entropy; targets are labels, or probabilities after mixup."""
        return F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule, which Lightning steps after every batch."""
        sgd, schedule = optimizer(self.network, self.recipe, self.steps)
        return [sgd], [{"scheduler": schedule, "interval": "step"}]

    def on_train_start(self) -> None:
        """Move the teacher; compile the network in place, so its parameters keep their names."""
        if self.teaching:
            self.teaching.teacher.to(self.device).to(memory_format=self.memory_format)
        if self.compiled:
            self.network.compile()

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of a batch; stop if it is not finite."""
        images, targets = self.mix(*batch)
        logits = self(images)
        loss = self.loss(logits, targets)
        if self.teaching:
            loss = self.teaching.loss(loss, images, logits)
        self.log_loss(loss)
        return {"loss": loss, "top-1": (logits.argmax(1) == batch[1]).double().mean()}

    def validation_step(self, batch: Batch) -> Tensor:
        """Score a batch of test images; the loss is without label smoothing."""
        images, labels = batch
        logits = cast("Tensor", self(images))
        self.scores.update(logits, labels)
        self.mean_loss.update(F.cross_entropy(logits, labels), weight=len(images))
        self.log("test/loss", self.mean_loss)
        self.log_dict(self.scores)
        return logits

    def test_step(self, batch: Batch) -> None:
        """Score a batch, and count which class was predicted for which."""
        self.confusion.update(self.validation_step(batch), batch[1])


def _unmixed(images: Tensor, labels: Tensor) -> Batch:
    return images, labels


def average(decay: float, device: str = "cpu") -> WeightAveraging:
    """Keep an exponential moving average of the weights, which is tested instead of the last ones.

    The decay rises from 0.1 to its value, as (1 + n) / (10 + n) after n steps, so that a short
    training does not remember its random start.

    Args:
        decay: decay of the average in each step.
        device: where the average is kept: "cuda" is the device of each process.

    Returns:
        The callback for Lightning; checkpoints hold both the average and the weights.

    Example:
        >>> isinstance(average(0.999), WeightAveraging)
        True
    """

    def update(averages: Any, weights: Any, step: Any) -> None:
        if averages[0].is_floating_point():
            rising = (1 + int(step)) / (10 + int(step))
            get_ema_multi_avg_fn(min(decay, rising))(averages, weights, step)
        else:  # counters of batch normalisation
            for mean, counter in zip(averages, weights, strict=True):
                mean.copy_(counter)

    return WeightAveraging(device, multi_avg_fn=torch.no_grad()(update))
