"""What stands between the convolutions of a network: activations and normalisations.

Only the operators of the other files are the paper's; these are what its modules (Fig. 4 and 5)
put around them, so that whole modules can be checked as well.
"""

from array_api_compat import array_namespace

from .conv import Gradients
from .geometry import Array, check_arrays, check_shape


def relu(x: Array) -> Array:
    """Rectified linear unit, max(x, 0).

    Args:
        x: any shape, float32 or float64.

    Returns:
        An array shaped like `x`.

    Raises:
        TypeError: for anything but a float32 or float64 array.

    Example:
        >>> import numpy as np
        >>> relu(np.asarray([-1.0, 2.0]))
        array([0., 2.])
    """
    xp = check_arrays(x=x)
    return xp.where(x > 0, x, xp.zeros_like(x))


def relu_backward(dy: Array, x: Array) -> Array:
    """Derivative of `relu`: dy where x is positive, else zero.

    Args:
        dy: derivative of the loss with respect to the output, shaped like `x`.
        x: the input.

    Returns:
        dx, shaped like `x`.

    Raises:
        TypeError: as `relu`.
        ValueError: if `dy` does not have the shape of `x`.

    Example:
        >>> import numpy as np
        >>> relu_backward(np.asarray([5.0, 5.0]), np.asarray([-1.0, 2.0]))
        array([0., 5.])
    """
    xp = _check(dy, x)
    return xp.where(x > 0, dy, xp.zeros_like(dy))


def sigmoid(x: Array) -> Array:
    """Logistic function, 1 / (1 + exp(−x)), written so that no exponential overflows.

    Args:
        x: any shape, float32 or float64.

    Returns:
        An array shaped like `x`.

    Raises:
        TypeError: for anything but a float32 or float64 array.

    Example:
        >>> import numpy as np
        >>> sigmoid(np.asarray([0.0, 1000.0]))
        array([0.5, 1. ])
    """
    xp = check_arrays(x=x)
    return (1 + xp.tanh(x / 2)) / 2


def sigmoid_backward(dy: Array, x: Array) -> Array:
    """Derivative of `sigmoid`: dy · y · (1 − y).

    Args:
        dy: derivative of the loss with respect to the output, shaped like `x`.
        x: the input.

    Returns:
        dx, shaped like `x`.

    Raises:
        TypeError: as `sigmoid`.
        ValueError: if `dy` does not have the shape of `x`.

    Example:
        >>> import numpy as np
        >>> sigmoid_backward(np.asarray([4.0]), np.asarray([0.0]))
        array([1.])
    """
    _check(dy, x)
    y = sigmoid(x)
    return dy * y * (1 - y)


def softmax(x: Array) -> Array:
    """Softmax over the last axis: y_i = exp(x_i) / Σ_j exp(x_j).

    Args:
        x: any shape with at least one axis, float32 or float64.

    Returns:
        An array shaped like `x`, whose last axis sums to one.

    Raises:
        TypeError: for anything but a float32 or float64 array.

    Example:
        >>> import numpy as np
        >>> softmax(np.asarray([0.0, 0.0]))
        array([0.5, 0.5])
    """
    xp = check_arrays(x=x)
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))  # a constant cancels; this one is safe
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax_backward(dy: Array, x: Array) -> Array:
    """Derivative of `softmax`: dx_i = y_i · (dy_i − Σ_j dy_j · y_j).

    Args:
        dy: derivative of the loss with respect to the output, shaped like `x`.
        x: the input.

    Returns:
        dx, shaped like `x`.

    Raises:
        TypeError: as `softmax`.
        ValueError: if `dy` does not have the shape of `x`.

    Example:
        >>> import numpy as np
        >>> softmax_backward(np.asarray([1.0, 0.0]), np.asarray([0.0, 0.0]))
        array([ 0.25, -0.25])
    """
    xp = _check(dy, x)
    y = softmax(x)
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))


def batch_norm(x: Array, w: Array, b: Array, *, epsilon: float = 1e-5) -> Array:
    """Batch normalisation while training: each channel by its mean and variance over (N, H, W).

    Args:
        x: (N, C, H, W), float32 or float64.
        w: scale of each channel, (C,).
        b: shift of each channel, (C,).
        epsilon: added to the variance.

    Returns:
        w · (x − mean) / √(variance + ε) + b, shaped like `x`.

    Raises:
        TypeError: for arrays of two libraries or dtypes, or not of float32 or float64.
        ValueError: for a wrong shape.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)
        >>> batch_norm(x, np.ones(1), np.zeros(1)).round(3).ravel()
        array([-1.,  1.])
    """
    _check_norm(x, w, b, (x.shape[1],))
    normal, _ = _normalise(x, (0, 2, 3), epsilon)
    return normal * w[None, :, None, None] + b[None, :, None, None]


def batch_norm_backward(dy: Array, x: Array, w: Array, *, epsilon: float = 1e-5) -> Gradients:
    """Derivatives of `batch_norm`.

    Args:
        dy: derivative of the loss with respect to the output, (N, C, H, W).
        x: the input, (N, C, H, W).
        w: scale of each channel, (C,).
        epsilon: as in the forward call.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and (C,).

    Raises:
        TypeError: as `batch_norm`.
        ValueError: as `batch_norm`, or if `dy` does not have the shape of `x`.

    Example:
        >>> import numpy as np
        >>> dy = x = np.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)
        >>> batch_norm_backward(dy, x, np.ones(1)).dw.round(3)
        array([2.])
    """
    xp = _check(dy, x)
    _check_norm(x, w, w, (x.shape[1],))
    axes = (0, 2, 3)
    normal, deviation = _normalise(x, axes, epsilon)
    dx = _normalise_backward(dy * w[None, :, None, None], normal, deviation, axes)
    return Gradients(dx, dw=xp.sum(dy * normal, axis=axes), db=xp.sum(dy, axis=axes))


def layer_norm(x: Array, w: Array, b: Array, *, epsilon: float = 1e-5) -> Array:
    """Layer normalisation: each sample by its own mean and variance.

    Args:
        x: (N, …), float32 or float64.
        w: scale of each entry of a sample, (…).
        b: shift of each entry of a sample, (…).
        epsilon: added to the variance.

    Returns:
        w · (x − mean) / √(variance + ε) + b, shaped like `x`.

    Raises:
        TypeError: for arrays of two libraries or dtypes, or not of float32 or float64.
        ValueError: for a wrong shape.

    Example:
        >>> import numpy as np
        >>> layer_norm(np.asarray([[1.0, 3.0]]), np.ones(2), np.zeros(2)).round(3)
        array([[-1.,  1.]])
    """
    _check_norm(x, w, b, x.shape[1:])
    normal, _ = _normalise(x, tuple(range(1, x.ndim)), epsilon)
    return normal * w + b


def layer_norm_backward(dy: Array, x: Array, w: Array, *, epsilon: float = 1e-5) -> Gradients:
    """Derivatives of `layer_norm`.

    Args:
        dy: derivative of the loss with respect to the output, (N, …).
        x: the input, (N, …).
        w: scale of each entry of a sample, (…).
        epsilon: as in the forward call.

    Returns:
        `Gradients(dx, dw, db)`, shaped like `x`, `w` and `w`.

    Raises:
        TypeError: as `layer_norm`.
        ValueError: as `layer_norm`, or if `dy` does not have the shape of `x`.

    Example:
        >>> import numpy as np
        >>> dy = x = np.asarray([[1.0, 3.0]])
        >>> layer_norm_backward(dy, x, np.ones(2)).dw.round(3)
        array([-1.,  3.])
    """
    xp = _check(dy, x)
    _check_norm(x, w, w, x.shape[1:])
    axes = tuple(range(1, x.ndim))
    normal, deviation = _normalise(x, axes, epsilon)
    dx = _normalise_backward(dy * w, normal, deviation, axes)
    return Gradients(dx, dw=xp.sum(dy * normal, axis=0), db=xp.sum(dy, axis=0))


def _normalise(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array]:
    """Subtract the mean over the axes and divide by the deviation; return that as well."""
    xp = array_namespace(x)
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    deviation = xp.sqrt(xp.mean(centred**2, axis=axes, keepdims=True) + epsilon)
    return centred / deviation, deviation


def _normalise_backward(dn: Array, normal: Array, deviation: Array, axes: tuple[int, ...]) -> Array:
    # Mean and deviation depend on x too: dx = (dn − mean(dn) − n · mean(dn · n)) / deviation
    xp = array_namespace(dn)
    along = xp.mean(dn * normal, axis=axes, keepdims=True)
    return (dn - xp.mean(dn, axis=axes, keepdims=True) - normal * along) / deviation


def _check(dy: Array, x: Array) -> Array:
    xp = check_arrays(dy=dy, x=x)
    check_shape("dy", dy, x.shape)
    return xp


def _check_norm(x: Array, w: Array, b: Array, shape: tuple[int, ...]) -> None:
    check_arrays(x=x, w=w, b=b)
    check_shape("w", w, shape)
    check_shape("b", b, shape)
