"""Six ways to compute a tied block convolution, each in a few lines.

All compute the same operator, Eq. (3) and (4). They differ in the axis to which they move the B
blocks, so that an ordinary convolution of PyTorch applies one filter to all of them. How much
memory has to be copied for that depends on the layout. A contiguous image (NCHW) is stored
channel after channel: each block is one piece of memory, just like an image of its own. A
channels-last image (NHWC) is stored pixel after pixel: the B blocks of a pixel lie side by side,
like B thin pixels.

==================== ============================== ================ =======================
algorithm            where the blocks go            no copy for      supports
==================== ============================== ================ =======================
`fold`               into the batch                 NCHW             any kernel and stride
`fold_channels_last` into the batch                 (copies twice)   any kernel and stride
`dilated`            into the width                 NHWC             horizontal stride 1
`conv3d`             into a third axis of the image NHWC             any kernel and stride
`gemm`               into the rows of a matrix      both             1x1 kernels, stride 1
`grouped`            nowhere; it copies the filters both             any kernel and stride
==================== ============================== ================ =======================

Each takes images (N, C_in, H, W), filters (C_out/B, C_in/(G·B), kH, kW), a bias (C_out/B,) or
None, and a `Geometry`, and returns (N, C_out, H_o, W_o). With more than one group the channels are
ordered block by block, as in the authors' code (see `authors_channel_order`); only `grouped` has
the order of Eq. (4), group by group. Nothing is checked here: `tied_block_conv2d` checks its
arguments and chooses an algorithm.

>>> images, filters = torch.randn(2, 8, 6, 6), torch.randn(4, 4, 3, 3)
>>> at = Geometry(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, blocks=2)
>>> torch.allclose(dilated(images, filters, None, at), fold(images, filters, None, at), atol=1e-5)
True
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import Pair, as_int, check_divisible


class Geometry(NamedTuple):
    """How a kernel moves over an image, and which channels it connects.

    Attributes:
        stride: step in pixels, (vertical, horizontal).
        padding: zeros on each side in pixels, (vertical, horizontal).
        dilation: distance between taps in pixels, (vertical, horizontal).
        groups: G.
        blocks: B.
    """

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    blocks: int


def fold(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Fold the blocks into the batch, as the authors' code does: N images of C become N·B of C/B.

    This copies nothing if the input is contiguous, as each of its blocks is one piece of memory. A
    channels-last input is copied. The output is always contiguous.
    """
    n, channels, height, width = input.shape
    images = input.reshape(n * at.blocks, channels // at.blocks, height, width)
    y = F.conv2d(images, weight, bias, at.stride, at.padding, at.dilation, at.groups)
    return y.reshape(n, at.blocks * y.shape[1], *y.shape[2:])


def fold_channels_last(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Fold the blocks into the batch and stay channels-last: copy the input and the output.

    The copies are cheap beside a large kernel: they move each number once, while the convolution
    reads it k² times.
    """
    images = _by_block(input, at.blocks).permute(0, 3, 1, 2, 4).flatten(0, 1)
    y = F.conv2d(_nchw(images), weight, bias, at.stride, at.padding, at.dilation, at.groups)
    return _nchw(_nhwc(y).unflatten(0, (-1, at.blocks)).permute(0, 2, 3, 1, 4).flatten(3))


def dilated(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """View an image of W pixels as one of W·B thin pixels, and dilate the kernel by B.

    ::

        pixel 0      pixel 1      pixel 2
        b0 b1 b2 b3  b0 b1 b2 b3  b0 b1 b2 b3
        *            *            *             a row of the kernel, dilated by 4: block 0
           *            *            *          one step to the right: block 1

    (N, H, W, B·c) → (N, H, W·B, c) copies nothing if the input is channels-last. A horizontal
    stride has a cost: every column is computed, and some are dropped.
    """
    wide = _nchw(_by_block(input, at.blocks).flatten(2, 3))
    y = F.conv2d(
        wide,
        weight,
        bias,
        stride=(at.stride[0], 1),
        padding=(at.padding[0], at.padding[1] * at.blocks),
        # A single tap has no dilation; before 2.15 PyTorch could crash when one was given.
        dilation=(at.dilation[0], at.dilation[1] * at.blocks if weight.shape[3] > 1 else 1),
        groups=at.groups,
    )
    columns = _nhwc(y).unflatten(2, (-1, at.blocks))
    if at.stride[1] > 1:
        columns = columns[:, :, :: at.stride[1]].contiguous()
    return _nchw(columns.flatten(3))


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Give the blocks an axis of their own, and convolve in 3-D with a kernel one block deep.

    (N, H, W, B·c) → (N, c, H, W, B), which PyTorch calls channels_last_3d, copies nothing if the
    input is channels-last, at any stride.
    """
    volume = _by_block(input, at.blocks).permute(0, 4, 1, 2, 3)
    stride, padding, dilation = (*at.stride, 1), (*at.padding, 0), (*at.dilation, 1)
    y = F.conv3d(volume, weight.unsqueeze(-1), bias, stride, padding, dilation, at.groups)
    return _nchw(y.permute(0, 2, 3, 4, 1).flatten(3))


def gemm(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Multiply matrices, which is all that a 1x1 kernel does; stride 1, one group, no padding.

    This copies nothing in either layout: a contiguous block is a matrix (c, H·W), and a
    channels-last image is a matrix (H·W·B, c).
    """
    matrix = weight.flatten(1)
    if is_channels_last(input):
        return _nchw(F.linear(_by_block(input, at.blocks), matrix, bias).flatten(3))
    y = matrix @ input.unflatten(1, (at.blocks, -1)).flatten(3)
    if bias is not None:
        y = y + bias[:, None].to(y.dtype)  # autocast lowers the dtype of the product only
    return y.flatten(1, 2).unflatten(2, input.shape[2:])  # type: ignore[no-any-return]


def grouped(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Repeat the filters for every block that shares them, and convolve in G·B groups.

    No activation is copied, in any layout. The derivative of a shared filter is a sum over the
    blocks, which autograd derives from the repetition. Other runtimes support this form.
    """
    if at.blocks > 1:
        weight = _repeat(weight, at.groups, at.blocks)
        bias = None if bias is None else _repeat(bias, at.groups, at.blocks)
    groups = at.groups * at.blocks
    return F.conv2d(input, weight, bias, at.stride, at.padding, at.dilation, groups)


Algorithm = Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor]
ALGORITHMS: dict[str, Algorithm] = {
    "fold": fold,
    "fold_channels_last": fold_channels_last,
    "dilated": dilated,
    "conv3d": conv3d,
    "gemm": gemm,
    "grouped": grouped,
}


def is_channels_last(images: Tensor) -> bool:
    """Return whether the channels of a pixel of (N, C, H, W) are neighbours in memory.

    This is True for slices of channels-last images too, unlike `Tensor.is_contiguous`.
    """
    return images.stride(1) == 1 and images.stride(3) >= images.shape[1]


def as_channels_last(images: Tensor) -> Tensor:
    """Store (N, C, H, W) channels-last, without `memory_format`, which vmap does not support."""
    return _nchw(_nhwc(images).contiguous())


def _nhwc(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1)


def _nchw(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


def _by_block(images: Tensor, blocks: int) -> Tensor:
    """(N, B·c, H, W) to (N, H, W, B, c)."""
    return _nhwc(images).unflatten(3, (blocks, -1))  # type: ignore[no-any-return]


def repeat_for_blocks(filters: Tensor, groups: int, blocks: int) -> Tensor:
    """Repeat W'_1, …, W'_G as in Eq. (4): W'_1 for all blocks of group 1, then W'_2, ….

    Args:
        filters: (C_out/B, …), group-major.
        groups: G.
        blocks: B.

    Returns:
        (C_out, …), the weight of a group convolution with G·B groups and the same output.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the filters are not divisible by the groups.

    Example:
        >>> repeat_for_blocks(torch.tensor([1.0, 2.0, 3.0, 4.0]), groups=2, blocks=2)
        tensor([1., 2., 1., 2., 3., 4., 3., 4.])
    """
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    if filters.shape[0] % groups:
        raise ValueError(
            f"the first dimension of `filters` (shape {tuple(filters.shape)}) must be divisible by "
            f"`groups` (={groups})"
        )
    return _repeat(filters, groups, blocks)


def _repeat(filters: Tensor, groups: int, blocks: int) -> Tensor:
    # Concatenating views takes a fifth of the time of `repeat` or `repeat_interleave`.
    if groups == 1:
        return torch.cat([filters] * blocks)
    return torch.cat([of_group for of_group in filters.chunk(groups) for _ in range(blocks)])


def authors_channel_order(channels: int, groups: int, blocks: int) -> Tensor:
    """Return the permutation from our channel order of TGC to that of the authors' code.

    In Eq. (4) the groups are outermost: channel (g, b, c). The authors' code folds the blocks
    first and then convolves in groups, so the blocks are outermost: channel (b, g, c). The
    operator is the same: ``authors(x[:, i], w) == ours(x, w)[:, o]``, where i and o are the
    permutations of the input and output channels. TBC (one group) and GC (one block) have the
    same order in both.

    Args:
        channels: C_in or C_out.
        groups: G.
        blocks: B.

    Returns:
        Indices, (channels,); entry k is our index of the authors' channel k.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or `channels` is not divisible by groups·blocks.

    Example:
        >>> authors_channel_order(8, groups=2, blocks=2)
        tensor([0, 1, 4, 5, 2, 3, 6, 7])
    """
    channels = as_int("channels", channels, 1)
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    check_divisible("`channels`", channels, groups, blocks)
    return torch.arange(channels).reshape(groups, blocks, -1).transpose(0, 1).flatten()
