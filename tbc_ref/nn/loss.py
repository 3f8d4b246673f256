"""Softmax cross-entropy, the loss of a classifier, and its derivative."""

from types import ModuleType

from array_api_compat import array_namespace, is_array_api_obj

from tbc_ref.geometry import Array, check_arrays, check_dimensions, check_shape

from .activation import softmax


def cross_entropy(x: Array, labels: Array) -> Array:
    """Softmax cross-entropy: the mean negative log-probability of the right classes.

    Args:
        x: the network's outputs before any softmax, (N, classes), float32 or float64.
        labels: the right class of each sample, (N,), integers from 0.

    Returns:
        L = −1/N · Σ_n log softmax(x_n)[labels_n], an array without axes.

    Raises:
        TypeError: if `x` is not a float32 or float64 array, or `labels` are not integers.
        ValueError: for a wrong shape, no sample, or a label that is not a class.

    Example:
        >>> import numpy as np
        >>> cross_entropy(np.asarray([[0.0, 0.0]]), np.asarray([1])).round(3)  # ln 2
        np.float64(0.693)
    """
    xp, right = _check(x, labels)
    shifted = x - xp.max(x, axis=1, keepdims=True)  # so that no exponential overflows
    log_softmax = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    return -xp.sum(xp.where(right, log_softmax, xp.zeros_like(x))) / x.shape[0]


def cross_entropy_backward(x: Array, labels: Array) -> Array:
    """Derivative of `cross_entropy`: predicted probabilities minus the right ones.

    The loss is where differentiation begins, so there is no `dy`.

    Args:
        x: the network's outputs, (N, classes).
        labels: the right class of each sample, (N,).

    Returns:
        dx[n, c] = (softmax(x_n)[c] − [c = labels_n]) / N, shaped like `x`.

    Raises:
        TypeError: as `cross_entropy`.
        ValueError: as `cross_entropy`.

    Example:
        >>> import numpy as np
        >>> cross_entropy_backward(np.asarray([[0.0, 0.0]]), np.asarray([1]))
        array([[ 0.5, -0.5]])
    """
    xp, right = _check(x, labels)
    return (softmax(x) - xp.astype(right, x.dtype)) / x.shape[0]


def _check(x: Array, labels: Array) -> tuple[ModuleType, Array]:
    """Check both arguments; return the library, and a mask of the right classes in `x`."""
    xp = check_arrays(x=x)
    check_dimensions("x", x, "(N, classes)")
    n, classes = x.shape
    if 0 in (n, classes):
        raise ValueError(f"`x` (shape {(n, classes)}) must have a sample and a class")
    if not is_array_api_obj(labels) or array_namespace(labels) is not xp:
        raise TypeError("`labels` must be an array of the library of `x`")
    if not xp.isdtype(labels.dtype, "integral"):
        raise TypeError(f"`labels` (dtype {labels.dtype}) must be integers")
    check_shape("labels", labels, (n,))
    lowest, highest = int(xp.min(labels)), int(xp.max(labels))
    if lowest < 0 or highest >= classes:
        found = lowest if lowest < 0 else highest
        raise ValueError(f"`labels` (one is {found}) must be from 0 to {classes - 1}")
    return xp, xp.astype(labels, xp.int64)[:, None] == xp.arange(classes, device=x.device)
