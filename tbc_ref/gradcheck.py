"""Central differences with a random cotangent: an independent check of every derivative.

A backward function maps dy to the gradient of the number ⟨dy, f(x, w, b)⟩. Its i-th entry is
(⟨dy, f(… + h·e_i)⟩ − ⟨dy, f(… − h·e_i)⟩) / 2h for a small h. dy is drawn at random: with all
ones, errors that cancel in the sum over the output would not be noticed.

The operators of this package are linear in each argument alone, so for them the central
difference has no truncation error for any h, only rounding errors.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, size

from .conv import Gradients
from .geometry import Array, check_arrays, check_shape


def central_differences(
    f: Callable[[Array], Array], x: Array, dy: Array, *, step: float = 1e-3
) -> Array:
    """Differentiate ⟨dy, f(x)⟩ with respect to every entry of x, numerically.

    Args:
        f: a function of one array.
        x: where to differentiate it, any shape; it is not changed.
        dy: the cotangent, with the shape of f(x).
        step: h, in units of x.

    Returns:
        The gradient, with the shape of x.

    Raises:
        ValueError: if `step` is not positive, or `dy` does not have the shape of f(x).
        TypeError: for anything but float32 or float64 arrays of one library and dtype.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([1.0, 2.0])
        >>> central_differences(lambda x: x**2, x, np.ones(2)).round(6)
        array([2., 4.])
    """
    _check_step(step)
    xp = check_arrays(x=x, dy=dy)
    check_shape("dy", dy, f(x).shape)
    gradient = xp.zeros((size(x),), dtype=x.dtype, device=x.device)
    for i in range(gradient.shape[0]):
        sides = []
        for h in (step, -step):
            moved = xp.asarray(xp.reshape(x, (-1,)), copy=True)
            moved[i] = moved[i] + h
            sides.append(xp.sum(dy * f(xp.reshape(moved, x.shape))))
        gradient[i] = (sides[0] - sides[1]) / (2 * step)
    return xp.reshape(gradient, x.shape)


def gradcheck(
    f: Callable[..., Array],
    f_backward: Callable[..., Gradients],
    x: Array,
    w: Array,
    b: Array,
    *,
    seed: int = 0,
    step: float = 1e-3,
    tolerance: float = 1e-8,
    **options: Any,
) -> Gradients:
    """Compare the three gradients of an operator with central differences.

    Args:
        f: an operator, `f(x, w, b, **options)`.
        f_backward: its derivative, `f_backward(dy, x, w, **options)`.
        x: input, preferably float64.
        w: weight.
        b: bias.
        seed: seed of the random cotangent.
        step: h of the central difference.
        tolerance: largest error allowed, relative to the largest entry of the gradient.
            Rounding alone leaves about 1e-11 in float64.
        options: passed on to both functions (`stride`, `blocks`, …).

    Returns:
        The three relative errors, as `Gradients(dx, dw, db)` of floats.

    Raises:
        TypeError: for anything but float32 or float64 arrays of one library and dtype.
        ValueError: if `step` is not positive.
        ArithmeticError: if a gradient is wrong; the message gives its name and error.

    Example:
        >>> import numpy as np
        >>> from tbc_ref import tied_block_conv, tied_block_conv_backward
        >>> rng = np.random.default_rng(0)
        >>> x, w, b = (rng.standard_normal(s) for s in [(2, 4, 5, 5), (3, 2, 3, 3), (3,)])
        >>> errors = gradcheck(tied_block_conv, tied_block_conv_backward, x, w, b, blocks=2)
        >>> max(errors) < 1e-9
        True
    """
    xp = check_arrays(x=x, w=w, b=b)
    _check_step(step)
    y = f(x, w, b, **options)
    rng = np.random.default_rng(seed)
    dy = xp.asarray(rng.standard_normal(tuple(y.shape)), dtype=y.dtype, device=y.device)
    exact = f_backward(dy, x, w, **options)
    numerical = Gradients(
        dx=central_differences(lambda x: f(x, w, b, **options), x, dy, step=step),
        dw=central_differences(lambda w: f(x, w, b, **options), w, dy, step=step),
        db=central_differences(lambda b: f(x, w, b, **options), b, dy, step=step),
    )
    errors = Gradients(*map(_relative_error, exact, numerical))
    for name, error in errors._asdict().items():
        if not error <= tolerance:  # NaN must fail too
            raise ArithmeticError(
                f"`{name}` of {f_backward.__name__} differs from central differences "
                f"by {error:.1e} of its largest entry (allowed: {tolerance:.1e})"
            )
    return errors


def _check_step(step: float) -> None:
    if not step > 0:
        raise ValueError(f"`step` (={step!r}) must be positive")


def _relative_error(exact: Array, numerical: Array) -> float:
    if size(exact) == 0:
        return 0.0
    xp = array_namespace(exact)
    scale = max(float(xp.max(xp.abs(numerical))), 1e-300)
    return float(xp.max(xp.abs(exact - numerical))) / scale
