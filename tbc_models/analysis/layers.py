"""Layers of a network by their names, as `named_modules` lists them."""

from difflib import get_close_matches

from torch import nn


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Find a layer by its name.

    Args:
        network: any network.
        name: as `network.named_modules()` has it, such as ``layer4.1.conv2``.

    Returns:
        The layer.

    Raises:
        ValueError: if the network has no such layer. The message names the nearest ones.

    Example:
        >>> find_layer(nn.Sequential(nn.ReLU(), nn.Sigmoid()), "2")
        Traceback (most recent call last):
        ...
        ValueError: `layer` (='2') must be a layer of the network: 0, 1
    """
    layers: dict[str, nn.Module] = dict(network.named_modules())
    del layers[""]  # the network itself
    if name in layers:
        return layers[name]
    if len(layers) <= 6:
        hint = f": {', '.join(layers)}"
    else:
        near = get_close_matches(name, layers, n=3, cutoff=0.5)
        hint = (
            f"; did you mean {', '.join(near)}?" if near else "; its `named_modules()` lists them"
        )
    raise ValueError(f"`layer` (={name!r}) must be a layer of the network{hint}")
