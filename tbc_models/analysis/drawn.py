"""Which filters of a layer are compared, and which output channels belong to each."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from tbc_gpu import TiedBlockConv2d
from tbc_models.analysis.computed import ComputedLayer, computed_layers
from tbc_models.analysis.guided import check_choice, check_layer

Filters = Literal["responses", "stored"]


class DrawnFilters(NamedTuple):
    """The filters of a layer that are compared.

    Attributes:
        depth: number of convolutions and linear layers computed up to the layer.
        filters: numbers of the filters.
        channels: the output channels of each.
    """

    depth: int
    filters: list[int]
    channels: list[tuple[int, ...]]


def draw_filters(
    network: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    *,
    channels: int | None = 64,
    filters: Filters = "responses",
    seed: int = 0,
) -> dict[str, DrawnFilters]:
    """Draw the filters that `filter_similarities` compares, with every check before its work.

    Args:
        network: as `filter_similarity` takes it.
        images: as `filter_similarity` takes them; only the first one is used.
        layers: names of the layers.
        channels: as `filter_similarity` takes it.
        filters: as `filter_similarity` takes it.
        seed: as `filter_similarity` takes it.

    Returns:
        The filters of each layer.

    Raises:
        ValueError: as `filter_similarity`, but for dead filters.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> draw_filters(network, torch.zeros(1, 1, 8, 8), ["0"], channels=4)["0"].filters
        [0, 1, 2, 3]
    """
    for layer in layers:
        check_layer(network, layer)
    computed = {one.name: one for one in computed_layers(network, images)}
    drawn = {}
    for layer in layers:
        if layer not in computed:
            raise ValueError(f"`layer` (={layer!r}) computes no (N, C, H, W) from the images")
        groups = filter_channels(network, computed[layer], filters)
        own = _draw(layer, len(groups), channels, seed)
        drawn[layer] = DrawnFilters(computed[layer].depth, own, [groups[i] for i in own])
    return drawn


def filter_channels(
    network: nn.Module, layer: ComputedLayer, filters: Filters = "responses"
) -> list[tuple[int, ...]]:
    """Return the output channels of each filter of a layer.

    Args:
        network: the network.
        layer: one of its layers, from `computed_layers`.
        filters: "responses" for a filter for each output channel; "stored" for the stored filters
            of a convolution, each with its B channels (block b of group g fills channels
            g·C_out/G + b·C_out/(G·B) onward).

    Returns:
        The channels of each filter.

    Raises:
        ValueError: if `filters` is neither, or "stored" is asked of a layer that is not a
            convolution.

    Example:
        >>> import torch
        >>> network = nn.Sequential(TiedBlockConv2d(4, 4, 1, blocks=2), nn.ReLU())
        >>> layer, _ = computed_layers(network, torch.ones(1, 4, 2, 2))
        >>> filter_channels(network, layer, "stored")
        [(0, 2), (1, 3)]
    """
    check_choice("filters", filters, Filters)
    if filters == "responses":
        return [(channel,) for channel in range(layer.channels)]
    module = network.get_submodule(layer.name)
    if isinstance(module, nn.Conv2d):
        return [(channel,) for channel in range(layer.channels)]
    if not isinstance(module, TiedBlockConv2d):
        raise ValueError(
            f"`layer` (={layer.name!r}) is a {type(module).__name__}, not a convolution: it has "
            "responses, but no stored filters"
        )
    shape = (module.groups, module.blocks, -1)
    channels = np.arange(layer.channels).reshape(shape).swapaxes(1, 2).reshape(-1, module.blocks)
    return [tuple(own) for own in channels.tolist()]


def _draw(layer: str, available: int, channels: int | None, seed: int) -> list[int]:
    number = min(available, 64) if channels is None else channels
    if number < 2:
        raise ValueError(f"`channels` (={number}) must be at least 2, to make a pair")
    if number > available:
        raise ValueError(
            f"`channels` (={number}) must be at most {available}, the filters of layer {layer!r}"
        )
    drawn = np.random.default_rng(seed).choice(available, number, replace=False)
    return sorted(drawn.tolist())
