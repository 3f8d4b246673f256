"""Activations and normalisations of the reference: against PyTorch, and central differences."""

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from tbc_ref import central_differences, nn

from .oracles import close

Array = NDArray[Any]

POINTWISE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, -1),
}
NORMS: dict[str, tuple[tuple[int, ...], Callable[..., torch.Tensor]]] = {
    "batch_norm": (
        (5,),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    ),
    "layer_norm": ((5, 4, 3), lambda x, w, b: F.layer_norm(x, (5, 4, 3), w, b)),
}


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).uniform(-2, 2, shape)


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_functions_and_their_derivatives(name: str) -> None:
    f, f_backward = getattr(nn, name), getattr(nn, f"{name}_backward")
    x, dy = numbers(3, 4, 5), numbers(5, 4, 3).reshape(3, 4, 5)
    leaf = torch.from_numpy(x).requires_grad_()
    y = POINTWISE[name](leaf)
    (dx,) = torch.autograd.grad(y, leaf, torch.from_numpy(dy))
    close(f(x), y.detach().numpy())
    close(f_backward(dy, x), dx.numpy())
    # The step leaves an error of its square times the third derivative.
    numerical = central_differences(f, x, dy, step=1e-5)
    np.testing.assert_allclose(f_backward(dy, x), numerical, atol=1e-8)


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_and_their_derivatives(name: str) -> None:
    f, f_backward = getattr(nn, name), getattr(nn, f"{name}_backward")
    shape, oracle = NORMS[name]
    x, w, b, dy = (
        numbers(2, 5, 4, 3),
        numbers(*shape),
        numbers(*shape) + 1,
        numbers(2, 5, 4, 3)[::-1],
    )
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    y = oracle(*leaves)
    expected = torch.autograd.grad(y, leaves, torch.from_numpy(dy.copy()))
    close(f(x, w, b), y.detach().numpy())
    for gradient, right in zip(f_backward(dy, x, w), expected, strict=True):
        close(gradient, right.numpy())
    numerical = central_differences(lambda x: f(x, w, b), x, dy.copy(), step=1e-5)
    np.testing.assert_allclose(f_backward(dy, x, w).dx, numerical, atol=1e-8)


@pytest.mark.parametrize("name", [*POINTWISE, *NORMS])
def test_any_array_library_will_do(name: str) -> None:
    f, f_backward = getattr(nn, name), getattr(nn, f"{name}_backward")
    shape = NORMS[name][0] if name in NORMS else ()
    x, dy = numbers(2, 5, 4, 3), numbers(2, 5, 4, 3) + 1
    more = [numbers(*shape), numbers(*shape)] if shape else []
    strict = [array_api_strict.asarray(a) for a in (x, *more)]
    close(np.asarray(f(*strict)), f(x, *more))
    backward = f_backward(array_api_strict.asarray(dy), *strict[:2])
    first = backward.dx if shape else backward
    right = f_backward(dy, x, *more[:1])
    close(np.asarray(first), right.dx if shape else right)


def test_large_numbers_do_not_overflow() -> None:
    x = np.asarray([-1e4, 0.0, 1e4])
    close(nn.sigmoid(x), [0, 0.5, 1])
    close(nn.softmax(x), [0, 0, 1])


@pytest.mark.parametrize("name", [*POINTWISE, *NORMS])
def test_wrong_shapes_and_dtypes_are_refused(name: str) -> None:
    f, f_backward = getattr(nn, name), getattr(nn, f"{name}_backward")
    x = numbers(2, 5, 4, 3)
    shape = NORMS[name][0] if name in NORMS else ()
    more = [numbers(*shape), numbers(*shape)] if shape else []
    with pytest.raises(TypeError, match=r"`x` \(dtype int64\) must be float32 or float64"):
        f(x.astype(np.int64), *more)
    with pytest.raises(ValueError, match=r"`dy` \(shape \(2, 5, 4\)\) must have shape"):
        f_backward(x[..., 0], x, *more[:1])
    if shape:
        with pytest.raises(ValueError, match=r"`b` \(shape \(2,\)\) must have shape"):
            f(x, more[0], numbers(2))
