"""Parameters and multiply-accumulates (MACs) of whole networks, counted in two ways.

`layers` applies the formulas of `tbc_ref.cost` to each layer. `measure` uses no formula: it counts
the stored parameters, and the operations that PyTorch runs. The two must agree. Both run the
network on PyTorch's "meta" device, where tensors have shapes but no values.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear
from tbc_models.networks.registry import operator_of
from tbc_ref import cost

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerCount:
    """One layer of a network, and its cost by formula.

    Attributes:
        name: name in the network, such as ``layer1.0.conv1``.
        operator: SC, GC, DW (depthwise), TBC, TGC, FC, TFC, or the class of any other layer.
        input: shape of its input, without the batch.
        output: shape of its output, without the batch.
        kernel: (kH, kW), or () for a linear layer.
        blocks: B.
        groups: G.
        parameters: number of weights and biases.
        macs: multiply-accumulates for one image.
    """

    name: str
    operator: str
    input: Shape
    output: Shape
    kernel: Shape
    blocks: int
    groups: int
    parameters: int
    macs: int


@dataclass(frozen=True)
class Count:
    """The parameters of a network, and the MACs that it computes for one image.

    Attributes:
        parameters: number of parameters.
        macs: MACs of convolutions and linear layers.
        all_macs: the same, plus one for each element that a normalisation or an activation writes,
            and one for each element that pooling reads. Neither count includes products of two
            activations, as in attention.
    """

    parameters: int
    macs: int
    all_macs: int


def layers(network: nn.Module, size: int = 224) -> list[LayerCount]:
    """List the layers of a network that hold parameters, with their costs by formula.

    Args:
        network: a network that takes images. Only 2-D convolutions and linear layers have a
            formula; `measure` counts all other MACs.
        size: height and width of the image in pixels.

    Returns:
        The layers in the order in which they run. A layer that runs twice is listed twice, the
        second time without parameters. Layers that are never called come last, without a shape:
        some networks read the parameters of a layer without calling it.

    Example:
        >>> from timm import create_model
        >>> listed = layers(create_model("tied_resnet14_s"), size=32)
        >>> listed[0].operator, sum(layer.macs for layer in listed)
        ('SC', 18628608)
    """
    listed: list[LayerCount] = []
    called = {module: name for name, module in network.named_modules()}
    holders = [m for m in network.modules() if next(m.parameters(recurse=False), None) is not None]
    waiting = dict.fromkeys(holders)

    def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        listed.append(_layer(called[module], module, arguments, output, module in waiting))
        waiting.pop(module, None)

    hooks = [module.register_forward_hook(note) for module in holders]
    try:
        _run(network, size)
    finally:
        for hook in hooks:
            hook.remove()
    return listed + [_layer(called[m], m, (), None, True) for m in waiting]


def measure(network: nn.Module, size: int = 224) -> Count:
    """Count the parameters of a network and the operations that PyTorch runs for it.

    Args:
        network: a network that takes images.
        size: height and width of the image in pixels.

    Returns:
        Parameters and MACs, for one image.

    Example:
        >>> from timm import create_model
        >>> measure(create_model("resnet50"))
        Count(parameters=25557032, macs=4089184256, all_macs=4111813632)
    """
    counter = FlopCounterMode(display=False, custom_mapping=_ELEMENTWISE)
    with counter:
        _run(network, size)
    flops = counter.get_flop_counts()["Global"]  # two for each MAC
    macs = sum(flops.get(operation, 0) for operation in _CONVOLUTIONS_AND_LINEAR) // 2
    others = sum(flops.get(operation, 0) for operation in _ELEMENTWISE) // 2
    return Count(sum(p.numel() for p in network.parameters()), macs, macs + others)


def _run(network: nn.Module, size: int) -> None:
    # On the meta device this is fast, and tied convolutions always run as group convolutions.
    held = [*network.named_parameters(), *network.named_buffers()]
    without = {name: tensor.to("meta") for name, tensor in held}
    dtype = next(network.parameters()).dtype
    channels = getattr(network, "in_chans", 3)
    image = torch.zeros(1, channels, size, size, device="meta", dtype=dtype)
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            functional_call(network, without, (image,))
    finally:
        network.train(training)


def _layer(
    name: str, module: Any, arguments: tuple[Any, ...], output: Any, first: bool
) -> LayerCount:
    """Describe one call of a layer: its operator, and its cost by that operator's formula."""
    own = {n: p.numel() for n, p in module.named_parameters(recurse=False)} if first else {}
    x = tuple(arguments[0].shape[1:]) if arguments and isinstance(arguments[0], Tensor) else ()
    y = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
    operator, blocks, groups, rows = type(module).__name__, 1, 1, 1
    kernel: Shape = ()
    bias = getattr(module, "bias", None) is not None
    formula: cost.Cost | None = None
    if isinstance(module, (nn.Conv2d, TiedBlockConv2d)) and y:
        operator, kernel = operator_of(module), module.kernel_size
        blocks, groups = getattr(module, "blocks", 1), module.groups
        counts: dict[str, int] = {}
        if groups > 1:
            counts["groups"] = groups
        if blocks > 1:
            counts["blocks"] = blocks
        ends = (module.in_channels, module.out_channels)
        formula = _CONVOLUTIONS[operator](*ends, kernel, **counts, output_size=y[1:], bias=bias)
    elif isinstance(module, (nn.Linear, TiedBlockLinear)) and y:
        operator, rows = operator_of(module), math.prod(y[:-1])
        blocks = getattr(module, "blocks", 1)
        ends = (module.in_features, module.out_features)
        if blocks > 1:
            formula = cost.tied_block_linear(*ends, blocks=blocks, bias=bias)
        else:
            formula = cost.linear(*ends, bias=bias)
    parameters = sum(own.values())
    if formula and own.keys() <= {"weight", "bias"} and own:  # some subclasses have more
        parameters = formula.parameters
    macs = formula.macs * rows if formula else 0
    return LayerCount(name, operator, x, y, kernel, blocks, groups, parameters, macs)


_CONVOLUTIONS: dict[str, Callable[..., cost.Cost]] = {
    "SC": cost.standard_conv,
    "GC": cost.group_conv,
    "DW": cost.group_conv,
    "TBC": cost.tied_block_conv,
    "TGC": cost.tied_block_group_conv,
}


def _elements(out_shape: Sequence[Any]) -> int:
    first = out_shape[0]  # a shape if the operation returns several tensors, as max pooling does
    return math.prod(first if isinstance(first, (tuple, list, torch.Size)) else out_shape)


def _each_written(*_: object, out_shape: Sequence[Any], **__: object) -> int:
    return 2 * _elements(out_shape)


def _each_read(shape: Shape, *_: object, **__: object) -> int:
    return 2 * math.prod(shape)


def _each_in_a_window(
    _: Shape, kernel: Shape, *__: object, out_shape: Sequence[Any], **___: object
) -> int:
    return 2 * _elements(out_shape) * math.prod(kernel)


_aten = torch.ops.aten
_CONVOLUTIONS_AND_LINEAR = (_aten.convolution, _aten.addmm, _aten.mm)
_ELEMENTWISE: dict[Any, Callable[..., int]] = {
    **dict.fromkeys(
        [
            *(_aten.native_batch_norm, _aten._native_batch_norm_legit_no_training),
            *(_aten.cudnn_batch_norm, _aten.miopen_batch_norm),
            *(_aten.relu, _aten.relu_, _aten.silu, _aten.silu_, _aten.sigmoid, _aten.sigmoid_),
            *(_aten.hardswish, _aten.hardswish_, _aten.hardsigmoid, _aten.hardsigmoid_),
            *(_aten.hardtanh, _aten.hardtanh_, _aten.gelu, _aten.leaky_relu, _aten.leaky_relu_),
            *(_aten.native_layer_norm, _aten.native_group_norm),
        ],
        _each_written,
    ),
    **dict.fromkeys([_aten.mean, _aten._adaptive_avg_pool2d], _each_read),
    **dict.fromkeys([_aten.max_pool2d_with_indices, _aten.avg_pool2d], _each_in_a_window),
}
