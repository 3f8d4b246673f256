"""Checks of arguments, made before any work is done; every message gives the wrong value."""

import operator

import torch
from torch import Tensor

Pair = tuple[int, int]


def as_int(name: str, value: int, minimum: int) -> int:
    """Check that the argument `name` is an int of at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` (={value!r}) must be an int")
    if number < minimum:
        raise ValueError(f"`{name}` (={value!r}) must be at least {minimum}")
    return number


def as_pair(name: str, value: int | Pair, minimum: int) -> Pair:
    """Check that the argument `name` is an int or a pair of ints, and return it as a pair."""
    if not isinstance(value, (tuple, list)):  # older versions of torch.compile refuse a union here
        value = (value, value)
    if len(value) != 2:
        raise ValueError(f"`{name}` (={value!r}) must be an int or a pair of ints")
    return as_int(name, value[0], minimum), as_int(name, value[1], minimum)


def check_divisible(what: str, size: int, groups: int, blocks: int) -> None:
    """Check that `size` is divisible by `groups`·`blocks`."""
    if size % (groups * blocks):
        rule = f"`groups`·`blocks` (={groups}·{blocks})" if groups > 1 else f"`blocks` (={blocks})"
        raise ValueError(f"{what} (={size}) must be divisible by {rule}")


def check_padding(padding: int | Pair | str, stride: Pair) -> Pair | str:
    """Check `padding`, and return it as a pair, "same" or "valid"."""
    if not isinstance(padding, str):
        return as_pair("padding", padding, 0)
    if padding not in ("same", "valid"):
        raise ValueError(f'`padding` (={padding!r}) must be an int, a pair, "same" or "valid"')
    if padding == "same" and stride != (1, 1):
        raise ValueError(f'`padding` (="same") needs `stride` 1, not {stride!r}')
    return padding


def sides_of(padding: Pair | str, kernel_size: Pair, dilation: Pair) -> tuple[int, int, int, int]:
    """Return the padding of each side in pixels, in the order of `F.pad`."""
    if isinstance(padding, tuple):
        vertical, horizontal = padding
        return horizontal, horizontal, vertical, vertical
    if padding == "valid":
        return 0, 0, 0, 0
    spread = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    top, left = spread[0] // 2, spread[1] // 2
    return left, spread[1] - left, top, spread[0] - top


def check_tensors(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check that all are floating-point tensors of one device and dtype (or under autocast)."""
    tensors = {"input": input, "weight": weight}
    if bias is not None:
        tensors["bias"] = bias
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor)
            raise TypeError(
                f"`{name}` (a {kind.__module__}.{kind.__qualname__}) must be a torch.Tensor"
            )
        if not tensor.is_floating_point():
            raise TypeError(f"`{name}` (dtype {tensor.dtype}) must be of a floating-point dtype")
    for name, tensor in tensors.items():
        if tensor.device != weight.device:
            raise ValueError(
                f"`{name}` (on {tensor.device}) must be on the device of `weight` ({weight.device})"
            )
        if tensor.dtype != weight.dtype and not _autocast_unites(tensor, weight):
            raise TypeError(
                f"`{name}` (dtype {tensor.dtype}) must have the dtype of `weight` ({weight.dtype})"
            )


def _autocast_unites(*tensors: Tensor) -> bool:
    kind = tensors[0].device.type
    enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return enabled and all(t.dtype != torch.float64 for t in tensors)  # autocast keeps float64


def check_conv_shapes(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Pair | str,
    dilation: Pair,
    groups: int,
    blocks: int,
) -> None:
    """Check that the shapes match, and that the kernel is no larger than the padded image."""
    if input.ndim not in (3, 4):
        raise ValueError(
            f"`input` (shape {tuple(input.shape)}) must have 4 dimensions (N, C_in, H, W), "
            "or 3 without a batch"
        )
    if weight.ndim != 4:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must have 4 dimensions "
            "(C_out/B, C_in/(G·B), kH, kW)"
        )
    if 0 in input.shape[-2:]:
        raise ValueError(
            f"`input` (shape {tuple(input.shape)}) must have maps of at least one pixel"
        )
    channels = input.shape[-3]
    check_divisible("the channels of `input`", channels, groups, blocks)
    thin = channels // (groups * blocks)
    if weight.shape[1] != thin or weight.shape[0] % groups or 0 in weight.shape:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must be (C_out/B, {thin}, kH, kW) with "
            f"C_out/B divisible by `groups`, for {channels} input channels, "
            f"`groups`={groups} and `blocks`={blocks}"
        )
    _check_bias(weight, bias)
    if padding == "same":
        return
    sides = (0, 0) if isinstance(padding, str) else padding
    padded = [n + 2 * p for n, p in zip(input.shape[-2:], sides, strict=True)]
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if spans[0] > padded[0] or spans[1] > padded[1]:
        raise ValueError(
            f"the kernel spans {spans[0]}x{spans[1]} pixels (`weight` {tuple(weight.shape)}, "
            f"`dilation` {dilation}), more than the padded input's {padded[0]}x{padded[1]}"
        )


def check_linear_shapes(input: Tensor, weight: Tensor, bias: Tensor | None, blocks: int) -> None:
    """Check that the shapes of input, weight and bias of a TFC layer match."""
    if input.ndim == 0:
        raise ValueError("`input` (shape ()) must have at least one dimension (…, in_features)")
    if weight.ndim != 2:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must have 2 dimensions (out/B, in/B)"
        )
    features = input.shape[-1]
    check_divisible("the features of `input`", features, 1, blocks)
    if weight.shape[1] != features // blocks or 0 in weight.shape:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must be (out/B, {features // blocks}) "
            f"for {features} input features and `blocks`={blocks}"
        )
    _check_bias(weight, bias)


def _check_bias(weight: Tensor, bias: Tensor | None) -> None:
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"`bias` (shape {tuple(bias.shape)}) must have shape {(weight.shape[0],)}")
