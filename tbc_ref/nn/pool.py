"""Average and max pooling, and flattening, and their derivatives.

A pooling window moves over its input as a kernel does, so the taps of `Geometry` are used again:
tap (i, j) is the slice of all pixels in row i and column j of their window. A derivative takes the
options of the forward call.
"""

import math
from functools import reduce
from operator import add

from tbc_ref.geometry import (
    Array,
    Geometry,
    Pair,
    as_pair,
    check_arrays,
    check_cotangent,
    check_dimensions,
    geometry,
)


def average_pool(
    x: Array, kernel_size: int | Pair, *, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Array:
    """Average pooling: the mean of each window, including the zeros of the padding.

    Args:
        x: input, (N, C, H, W), float32 or float64.
        kernel_size: height and width of the window in pixels, an int or a pair.
        stride: step of the window in pixels; None: its size, so that windows do not overlap.
        padding: zeros on each side in pixels, at most half a window.

    Returns:
        The means, (N, C, H_o, W_o).

    Raises:
        TypeError: for anything but a float32 or float64 array, or a size that is not an int.
        ValueError: for a wrong shape, a value out of range, a window larger than the input.

    Example:
        >>> import numpy as np
        >>> average_pool(np.arange(8.0).reshape(1, 1, 2, 4), 2)
        array([[[[2.5, 4.5]]]])
    """
    geo, taps, area = _windows(x, kernel_size, stride, padding)
    x_pad = _padded(x, geo, fill=0.0)
    return reduce(add, (x_pad[at_tap] for at_tap in taps)) / area


def average_pool_backward(
    dy: Array,
    x: Array,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
) -> Array:
    """Derivative of `average_pool`: every pixel of a window gets an equal part of its dy.

    Args:
        dy: derivative of the loss with respect to the output, (N, C, H_o, W_o).
        x: the input, (N, C, H, W).
        kernel_size: height and width of the window in pixels.
        stride: step of the window in pixels; None: its size.
        padding: pixels of padding on each side.

    Returns:
        dx, shaped like `x`.

    Raises:
        TypeError: as `average_pool`.
        ValueError: as `average_pool`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> average_pool_backward(np.asarray([[[[8.0]]]]), np.ones((1, 1, 2, 2)), 2)
        array([[[[2., 2.],
                 [2., 2.]]]])
    """
    geo, taps, area = _windows(x, kernel_size, stride, padding)
    check_cotangent(dy, x, (*x.shape[:2], *geo.output))
    dx_pad = _padded(check_arrays(x=x).zeros_like(x), geo, fill=0.0)
    for at_tap in taps:
        # dx̂[n, c, p·s + i, q·s + j] += dy[n, c, p, q] / k²
        dx_pad[at_tap] += dy / area
    return dx_pad[geo.inside(x.shape[2:])]


def max_pool(
    x: Array, kernel_size: int | Pair, *, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Array:
    """Max pooling: the largest pixel of each window, not counting the padding.

    Args:
        x: input, (N, C, H, W), float32 or float64.
        kernel_size: height and width of the window in pixels, an int or a pair.
        stride: step of the window in pixels; None: its size, so that windows do not overlap.
        padding: pixels of −∞ on each side, at most half a window.

    Returns:
        The maxima, (N, C, H_o, W_o).

    Raises:
        TypeError: as `average_pool`.
        ValueError: as `average_pool`.

    Example:
        >>> import numpy as np
        >>> max_pool(np.arange(8.0).reshape(1, 1, 2, 4), 2)
        array([[[[5., 7.]]]])
    """
    geo, taps, _ = _windows(x, kernel_size, stride, padding)
    x_pad = _padded(x, geo, fill=-math.inf)
    return reduce(check_arrays(x=x).maximum, (x_pad[at_tap] for at_tap in taps))


def max_pool_backward(
    dy: Array,
    x: Array,
    kernel_size: int | Pair,
    *,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
) -> Array:
    """Derivative of `max_pool`: dy goes to the largest pixel of each window.

    Of several equal pixels the first one, row by row, gets it. (After a ReLU, windows full of zeros
    are common.)

    Args:
        dy: derivative of the loss with respect to the output, (N, C, H_o, W_o).
        x: the input, (N, C, H, W).
        kernel_size: height and width of the window in pixels.
        stride: step of the window in pixels; None: its size.
        padding: pixels of padding on each side.

    Returns:
        dx, shaped like `x`.

    Raises:
        TypeError: as `max_pool`.
        ValueError: as `max_pool`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> max_pool_backward(np.asarray([[[[8.0]]]]), np.ones((1, 1, 2, 2)), 2)
        array([[[[8., 0.],
                 [0., 0.]]]])
    """
    geo, taps, _ = _windows(x, kernel_size, stride, padding)
    check_cotangent(dy, x, (*x.shape[:2], *geo.output))
    xp = check_arrays(x=x)
    x_pad = _padded(x, geo, fill=-math.inf)
    largest = reduce(xp.maximum, (x_pad[at_tap] for at_tap in taps))
    dx_pad = xp.zeros_like(x_pad)
    for at_tap in taps:
        wins = x_pad[at_tap] == largest
        dx_pad[at_tap] += xp.where(wins, dy, xp.zeros_like(dy))
        dy = xp.where(wins, xp.zeros_like(dy), dy)  # later pixels that are equal get nothing
    return dx_pad[geo.inside(x.shape[2:])]


def flatten(x: Array) -> Array:
    """Reshape each sample into one row: channel after channel, row after row.

    Args:
        x: (N, …), float32 or float64.

    Returns:
        (N, D), where D is the number of entries of a sample.

    Raises:
        TypeError: for anything but a float32 or float64 array.
        ValueError: if `x` has no axis for the samples.

    Example:
        >>> import numpy as np
        >>> flatten(np.ones((5, 2, 3, 3))).shape
        (5, 18)
    """
    xp = check_arrays(x=x)
    if x.ndim == 0:
        raise ValueError("`x` (shape ()) must have at least one dimension (N, …)")
    return xp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def flatten_backward(dy: Array, x: Array) -> Array:
    """Derivative of `flatten`: dy in the shape that `x` had.

    Args:
        dy: derivative of the loss with respect to the output, (N, D).
        x: the input, (N, …).

    Returns:
        dx, shaped like `x`.

    Raises:
        TypeError: as `flatten`.
        ValueError: as `flatten`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> flatten_backward(np.ones((5, 18)), np.ones((5, 2, 3, 3))).shape
        (5, 2, 3, 3)
    """
    check_cotangent(dy, x, flatten(x).shape)
    return check_arrays(x=x).reshape(dy, x.shape)


def _windows(
    x: Array, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> tuple[Geometry, list[tuple[slice, ...]], int]:
    """Check the arguments; return the geometry, the taps of a window, and the number of taps."""
    check_arrays(x=x)
    check_dimensions("x", x, "(N, C, H, W)")
    k_h, k_w = as_pair("kernel_size", kernel_size, minimum=1)
    pads = as_pair("padding", padding, minimum=0)
    if 2 * pads[0] > k_h or 2 * pads[1] > k_w:  # else a window could contain only padding
        raise ValueError(
            f"`padding` (={padding!r}) must be at most half of `kernel_size` (={kernel_size!r})"
        )
    step = (k_h, k_w) if stride is None else stride
    geo = geometry(x.shape[2:], (k_h, k_w), stride=step, padding=pads)
    return geo, [geo.tap(i, j) for i in range(k_h) for j in range(k_w)], k_h * k_w


def _padded(x: Array, geo: Geometry, *, fill: float) -> Array:
    xp = check_arrays(x=x)
    x_pad = xp.full((*x.shape[:2], *geo.padded), fill, dtype=x.dtype, device=x.device)
    x_pad[geo.inside(x.shape[2:])] = x
    return x_pad
