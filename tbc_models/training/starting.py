"""Trained weights that a run begins with: those that it starts from, and those of its teacher."""

import json
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from tbc_gpu import load_nearest
from tbc_models import exporting
from tbc_models.data import Data
from tbc_models.data.errors import first_line
from tbc_models.files import WEIGHTS, require_safetensors
from tbc_models.networks import registry
from tbc_models.training.classifier import Teaching
from tbc_models.training.launching import check_classes
from tbc_models.training.loading import LabelledImages
from tbc_models.training.settings import RunError, Settings
from tbc_models.training.trained import open_trained

_OF_DATA = ("in_chans", "num_classes", "pretrained_cfg_overlay")
"""The options of a saved network that follow from the data that it was trained with."""


class Origin(NamedTuple):
    """A trained network, and how it was built.

    Attributes:
        network: in evaluation mode.
        options: options that timm built it with.
        blocks: number of blocks that its layers were tied with after that; 1 if they were not.
    """

    network: nn.Module
    options: dict[str, Any]
    blocks: int


def load_trained(where: str) -> nn.Module:
    """Build a trained network from a file or by its name.

    Args:
        where: as `open_source` takes it.

    Returns:
        The network, in evaluation mode.

    Raises:
        RunError: if there is neither such a file nor such a network, or it cannot be loaded.
        OSError: if the file cannot be read.

    Example:
        >>> load_trained("no_such_network")
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: no_such_network is neither a file nor a network...
    """
    return open_source(where).network


def open_source(where: str) -> Origin:
    """Build a trained network from a file or by its name, and say how it was built.

    Args:
        where: a checkpoint of `tbc train`; a safetensors file that `tbc train`, `tbc tie` or
            `exporting.save` wrote; or the name of a network whose trained weights timm knows: those
            that ship with the package, such as ``resnet20.cifar10``, or timm's own, which are
            downloaded.

    Returns:
        The network, its options, and the blocks that it was tied with.

    Raises:
        RunError: if there is neither such a file nor such a network, or it cannot be loaded.
        OSError: if the file cannot be read.

    Example:
        >>> open_source("resnet20.cifar10").network.num_classes
        10
    """
    file = Path(where)
    if file.is_dir():
        raise RunError(f"{where} is a folder: name a file in it, such as {file / WEIGHTS}")
    if not file.exists() and not timm.is_model(where):
        raise RunError(f"{where} is neither a file nor a network{registry.nearest(where)}")
    try:
        if not file.exists():
            return Origin(registry.create(where, pretrained=True), {}, 1)
        if zipfile.is_zipfile(file):  # as torch.save writes
            trained = open_trained(file)
            return Origin(trained.network(), trained.settings.options, trained.settings.blocks)
        require_safetensors(file)
        with safe_open(file, framework="pt") as opened:
            how = opened.metadata() or {}
        if "network" not in how:
            raise ValueError(f"{file} does not name its network: write it with `exporting.save`")
        options = json.loads(how.get("options", "{}"))
        given = {name: value for name, value in options.items() if name not in _OF_DATA}
        network: Any = exporting.load(how["network"], file)
        if "pretrained_cfg_overlay" not in options:  # timm names the classes of its own weights
            network.pretrained_cfg = network.pretrained_cfg | {"label_names": None}
        return Origin(network, given, int(how.get("blocks", 1)))
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(first_line(error)) from None


def start(settings: Settings) -> nn.Module:
    """Build the network of a run with its initial weights, random or trained.

    A classifier for other classes is not taken over, but starts at random. For grey images the
    filters of the first layer are summed over the colours, as timm does it.

    Args:
        settings: settings of the run.

    Returns:
        The network.

    Raises:
        RunError: if the trained weights cannot be loaded, or do not fit.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> settings = prepare("tied_resnet14_s", open_data("digits"), "small", size=16)
        >>> start(settings).num_classes
        10
    """
    network = settings.network()
    where = settings.weights or settings.tie_from
    if not where:
        return network
    state = _fitted(network, load_trained(where))
    try:
        if settings.weights:
            network.load_state_dict(state)
        elif not load_nearest(network, state):
            raise RunError(
                f"{settings.model} has no tied layer that is plain in {where}",
                option="tie_from",
            )
    except RuntimeError as error:
        detail = str(error).splitlines()[1:2] or [str(error)]
        raise RunError(
            f"the weights of {where} do not fit {settings.model}: {detail[0].strip()}",
            option="weights" if settings.weights else None,
        ) from None
    return network


def teaching_of(settings: Settings) -> Teaching | None:
    """Load the teacher of a run, if it has one.

    Args:
        settings: settings of the run.

    Returns:
        The teacher, and how it takes part in the loss.

    Raises:
        RunError: if it cannot be loaded, or does not take these images or know these classes.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> settings = prepare("tied_resnet14_s", open_data("digits"), "small", size=16)
        >>> teaching_of(settings) is None
        True
    """
    if not settings.teacher:
        return None
    teacher = load_trained(settings.teacher)
    images = torch.zeros(1, settings.channels, settings.size, settings.size)
    try:
        with torch.no_grad():
            teacher(images)
    except Exception as error:  # a network may raise anything
        raise RunError(
            f"the teacher {settings.teacher} does not take the images of {settings.data}: "
            f"{first_line(error)}",
            option="teacher",
        ) from None
    check_knows(teacher, settings, "teacher")
    return Teaching(teacher, settings.temperature, settings.teacher_weight)


def check_knows(
    network: Any, settings: Settings, what: Literal["teacher", "trained network"]
) -> None:
    """Raise `RunError` if a trained network has other classes than the data of a run.

    Args:
        network: the trained network.
        settings: settings of the run.
        what: what the network is, for the message.

    Raises:
        RunError: if the classes differ, by name if those of the network are known.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> settings = prepare("resnet20", open_data("digits"), "small", size=16)
        >>> check_knows(load_trained("resnet20.cifar10"), settings, "teacher")
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: digits has 10 classes (0, 1, 2, …), ...
    """
    option = "teacher" if what == "teacher" else "data"
    if names := network.pretrained_cfg.get("label_names"):
        check_classes(settings.data, settings.classes, what, list(names), option=option)
    elif network.num_classes != len(settings.classes):
        raise RunError(
            f"the {what} knows {network.num_classes} classes, but {settings.data} has "
            f"{len(settings.classes)}",
            option=option,
        )


def recalibrate(network: nn.Module, data: Data, settings: Settings, *, batches: int = 80) -> None:
    """Measure the statistics of a network's batch normalisation anew, without training it.

    The stored statistics are those of the activations before the weights were changed.

    Args:
        network: network whose statistics are replaced by means over the batches.
        data: images for training; they are augmented as in training.
        settings: size of the images, batch size, recipe and seed.
        batches: number of batches.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> digits = open_data("digits")
        >>> settings = prepare("tied_resnet14_s", digits, "small", size=16)
        >>> network = start(settings)
        >>> recalibrate(network, digits, settings, batches=2)
        >>> int(network.bn1.num_batches_tracked)
        2
    """
    data, recipe = replace(data, mirror=settings.mirror), settings.whole_recipe()
    images = LabelledImages(data, recipe, seed=settings.seed, size=settings.size)
    # PyTorch's function updates with equal weights for all batches, and restores the mode.
    update_bn(islice(images.train_dataloader(), batches), network)


def _know_the_same(one: Any, other: Any) -> bool:
    """Whether two networks have the same classes; those of some are known by number only."""
    names = [network.pretrained_cfg.get("label_names") for network in (one, other)]
    if None in names:
        return bool(one.num_classes == other.num_classes)
    return list(names[0]) == list(names[1])


def _fitted(network: Any, trained: Any) -> dict[str, Tensor]:
    """Return the weights of a trained network, fitted to another's classes and channels."""
    state, own = dict(trained.state_dict()), network.state_dict()
    heads, first = network.pretrained_cfg["classifier"], network.pretrained_cfg["first_conv"]
    if not _know_the_same(network, trained):
        heads = (heads,) if isinstance(heads, str) else heads
        state |= {n: v for n, v in own.items() if n.startswith(tuple(f"{h}." for h in heads))}
    first = f"{first}.weight"
    if first in own and first in state and own[first].shape[1] == 1 != state[first].shape[1]:
        state[first] = adapt_input_conv(1, state[first])
    return state
