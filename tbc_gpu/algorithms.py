"""The exact ways to compute a tied block convolution, each a few lines.

All are the same operator, Eq. (3) and (4). They differ in where they put the B blocks, so that an
ordinary convolution of PyTorch applies one filter to all of them, and what that costs is a
question of memory layout. A contiguous image (NCHW) is stored channel after channel: each block
is one piece of memory, an image in all but name. A channels-last image (NHWC) is stored pixel
after pixel: the B blocks of a pixel stand side by side, like B thin pixels.

==================== ============================== ================ =======================
algorithm            where the blocks go            copies none from for
==================== ============================== ================ =======================
`fold`               into the batch                 NCHW             any kernel and stride
`fold_channels_last` into the batch                 (copies twice)   any kernel and stride
`dilated`            into the width                 NHWC             horizontal stride 1
`conv3d`             into a third axis of the image NHWC             any kernel and stride
`gemm`               into the rows of a matrix      both             1x1 kernels, stride 1
`grouped`            nowhere; it copies the filters both             any kernel and stride
==================== ============================== ================ =======================

Each takes images (N, C_in, H, W), filters (C_out/B, C_in/(G·B), kH, kW), a bias (C_out/B,) or
None, and a `Geometry`, and returns (N, C_out, H_o, W_o). With more than one group the channels go
block by block, as in the authors' code (see `authors_channel_order`); `grouped` alone keeps the
order of Eq. (4), group by group. Nothing is checked here: `tied_block_conv2d` checks, and chooses.

>>> images, filters = torch.randn(2, 8, 6, 6), torch.randn(4, 4, 3, 3)
>>> at = Geometry(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, blocks=2)
>>> torch.allclose(dilated(images, filters, None, at), fold(images, filters, None, at), atol=1e-5)
True
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor

from .checks import Pair, as_int, check_divisible


class Geometry(NamedTuple):
    """How a kernel moves over an image, and which channels it joins.

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

    Free for a contiguous input, whose blocks are pieces of memory already. A channels-last one
    is copied, and the output is contiguous whatever came in.
    """
    n, channels, height, width = input.shape
    images = input.reshape(n * at.blocks, channels // at.blocks, height, width)
    y = F.conv2d(images, weight, bias, at.stride, at.padding, at.dilation, at.groups)
    return y.reshape(n, at.blocks * y.shape[1], *y.shape[2:])


def fold_channels_last(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Fold the blocks into the batch and stay channels-last: one copy in, one copy out.

    Never free, but a copy moves each number once, where a convolution reads it k² times.
    """
    images = _by_block(input, at.blocks).permute(0, 3, 1, 2, 4).flatten(0, 1)
    y = F.conv2d(_nchw(images), weight, bias, at.stride, at.padding, at.dilation, at.groups)
    return _nchw(_nhwc(y).unflatten(0, (-1, at.blocks)).permute(0, 2, 3, 1, 4).flatten(3))


def dilated(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """See an image of W pixels as one of W·B thin pixels, and let the kernel stride over B of them.

    ::

        pixel 0      pixel 1      pixel 2
        b0 b1 b2 b3  b0 b1 b2 b3  b0 b1 b2 b3
        *            *            *             a row of the kernel, dilated by 4: block 0
           *            *            *          one step to the right: block 1

    (N, H, W, B·c) → (N, H, W·B, c) is free for a channels-last input. A horizontal stride is not:
    every column is computed, and some are dropped.
    """
    wide = _nchw(_by_block(input, at.blocks).flatten(2, 3))
    y = F.conv2d(
        wide,
        weight,
        bias,
        stride=(at.stride[0], 1),
        padding=(at.padding[0], at.padding[1] * at.blocks),
        # One tap has no distance to keep; before 2.15 PyTorch could crash over it.
        dilation=(at.dilation[0], at.dilation[1] * at.blocks if weight.shape[3] > 1 else 1),
        groups=at.groups,
    )
    columns = _nhwc(y).unflatten(2, (-1, at.blocks))
    if at.stride[1] > 1:
        columns = columns[:, :, :: at.stride[1]].contiguous()
    return _nchw(columns.flatten(3))


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Give the blocks an axis of their own, and convolve in 3-D with a kernel one block deep.

    (N, H, W, B·c) → (N, c, H, W, B), which PyTorch calls channels_last_3d: free for a
    channels-last input, at any stride.
    """
    volume = _by_block(input, at.blocks).permute(0, 4, 1, 2, 3)
    stride, padding, dilation = (*at.stride, 1), (*at.padding, 0), (*at.dilation, 1)
    y = F.conv3d(volume, weight.unsqueeze(-1), bias, stride, padding, dilation, at.groups)
    return _nchw(y.permute(0, 2, 3, 4, 1).flatten(3))


def gemm(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Multiply matrices, all that a 1x1 kernel does; stride 1, one group, no padding.

    Free for both layouts: a contiguous block is a matrix (c, H·W), a channels-last image one of
    H·W·B rows of c.
    """
    matrix = weight.flatten(1)
    if is_channels_last(input):
        return _nchw(F.linear(_by_block(input, at.blocks), matrix, bias).flatten(3))
    y = matrix @ input.unflatten(1, (at.blocks, -1)).flatten(3)
    if bias is not None:
        y = y + bias[:, None].to(y.dtype)  # which autocast lowers in the product alone
    return y.flatten(1, 2).unflatten(2, input.shape[2:])  # type: ignore[no-any-return]


def grouped(input: Tensor, weight: Tensor, bias: Tensor | None, at: Geometry) -> Tensor:
    """Repeat the filters for every block that shares them, and convolve in G·B groups.

    No activation is copied, in any layout. Autograd turns the repetition into the sum over blocks
    that the derivative of a shared filter is. The form that other runtimes know.
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
    """Tell whether the channels of a pixel of (N, C, H, W) are neighbours in memory.

    True for slices of channels-last images too, of which `Tensor.is_contiguous` says no.
    """
    return images.stride(1) == 1 and images.stride(3) >= images.shape[1]


def as_channels_last(images: Tensor) -> Tensor:
    """Store (N, C, H, W) channels-last; not by `memory_format`, of which vmap knows nothing."""
    return _nchw(_nhwc(images).contiguous())


def _nhwc(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1)


def _nchw(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


def _by_block(images: Tensor, blocks: int) -> Tensor:
    """(N, B·c, H, W) to (N, H, W, B, c)."""
    return _nhwc(images).unflatten(3, (blocks, -1))  # type: ignore[no-any-return]


def repeat_for_blocks(filters: Tensor, groups: int, blocks: int) -> Tensor:
    """Repeat W'_1, …, W'_G as Eq. (4) uses them: W'_1 for all blocks of group 1, then W'_2, ….

    Args:
        filters: (C_out/B, …), group-major.
        groups: G.
        blocks: B.

    Returns:
        (C_out, …), the weight of a group convolution with G·B groups and the same output.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the filters do not divide by groups.

    Example:
        >>> repeat_for_blocks(torch.tensor([1.0, 2.0, 3.0, 4.0]), groups=2, blocks=2)
        tensor([1., 2., 1., 2., 3., 4., 3., 4.])
    """
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    if filters.shape[0] % groups:
        raise ValueError(
            f"`filters` (shape {tuple(filters.shape)}) must divide into `groups` (={groups})"
        )
    return _repeat(filters, groups, blocks)


def _repeat(filters: Tensor, groups: int, blocks: int) -> Tensor:
    # Joining views takes a fifth of the time that `repeat` or `repeat_interleave` do.
    if groups == 1:
        return torch.cat([filters] * blocks)
    return torch.cat([of_group for of_group in filters.chunk(groups) for _ in range(blocks)])


def authors_channel_order(channels: int, groups: int, blocks: int) -> Tensor:
    """Give the permutation that leads from our channel order of TGC to the authors' code's.

    Eq. (4) has the group outside and the block inside: channel (g, b, c). The authors' code
    folds the blocks first and convolves in groups then: channel (b, g, c). The operator is
    the same: ``authors(x[:, i], w) == ours(x, w)[:, o]`` with i and o the orders of the input
    and output channels. TBC (one group) and GC (one block) need none.

    Args:
        channels: C_in or C_out.
        groups: G.
        blocks: B.

    Returns:
        Indices, (channels,); entry k is our index of the authors' channel k.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or channels do not divide by groups·blocks.

    Example:
        >>> authors_channel_order(8, groups=2, blocks=2)
        tensor([0, 1, 4, 5, 2, 3, 6, 7])
    """
    channels = as_int("channels", channels, 1)
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    check_divisible("`channels`", channels, groups, blocks)
    return torch.arange(channels).reshape(groups, blocks, -1).transpose(0, 1).flatten()
