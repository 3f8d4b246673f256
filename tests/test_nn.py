"""What stands between the convolutions, against PyTorch and central differences."""

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
import torch.nn.functional as F
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


POOLS: dict[str, Callable[..., torch.Tensor]] = {
    "average_pool": F.avg_pool2d,
    "max_pool": F.max_pool2d,
}
WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},  # overlapping, and cut off at the end
    {"kernel_size": (3, 2), "stride": (1, 3), "padding": (0, 1)},
    {"kernel_size": (1, 2), "stride": 3},  # pixels that no window meets
]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("options", WINDOWS, ids=str)
@pytest.mark.parametrize("name", POOLS)
def test_pooling_and_its_derivative(name: str, options: dict[str, Any], ties: bool) -> None:
    f, f_backward = getattr(nn, name), getattr(nn, f"{name}_backward")
    x = numbers(2, 3, 7, 8)
    if ties:
        x = np.round(x / 2)  # −1, 0 and 1 only: most windows have several maxima
    leaf = torch.from_numpy(x).requires_grad_()
    y = POOLS[name](leaf, **options)
    dy = np.random.default_rng(1).standard_normal(tuple(y.shape))
    (dx,) = torch.autograd.grad(y, leaf, torch.from_numpy(dy))
    close(f(x, **options), y.detach().numpy())
    close(f_backward(dy, x, **options), dx.numpy())
    strict = array_api_strict.asarray
    close(np.asarray(f(strict(x), **options)), f(x, **options))
    close(np.asarray(f_backward(strict(dy), strict(x), **options)), dx.numpy())
    if not ties:
        numerical = central_differences(lambda x: f(x, **options), x, dy, step=1e-5)
        np.testing.assert_allclose(f_backward(dy, x, **options), numerical, atol=1e-8)


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    dx = nn.max_pool_backward(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 3, 3)), 3)
    assert dx[0, 0, 0, 0] == dx.sum() == 1


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"kernel_size": 0}, ValueError, r"`kernel_size` \(=0\) must be at least 1"),
        ({"kernel_size": 2.0}, TypeError, r"`kernel_size` \(=2.0\) must be an int"),
        ({"kernel_size": 2, "stride": 0}, ValueError, r"`stride` \(=0\) must be at least 1"),
        ({"kernel_size": 2, "padding": "same"}, TypeError, r"`padding` \(='same'\) must be an int"),
        (
            {"kernel_size": 3, "padding": 2},
            ValueError,
            r"`padding` \(=2\) must be at most half of `kernel_size` \(=3\)",
        ),
        ({"kernel_size": 9}, ValueError, "kernel spans 9x9 .* input's 7x8"),
    ],
)
def test_pooling_refuses_bad_windows(
    name: str, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        getattr(nn, name)(numbers(2, 3, 7, 8), **options)
    with pytest.raises(ValueError, match=r"`x` \(shape \(3, 7, 8\)\) must have 4 dimensions"):
        getattr(nn, name)(numbers(3, 7, 8), 2)
    with pytest.raises(ValueError, match=r"`dy` \(shape \(2, 3, 7, 8\)\) must have shape"):
        getattr(nn, f"{name}_backward")(numbers(2, 3, 7, 8), numbers(2, 3, 7, 8), 2)


def test_flatten_and_its_derivative() -> None:
    x, dy = numbers(2, 3, 4), numbers(2, 12)
    close(nn.flatten(x), torch.from_numpy(x).flatten(1).numpy())
    close(nn.flatten_backward(dy, x), dy.reshape(2, 3, 4))
    assert nn.flatten(numbers(0, 3, 4)).shape == (0, 12)
    strict = array_api_strict.asarray
    close(np.asarray(nn.flatten_backward(strict(dy), strict(x))), dy.reshape(2, 3, 4))
    with pytest.raises(ValueError, match=r"`dy` \(shape \(2, 11\)\) must have shape \(2, 12\)"):
        nn.flatten_backward(dy[:, 1:], x)
    with pytest.raises(ValueError, match=r"at least one dimension"):
        nn.flatten(np.asarray(1.0))


def test_cross_entropy_and_its_derivative() -> None:
    x, labels = 10 * numbers(6, 5), np.asarray([0, 4, 2, 2, 1, 3], dtype=np.uint8)
    leaf = torch.from_numpy(x).requires_grad_()
    loss = F.cross_entropy(leaf, torch.from_numpy(labels).long())
    (dx,) = torch.autograd.grad(loss, leaf)
    close(nn.cross_entropy(x, labels), loss.item())
    close(nn.cross_entropy_backward(x, labels), dx.numpy())
    numerical = central_differences(
        lambda x: nn.cross_entropy(x, labels), x, np.asarray(1.0), step=1e-5
    )
    np.testing.assert_allclose(nn.cross_entropy_backward(x, labels), numerical, atol=1e-8)
    strict = array_api_strict.asarray
    close(float(nn.cross_entropy(strict(x), strict(labels))), loss.item())
    close(np.asarray(nn.cross_entropy_backward(strict(x), strict(labels))), dx.numpy())
    assert nn.cross_entropy(1e4 * np.eye(5), np.arange(5)) == 0  # no exponential overflows


@pytest.mark.parametrize(
    ("labels", "error", "text"),
    [
        ([0, 1], TypeError, "`labels` must be an array"),
        (np.zeros(2), TypeError, r"`labels` \(dtype float64\) must be integers"),
        (np.asarray([0, 1, 2]), ValueError, r"`labels` \(shape \(3,\)\) must have shape \(2,\)"),
        (np.asarray([0, 5]), ValueError, r"`labels` \(one is 5\) must be from 0 to 4"),
        (np.asarray([0, -1]), ValueError, r"`labels` \(one is -1\) must be from 0 to 4"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_cross_entropy_refuses_bad_labels(labels: Any, error: type[Exception], text: str) -> None:
    for f in (nn.cross_entropy, nn.cross_entropy_backward):
        with pytest.raises(error, match=text):
            f(numbers(2, 5), labels)
    with pytest.raises(ValueError, match=r"`x` \(shape \(0, 5\)\) must have a sample"):
        nn.cross_entropy(np.zeros((0, 5)), np.zeros(0, int))


def test_running_statistics_and_evaluation() -> None:
    w, b = numbers(5), numbers(5) + 1
    mean, variance = np.zeros(5), np.ones(5)
    statistics = nn.Statistics(mean, variance)
    strict = nn.Statistics(*map(array_api_strict.asarray, statistics))
    norm = torch.nn.BatchNorm2d(5).double()
    norm.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)}, strict=False)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(3, 2, (2, 5, 4, 3))
        norm(torch.from_numpy(x))
        statistics = nn.running_statistics(x, statistics)
        strict = nn.running_statistics(array_api_strict.asarray(x), strict)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    close(statistics.mean, norm.running_mean.numpy())
    close(statistics.variance, norm.running_var.numpy())
    close(np.asarray(strict.variance), statistics.variance)
    expected = norm.eval()(torch.from_numpy(x)).detach().numpy()
    close(nn.batch_norm(x, w, b, statistics=statistics), expected)
    assert not mean.any(), "the old statistics are left as they were"


def test_running_statistics_refuse_what_has_none() -> None:
    start = nn.Statistics(np.zeros(5), np.ones(5))
    with pytest.raises(ValueError, match=r"`x` \(shape \(1, 5, 1, 1\)\) must have two values"):
        nn.running_statistics(numbers(1, 5, 1, 1), start)
    with pytest.raises(ValueError, match=r"`momentum` \(=1.5\) must be from 0 to 1"):
        nn.running_statistics(numbers(2, 5, 4, 3), start, momentum=1.5)
    with pytest.raises(ValueError, match=r"`variance` \(shape \(4,\)\) must have shape \(5,\)"):
        nn.batch_norm(
            numbers(2, 5, 4, 3),
            np.ones(5),
            np.ones(5),
            statistics=nn.Statistics(start.mean, np.ones(4)),
        )
    with pytest.raises(ValueError, match=r"`x` \(shape \(2, 5\)\) must have 4 dimensions"):
        nn.batch_norm(numbers(2, 5), np.ones(5), np.ones(5))
