"""Activations, and their derivatives: ReLU, the logistic function and softmax."""

from tbc_ref.geometry import Array, check_arrays, check_cotangent


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
    xp = check_arrays(x=x)
    check_cotangent(dy, x, x.shape)
    return xp.where(x > 0, dy, xp.zeros_like(dy))


def sigmoid(x: Array) -> Array:
    """Logistic function, 1 / (1 + exp(−x)), computed so that no exponential overflows.

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
    check_cotangent(dy, x, x.shape)
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
    xp = check_arrays(x=x)
    check_cotangent(dy, x, x.shape)
    y = softmax(x)
    return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))
