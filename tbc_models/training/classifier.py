"""One step of training and one of testing, for Lightning; and the average of the weights."""

from typing import Any

import lightning as L  # noqa: N812
import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchvision.transforms import v2

from tbc_models.training.loading import seed_of
from tbc_models.training.recipes import Recipe, optimizer

Batch = tuple[Tensor, Tensor]


class DivergedError(ArithmeticError):
    """A loss or a weight is infinite or not a number.

    Args:
        message: where, in one line.

    Example:
        >>> raise DivergedError("the loss is nan at step 3")
        Traceback (most recent call last):
        ...
        tbc_models.training.classifier.DivergedError: the loss is nan at step 3
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class Classifier(L.LightningModule):
    """A network that learns to tell classes apart.

    Every step begins from a random state that the seed, the step and the process give. So dropout
    and mixup are the same whether the run was stopped before or not.

    Args:
        network: from images (N, C, H, W) to logits (N, classes).
        recipe: how it is trained.
        classes: how many there are.
        steps: of an epoch.
        seed: of all that is random in a step.
        channels_last: whether images are stored with their channels together, as the network's
            weights should then be as well.
        compile: whether the network is compiled before the first step.
        settings: what a checkpoint should tell of the run.

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
    ) -> None:
        super().__init__()
        self.save_hyperparameters(settings or {})
        self.network, self.recipe, self.steps, self.seed = network, recipe, steps, seed
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.compiled = compile
        mixup = v2.MixUp(alpha=recipe.mixup or 1.0, num_classes=classes)
        self.mix = mixup if recipe.mixup else _as_they_are
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
        logits: Tensor = self.network(images.contiguous(memory_format=self.memory_format))
        return logits

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the cross entropy, averaged over the images; targets are labels or mixtures."""
        return F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)

    def configure_optimizers(self) -> Any:
        """Give Lightning the optimizer, and the schedule to step with every batch."""
        sgd, schedule = optimizer(self.network, self.recipe, self.steps)
        return [sgd], [{"scheduler": schedule, "interval": "step"}]

    def on_train_start(self) -> None:
        """Compile the network in place, so that its parameters keep their names."""
        if self.compiled:
            self.network.compile()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Begin the step from its own random state."""
        torch.manual_seed(seed_of(self.seed, self.global_step, self.global_rank, 1))

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of a batch; stop if it is not finite."""
        images, targets = self.mix(*batch)
        logits = self(images)
        loss = self.loss(logits, targets)
        worst: Any = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="sum")
        if not torch.isfinite(worst):  # in any process: then all of them stop
            raise DivergedError(f"the loss is {worst.item():.3g} at step {self.global_step + 1}")
        correct = (logits.argmax(1) == batch[1]).sum()
        self.log("train/loss", loss.detach())
        return {"loss": loss, "correct": correct}

    def validation_step(self, batch: Batch) -> Tensor:
        """Score a batch of test images; the loss is without label smoothing."""
        images, labels = batch
        logits: Tensor = self(images)
        self.scores.update(logits, labels)
        self.mean_loss.update(F.cross_entropy(logits, labels), weight=len(images))
        self.log("test/loss", self.mean_loss)
        self.log_dict(self.scores)
        return logits

    def test_step(self, batch: Batch) -> None:
        """Score a batch, and count which class was taken for which."""
        self.confusion.update(self.validation_step(batch), batch[1])


def _as_they_are(images: Tensor, labels: Tensor) -> Batch:
    return images, labels


def average(decay: float) -> WeightAveraging:
    """Keep an exponential moving average of the weights, and test that instead of the last ones.

    The decay rises from 0.1 to its value, as (1 + n) / (10 + n) after n steps, so that a short
    training does not remember its random start.

    Args:
        decay: of the average, in each step.

    Returns:
        The callback for Lightning; checkpoints hold both the average and the weights.

    Example:
        >>> isinstance(average(0.999), WeightAveraging)
        True
    """

    def update(averages: Any, weights: Any, step: Any) -> None:
        kept = min(decay, (1 + int(step)) / (10 + int(step)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, weights, 1 - kept)
        else:  # counters of batch norm
            torch._foreach_copy_(averages, weights)

    return _Average(multi_avg_fn=torch.no_grad()(update))


class _Average(WeightAveraging):
    """Lightning makes the average before it moves the network: without this it stays on the CPU."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
