"""Tied block convolution (TBC), Eq. (3), its group form (TGC), Eq. (4), and the tied FC layer.

One thin filter W' is applied to every block of channels in turn: the `blocks` of a group share
their filters, while each of the `groups` has its own. In the derivatives, sharing becomes a sum:
every block contributes to the one dW', so that W' learns from B times more samples. A derivative
takes the options of the forward call, as in `tbc_ref.conv`.
"""

from functools import reduce
from operator import add
from typing import Any

from .conv import Gradients, split, standard_conv, standard_conv_backward
from .geometry import Array, Pair, check_conv, check_cotangent, check_linear
from .linear import linear, linear_backward


def tied_block_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    blocks: int,
) -> Array:
    """Tied block convolution (TBC), X̃ = X_1 * W' ⊕ X_2 * W' ⊕ … ⊕ X_B * W', Eq. (3).

    Args:
        x: input, (N, C_in, H, W), float32 or float64.
        w: W', the filters that all blocks share, (C_out/B, C_in/B, kH, kW).
        b: the bias that all blocks share, (C_out/B,), or None.
        stride: step of the kernel in pixels, an int or a (vertical, horizontal) pair. A stride of 2
            halves the height and width of the output.
        padding: rows and columns of zeros added on each side of the input, an int or a pair;
            "same" adds as many as keep height and width (with stride 1 only), "valid" none.
        dilation: distance between neighbouring taps of the kernel in pixels, an int or a pair. A
            kernel of k taps spans dilation · (k − 1) + 1 pixels.
        blocks: B, the number of blocks. All share one filter of 1/B of the input channels, so there
            are B² times fewer weights and B times fewer MACs.

    Returns:
        The output, (N, C_out, H_o, W_o); block b fills channels b·C_out/B onward.

    Raises:
        TypeError: for arrays of two libraries or dtypes, or not of float32 or float64.
        ValueError: for a wrong shape, a value out of range, a kernel larger than the input.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        >>> w = np.asarray([[1.0, 1.0]]).reshape(1, 2, 1, 1)
        >>> tied_block_conv(x, w, blocks=2).ravel()
        array([3., 7.])
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    xp, _ = check_conv(x, w, b, blocks=blocks, **options)
    return xp.concat(
        [standard_conv(X_b, w, b, **options) for X_b in split(x, blocks, axis=1)], axis=1
    )


def tied_block_conv_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    blocks: int,
) -> Gradients:
    """Derivatives of `tied_block_conv`, Eq. (3).

    Args:
        dy: derivative of the loss with respect to the output, (N, C_out, H_o, W_o).
        x: the input, (N, C_in, H, W).
        w: W', (C_out/B, C_in/B, kH, kW).
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.
        blocks: B, the number of blocks.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (C_out/B,).

    Raises:
        TypeError: as `tied_block_conv`.
        ValueError: as `tied_block_conv`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        >>> dy, w = np.ones((1, 2, 1, 1)), np.ones((1, 2, 1, 1))
        >>> tied_block_conv_backward(dy, x, w, blocks=2).dw.ravel()  # 1 + 3 and 2 + 4
        array([4., 6.])
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    xp, geo = check_conv(x, w, blocks=blocks, **options)
    check_cotangent(dy, x, (x.shape[0], blocks * w.shape[0], *geo.output))
    parts = [
        standard_conv_backward(dY_b, X_b, w, **options)
        for dY_b, X_b in zip(split(dy, blocks, axis=1), split(x, blocks, axis=1), strict=True)
    ]
    # Each block has its own dX_b; all depend on the one W', so dW' and db are sums over b.
    return Gradients(
        dx=xp.concat([part.dx for part in parts], axis=1),
        dw=reduce(add, (part.dw for part in parts)),
        db=reduce(add, (part.db for part in parts)),
    )


def tied_block_group_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int,
    blocks: int,
) -> Array:
    """Tied block group convolution (TGC), Eq. (4).

    X̃ = (X_11 * W'_1 ⊕ … ⊕ X_1B * W'_1) ⊕ … ⊕ (X_G1 * W'_G ⊕ … ⊕ X_GB * W'_G): a group
    convolution whose every group is a tied block convolution. X_gb has C_in/(G·B) channels,
    and W'_g is (C_out/(G·B), C_in/(G·B), kH, kW); the shapes that the paper prints below its
    equation, C/B, leave G out.

    Args:
        x: input, (N, C_in, H, W), float32 or float64.
        w: W'_1, …, W'_G, group after group, (C_out/B, C_in/(G·B), kH, kW).
        b: one bias per filter, (C_out/B,), shared by the blocks of its group, or None.
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.
        groups: G, the number of groups.
        blocks: B, the number of blocks in each group.

    Returns:
        The output, (N, C_out, H_o, W_o); block b of group g fills channels
        g·C_out/G + b·C_out/(G·B) onward.

    Raises:
        TypeError: as `tied_block_conv`.
        ValueError: as `tied_block_conv`.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        >>> w = np.asarray([10.0, 100.0]).reshape(2, 1, 1, 1)
        >>> tied_block_group_conv(x, w, groups=2, blocks=2).ravel()
        array([ 10.,  20., 300., 400.])
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    xp, _ = check_conv(x, w, b, groups=groups, blocks=blocks, **options)
    X, W = split(x, groups, axis=1), split(w, groups, axis=0)
    b_ = [None] * len(W) if b is None else split(b, groups, axis=0)
    return xp.concat(
        [tied_block_conv(X[g], W[g], b_[g], blocks=blocks, **options) for g in range(len(W))],
        axis=1,
    )


def tied_block_group_conv_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int,
    blocks: int,
) -> Gradients:
    """Derivatives of `tied_block_group_conv`, Eq. (4): those of each group, concatenated.

    Args:
        dy: derivative of the loss with respect to the output, (N, C_out, H_o, W_o).
        x: the input, (N, C_in, H, W).
        w: the filters, (C_out/B, C_in/(G·B), kH, kW).
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.
        groups: G, the number of groups.
        blocks: B, the number of blocks in each group.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (C_out/B,).

    Raises:
        TypeError: as `tied_block_group_conv`.
        ValueError: as `tied_block_group_conv`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        >>> dy, w = np.ones((1, 4, 1, 1)), np.ones((2, 1, 1, 1))
        >>> tied_block_group_conv_backward(dy, x, w, groups=2, blocks=2).dw.ravel()
        array([3., 7.])
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    xp, geo = check_conv(x, w, groups=groups, blocks=blocks, **options)
    check_cotangent(dy, x, (x.shape[0], blocks * w.shape[0], *geo.output))
    dY, X, W = split(dy, groups, axis=1), split(x, groups, axis=1), split(w, groups, axis=0)
    # Within a group the blocks sum into dW'_g; between groups nothing is shared.
    parts = [
        tied_block_conv_backward(dY[g], X[g], W[g], blocks=blocks, **options) for g in range(len(W))
    ]
    return Gradients(
        dx=xp.concat([part.dx for part in parts], axis=1),
        dw=xp.concat([part.dw for part in parts], axis=0),
        db=xp.concat([part.db for part in parts], axis=0),
    )


def tied_block_linear(x: Array, w: Array, b: Array | None = None, *, blocks: int) -> Array:
    """Tied block fully connected layer (TFC): TBC, Eq. (3), of 1x1 filters on 1x1 maps.

    Args:
        x: input, (…, in) with any leading axes, float32 or float64.
        w: W', the weight that all blocks share, (out/B, in/B).
        b: the bias that all blocks share, (out/B,), or None.
        blocks: B, the number of blocks.

    Returns:
        The output, (…, out); block b fills features b·out/B onward.

    Raises:
        TypeError: for arrays of two libraries or dtypes, or not of float32 or float64.
        ValueError: for a wrong shape or a value out of range.

    Example:
        >>> import numpy as np
        >>> tied_block_linear(np.asarray([1.0, 2.0, 3.0, 4.0]), np.ones((1, 2)), blocks=2)
        array([3., 7.])
    """
    xp = check_linear(x, w, b, blocks=blocks)
    return xp.concat([linear(x_b, w, b) for x_b in split(x, blocks, axis=x.ndim - 1)], axis=-1)


def tied_block_linear_backward(dy: Array, x: Array, w: Array, *, blocks: int) -> Gradients:
    """Derivatives of `tied_block_linear`.

    Args:
        dy: derivative of the loss with respect to the output, (…, out).
        x: the input, (…, in).
        w: W', (out/B, in/B).
        blocks: B, the number of blocks.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (out/B,).

    Raises:
        TypeError: as `tied_block_linear`.
        ValueError: as `tied_block_linear`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> x, dy, w = np.asarray([1.0, 2.0, 3.0, 4.0]), np.ones(2), np.ones((1, 2))
        >>> tied_block_linear_backward(dy, x, w, blocks=2).dw
        array([[4., 6.]])
    """
    xp = check_linear(x, w, blocks=blocks)
    check_cotangent(dy, x, (*x.shape[:-1], blocks * w.shape[0]))
    last = x.ndim - 1
    parts = [
        linear_backward(dy_b, x_b, w)
        for dy_b, x_b in zip(split(dy, blocks, axis=last), split(x, blocks, axis=last), strict=True)
    ]
    # As in TBC: each block has its own dx_b; dW' and db are sums over the blocks.
    return Gradients(
        dx=xp.concat([part.dx for part in parts], axis=-1),
        dw=reduce(add, (part.dw for part in parts)),
        db=reduce(add, (part.db for part in parts)),
    )
