"""The fully connected layer (FC) and its derivatives: y[…, o] = b[o] + Σ_c w[o, c] · x[…, c]."""

import math

from .conv import Gradients
from .geometry import Array, check_cotangent, check_linear


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """Fully connected layer (FC): a standard convolution, Eq. (1), of 1x1 filters on 1x1 maps.

    Args:
        x: input, (…, in) with any leading axes, float32 or float64.
        w: weight, (out, in).
        b: bias, (out,), or None.

    Returns:
        The output, (…, out).

    Raises:
        TypeError: for arrays of two libraries or dtypes, or not of float32 or float64.
        ValueError: for a wrong shape.

    Example:
        >>> import numpy as np
        >>> linear(np.asarray([1.0, 2.0]), np.asarray([[1.0, 1.0], [1.0, -1.0]]))
        array([ 3., -1.])
    """
    xp = check_linear(x, w, b)
    y = xp.matmul(x, xp.matrix_transpose(w))
    return y if b is None else y + b


def linear_backward(dy: Array, x: Array, w: Array) -> Gradients:
    """Derivatives of `linear`.

    Args:
        dy: derivative of the loss with respect to the output, (…, out).
        x: the input, (…, in).
        w: the weight, (out, in).

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (out,).

    Raises:
        TypeError: as `linear`.
        ValueError: as `linear`, or if `dy` does not have the output's shape.

    Example:
        >>> import numpy as np
        >>> dy, x, w = np.ones((3, 1)), np.ones((3, 2)), np.asarray([[4.0, 5.0]])
        >>> linear_backward(dy, x, w).dw
        array([[3., 3.]])
    """
    xp = check_linear(x, w)
    check_cotangent(dy, x, (*x.shape[:-1], w.shape[0]))
    n = math.prod(x.shape[:-1])  # all leading axes together: every row is one sample
    rows, d_rows = xp.reshape(x, (n, x.shape[-1])), xp.reshape(dy, (n, dy.shape[-1]))
    # dx[…, c] = Σ_o w[o, c] · dy[…, o];  dw[o, c] = Σ_n dy[n, o] · x[n, c];  db[o] = Σ_n dy[n, o]
    return Gradients(
        dx=xp.matmul(dy, w),
        dw=xp.matmul(xp.matrix_transpose(d_rows), rows),
        db=xp.sum(d_rows, axis=0),
    )
