"""What a run learns, and where it computes."""

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import nn

from tbc_gpu import tie
from tbc_models.data import Data
from tbc_models.data.errors import first_line
from tbc_models.networks import registry
from tbc_models.training.defaults import TEACHER_WEIGHT, TEMPERATURE
from tbc_models.training.recipes import RECIPES, Recipe


def is_first() -> bool:
    """Return whether this is the first of the processes that train together: the one that prints.

    Returns:
        Whether its rank, as torchrun, SLURM or Lightning count it, is zero.

    Example:
        >>> is_first()
        True
    """
    return int(getattr(rank_zero_only, "rank", 0)) == 0


class RunError(ValueError):
    """A run that cannot start or resume, or a checkpoint that cannot be used.

    Args:
        message: what is wrong, in one line.
        option: the parameter that is wrong or would avoid the error, or None.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class Settings:
    """All settings that determine what a run learns; checkpoints store them for resuming.

    Attributes:
        model: name of the network, as registered with timm.
        options: options of the network.
        data: specification of the data set, with its path resolved. It may change when a run
            resumes, if the images are the same.
        classes: names of the classes, in order.
        channels: channels of an image.
        images: number of training images.
        fingerprint: hash of the names and labels of image files, empty for other data sets.
        mean: mean of each channel that images are normalised with.
        std: standard deviation of each channel that images are normalised with.
        mirror: whether training images are mirrored at random.
        recipe: name of the recipe.
        epochs: number of epochs.
        batch_size: images of a step, over all processes.
        lr: learning rate, for this batch size.
        size: height and width in pixels of the images that the network sees.
        seed: seed of every random choice.
        weights: file or name of the trained weights that the network starts from; empty for random
            ones.
        tie_from: file or name of trained weights of a network without ties; the network starts from
            the nearest ones that its tied layers can have.
        blocks: number of blocks that the network's layers are tied with (`tbc_gpu.tie`); 1 if they
            are left as the model has them.
        where: pattern of the layers that are tied so.
        teacher: file or name of a trained network whose outputs are targets too; empty for none.
        temperature: that softens the outputs of network and teacher.
        teacher_weight: part of the loss that compares with the teacher.
        start_fingerprint: hash of the file of `weights` or `tie_from`; empty if it is a name, or if
            the file is gone, which a resumed run does not need.
        teacher_fingerprint: the same of the file of `teacher`.
    """

    model: str
    options: dict[str, Any]
    data: str
    classes: list[str]
    channels: int
    images: int
    fingerprint: str
    mean: list[float]
    std: list[float]
    mirror: bool
    recipe: str
    epochs: int
    batch_size: int
    lr: float
    size: int
    seed: int
    weights: str = ""
    tie_from: str = ""
    blocks: int = 1
    where: str = "*"
    teacher: str = ""
    temperature: float = TEMPERATURE
    teacher_weight: float = TEACHER_WEIGHT
    start_fingerprint: str = ""
    teacher_fingerprint: str = ""

    @property
    def steps(self) -> int:
        """Number of steps of an epoch."""
        return self.images // self.batch_size

    def whole_recipe(self) -> Recipe:
        """Return the recipe with the epochs, batch size and learning rate of this run."""
        recipe = RECIPES[self.recipe]
        return replace(recipe, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)

    def network(self) -> nn.Module:
        """Build the network with the random weights that the seed determines."""
        torch.manual_seed(self.seed)
        network: Any = timm.create_model(self.model, **self.network_options())
        network.pretrained_cfg = network.pretrained_cfg | self.trained_with()
        return self._tied(network)

    def shapes(self) -> nn.Module:
        """Build the network on the meta device: with shapes but without values, and fast."""
        return self._tied(registry.build(self.model, **self.network_options()))

    def _tied(self, network: nn.Module) -> nn.Module:
        if self.blocks == 1:
            return network
        return tie(network, blocks=self.blocks, where=self.where, weights="random").model

    def trained_with(self) -> dict[str, Any]:
        """Return fields of timm's configuration of trained weights: images and classes."""
        return {
            "input_size": [self.channels, self.size, self.size],
            "num_classes": len(self.classes),
            "label_names": self.classes,
            "mean": self.mean,
            "std": self.std,
        }

    def network_options(self) -> dict[str, Any]:
        """Return the options that the network is built with."""
        return self.options | {"num_classes": len(self.classes), "in_chans": self.channels}


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes; a resumed run may use another machine.

    Attributes:
        devices: GPUs of each machine, or processes if it has none.
        nodes: number of machines.
        precision: precision, as Lightning names it.
        compile: whether to compile the network with `torch.compile`.
        channels_last: whether to use the channels-last memory format.
        workers: processes that load images, for each device.
    """

    devices: int = 1
    nodes: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    compile: bool = False
    channels_last: bool = False
    workers: int = 0

    def check_devices(self) -> None:
        """Raise `RunError` if this machine has fewer devices."""
        gpus = torch.cuda.device_count()
        available = gpus or os.cpu_count() or 1
        if not 1 <= self.devices <= available:
            what = "GPUs" if gpus else "CPU cores and no GPU"
            raise RunError(
                f"`devices` (={self.devices}) must be from 1 to {available}: "
                f"this machine has {available} {what}",
                option="devices",
            )

    def check(self, batch_size: int, tested: int) -> None:
        """Raise `RunError` if there are fewer devices, or images cannot be divided among them."""
        self.check_devices()
        processes = self.devices * self.nodes
        if batch_size % processes:
            raise RunError(
                f"`batch_size` (={batch_size}) must be a multiple of the {processes} processes "
                "that share a batch",
                option="batch_size",
            )
        if tested < processes:
            raise RunError(
                f"{tested} test images are too few for {processes} processes", option="devices"
            )

    def launched(self) -> "Machine":
        """Use the number of devices and nodes of torchrun, if it started this process."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return self
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return replace(self, devices=local, nodes=world // local)


def scaled_rate(recipe: Recipe, batch_size: int) -> float:
    """Scale the learning rate of a recipe in proportion to the batch size (Goyal et al. 2017).

    Args:
        recipe: recipe with a learning rate for its own batch size.
        batch_size: images of a step.

    Returns:
        The learning rate for this batch size.

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
    mirror: bool = True,
    weights: str = "",
    tie_from: str = "",
    blocks: int = 1,
    where: str = "*",
    teacher: str = "",
    temperature: float = TEMPERATURE,
    teacher_weight: float = TEACHER_WEIGHT,
) -> Settings:
    """Complete the settings of a run, and check that the network accepts the images.

    Args:
        model: name of a network, as registered with timm.
        data: images for training and testing.
        recipe: "paper", "strong" or "small".
        options: options of the network.
        epochs: number of epochs; by default the recipe's.
        batch_size: images of a step; by default the recipe's. Never more than there are images.
        lr: learning rate for this batch size; by default the recipe's, scaled in proportion to
            the batch size (`scaled_rate`).
        size: height and width in pixels of what the network sees; by default the data's.
        seed: seed of every random choice.
        mirror: whether training images may be mirrored at random. They are mirrored only if
            `data` says that a mirrored image belongs to the same class.
        weights: file or name of trained weights to start from.
        tie_from: file or name of trained weights of a network without ties, to start from the
            nearest tied ones.
        blocks: number of blocks to tie the network's layers with.
        where: pattern of the layers to tie.
        teacher: file or name of a trained network whose outputs are targets too.
        temperature: that softens the outputs of network and teacher.
        teacher_weight: part of the loss that compares with the teacher.

    Returns:
        The settings of the run.

    Raises:
        RunError: if there is no such network, or it does not take these options or images; its
            option is "size" if the network runs on images of its own size. Also if an argument is
            out of its range, or `weights` and `tie_from` are both given.
        OSError: if a file of trained weights cannot be read.

    Example:
        >>> from tbc_models.data import open_data
        >>> settings = prepare("tied_resnet14_s", open_data("digits"), "small", size=16)
        >>> settings.batch_size, settings.lr
        (128, 0.1)
    """
    if weights and tie_from:
        raise RunError(
            f"`weights` (={weights}) and `tie_from` (={tie_from}) are both what the network starts "
            "from: give one"
        )
    if not 0 < temperature < math.inf:
        raise RunError(f"`temperature` (={temperature}) must be positive", option="temperature")
    if not 0 <= teacher_weight <= 1:
        raise RunError(f"`teacher_weight` (={teacher_weight}) must be from 0 to 1")
    known = RECIPES[recipe]
    batch = min(batch_size or known.batch_size, len(data.train))
    settings = Settings(
        model=model,
        options=dict(options or {}),
        data=data.name,
        classes=list(data.classes),
        channels=data.channels,
        images=len(data.train),
        fingerprint=data.fingerprint,
        mean=list(data.mean),
        std=list(data.std),
        mirror=mirror and data.mirror,
        recipe=recipe,
        epochs=epochs or known.epochs,
        batch_size=batch,
        lr=scaled_rate(known, batch) if lr is None else lr,
        size=size or data.size,
        seed=seed,
        weights=_in_full(weights),
        tie_from=_in_full(tie_from),
        blocks=blocks,
        where=where,
        teacher=_in_full(teacher),
        temperature=temperature,
        teacher_weight=teacher_weight,
        start_fingerprint=_fingerprint(weights or tie_from),
        teacher_fingerprint=_fingerprint(teacher),
    )
    network = None
    try:
        network = settings.shapes()
        _run(network, settings.channels, settings.size)
    except Exception as error:  # timm raises many types
        is_size = network is not None and _runs_at_its_own_size(network, settings.channels)
        raise RunError(
            f"{model} cannot be trained on {data.name}: {first_line(error)}",
            option="size" if is_size else None,
        ) from None
    return settings


def _in_full(where: str) -> str:
    """Resolve the path of a file, so that a run can resume in another folder; keep a name."""
    named = not where or (timm.is_model(where) and not Path(where).is_file())
    return where if named else str(Path(where).resolve())


def _fingerprint(where: str) -> str:
    file = Path(where)
    return hashlib.sha256(file.read_bytes()).hexdigest() if where and file.is_file() else ""


def _run(network: nn.Module, channels: int, size: int) -> None:
    network(torch.zeros(2, channels, size, size, device="meta"))


def _runs_at_its_own_size(network: nn.Module, channels: int) -> bool:
    try:
        _run(network, channels, registry.input_size(network))
    except Exception:  # timm raises many types
        return False
    return True
