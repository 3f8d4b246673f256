"""Standard convolution, Eq. (1), group convolution, Eq. (2), and their derivatives.

`x` is the input X, (N, C_in, H, W); `w` holds the filters W; `y` is the output X̃. Everything else
in this package is built from one sum, which `standard_conv` computes:

    y[n, o, p, q] = b[o] + Σ_c Σ_i Σ_j w[o, c, i, j] · x̂[n, c, p·s + i·d, q·s + j·d]

with s the stride, d the dilation, and x̂ the input with its padding of zeros around it. The sum is
computed one kernel tap (i, j) at a time, as a matrix product of w[:, :, i, j] with the pixels that
this tap reads.

A derivative `f_backward(dy, x, w, …)` takes dy, the derivative of the loss with respect to the
output, then the input and the filters of the forward call `f(x, w, b, …)`, with the same options.
It needs no bias.
"""

from typing import Any, NamedTuple

from .geometry import Array, Pair, as_int, check_conv, check_cotangent


class Gradients(NamedTuple):
    """The derivatives of a loss with respect to the arguments of an operator.

    Attributes:
        dx: with respect to the input, in its shape.
        dw: with respect to the weight, in its shape.
        db: with respect to the bias, one for each stored filter, even if there is no bias.
    """

    dx: Array
    dw: Array
    db: Array


def split(array: Array, parts: int, *, axis: int) -> list[Array]:
    """Split an array into equal parts along an axis: X becomes X_1, …, X_parts.

    Args:
        array: X, any shape.
        parts: number of parts.
        axis: axis to split, counted from 0.

    Returns:
        The parts in order; they are views of the array if its library has views.

    Raises:
        ValueError: if there is no such axis, or its size is not divisible by `parts`.

    Example:
        >>> import numpy as np
        >>> split(np.arange(6.0), 3, axis=0)
        [array([0., 1.]), array([2., 3.]), array([4., 5.])]
    """
    parts, axis = as_int("parts", parts, minimum=1), as_int("axis", axis, minimum=0)
    if axis >= array.ndim:
        raise ValueError(f"`axis` (={axis}) must be less than {array.ndim}, the axes of `array`")
    size, rest = divmod(array.shape[axis], parts)
    if rest:
        raise ValueError(f"axis {axis} (={array.shape[axis]}) must be divisible by {parts}")
    before = (slice(None),) * axis
    return [array[(*before, slice(p * size, (p + 1) * size), ...)] for p in range(parts)]


def standard_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
) -> Array:
    """Standard convolution (SC), X̃ = X * W, Eq. (1).

    Args:
        x: input, (N, C_in, H, W), float32 or float64.
        w: filters, (C_out, C_in, kH, kW).
        b: bias, (C_out,), or None.
        stride: step of the kernel in pixels, an int or a (vertical, horizontal) pair. A stride of 2
            halves the height and width of the output.
        padding: rows and columns of zeros added on each side of the input, an int or a pair;
            "same" adds as many as keep height and width (with stride 1 only), "valid" none.
        dilation: distance between neighbouring taps of the kernel in pixels, an int or a pair. A
            kernel of k taps spans dilation · (k − 1) + 1 pixels.

    Returns:
        The output, (N, C_out, H_o, W_o).

    Raises:
        TypeError: for arrays of two libraries or dtypes, or not of float32 or float64.
        ValueError: for a wrong shape, a value out of range, a kernel larger than the input.

    Example:
        >>> import numpy as np
        >>> standard_conv(np.ones((1, 2, 3, 3)), np.ones((1, 2, 2, 2)))
        array([[[[8., 8.],
                 [8., 8.]]]])
    """
    xp, geo = check_conv(x, w, b, stride=stride, padding=padding, dilation=dilation)
    n, c_i, *size = x.shape
    c_o, _, k_h, k_w = w.shape
    h_o, w_o = geo.output
    x_pad = xp.zeros((n, c_i, *geo.padded), dtype=x.dtype, device=x.device)
    x_pad[geo.inside(size)] = x
    y = xp.zeros((n, c_o, h_o * w_o), dtype=x.dtype, device=x.device)
    taps = xp.reshape(xp.permute_dims(w, (2, 3, 0, 1)), (k_h * k_w, c_o, c_i))
    for i in range(k_h):
        for j in range(k_w):
            # y[n, o, pq] += Σ_c w[o, c, i, j] · x̂[n, c, p·s + i·d, q·s + j·d]
            x_ij = xp.reshape(x_pad[geo.tap(i, j)], (n, c_i, h_o * w_o))
            y += xp.matmul(taps[i * k_w + j, :, :], x_ij)
    if b is not None:
        y += b[:, None]
    return xp.reshape(y, (n, c_o, h_o, w_o))


def standard_conv_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
) -> Gradients:
    """Derivatives of `standard_conv`, Eq. (1).

    Args:
        dy: derivative of the loss with respect to the output, (N, C_out, H_o, W_o).
        x: the input, (N, C_in, H, W).
        w: the filters, (C_out, C_in, kH, kW).
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (C_out,).

    Raises:
        TypeError: as `standard_conv`.
        ValueError: as `standard_conv`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> x, w, dy = np.ones((1, 2, 3, 3)), np.ones((1, 2, 2, 2)), np.ones((1, 1, 2, 2))
        >>> standard_conv_backward(dy, x, w).dx[0, 0]
        array([[1., 2., 1.],
               [2., 4., 2.],
               [1., 2., 1.]])
    """
    xp, geo = check_conv(x, w, stride=stride, padding=padding, dilation=dilation)
    n, c_i, *size = x.shape
    c_o, _, k_h, k_w = w.shape
    h_o, w_o = geo.output
    check_cotangent(dy, x, (n, c_o, h_o, w_o))
    x_pad = xp.zeros((n, c_i, *geo.padded), dtype=x.dtype, device=x.device)
    x_pad[geo.inside(size)] = x
    dx_pad = xp.zeros_like(x_pad)
    dw = xp.zeros((c_o, c_i, k_h, k_w), dtype=x.dtype, device=x.device)
    taps = xp.reshape(xp.permute_dims(w, (2, 3, 1, 0)), (k_h * k_w, c_i, c_o))
    dy = xp.reshape(dy, (n, c_o, h_o * w_o))
    for i in range(k_h):
        for j in range(k_w):
            at_tap = geo.tap(i, j)
            # dx̂[n, c, p·s + i·d, q·s + j·d] += Σ_o w[o, c, i, j] · dy[n, o, pq]
            dx_pad[at_tap] += xp.reshape(xp.matmul(taps[i * k_w + j, :, :], dy), (n, c_i, h_o, w_o))
            # dw[o, c, i, j] = Σ_n Σ_pq dy[n, o, pq] · x̂[n, c, p·s + i·d, q·s + j·d]
            x_ij = xp.reshape(x_pad[at_tap], (n, c_i, h_o * w_o))
            dw[:, :, i, j] = xp.sum(xp.matmul(dy, xp.matrix_transpose(x_ij)), axis=0)
    # db[o] = Σ_n Σ_pq dy[n, o, pq]
    return Gradients(dx_pad[geo.inside(size)], dw, xp.sum(dy, axis=(0, 2)))


def group_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int,
) -> Array:
    """Group convolution (GC), X̃ = X_1 * W_1 ⊕ … ⊕ X_G * W_G, Eq. (2).

    Input and output channels are split into `groups`; each group has filters of its own.

    Args:
        x: input, (N, C_in, H, W), float32 or float64.
        w: the filters of all groups, group after group, (C_out, C_in/G, kH, kW).
        b: bias, (C_out,), or None.
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.
        groups: G, the number of groups. An output channel depends only on the C_in/G input
            channels of its group, so there are G times fewer weights and MACs.

    Returns:
        The output, (N, C_out, H_o, W_o); group g fills channels g·C_out/G onward.

    Raises:
        TypeError: as `standard_conv`.
        ValueError: as `standard_conv`, or if the channels are not divisible by `groups`.

    Example:
        >>> import numpy as np
        >>> group_conv(np.ones((1, 4, 1, 1)), np.ones((2, 2, 1, 1)), groups=2).shape
        (1, 2, 1, 1)
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    xp, _ = check_conv(x, w, b, groups=groups, **options)
    X, W = split(x, groups, axis=1), split(w, groups, axis=0)
    b_ = [None] * len(W) if b is None else split(b, groups, axis=0)
    return xp.concat([standard_conv(X[g], W[g], b_[g], **options) for g in range(len(W))], axis=1)


def group_conv_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int,
) -> Gradients:
    """Derivatives of `group_conv`, Eq. (2): the concatenated derivatives of each group.

    Args:
        dy: derivative of the loss with respect to the output, (N, C_out, H_o, W_o).
        x: the input, (N, C_in, H, W).
        w: the filters, (C_out, C_in/G, kH, kW).
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.
        groups: G, the number of groups.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (C_out,).

    Raises:
        TypeError: as `group_conv`.
        ValueError: as `group_conv`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> x, w, dy = np.ones((5, 4, 1, 1)), np.ones((2, 2, 1, 1)), np.ones((5, 2, 1, 1))
        >>> group_conv_backward(dy, x, w, groups=2).dw[:, :, 0, 0]
        array([[5., 5.],
               [5., 5.]])
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    xp, geo = check_conv(x, w, groups=groups, **options)
    check_cotangent(dy, x, (x.shape[0], w.shape[0], *geo.output))
    dY, X, W = split(dy, groups, axis=1), split(x, groups, axis=1), split(w, groups, axis=0)
    # Group g's output depends on X_g and W_g alone.
    parts = [standard_conv_backward(dY[g], X[g], W[g], **options) for g in range(len(W))]
    return Gradients(
        dx=xp.concat([part.dx for part in parts], axis=1),
        dw=xp.concat([part.dw for part in parts], axis=0),
        db=xp.concat([part.db for part in parts], axis=0),
    )
