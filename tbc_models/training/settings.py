"""What a run learns, and where it computes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import timm
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import nn

from tbc_models.data import Data
from tbc_models.networks import registry
from tbc_models.training.recipes import RECIPES, Recipe


def is_first() -> bool:
    """Tell whether this process speaks for all that train together.

    Returns:
        Whether its rank is zero, as torchrun, SLURM or Lightning count.

    Example:
        >>> is_first()
        True
    """
    return int(getattr(rank_zero_only, "rank", 0)) == 0


class RunError(ValueError):
    """A run that cannot be begun or gone on with, and what to do about it.

    Args:
        message: one line.

    Example:
        >>> raise RunError("there is no checkpoint here: leave out --resume")
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: there is no checkpoint here: leave out --resume
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


@dataclass(frozen=True)
class Settings:
    """All that decides what a run learns; its checkpoints hold it, so that nothing else can go on.

    Attributes:
        model: the network, as registered with timm.
        options: of the network.
        data: as it was asked for.
        classes: their names, in order.
        channels: of an image.
        images: to train with.
        recipe: its name.
        epochs: how many.
        batch_size: images of a step, over all processes.
        lr: learning rate, for this batch size.
        size: pixels that the network sees.
        seed: of everything random.
    """

    model: str
    options: dict[str, Any]
    data: str
    classes: list[str]
    channels: int
    images: int
    recipe: str
    epochs: int
    batch_size: int
    lr: float
    size: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.images // self.batch_size

    def whole_recipe(self) -> Recipe:
        """Give the recipe with the numbers of this run."""
        recipe = RECIPES[self.recipe]
        return replace(recipe, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)

    def network(self) -> nn.Module:
        """Build the network with weights that the seed gives."""
        torch.manual_seed(self.seed)
        built: nn.Module = timm.create_model(self.model, **self.network_options())
        return built

    def network_options(self) -> dict[str, Any]:
        """Tell what the network is built with."""
        return self.options | {"num_classes": len(self.classes), "in_chans": self.channels}


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes; it may change from one part of a run to the next.

    Attributes:
        devices: GPUs, or processes on the CPU, of each machine.
        nodes: machines.
        precision: as Lightning spells it.
        compile: whether `torch.compile` compiles the network.
        channels_last: whether the network works on images with their channels together.
        workers: processes that load images, for each device.
    """

    devices: int = 1
    nodes: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    compile: bool = False
    channels_last: bool = False
    workers: int = 0

    def check(self, batch_size: int, tested: int) -> None:
        """Refuse what this machine does not have, or cannot divide the images among."""
        gpus = torch.cuda.device_count()
        there = gpus or os.cpu_count() or 1
        if not 1 <= self.devices <= there:
            what = "GPUs" if gpus else "CPU cores, and no GPU"
            raise RunError(
                f"--devices (={self.devices}) must be 1 to {there}: there are {there} {what}"
            )
        processes = self.devices * self.nodes
        if batch_size % processes:
            raise RunError(
                f"the batch of {batch_size} must be a multiple of the {processes} processes that "
                "it is divided among: give such a --batch-size"
            )
        if tested < processes:
            raise RunError(
                f"{tested} test images are too few for {processes} processes: give fewer --devices"
            )

    def launched(self) -> "Machine":
        """Take the devices and nodes from torchrun, if that started this process."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return self
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return replace(self, devices=local, nodes=world // local)


def scaled_rate(recipe: Recipe, batch_size: int) -> float:
    """Scale a recipe's learning rate to a batch: of twice the size, twice the step.

    Args:
        recipe: whose rate is for its own batch size.
        batch_size: images of a step.

    Returns:
        The rate (Goyal et al. 2017).

    Example:
        >>> scaled_rate(RECIPES["paper"], 512)
        0.2
    """
    return recipe.lr * batch_size / recipe.batch_size


def prepare(
    model: str,
    data: Data,
    recipe: str,
    *,
    options: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Settings:
    """Decide what a run will learn, and check that the network can.

    Args:
        model: a network, as registered with timm.
        data: images to train and test with.
        recipe: "paper", "strong" or "small".
        options: of the network.
        epochs: left out, the recipe's.
        batch_size: left out, the recipe's; never more than there are images.
        lr: for this batch size; left out, the recipe's, scaled to the batch: a batch of twice the
            size takes steps of twice the length (Goyal et al. 2017).
        size: pixels that the network sees; left out, the data's.
        seed: of everything random.

    Returns:
        The settings of the run.

    Raises:
        ValueError: if there is no such network, or it does not take these options or images.

    Example:
        >>> from tbc_models.data import open_data
        >>> settings = prepare("tied_resnet14_s", open_data("digits"), "small", size=16)
        >>> settings.batch_size, settings.lr
        (128, 0.1)
    """
    known = RECIPES[recipe]
    batch = min(batch_size or known.batch_size, len(data.train))
    settings = Settings(
        model=model,
        options=dict(options or {}),
        data=data.name,
        classes=list(data.classes),
        channels=data.channels,
        images=len(data.train),
        recipe=recipe,
        epochs=epochs or known.epochs,
        batch_size=batch,
        lr=scaled_rate(known, batch) if lr is None else lr,
        size=size or data.size,
        seed=seed,
    )
    try:
        network = registry.build(model, **settings.network_options())
        shape = (2, settings.channels, settings.size, settings.size)
        network(torch.zeros(shape, device="meta"))
    except Exception as error:  # timm raises all kinds
        told = (str(error) or type(error).__name__).splitlines()[0]
        if "pixels" in told:
            told += ": give --size"
        raise RunError(f"{model} cannot be trained on {data.name}: {told}") from None
    return settings
