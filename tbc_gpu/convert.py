"""Tie the layers of an existing network, or turn tied layers into plain ones for other runtimes.

>>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3))
>>> tying = tie(network, blocks=2)
>>> [(layer.name, layer.before, layer.after) for layer in tying.tied]
[('2', 'SC', 'TBC')]
>>> [(layer.name, layer.reason) for layer in tying.left]
[('0', '3 input channels are not divisible by groups·blocks (1·2)')]
"""

import copy
from collections import Counter
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .algorithms import repeat_for_blocks
from .checks import as_int
from .modules import TiedBlockConv2d, TiedBlockLinear
from .nearest import nearest_thin, part_lost
from .operators import operator_of

Weights = Literal["nearest", "random"]
Where = str | type | tuple[type, ...] | Callable[[str, nn.Module], bool]

_TIED = (TiedBlockConv2d, TiedBlockLinear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, *_TIED)
_GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
_SIZES = ("in_features", "out_features")


class TiedLayer(NamedTuple):
    """A layer that `tie` replaced.

    Attributes:
        name: in the network, such as ``layer1.0.conv1``.
        before: its operator before: SC, GC or FC.
        after: its operator now: TBC, TGC or TFC.
        parameters_before: number of weights and biases stored before.
        parameters_after: number of weights and biases stored now.
        error: ‖W − T(W′)‖ / ‖W‖, the part of the old weight that is lost; None if the new weight
            is random, or if the weights have no values (on the meta device).
    """

    name: str
    before: str
    after: str
    parameters_before: int
    parameters_after: int
    error: float | None


class LeftLayer(NamedTuple):
    """A layer that was selected, but that `tie` left unchanged.

    Attributes:
        name: in the network.
        reason: why it cannot be tied.
    """

    name: str
    reason: str


class Tying(NamedTuple):
    """The result of `tie`.

    Attributes:
        model: the tied copy of the network.
        tied: the layers that were replaced, in the network's order.
        left: the selected layers that could not be replaced.
    """

    model: nn.Module
    tied: list[TiedLayer]
    left: list[LeftLayer]


def tie(
    model: nn.Module, *, blocks: int, where: Where | None = None, weights: Weights = "nearest"
) -> Tying:
    """Copy a network with its convolutions and linear layers tied: SC to TBC, GC to TGC, FC to TFC.

    A tied layer receives the thin weight W′ that is nearest to the old weight W: the mean of the
    diagonal blocks of W (see `nearest`). The bias is the mean over the blocks. Most of W is lost:
    the copy is a starting point for training.

    A network that reads the weight of a layer directly, as the attention of BEiT does, cannot run
    with that layer tied; exclude it with `where`. Layers that PyTorch's own modules read this way
    are left unchanged.

    Args:
        model: any network; it is not changed. Device, dtype, mode and `requires_grad` are kept.
        blocks: B, at least 2.
        where: which convolutions and linear layers to tie: a pattern with * and ? for the layer's
            name (``"layer4.*"``), a class or a tuple of classes, or a function of name and layer
            that returns True or False. By default all of them.
        weights: "nearest" as above, or "random": new random values.

    Returns:
        The tied network, the layers that were tied, and those that were left, with reasons.

    Raises:
        TypeError: if `model` is not a Module, `blocks` is not an int, or `where` is none of the
            above.
        ValueError: if `blocks` is less than 2, `where` selects nothing, or `weights` is unknown.
        RuntimeError: if PyTorch cannot copy the network, as one under `torch.nn.utils.weight_norm`.

    Example:
        >>> tying = tie(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), blocks=2)
        >>> tying.model[0]
        TiedBlockLinear(in_features=8, out_features=4, bias=True, blocks=2)
        >>> [(layer.parameters_before, layer.parameters_after) for layer in tying.tied]
        [(36, 10), (10, 3)]
    """
    _check_model(model)
    blocks = as_int("blocks", blocks, 2)
    if weights not in get_args(Weights):
        raise ValueError(f"`weights` (={weights!r}) must be one of {get_args(Weights)}")
    model = copy.deepcopy(model)
    needed = _needed_as_they_are(model)
    tied: list[TiedLayer] = []
    left: list[LeftLayer] = []
    for name, layer in _select(model, where).items():
        reason = _obstacle(layer, blocks) or needed.get(layer)
        if reason:
            left.append(LeftLayer(name, reason))
            continue
        new, record = _tie_layer(name, layer, blocks, weights)
        tied.append(record)
        model = _replace(model, name, new)
    return Tying(model, tied, left)


def untie(model: nn.Module) -> nn.Module:
    """Copy a network with plain layers in place of its tied ones, for other runtimes.

    A tied convolution becomes a convolution of G·B groups whose filters are repeated. A tied
    linear layer becomes a linear layer with a block-diagonal weight, whose zeros are stored and
    multiplied, as neither PyTorch nor ONNX has linear layers with groups. The outputs are the same
    up to rounding. Training the copy would untie its blocks.

    Args:
        model: any network; it is not changed. Device, dtype, mode and `requires_grad` are kept.

    Returns:
        The copy.

    Raises:
        TypeError: if `model` is not a Module.
        ValueError: if a tied layer has hooks, which would be lost.

    Example:
        >>> untie(TiedBlockConv2d(8, 16, 3, blocks=4))
        Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), groups=4)
        >>> untie(TiedBlockLinear(4, 4, blocks=2)).weight.ne(0).int()
        tensor([[1, 1, 0, 0],
                [1, 1, 0, 0],
                [0, 0, 1, 1],
                [0, 0, 1, 1]], dtype=torch.int32)
    """
    _check_model(model)
    model = copy.deepcopy(model)
    plain: dict[nn.Module, nn.Module] = {}  # a layer with two names stays one layer
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(layer, _TIED):
            continue
        if layer not in plain:
            if _hooks(layer):
                raise ValueError(f"the tied layer {name!r} of `model` must have no hooks")
            plain[layer] = _untie_layer(layer)
        model = _replace(model, name, plain[layer])
    return model


def fuse_conv_bn(conv: TiedBlockConv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """Fuse a tied convolution and the batch normalisation after it into one plain convolution.

    In evaluation mode a batch normalisation scales and shifts each channel. The scale differs from
    block to block, so the fused filters are no longer tied: they form G·B groups.

    Args:
        conv: the tied convolution.
        bn: the batch normalisation, in evaluation mode, with running statistics.

    Returns:
        The convolution, with a bias.

    Raises:
        TypeError: if `conv` is not a `TiedBlockConv2d` or `bn` is not a `torch.nn.BatchNorm2d`.
        ValueError: if `bn` is in training mode, keeps no running statistics, or has a different
            number of channels.

    Example:
        >>> fuse_conv_bn(TiedBlockConv2d(8, 8, 3, bias=False, blocks=2), nn.BatchNorm2d(8).eval())
        Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), groups=2)
    """
    if not isinstance(conv, TiedBlockConv2d):
        raise TypeError(f"`conv` (a {type(conv).__name__}) must be a TiedBlockConv2d")
    if type(bn) is not nn.BatchNorm2d:  # timm's subclasses include an activation
        raise TypeError(f"`bn` (a {type(bn).__name__}) must be an nn.BatchNorm2d, not a subclass")
    if bn.training:
        raise ValueError("`bn` must be in evaluation mode: call `bn.eval()`")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("`bn` must keep running statistics (`track_running_stats`)")
    if bn.num_features != conv.out_channels:
        raise ValueError(
            f"`bn` (num_features={bn.num_features}) must have the {conv.out_channels} output "
            "channels of `conv`"
        )
    fused: nn.Conv2d = _untie_layer(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return fused


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` (a {type(model).__name__}) must be a torch.nn.Module")


def _select(model: nn.Module, where: Where | None) -> dict[str, nn.Module]:
    """Select the convolutions and linear layers to tie, by name."""
    modules = model.named_modules(remove_duplicate=False)
    layers = {name: module for name, module in modules if isinstance(module, _LAYERS)}
    near: list[str] = []
    chosen: dict[str, nn.Module]
    if where is None:
        chosen = dict(layers)
    elif isinstance(where, str):
        chosen = {name: layer for name, layer in layers.items() if fnmatchcase(name, where)}
        near = get_close_matches(where, layers, n=3, cutoff=0.4)
    elif isinstance(where, (type, tuple)):
        chosen = {name: layer for name, layer in layers.items() if isinstance(layer, where)}
    elif callable(where):
        chosen = {name: layer for name, layer in layers.items() if where(name, layer)}
    else:
        raise TypeError(
            f"`where` (={where!r}) must be a pattern, a class, a tuple of them, a function or None"
        )
    if not chosen:
        meant = f"; the nearest names are {', '.join(near)}" if near else ""
        raise ValueError(
            f"`where` (={where!r}) must select at least one of the {len(layers)} convolutions and "
            f"linear layers of `model`{meant}"
        )
    return chosen


def _needed_as_they_are(model: nn.Module) -> dict[nn.Module, str]:
    """Find the layers that another part of the network depends on, with the reason."""
    everywhere = list(model.named_modules(remove_duplicate=False))
    names = Counter(module for _, module in everywhere)
    owners = Counter(p for module in names for p in module.parameters(recurse=False))
    reasons: dict[nn.Module, str] = {}
    for module, times in names.items():
        if times > 1 or any(owners[p] > 1 for p in module.parameters(recurse=False)):
            reasons[module] = "shared: its weights are used in another place too"
        if isinstance(module, nn.TransformerEncoderLayer):  # its fast path
            for child in module.children():
                reasons[child] = "nn.TransformerEncoderLayer reads its weight without calling it"
    return reasons


def _obstacle(layer: nn.Module, blocks: int) -> str | None:
    """Say why a layer cannot be tied, or return None if it can."""
    if isinstance(layer, _TIED):
        return "already tied"
    if "weight" not in dict(layer.named_parameters(recurse=False)):
        return "parametrised: its weight is computed from other parameters"
    if type(layer) not in (nn.Conv2d, nn.Linear):  # a subclass may compute something else
        return f"a {type(layer).__name__}: only nn.Conv2d and nn.Linear can be tied"
    if _hooks(layer):
        return "has hooks, which would be lost"
    groups = 1
    if isinstance(layer, nn.Conv2d):
        groups, ends, what = layer.groups, (layer.in_channels, layer.out_channels), "channels"
        if operator_of(layer) == "DW":
            return "depthwise: a filter reads one channel, there is nothing left to share"
    else:
        ends, what = tuple(getattr(layer, size) for size in _SIZES), "features"
    for end, size in zip(("input", "output"), ends, strict=True):
        if size % (groups * blocks):
            return f"{size} {end} {what} are not divisible by groups·blocks ({groups}·{blocks})"
    return None


def _hooks(layer: nn.Module) -> bool:
    # PyTorch has no public way to ask whether a module has hooks.
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


def _tie_layer(
    name: str, layer: nn.Module, blocks: int, weights: Weights
) -> tuple[nn.Module, TiedLayer]:
    weight, bias = _values(layer)
    groups: int = getattr(layer, "groups", 1)
    options: dict[str, Any] = {"bias": bias is not None, "blocks": blocks, "dtype": weight.dtype}
    # Values that will be replaced need not be drawn.
    options["device"] = weight.device if weights == "random" else "meta"
    new: nn.Module
    if isinstance(layer, nn.Conv2d):
        same = ("groups", "padding_mode", *_GEOMETRY)
        new = TiedBlockConv2d(**_attributes(layer, same), **options)
    else:
        new = TiedBlockLinear(**_attributes(layer, _SIZES), **options)
    error = None
    if weights == "random":
        thin, thin_bias = _values(new)
    else:
        shared = {"groups": groups, "blocks": blocks}
        thin = nearest_thin(weight, **shared)
        thin_bias = None if bias is None else nearest_thin(bias, **shared)
        error = None if weight.is_meta else part_lost(weight, thin, **shared)
    _fill(new, thin, thin_bias, layer)
    before, after = (sum(p.numel() for p in one.parameters()) for one in (layer, new))
    return new, TiedLayer(name, operator_of(layer), operator_of(new), before, after, error)


def _untie_layer(layer: TiedBlockConv2d | TiedBlockLinear) -> Any:  # the plain layer of its kind
    weight, bias = _values(layer)
    groups: int = getattr(layer, "groups", 1)
    options: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    plain: nn.Module
    if isinstance(layer, TiedBlockConv2d):
        weight = repeat_for_blocks(weight, groups, layer.blocks)
        same = _attributes(layer, ("padding_mode", *_GEOMETRY))
        plain = nn.Conv2d(**same, **options, groups=groups * layer.blocks)
    else:
        weight = torch.block_diag(*[weight] * layer.blocks)
        plain = nn.Linear(**_attributes(layer, _SIZES), **options)
    if bias is not None:
        bias = repeat_for_blocks(bias, groups, layer.blocks)
    _fill(plain, weight, bias, layer)
    return plain


def _attributes(layer: nn.Module, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in names}


def _values(layer: Any) -> tuple[Tensor, Tensor | None]:
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def _fill(new: nn.Module, weight: Tensor, bias: Tensor | None, like: Any) -> None:
    """Set weight and bias of a new layer; copy mode and `requires_grad` from another one."""
    new.weight = nn.Parameter(weight, requires_grad=like.weight.requires_grad)
    if bias is not None:
        new.bias = nn.Parameter(bias, requires_grad=like.bias.requires_grad)
    new.train(like.training)


def _replace(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    if not name:  # the network is one layer
        return new
    model.set_submodule(name, new)
    return model
