"""What the paper says the operators are to one another, as properties of the reference."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tbc_gpu import authors_channel_order
from tbc_ref import (
    group_conv,
    group_conv_backward,
    standard_conv,
    tied_block_conv,
    tied_block_conv_backward,
    tied_block_group_conv,
    tied_block_linear,
)

from .oracles import Array, authors_fold, close
from .strategies import Conv, convs

ONE = st.just(1)


def tbc(case: Conv, x: Array | None = None, w: Array | None = None) -> Array:
    """TBC without bias."""
    x, w = case.x if x is None else x, case.w if w is None else w
    return tied_block_conv(x, w, blocks=case.blocks, **case.options)  # type: ignore[no-any-return]


@given(convs(groups=ONE, blocks=ONE))
def test_tbc_of_one_block_is_sc(case: Conv) -> None:
    assert_array_equal(
        tied_block_conv(case.x, case.w, case.b, blocks=1, **case.options),
        standard_conv(case.x, case.w, case.b, **case.options),
    )


@given(convs(blocks=ONE))
def test_tgc_of_one_block_is_gc(case: Conv) -> None:
    assert_array_equal(
        tied_block_group_conv(case.x, case.w, case.b, groups=case.groups, blocks=1, **case.options),
        group_conv(case.x, case.w, case.b, groups=case.groups, **case.options),
    )


@given(convs(groups=ONE))
def test_tgc_of_one_group_is_tbc(case: Conv) -> None:
    assert_array_equal(
        tied_block_group_conv(case.x, case.w, case.b, groups=1, blocks=case.blocks, **case.options),
        tied_block_conv(case.x, case.w, case.b, blocks=case.blocks, **case.options),
    )


@given(convs(groups=ONE))
def test_gc_with_one_filter_repeated_is_tbc(case: Conv) -> None:
    B = case.blocks
    w, b = np.concat([case.w] * B), np.concat([case.b] * B)
    y = tied_block_conv(case.x, case.w, case.b, blocks=B, **case.options)
    close(group_conv(case.x, w, b, groups=B, **case.options), y)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    untied = group_conv_backward(dy, case.x, w, groups=B, **case.options)
    tied = tied_block_conv_backward(dy, case.x, case.w, blocks=B, **case.options)
    close(untied.dx, tied.dx)
    close(sum(np.split(untied.dw, B)), tied.dw)  # the one filter learns from every block
    close(sum(np.split(untied.db, B)), tied.db)


@given(convs(groups=ONE))
def test_tbc_of_1x1_filters_on_1x1_maps_is_tfc(case: Conv) -> None:
    x, w = case.x[:, :, :1, :1], case.w[:, :, :1, :1]
    y = tied_block_conv(x, w, case.b, blocks=case.blocks)
    close(
        y[:, :, 0, 0],
        tied_block_linear(x[:, :, 0, 0], w[:, :, 0, 0], case.b, blocks=case.blocks),
    )


@given(convs(groups=ONE), st.floats(-3, 3))
def test_linear_in_x_and_in_w(case: Conv, a: float) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(case.x.shape), rng.standard_normal(case.w.shape)
    close(tbc(case, x=a * case.x + x), a * tbc(case) + tbc(case, x=x), atol=1e-11)
    close(tbc(case, w=a * case.w + w), a * tbc(case) + tbc(case, w=w), atol=1e-11)


@given(convs(groups=ONE, valid=True), st.integers(1, 2), st.integers(1, 2))
def test_shifting_the_input_shifts_the_output(case: Conv, down: int, right: int) -> None:
    s_h, s_w = case.options["stride"]
    n, c, height, width = case.x.shape
    larger = np.random.default_rng(2).standard_normal(
        (n, c, height + down * s_h, width + right * s_w)
    )
    shifted = larger[:, :, down * s_h :, right * s_w :]
    close(tbc(case, x=shifted), tbc(case, x=larger)[:, :, down:, right:])


@given(convs(groups=ONE, blocks=st.integers(2, 4)), st.randoms(use_true_random=False))
def test_permuting_blocks_permutes_the_output(case: Conv, random: object) -> None:
    order = list(range(case.blocks))
    random.shuffle(order)  # type: ignore[attr-defined]

    def permuted(a: Array) -> Array:
        blocks = np.split(a, case.blocks, axis=1)
        return np.concat([blocks[k] for k in order], axis=1)

    assert_array_equal(tbc(case, x=permuted(case.x)), permuted(tbc(case)))


@given(convs(valid=True))
def test_the_authors_block_outer_tgc_is_ours_permuted(case: Conv) -> None:
    G, B = case.groups, case.blocks
    ours = tied_block_group_conv(case.x, case.w, case.b, groups=G, blocks=B)
    x_order = authors_channel_order(case.x.shape[1], G, B).numpy()
    y_order = authors_channel_order(ours.shape[1], G, B).numpy()
    x, w, b = (torch.from_numpy(a) for a in (case.x[:, x_order], case.w, case.b))
    theirs = authors_fold(x, w, b, groups=G, blocks=B)
    close(theirs.numpy(), ours[:, y_order])
