"""Networks by name: what is registered with timm, ours and timm's own, and how to build one.

Also the names of operators: `operator_of` says which of the paper's operators a layer is, and
`operator_name` which one a number of groups and blocks makes. Both are those of `tbc_gpu`.
"""

import fnmatch
from difflib import get_close_matches
from typing import Any, cast

import timm
import torch
from torch import nn

from tbc_gpu import operator_name as operator_name
from tbc_gpu import operator_of as operator_of

BASELINES = (
    *("resnet50", "resnet101", "resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d"),
    *("seresnet50", "seresnet101", "resnest50d", "efficientnet_b0"),
    *("hrnet_w18", "hrnet_w32", "hrnet_w40", "ghostnet_100"),
)
"""The networks that the paper compares with, by timm's names. timm has no ShuffleNet. Its name for
ResNeSt-50-fast is ``resnest50d``, with
``block_args={"radix": 2, "avd": True, "avd_first": True}``."""


def build(name: str, **options: Any) -> nn.Module:
    """Build a registered network on the meta device: with shapes but without values, and fast.

    Args:
        name: as registered with timm, ours or timm's.
        options: of the network.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: for a name that is not registered. The message names similar ones.

    Example:
        >>> build("tied_resnet50_s", design="fitted").conv1.weight.device
        device(type='meta')
    """
    check_name(name)
    with torch.device("meta"):
        network: nn.Module = timm.create_model(name, **options)
    return network.eval()


def names(pattern: str | None = None) -> list[str]:
    """List registered networks, ours before timm's.

    Args:
        pattern: a pattern with * and ?, or a part of the name. By default our networks and the
            baselines that the paper compares them with.

    Returns:
        Their names.

    Example:
        >>> names("tied_resnet50")
        ['tied_resnet50', 'tied_resnet50_s']
    """
    registered = timm.list_models()
    ours = [n for n in registered if timm.model_entrypoint(n).__module__.startswith("tbc_models.")]
    if pattern is None:
        return ours + [name for name in BASELINES if name in registered]
    pattern = pattern.lower()
    wanted = pattern if set("*?[") & set(pattern) else f"*{pattern}*"
    return fnmatch.filter(ours, wanted) + fnmatch.filter(
        sorted(set(registered) - set(ours)), wanted
    )


def check_name(name: str) -> None:
    """Check that a network is registered.

    Args:
        name: as registered with timm, ours or timm's.

    Raises:
        ValueError: if it is not. The message names the most similar networks.

    Example:
        >>> check_name("tied_resnt50")
        Traceback (most recent call last):
        ...
        ValueError: `name` (='tied_resnt50') must be a registered network; did you mean ...
    """
    if not timm.is_model(name):
        raise ValueError(f"`name` (={name!r}) must be a registered network{nearest(name)}")


def nearest(name: str) -> str:
    """Suggest registered names that are similar to a misspelt one.

    Args:
        name: the misspelt name.

    Returns:
        The end of an error message; if no name is similar, it gives the command that lists them.

    Example:
        >>> nearest("tied_resnt50")
        '; did you mean tied_resnet50, ...?'
    """
    near = get_close_matches(name.lower(), timm.list_models(), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else "; `tbc models` lists them"


def input_size(network: nn.Module) -> int:
    """Return the size of the images that a network is made for.

    Args:
        network: of timm.

    Returns:
        Height and width in pixels.

    Example:
        >>> input_size(build("tied_resnet14_s"))
        32
    """
    return cast(dict[str, tuple[int, ...]], network.pretrained_cfg)["input_size"][-1]


def architecture(network: nn.Module) -> str:
    """Return the name that a network is registered under, without the tag of trained weights.

    Args:
        network: of timm.

    Returns:
        Its name.

    Example:
        >>> architecture(build("tied_resnet14_s"))
        'tied_resnet14_s'
    """
    return cast(dict[str, str], network.pretrained_cfg)["architecture"]


def create(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """Build a registered network with its weights.

    Args:
        name: as registered with timm, ours or timm's.
        pretrained: whether to use timm's trained weights, which are downloaded the first time;
            otherwise the weights are random.
        options: of the network.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: for a name that is not registered. The message names similar ones.
        RuntimeError: if there are no trained weights or they cannot be downloaded.

    Example:
        >>> create("tied_resnet14_s").training
        False
    """
    check_name(name)
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # a failed download raises one of many classes
        if not pretrained:
            raise
        raise RuntimeError(
            f"the trained weights of {name} cannot be loaded ({type(error).__name__}): {error}"
        ) from None
    return network.eval()
