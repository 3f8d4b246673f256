"""Networks that the analysis commands open by name, file or function, and their images.

Commands import this module when they run, because it imports PyTorch.
"""

import importlib
import inspect
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors import safe_open
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ImageNetInfo,
    infer_imagenet_subset,
    resolve_model_data_config,
)
from timm.models import load_state_dict
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from tbc_gpu import tie
from tbc_models.analysis.controls import build_untrained, weights_digest
from tbc_models.data.errors import first_line
from tbc_models.networks import registry
from tbc_models.training.settings import RunError, Settings
from tbc_models.training.starting import open_source
from tbc_models.training.trained import open_trained

_OF_EVERY_RUN = ("last", "best", "weights")
"""Stems of the files of a run, which its folder names."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of a network.

    Attributes:
        channels: 3, or 1 for grey images.
        size: height and width in pixels of what the network sees.
        mean: mean of each channel, in [0, 1].
        std: standard deviation of each channel, in [0, 1].
        crop: share of the shorter side that is left when the borders are cut off.
    """

    channels: int = 3
    size: int = 224
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    crop: float = 0.875

    def cropped(self, image: Image.Image | Tensor) -> Tensor:
        """Resize an image and cut out its centre.

        Args:
            image: a PIL image, or a uint8 tensor (C, H, W).

        Returns:
            What the network sees before it is normalised, (channels, size, size) in [0, 1].

        Raises:
            ValueError: for a grey tensor where the network takes colours, or the other way round.
        """
        pixels: Any = image
        if isinstance(image, Image.Image):
            pixels = F.pil_to_tensor(image.convert("L" if self.channels == 1 else "RGB"))
        if pixels.shape[0] != self.channels:
            raise ValueError(
                f"the network takes images of {self.channels} channels, not of {pixels.shape[0]}"
            )
        resized = F.resize(pixels, [round(self.size / self.crop)], antialias=True)
        centre: Tensor = F.center_crop(resized, [self.size, self.size])
        return centre.float() / 255

    def prepared(self, image: Image.Image | Tensor) -> Tensor:
        """Resize, crop and normalise an image.

        Args:
            image: as `cropped` takes it.

        Returns:
            The input of the network, (channels, size, size).

        Raises:
            ValueError: as `cropped`.
        """
        normalised: Tensor = F.normalize(self.cropped(image), list(self.mean), list(self.std))
        return normalised


@dataclass(frozen=True)
class Opened:
    """A network, and what the analysis needs to know of it.

    Attributes:
        label: short name for tables and plots.
        network: in evaluation mode; its parameters do not require gradients.
        preprocessing: how images become its input.
        classes: names of its classes; None if they are not known.
        weights: the first digits of a SHA-256 of its weights.
        build: builds the network with random weights.
        seed: seed of the run that trained it; None if it was not opened from such a run.
        run: the other settings of that run, as text: equal for runs that differ in the seed only.
    """

    label: str
    network: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    weights: str
    build: Callable[[], nn.Module]
    seed: int | None = None
    run: str | None = None

    def untrained(self, seed: int) -> nn.Module:
        """Build the same network with random weights, as `build_untrained` does.

        It is the untrained control (Adebayo et al. 2018). Scales of normalisation layers that the
        constructor sets to zero, such as those of timm's `zero_init_last`, become one, since they
        make dead filters.

        Args:
            seed: seed of the weights.

        Returns:
            The network, in evaluation mode.

        Raises:
            ValueError: as `build_untrained`.
        """
        return build_untrained(self.build, seed)


def open_network(spec: str) -> Opened:
    """Open a network by its name, its file or the function that builds it.

    Args:
        spec: the name of a network with trained weights, ours or timm's, such as
            ``resnet20.cifar10``; a checkpoint of `tbc train`; a safetensors file that says its
            network; or ``MODULE:FUNCTION=FILE``, a function that returns the network when it is
            called without arguments, such as ``torchvision.models:squeezenet1_1``. ``=FILE`` gives
            the weights, a safetensors file or one that `torch.save` wrote. A function that loads
            its weights itself needs no file. After a name, a file replaces the weights:
            ``resnet50=weights.pth``.

    Returns:
        The network.

    Raises:
        RunError: if there is no such network, it cannot be built, or its weights cannot be loaded,
            do not fit, or are random.
        OSError: if a file cannot be read.

    Example:
        >>> opened = open_network("resnet20.cifar10")
        >>> opened.label, opened.preprocessing.size, opened.classes[0]
        ('resnet20.cifar10', 32, 'airplane')
    """
    name, equals, file = (spec, "", "") if Path(spec).exists() else spec.partition("=")
    is_function = ":" in name and not Path(name).exists()
    if equals and not file:
        raise RunError(f"{spec!r} names no file after =: write {name}=FILE")
    if not equals and not is_function:
        return _open_source(name)
    if is_function:
        build, label = _function(name), name.rpartition(":")[2]
    else:
        if not timm.is_model(name):
            raise RunError(f"{name} is not a network{registry.nearest(name)}")
        build, label = partial(registry.create, name), name
    network = _built(build, name, seed=0)
    if file:
        _load(network, Path(file), name)
    elif weights_digest(network) != weights_digest(_built(build, name, seed=1)):
        raise RunError(
            f"{name} builds a network with random weights: give trained ones, {name}=FILE"
        )
    return _opened(label, network, build)


def _built(build: Callable[[], nn.Module], name: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with _in_one_line(f"{name} cannot be built"):
            network = build()
    if not isinstance(network, nn.Module):
        raise RunError(f"{name} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _open_source(where: str) -> Opened:
    """Open what `open_source` opens."""
    network, file = open_source(where).network, Path(where)
    if not file.exists():
        return _opened(where, network, partial(registry.create, where))
    label = file.resolve().parent.name if file.stem in _OF_EVERY_RUN else file.stem
    if zipfile.is_zipfile(file):
        trained = open_trained(file).settings

        def build_as_trained() -> nn.Module:
            # `Settings.network` begins with its own seed; the caller's is to count.
            return replace(trained, seed=torch.initial_seed()).network()

        return _opened(label or file.stem, network, build_as_trained, trained)
    with safe_open(file, framework="pt") as content:
        how = content.metadata()

    def build() -> nn.Module:
        plain = registry.create(how["network"], **json.loads(how.get("options", "{}")))
        if "blocks" not in how:
            return plain
        return tie(plain, blocks=int(how["blocks"]), where=how["where"], weights="random").model

    settings = Settings(**json.loads(how["settings"])) if "settings" in how else None
    return _opened(label or file.stem, network, build, settings)


def _opened(
    label: str, network: Any, build: Callable[[], nn.Module], settings: Settings | None = None
) -> Opened:
    network.eval().requires_grad_(False)
    known = getattr(network, "pretrained_cfg", None)
    preprocessing, classes = Preprocessing(), None
    if known:
        found = resolve_model_data_config(network)
        channels, size, _ = found["input_size"]
        mean, std = tuple(found["mean"]), tuple(found["std"])
        crop = found["crop_pct"]
        if settings is not None:  # tested as `tbc evaluate` does
            crop = 7 / 8 if settings.whole_recipe().crop == "resized" else 1.0
        preprocessing = Preprocessing(channels, size, mean, std, crop)
        classes = _class_names(network)
    seed = run = None
    if settings is not None:
        seed = settings.seed
        run = json.dumps(asdict(settings) | {"seed": None}, sort_keys=True)
    digest = weights_digest(network)
    return Opened(label, network, preprocessing, classes, digest, build, seed, run)


def _class_names(network: Any) -> tuple[str, ...] | None:
    if names := network.pretrained_cfg.get("label_names"):
        return tuple(names)
    subset = infer_imagenet_subset(network)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i).split(",")[0] for i in range(info.num_classes()))


def _function(name: str) -> Callable[[], nn.Module]:
    """Import a function by MODULE:FUNCTION, also from the current folder."""
    module_name, _, function_name = name.partition(":")
    with _in_one_line(f"{module_name} cannot be imported"), _current_folder_importable():
        module = importlib.import_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise RunError(f"{module_name} has no function {function_name!r}")
    parameters = inspect.signature(function).parameters.values()
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise RunError(
            f"{name} needs arguments ({', '.join(needed)}): name a function that takes none"
        )
    return function  # type: ignore[no-any-return]


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a module or a constructor may raise anything
        raise RunError(f"{what} ({type(error).__name__}): {first_line(error)}") from None


def _load(network: nn.Module, file: Path, name: str) -> None:
    if not file.is_file():
        raise RunError(f"{file} {'is a folder' if file.exists() else 'does not exist'}")
    with _in_one_line(f"the weights of {file} cannot be read"):
        state = load_state_dict(str(file), use_ema=False)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = str(error).splitlines()[1:2] or [str(error)]
        raise RunError(f"{file} does not fit {name}: {detail[0].strip()}") from None
