"""What a run of a detector learns."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from tbc_models.data.errors import first_line
from tbc_models.data.instances import InstanceData
from tbc_models.detection.detectors import DETECTORS, MASKED, pyramid
from tbc_models.detection.recipes import DETECTION_RECIPES, DetectionRecipe
from tbc_models.training.settings import RunError

PRETRAINED = "pretrained"
"""Initial weights of the backbone: timm's, instead of those of a file."""


@dataclass(frozen=True)
class DetectionSettings:
    """Everything that decides what a run learns; its checkpoints hold it, to compare on resuming.

    Attributes:
        detector: name of the detector, such as "mask-rcnn".
        backbone: name of the network, as registered with timm.
        options: options of the network.
        weights: initial weights of the backbone: "" for random ones, "pretrained" for timm's, or
            the hash of a file. With weights, its stem, its first stage and its batch normalisation
            are not trained.
        data: specification of the data set, with its path resolved.
        classes: names of the classes, without the background.
        images: number of training images.
        fingerprint: hash of the names and annotations of images.
        mirror: whether training images are mirrored at random.
        recipe: name of the recipe.
        epochs: number of epochs.
        batch_size: images of a step, over all processes.
        lr: learning rate after the warm-up, for this batch size.
        min_size: pixels that the short edge of an image is scaled to ...
        max_size: ... unless its long edge would then exceed this.
        seed: seed of every random choice.
    """

    detector: str
    backbone: str
    options: dict[str, Any]
    weights: str
    data: str
    classes: list[str]
    images: int
    fingerprint: str
    mirror: bool
    recipe: str
    epochs: int
    batch_size: int
    lr: float
    min_size: int
    max_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Number of steps of an epoch."""
        return self.images // self.batch_size

    @property
    def masks(self) -> bool:
        """Whether the detector predicts masks."""
        return self.detector in MASKED

    def whole_recipe(self) -> DetectionRecipe:
        """Return the recipe with the epochs, batch size and learning rate of this run."""
        recipe = DETECTION_RECIPES[self.recipe]
        return replace(recipe, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)

    def build(self, weights: str | Path | None = None) -> nn.Module:
        """Build the detector with the initial weights that the seed determines.

        Args:
            weights: those of the backbone: a file, or "pretrained". By default they are random,
                for a checkpoint to replace.

        Returns:
            The detector.
        """
        torch.manual_seed(self.seed)
        small = DETECTION_RECIPES[self.recipe].small
        body = pyramid(
            self.detector,
            self.backbone,
            small=small,
            pretrained=weights == PRETRAINED,
            weights=weights if isinstance(weights, Path) else None,
            frozen_norm=bool(self.weights),
            frozen_stages=2 if self.weights else 0,
            **self.options,
        )
        sizes = {"min_size": self.min_size, "max_size": self.max_size}
        build = DETECTORS[self.detector]
        detector: nn.Module = build(body, len(self.classes) + 1, small=small, **sizes)
        # Small detectors are for CPUs, where this layout is a tenth faster.
        return detector.to(memory_format=torch.channels_last) if small else detector


def prepare_detection(
    detector: str,
    backbone: str,
    data: InstanceData,
    recipe: str,
    *,
    options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    mirror: bool = True,
    seed: int = 0,
) -> DetectionSettings:
    """Decide what a run will learn, and check that the detector can be built and has its data.

    Args:
        detector: name of the detector, such as "mask-rcnn".
        backbone: name of a network, as registered with timm.
        data: images for training and testing.
        recipe: "1x", "2x" or "small".
        options: options of the network.
        weights: initial weights of the backbone: a file that `tbc train` wrote, or "pretrained" for
            timm's. By default they are random.
        epochs: number of epochs; by default the recipe's.
        batch_size: images of a step; by default the recipe's. Never more than there are images.
        lr: learning rate for this batch size; by default the recipe's, scaled in proportion to the
            batch size, and half of it for RetinaNet with SGD, as in the paper's framework.
        min_size: pixels that the short edge of an image is scaled to; by default the recipe's.
        max_size: largest long edge in pixels; by default the recipe's, or in proportion to
            `min_size`.
        mirror: whether training images may be mirrored at random. They are only if a mirrored image
            of `data` shows objects of the same classes.
        seed: seed of every random choice.

    Returns:
        The settings of the run.

    Raises:
        RunError: if there is no such detector or network, the network does not take these options,
            or has no features that fit or no trained weights, the detector needs masks that `data`
            does not have, or `max_size` is less than `min_size`.

    Example:
        >>> from tbc_models.data import open_instances
        >>> scenes = open_instances("scenes")
        >>> prepare_detection("mask-rcnn", "tied_resnet14_s", scenes, "small").steps
        625
    """
    if detector not in DETECTORS:
        raise RunError(f"`detector` (={detector!r}) must be one of {', '.join(DETECTORS)}")
    if detector in MASKED and not data.masks:
        raise RunError(
            f"{detector} learns masks, but {data.name} has none: choose retinanet, faster-rcnn or "
            "cascade-rcnn"
        )
    if weights == PRETRAINED and not timm.is_model_pretrained(backbone):
        raise RunError(f"timm has no trained weights of {backbone}", option="pretrained")
    known = DETECTION_RECIPES[recipe]
    batch = min(batch_size or known.batch_size, len(data.train))
    scaled = known.lr * batch / known.batch_size
    if detector == "retinanet" and known.optimizer == "sgd":
        scaled /= 2
    short = min_size or known.min_size
    if max_size is not None and max_size < short:
        raise RunError(
            f"`max_size` (={max_size}) must be at least `min_size` (={short})", option="max_size"
        )
    digest = weights or ""
    if isinstance(weights, Path):
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    settings = DetectionSettings(
        detector=detector,
        backbone=backbone,
        options=dict(options or {}),
        weights=str(digest),
        data=data.name,
        classes=list(data.classes),
        images=len(data.train),
        fingerprint=data.fingerprint,
        mirror=mirror and data.mirror,
        recipe=recipe,
        epochs=epochs or known.epochs,
        batch_size=batch,
        lr=scaled if lr is None else lr,
        min_size=short,
        max_size=max_size or max(short, round(known.max_size * short / known.min_size)),
        seed=seed,
    )
    try:
        with torch.device("meta"):
            settings.build()
    except Exception as error:  # timm raises many types
        raise RunError(f"{detector} cannot be built on {backbone}: {first_line(error)}") from None
    return settings
