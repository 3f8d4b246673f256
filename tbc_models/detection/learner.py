"""One step of training a detector and one of testing it, for Lightning."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead

from tbc_models.detection.evaluation import coco_evaluations
from tbc_models.detection.fpn import BackboneWithFPN
from tbc_models.detection.loading import Pictures
from tbc_models.detection.recipes import DetectionRecipe, detection_optimizer
from tbc_models.training.classifier import Learner


class SeededSampler(BalancedPositiveNegativeSampler):  # type: ignore[misc] # no types
    """Samples boxes of each image from a seed of its own.

    So the sample depends neither on where a run was stopped nor on how many processes share a
    batch.

    Args:
        other: the sampler whose number of boxes and fraction of positive ones it keeps.

    Example:
        >>> sampler = SeededSampler(BalancedPositiveNegativeSampler(2, 0.5))
        >>> sampler.seeds = [7]
        >>> labels = [torch.tensor([1.0, 1, 1, 0, 0, 0])]
        >>> positive, _ = sampler(labels)
        >>> torch.equal(positive[0], sampler(labels)[0][0]), sampler.drawn
        (True, 2)
    """

    def __init__(self, other: BalancedPositiveNegativeSampler) -> None:
        super().__init__(other.batch_size_per_image, other.positive_fraction)
        self.seeds: list[int] = []
        self.last: list[Tensor] = []

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Choose positive and negative boxes of each image, as masks of its boxes."""
        positive, negative = [], []
        for seed, labels in zip(self.seeds, matched_idxs, strict=True):
            devices = [labels.device] if labels.is_cuda else []
            with torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                (some,), (others,) = super().__call__([labels])
            positive.append(some)
            negative.append(others)
        self.last = [*positive, *negative]
        return positive, negative

    @property
    def drawn(self) -> int:
        """Number of boxes in the last sample; asking for it waits for the device."""
        return int(sum((mask > 0).sum() for mask in self.last))


class DetectorLearner(Learner):
    """A detector that learns.

    Args:
        detector: a detector of torchvision or of ours.
        recipe: how it is trained.
        steps: steps of an epoch.
        seed: seed of every random choice in a step.
        masks: whether its masks are tested.
        settings: settings of the run, stored in its checkpoints.

    Example:
        >>> from tbc_models.detection import retinanet
        >>> from tbc_models.detection.recipes import DETECTION_RECIPES
        >>> detector = retinanet("tied_resnet14_s", 11, small=True)
        >>> learner = DetectorLearner(detector, DETECTION_RECIPES["small"], steps=1, seed=0)
        >>> len(learner.configure_optimizers())
        2
    """

    def __init__(
        self,
        detector: nn.Module,
        recipe: DetectionRecipe,
        *,
        steps: int,
        seed: int,
        masks: bool = False,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(seed, settings)
        self.detector, self.recipe, self.steps = detector, recipe, steps
        self.evaluations = coco_evaluations(masks)
        self.samplers: dict[str, SeededSampler] = {}
        self.masks_drawn = 0
        parts: Any = detector
        # Boxes and anchors take the dtype of these outputs, and bfloat16 rounds pixels to fours.
        for module in detector.modules():
            if isinstance(module, _PREDICTORS):
                module.register_forward_hook(_in_float32)
        if hasattr(detector, "rpn"):
            parts.rpn.fg_bg_sampler = self.samplers["rpn"] = SeededSampler(parts.rpn.fg_bg_sampler)
        if hasattr(detector, "roi_heads"):
            heads = parts.roi_heads
            heads.fg_bg_sampler = self.samplers["heads"] = SeededSampler(heads.fg_bg_sampler)
            if heads.has_mask():
                heads.mask_predictor.register_forward_pre_hook(self._count_masks)

    def _count_masks(self, _: nn.Module, arguments: tuple[Tensor]) -> None:
        self.masks_drawn = len(arguments[0])

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule, which Lightning steps after every batch."""
        optimizer, schedule = detection_optimizer(self.detector, self.recipe, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch: Pictures) -> dict[str, Tensor]:
        """Compute the losses of a batch; stop if they are not finite."""
        images, targets = batch
        for sampler in self.samplers.values():
            sampler.seeds = [target["seed"] for target in targets]
        losses: dict[str, Tensor] = self.detector(list(images), list(targets))
        shares = self._shares()
        loss = torch.stack([shares[_head(name)] * value for name, value in losses.items()]).sum()
        self.log_loss(loss)
        return {"loss": loss} | {name: value.detach() for name, value in losses.items()}

    def _shares(self) -> dict[str, float | Tensor]:
        """Weigh the losses of this process by its share of the boxes that they are means of.

        DDP gives the mean of the gradients of all processes. With these weights it is the gradient
        that one process with the whole batch would have.
        """
        if self.trainer.world_size == 1:
            return {"rpn": 1.0, "heads": 1.0, "masks": 1.0, "images": 1.0}
        own = {name: float(sampler.drawn) for name, sampler in self.samplers.items()}
        own["masks"] = float(self.masks_drawn)
        numbers = torch.tensor(list(own.values()), device=self.device)
        totals = self.trainer.strategy.reduce(numbers.clone(), reduce_op="mean")
        weights = torch.where(totals > 0, numbers / totals, 1.0)
        return {"images": 1.0} | dict(zip(own, weights, strict=True))

    def validation_step(self, batch: Pictures) -> None:
        """Detect the objects of test images and compare them with the true ones."""
        images, targets = batch
        found = self.detector(list(images))
        for evaluation in self.evaluations.values():
            evaluation.update(found, targets)

    def on_validation_epoch_end(self) -> None:
        """Log the average precision of boxes and of masks."""
        for kind, evaluation in self.evaluations.items():
            for name, value in evaluation.compute().items():
                self.log(f"test/{kind} {name}", value)
            evaluation.reset()

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end


_PREDICTORS = (BackboneWithFPN, RPNHead, FastRCNNPredictor, RetinaNetHead)


def _in_float32(_: nn.Module, __: Any, output: Any) -> Any:
    return tree_map(lambda x: x.float() if isinstance(x, Tensor) else x, output)


def _head(loss: str) -> str:
    """Name the boxes that a loss of torchvision's detectors is a mean of."""
    if loss in ("loss_objectness", "loss_rpn_box_reg"):
        return "rpn"
    if loss == "loss_mask":
        return "masks"
    if loss in ("classification", "bbox_regression"):  # RetinaNet: of each image, then their mean
        return "images"
    return "heads"
