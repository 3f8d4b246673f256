"""Tied block convolution and linear layers as PyTorch functions (Eq. 3 and 4 of the paper)."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor

from .algorithms import ALGORITHMS, Geometry, as_channels_last, is_channels_last
from .checks import (
    Pair,
    as_int,
    as_pair,
    check_conv_shapes,
    check_linear_shapes,
    check_padding,
    check_tensors,
    sides_of,
)
from .dispatch import AlgorithmName, choose


def tied_block_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    blocks: int,
    algorithm: AlgorithmName | None = None,
) -> Tensor:
    """Tied block (group) convolution: TBC, Eq. (3), and with `groups` TGC, Eq. (4).

    The arguments are those of `torch.nn.functional.conv2d`, and `blocks`. With ``blocks=1`` the
    result is that of `conv2d`. The output has the memory format of the input.

    Args:
        input: (N, C_in, H, W), or (C_in, H, W) without a batch.
        weight: the filters that the blocks share, (C_out/B, C_in/(G·B), kH, kW), group-major.
        bias: one value per filter, (C_out/B,), shared like the filters, or None.
        stride: step of the kernel in pixels, an int or a (vertical, horizontal) pair.
        padding: zeros on each side in pixels, an int, a pair, "same" or "valid".
        dilation: distance between the kernel's taps in pixels, an int or a pair.
        groups: G, the number of groups of channels; each group has its own filters.
        blocks: B, the number of blocks in each group; all blocks of a group share its filters.
        algorithm: name of one of the functions in `tbc_gpu.algorithms`; all give the same output
            up to rounding. By default a measured table says which one is fastest for the case,
            and with more than one group it is "grouped".

    Returns:
        The output, (N, C_out, H_o, W_o) or (C_out, H_o, W_o); block b of group g fills channels
        g·C_out/G + b·C_out/(G·B) onward.

    Raises:
        TypeError: if the tensors are not floating-point tensors of one dtype (autocast may mix
            dtypes).
        ValueError: for a wrong shape, a value out of range, a kernel larger than the input, or an
            algorithm that is unknown or does not support the case.

    Example:
        >>> import torch
        >>> input = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        >>> tied_block_conv2d(input, torch.ones(1, 2, 1, 1), blocks=2).flatten()
        tensor([3., 7.])
    """
    check_tensors(input=input, weight=weight, bias=bias)
    stride, dilation = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1)
    padding = check_padding(padding, stride)
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    check_conv_shapes(input, weight, bias, padding, dilation, groups, blocks)
    if algorithm is not None:
        _check_algorithm(algorithm, weight, groups)
    images = input if input.ndim == 4 else input.unsqueeze(0)
    y = convolve(images, weight, bias, stride, padding, dilation, groups, blocks, algorithm)
    return y if input.ndim == 4 else y.squeeze(0)


def convolve(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair | str,
    dilation: Pair,
    groups: int,
    blocks: int,
    algorithm: str | None = None,
) -> Tensor:
    """Convolve a batch as `tied_block_conv2d` does; the arguments must have been checked."""
    channels_last = is_channels_last(images)
    k_h, k_w = weight.shape[2:]
    # A single tap has no dilation; before 2.15 PyTorch could crash when one was given
    # (channels-last).
    dilation = (dilation[0] if k_h > 1 else 1, dilation[1] if k_w > 1 else 1)
    if isinstance(padding, str):
        left, right, top, bottom = sides_of(padding, (k_h, k_w), dilation)
        if (left, top) != (right, bottom):  # "same" for a kernel of even span
            images, left, top = F.pad(images, [left, right, top, bottom]), 0, 0
    else:
        top, left = padding
    if algorithm is None:
        algorithm = choose(images, weight, stride, groups, blocks, channels_last)
    if k_h == k_w == 1 and algorithm != "grouped":
        if (top, left) != (0, 0):
            images, left, top = F.pad(images, [left, left, top, top]), 0, 0
        if stride != (1, 1):
            # A kernel of one tap reads no other pixels: at stride 2 a quarter of the image.
            images, stride = images[:, :, :: stride[0], :: stride[1]], (1, 1)
    at = Geometry(stride, (top, left), dilation, groups, blocks)
    by_block = groups > 1 and algorithm != "grouped"  # the channel order of the other algorithms
    if by_block:
        images = _swap(images, groups, blocks)
    y = ALGORITHMS[algorithm](images, weight, bias, at)
    if by_block:
        y = _swap(y, blocks, groups)
    if channels_last == is_channels_last(y):
        return y
    return as_channels_last(y) if channels_last else y.contiguous()


def _swap(images: Tensor, outer: int, inner: int) -> Tensor:
    """Transpose the two outer axes of the channels: (outer, inner, …) to (inner, outer, …)."""
    swapped = images.unflatten(1, (outer, inner, -1)).transpose(1, 2).flatten(1, 3)
    return cast(Tensor, swapped)


def _check_algorithm(algorithm: str, weight: Tensor, groups: int) -> None:
    if algorithm not in ALGORITHMS:
        raise ValueError(f"`algorithm` (={algorithm!r}) must be one of {tuple(ALGORITHMS)}")
    if algorithm == "gemm" and (tuple(weight.shape[2:]) != (1, 1) or groups > 1):
        raise ValueError(
            f"`algorithm` 'gemm' needs a 1x1 kernel and one group, not `weight` "
            f"{tuple(weight.shape)} and `groups` {groups}"
        )


def tied_block_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, blocks: int
) -> Tensor:
    """Tied block fully connected layer (TFC): one thin layer applied to every block of features.

    Args:
        input: (…, in_features) with any leading dimensions.
        weight: the weight that the blocks share, (out_features/B, in_features/B).
        bias: (out_features/B,), shared like the weight, or None.
        blocks: B, the number of blocks.

    Returns:
        The output, (…, out_features); block b fills features b·out_features/B onward.

    Raises:
        TypeError: if the tensors are not floating-point tensors of one dtype (autocast may mix
            dtypes).
        ValueError: for a wrong shape or a value out of range.

    Example:
        >>> import torch
        >>> tied_block_linear(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(1, 2), blocks=2)
        tensor([3., 7.])
    """
    check_tensors(input=input, weight=weight, bias=bias)
    blocks = as_int("blocks", blocks, 1)
    check_linear_shapes(input, weight, bias, blocks)
    return F.linear(input.unflatten(-1, (blocks, -1)), weight, bias).flatten(-2)
