"""Trained weights that a run begins with: those that it starts from, and those of its teacher."""

import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

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
from tbc_models.files import require_safetensors
from tbc_models.networks import registry
from tbc_models.training.classifier import Teaching
from tbc_models.training.loading import LabelledImages
from tbc_models.training.settings import RunError, Settings
from tbc_models.training.trained import open_trained


def load_trained(where: str) -> nn.Module:
    """Build a trained network from a file or by its name.

    Args:
        where: a checkpoint of `tbc train`; a safetensors file that `tbc train`, `tbc tie` or
            `exporting.save` wrote; or the name of a network whose trained weights timm knows: those
            that ship with the package, such as ``resnet20.cifar10``, or timm's own, which are
            downloaded.

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
    file = Path(where)
    if not file.is_file() and not timm.is_model(where):
        raise RunError(f"{where} is neither a file nor a network{registry.nearest(where)}")
    try:
        return _from_file(file) if file.is_file() else registry.create(where, pretrained=True)
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(first_line(error)) from None


def start(settings: Settings) -> nn.Module:
    """Build the network of a run with its initial weights, random or trained.

    A classifier for another number of classes is not taken over, but starts at random. The filters
    of the first layer are adapted to another number of channels as timm does it: summed for grey
    images.

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
            outputs = teacher(images).shape[-1]
    except Exception as error:  # a network may raise anything
        raise RunError(
            f"the teacher {settings.teacher} does not take the images of {settings.data}: "
            f"{first_line(error)}",
            option="teacher",
        ) from None
    if outputs != len(settings.classes):
        raise RunError(
            f"the teacher {settings.teacher} has {outputs} outputs, but {settings.data} has "
            f"{len(settings.classes)} classes",
            option="teacher",
        )
    return Teaching(teacher, settings.temperature, settings.teacher_weight)


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
    images = LabelledImages(data, settings.whole_recipe(), seed=settings.seed, size=settings.size)
    # PyTorch's function updates with equal weights for all batches, and restores the mode.
    update_bn(islice(images.train_dataloader(), batches), network)


def _from_file(file: Path) -> nn.Module:
    if zipfile.is_zipfile(file):  # as torch.save writes
        return open_trained(file).network()
    require_safetensors(file)
    with safe_open(file, framework="pt") as opened:
        name = (opened.metadata() or {}).get("network")
    if name is None:
        raise ValueError(f"{file} does not name its network: write it with `exporting.save`")
    return exporting.load(name, file)


def _fitted(network: Any, trained: Any) -> dict[str, Tensor]:
    """Return the weights of a trained network, fitted to another's classes and channels."""
    state, own = dict(trained.state_dict()), network.state_dict()
    heads, first = network.pretrained_cfg["classifier"], network.pretrained_cfg["first_conv"]
    if trained.num_classes != network.num_classes:
        heads = (heads,) if isinstance(heads, str) else heads
        state |= {n: v for n, v in own.items() if n.startswith(tuple(f"{h}." for h in heads))}
    first = f"{first}.weight"
    if first in own and own[first].shape[1] != state[first].shape[1]:
        state[first] = adapt_input_conv(own[first].shape[1], state[first])
    return state
