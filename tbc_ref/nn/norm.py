"""Batch and layer normalisation, and their derivatives."""

from types import ModuleType
from typing import NamedTuple

from array_api_compat import array_namespace

from tbc_ref.conv import Gradients
from tbc_ref.geometry import Array, check_arrays, check_cotangent, check_dimensions, check_shape


class Statistics(NamedTuple):
    """Mean and variance of each channel, for batch normalisation.

    Attributes:
        mean: means, (C,).
        variance: variances, (C,).
    """

    mean: Array
    variance: Array


def batch_norm(
    x: Array, w: Array, b: Array, *, statistics: Statistics | None = None, epsilon: float = 1e-5
) -> Array:
    """Batch normalisation: subtract each channel's mean and divide by its deviation.

    Args:
        x: (N, C, H, W), float32 or float64.
        w: scale of each channel, (C,).
        b: shift of each channel, (C,).
        statistics: mean and variance to normalise with, in evaluation the `running_statistics`.
            None, while training: those of `x` over (N, H, W).
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
        >>> known = Statistics(np.ones(1), np.ones(1))
        >>> batch_norm(x, np.ones(1), np.zeros(1), statistics=known).round(3).ravel()
        array([0., 2.])
    """
    _check_batch_norm(x, w=w, b=b)
    if statistics is None:
        normal, _ = _normalise(x, (0, 2, 3), epsilon)
    else:
        xp = _check_batch_norm(x, mean=statistics.mean, variance=statistics.variance)
        mean, variance = (values[None, :, None, None] for values in statistics)
        normal = (x - mean) / xp.sqrt(variance + epsilon)
    return normal * w[None, :, None, None] + b[None, :, None, None]


def batch_norm_backward(dy: Array, x: Array, w: Array, *, epsilon: float = 1e-5) -> Gradients:
    """Derivatives of `batch_norm` while training: the statistics depend on `x` as well.

    Args:
        dy: derivative of the loss with respect to the output, (N, C, H, W).
        x: the input, (N, C, H, W).
        w: scale of each channel, (C,).
        epsilon: added to the variance.

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
    xp = _check_batch_norm(x, w=w)
    check_cotangent(dy, x, x.shape)
    axes = (0, 2, 3)
    normal, deviation = _normalise(x, axes, epsilon)
    dx = _normalise_backward(dy * w[None, :, None, None], normal, deviation, axes)
    return Gradients(dx, dw=xp.sum(dy * normal, axis=axes), db=xp.sum(dy, axis=axes))


def running_statistics(x: Array, statistics: Statistics, *, momentum: float = 0.1) -> Statistics:
    """Move the statistics of each channel a little towards those of `x`.

    As in PyTorch, they use the unbiased variance, which divides by n − 1, while `batch_norm` itself
    divides by n.

    Args:
        x: the input of `batch_norm` while training, (N, C, H, W), with n = N · H · W ≥ 2.
        statistics: the statistics so far, at first mean 0 and variance 1.
        momentum: the weight of `x`, from 0 to 1.

    Returns:
        (1 − momentum) · old + momentum · new, of mean and variance.

    Raises:
        TypeError: as `batch_norm`.
        ValueError: as `batch_norm`, or for a single value in each channel, which has no variance,
            or for a `momentum` out of range.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)
        >>> running_statistics(x, Statistics(np.zeros(1), np.ones(1)), momentum=0.5)
        Statistics(mean=array([1.]), variance=array([1.5]))
    """
    xp = _check_batch_norm(x, mean=statistics.mean, variance=statistics.variance)
    if not 0 <= momentum <= 1:
        raise ValueError(f"`momentum` (={momentum!r}) must be from 0 to 1")
    n = x.shape[0] * x.shape[2] * x.shape[3]
    if n < 2:
        raise ValueError(f"`x` (shape {tuple(x.shape)}) must have two values in each channel")
    new = Statistics(
        mean=xp.mean(x, axis=(0, 2, 3)), variance=xp.var(x, axis=(0, 2, 3), correction=1)
    )
    return Statistics(
        *((1 - momentum) * a + momentum * b for a, b in zip(statistics, new, strict=True))
    )


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
    _check_norm(x, w=w, b=b)
    normal, _ = _normalise(x, tuple(range(1, x.ndim)), epsilon)
    return normal * w + b


def layer_norm_backward(dy: Array, x: Array, w: Array, *, epsilon: float = 1e-5) -> Gradients:
    """Derivatives of `layer_norm`.

    Args:
        dy: derivative of the loss with respect to the output, (N, …).
        x: the input, (N, …).
        w: scale of each entry of a sample, (…).
        epsilon: added to the variance.

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
    xp = _check_norm(x, w=w)
    check_cotangent(dy, x, x.shape)
    axes = tuple(range(1, x.ndim))
    normal, deviation = _normalise(x, axes, epsilon)
    dx = _normalise_backward(dy * w, normal, deviation, axes)
    return Gradients(dx, dw=xp.sum(dy * normal, axis=0), db=xp.sum(dy, axis=0))


def _normalise(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array]:
    """Subtract the mean over the axes and divide by the deviation; return the deviation as well."""
    xp = array_namespace(x)
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    deviation = xp.sqrt(xp.mean(centred**2, axis=axes, keepdims=True) + epsilon)
    return centred / deviation, deviation


def _normalise_backward(dn: Array, normal: Array, deviation: Array, axes: tuple[int, ...]) -> Array:
    # Mean and deviation depend on x too: dx = (dn − mean(dn) − n · mean(dn · n)) / deviation
    xp = array_namespace(dn)
    along = xp.mean(dn * normal, axis=axes, keepdims=True)
    return (dn - xp.mean(dn, axis=axes, keepdims=True) - normal * along) / deviation


def _check_batch_norm(x: Array, **channels: Array) -> ModuleType:
    xp = check_arrays(x=x, **channels)
    check_dimensions("x", x, "(N, C, H, W)")
    for name, array in channels.items():
        check_shape(name, array, (x.shape[1],))
    return xp


def _check_norm(x: Array, **entries: Array) -> ModuleType:
    xp = check_arrays(x=x, **entries)
    for name, array in entries.items():
        check_shape(name, array, x.shape[1:])
    return xp
