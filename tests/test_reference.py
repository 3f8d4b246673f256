"""tbc_ref against naive loops, PyTorch's own convolution, central differences, and itself."""

from types import ModuleType
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tbc_ref
from tbc_ref import (
    Gradients,
    gradcheck,
    linear,
    linear_backward,
    standard_conv,
    standard_conv_backward,
    tied_block_conv,
    tied_block_conv_backward,
    tied_block_group_conv,
    tied_block_linear,
    tied_block_linear_backward,
)

from .oracles import Array, close, dense_bias, dense_weight, loops
from .reference import CONVS, EVERY, cotangent, numbers
from .strategies import Conv, convs

ONE = st.just(1)
STRATEGIES = {
    "SC": convs(groups=ONE, blocks=ONE),
    "GC": convs(blocks=ONE),
    "TBC": convs(groups=ONE),
    "TGC": convs(),
}


def options_of(name: str, case: Conv) -> dict[str, Any]:
    counts = {"groups": case.groups} if name in ("GC", "TGC") else {}
    return case.options | counts | ({"blocks": case.blocks} if name in ("TBC", "TGC") else {})


@pytest.mark.parametrize("name", CONVS)
@given(data=st.data(), bias=st.booleans())
def test_forward_equals_nested_loops(name: str, data: st.DataObject, bias: bool) -> None:
    case = data.draw(STRATEGIES[name])
    b = case.b if bias else None
    y = CONVS[name][0](case.x, case.w, b, **options_of(name, case))
    expected = loops(case.x, case.w, b, groups=case.groups, blocks=case.blocks, **case.options)
    assert y.shape == expected.shape
    close(y, expected)


@pytest.mark.parametrize("name", CONVS)
@given(data=st.data())
def test_forward_and_backward_equal_torch_on_the_dense_weight(
    name: str, data: st.DataObject
) -> None:
    case = data.draw(STRATEGIES[name])
    options = options_of(name, case)
    x, w, b = (torch.from_numpy(a).requires_grad_() for a in (case.x, case.w, case.b))
    if case.options["padding"] == "same":  # torch warns of its copy for even kernels
        sides = [d * (k - 1) for d, k in zip(case.options["dilation"], w.shape[2:], strict=True)]
        left_right_top_bottom = [e for s in reversed(sides) for e in (s // 2, s - s // 2)]
        padded, padding = F.pad(x, left_right_top_bottom), (0, 0)
    else:
        padded, padding = x, case.options["padding"]
    y = F.conv2d(
        padded,
        dense_weight(w, case.groups, case.blocks),
        dense_bias(b, case.groups, case.blocks),
        case.options["stride"],
        padding,
        case.options["dilation"],
    )
    dy = cotangent(y.detach().numpy())
    expected = torch.autograd.grad(y, (x, w, b), torch.from_numpy(dy))
    forward, backward = CONVS[name]
    close(forward(case.x, case.w, case.b, **options), y.detach().numpy())
    for ours, theirs in zip(backward(dy, case.x, case.w, **options), expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        close(ours, theirs.numpy())


@given(case=convs().filter(lambda case: case.options["padding"] != "same"))  # torch warns of it
def test_equals_torch_grouped_convolution_on_the_repeated_weight(case: Conv) -> None:
    repeated = [W_g for W_g in np.split(case.w, case.groups) for _ in range(case.blocks)]
    weight = torch.from_numpy(np.concat(repeated))
    counts = {"groups": case.groups, "blocks": case.blocks}
    theirs = F.conv2d(
        torch.from_numpy(case.x), weight, groups=case.groups * case.blocks, **case.options
    )
    close(tied_block_group_conv(case.x, case.w, **counts, **case.options), theirs.numpy())


@pytest.mark.parametrize("name", CONVS)
@given(data=st.data())
def test_backward_equals_central_differences(name: str, data: st.DataObject) -> None:
    case = data.draw(STRATEGIES[name].filter(lambda c: 0 < c.x.size <= 150 and c.w.size <= 80))
    # The operators are linear in each argument: only rounding is left, about 1e-12.
    gradcheck(*CONVS[name], case.x, case.w, case.b, tolerance=1e-9, **options_of(name, case))


LEADING = st.lists(st.integers(0, 3), max_size=3)


@given(leading=LEADING, thin=st.integers(1, 4), filters=st.integers(1, 4), blocks=st.integers(1, 4))
def test_linear_layers_equal_torch_and_central_differences(
    leading: list[int], thin: int, filters: int, blocks: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*leading, blocks * thin))
    w, b = rng.standard_normal((filters, thin)), rng.standard_normal(filters)
    tx, tw, tb = (torch.from_numpy(a).requires_grad_() for a in (x, w, b))
    bias = dense_bias(tb, 1, blocks)
    ty = F.linear(tx, dense_weight(tw, 1, blocks), bias)
    y = tied_block_linear(x, w, b, blocks=blocks)
    assert y.shape == tuple(ty.shape)
    close(y, ty.detach().numpy())
    dy = cotangent(y)
    expected = torch.autograd.grad(ty, (tx, tw, tb), torch.from_numpy(dy))
    for ours, theirs in zip(
        tied_block_linear_backward(dy, x, w, blocks=blocks), expected, strict=True
    ):
        assert ours.shape == tuple(theirs.shape)
        close(ours, theirs.numpy())
    if blocks == 1:
        assert_array_equal(linear(x, w, b), y)
    if x.size:
        gradcheck(tied_block_linear, tied_block_linear_backward, x, w, b, blocks=blocks)
        if blocks == 1:
            gradcheck(linear, linear_backward, x, w, b)


def run_on(xp: ModuleType, name: str, dtype: str) -> list[Any]:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, dy = (xp.asarray(a) for a in numbers(name, dtype))
    return [forward(x, w, b, **options), *backward(dy, x, w, **options)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("xp", [array_api_strict, torch], ids=["strict", "torch"])
def test_the_same_lines_run_on_other_array_libraries(xp: ModuleType, name: str, dtype: str) -> None:
    tolerance = (
        1e-12 if dtype == "float64" else 1e-5
    )  # the dtype's epsilon times some tens of terms
    for ours, numpys in zip(run_on(xp, name, dtype), run_on(np, name, dtype), strict=True):
        assert type(ours) is type(xp.asarray(numpys))
        assert ours.dtype == getattr(xp, dtype)
        assert_allclose(np.asarray(ours), numpys, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EVERY)
def test_cupy(name: str, dtype: str) -> None:
    cupy = pytest.importorskip("cupy")
    tolerance = 1e-11 if dtype == "float64" else 1e-4
    for ours, numpys in zip(run_on(cupy, name, dtype), run_on(np, name, dtype), strict=True):
        assert isinstance(ours, cupy.ndarray)
        assert str(ours.dtype) == dtype
        assert_allclose(cupy.asnumpy(ours), numpys, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", EVERY)
def test_read_only_and_strided_inputs_are_neither_written_nor_misread(name: str) -> None:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, dy = numbers(name)

    def awkward(a: Array) -> Array:
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]))
        wide[..., ::2] = a
        view = wide[..., ::2]
        view.flags.writeable = False
        return view

    x_, w_, b_, dy_ = map(awkward, (x, w, b, dy))
    close(forward(x_, w_, b_, **options), forward(x, w, b, **options))
    for odd, even in zip(
        backward(dy_, x_, w_, **options), backward(dy, x, w, **options), strict=True
    ):
        close(odd, even)
    for kept, original in ((x_, x), (w_, w), (b_, b), (dy_, dy)):
        assert_array_equal(kept, original)


@pytest.mark.parametrize("name", EVERY)
def test_results_are_new_arrays(name: str) -> None:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, dy = numbers(name)
    for result in (forward(x, w, b, **options), *backward(dy, x, w, **options)):
        for argument in (x, w, b, dy):
            assert not np.shares_memory(result, argument)


@pytest.mark.parametrize(
    ("size", "kernel", "options", "output"),
    [
        ((1, 1), (1, 1), {}, (1, 1)),
        ((1, 1), (3, 3), {"padding": 1}, (1, 1)),
        ((9, 9), (2, 2), {"stride": 5}, (2, 2)),  # stride larger than the kernel
        ((7, 5), (3, 2), {"dilation": (3, 4)}, (1, 1)),
        ((5, 4), (4, 2), {"padding": "same", "dilation": (1, 3)}, (5, 4)),
    ],
)
def test_edges_of_the_geometry(
    size: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any], output: object
) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 4, *size)), rng.standard_normal((3, 2, *kernel))
    y = tied_block_conv(x, w, blocks=2, **options)
    assert y.shape[2:] == output == tbc_ref.geometry(size, kernel, **options).output
    pairs: dict[str, Any] = {
        k: v if isinstance(v, str | tuple) else (v, v) for k, v in options.items()
    }
    close(y, loops(x, w, blocks=2, **pairs))
    gradcheck(tied_block_conv, tied_block_conv_backward, x, w, np.zeros(3), blocks=2, **options)


def test_an_empty_batch_gives_zero_gradients() -> None:
    x, w = np.zeros((0, 4, 5, 5)), np.ones((3, 2, 3, 3))
    y = tied_block_conv(x, w, blocks=2)
    dx, dw, db = tied_block_conv_backward(y, x, w, blocks=2)
    assert (y.shape, dx.shape) == ((0, 6, 3, 3), x.shape)
    assert gradcheck(tied_block_conv, tied_block_conv_backward, x, w, np.zeros(3), blocks=2) == (
        0,
        0,
        0,
    )
    assert_array_equal(dw, np.zeros_like(w))
    assert_array_equal(db, np.zeros(3))


def test_gradcheck_finds_what_a_cotangent_of_ones_would_not() -> None:
    def upside_down(dy: Array, x: Array, w: Array) -> Gradients:
        right = standard_conv_backward(dy, x, w)
        return right._replace(dx=right.dx[:, :, ::-1, :])

    x, w, b = np.ones((1, 2, 3, 3)), np.ones((2, 2, 1, 1)), np.ones(2)
    with pytest.raises(ArithmeticError, match="`dx` of upside_down"):
        gradcheck(standard_conv, upside_down, x, w, b)


def test_gradcheck_finds_a_nan() -> None:
    def broken(dy: Array, x: Array, w: Array) -> Gradients:
        right = linear_backward(dy, x, w)
        return right._replace(dw=right.dw * np.nan)

    with pytest.raises(ArithmeticError, match="`dw` of broken"):
        gradcheck(linear, broken, np.ones((2, 3)), np.ones((4, 3)), np.ones(4))


@pytest.mark.parametrize("which", ["dx", "dw", "db"])
@pytest.mark.parametrize("name", EVERY)
def test_gradcheck_finds_a_flipped_sign(name: str, which: str) -> None:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, _ = numbers(name)

    def broken(*arguments: Array, **options: Any) -> Gradients:
        right: Gradients = backward(*arguments, **options)
        return right._replace(**{which: -getattr(right, which)})

    with pytest.raises(ArithmeticError, match=f"`{which}` of broken differs"):
        gradcheck(forward, broken, x, w, b, **options)
