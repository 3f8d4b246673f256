"""The cost formulas against what is really stored and computed, and against the paper."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear
from tbc_ref import cost

counts = st.integers(1, 4)


@given(G=counts, B=counts, thin=counts, filters=counts, k=st.tuples(counts, counts),
       size=st.tuples(st.integers(4, 7), st.integers(4, 7)), bias=st.booleans())  # fmt: skip
def test_formulas_count_what_the_layers_store_and_compute(
    G: int, B: int, thin: int, filters: int, k: tuple[int, int], size: tuple[int, int], bias: bool
) -> None:
    c_i, c_o = G * B * thin, G * B * filters
    layer = TiedBlockConv2d(c_i, c_o, k, groups=G, blocks=B, bias=bias, device="meta")
    with FlopCounterMode(display=False) as counter:
        output = layer(torch.empty(1, c_i, *size, device="meta")).shape[2:]
    counted = cost.tied_block_group_conv(
        c_i, c_o, k, groups=G, blocks=B, output_size=tuple(output), bias=bias
    )
    assert counted.weights == layer.weight.numel()
    assert counted.parameters == sum(p.numel() for p in layer.parameters())
    assert 2 * counted.macs == counter.get_total_flops()  # PyTorch counts two for each MAC

    assert cost.tied_block_group_conv(
        c_i, c_o, k, groups=1, blocks=B, output_size=tuple(output)
    ) == cost.tied_block_conv(c_i, c_o, k, blocks=B, output_size=tuple(output))
    assert cost.tied_block_group_conv(
        c_i, c_o, k, groups=G, blocks=1, output_size=tuple(output)
    ) == cost.group_conv(c_i, c_o, k, groups=G, output_size=tuple(output))
    assert cost.tied_block_conv(c_i, c_o, k, blocks=B, bias=bias) == cost.tied_block_group_conv(
        c_i, c_o, k, groups=1, blocks=B, bias=bias
    )
    assert cost.group_conv(c_i, c_o, k, groups=G, bias=bias) == cost.tied_block_group_conv(
        c_i, c_o, k, groups=G, blocks=1, bias=bias
    )
    assert cost.standard_conv(c_i, c_o, k, bias=bias) == cost.group_conv(
        c_i, c_o, k, groups=1, bias=bias
    )


@given(B=counts, thin=counts, filters=counts, bias=st.booleans())
def test_linear_formulas(B: int, thin: int, filters: int, bias: bool) -> None:
    layer = TiedBlockLinear(B * thin, B * filters, blocks=B, bias=bias, device="meta")
    with FlopCounterMode(display=False) as counter:
        layer(torch.empty(1, B * thin, device="meta"))
    counted = cost.tied_block_linear(B * thin, B * filters, blocks=B, bias=bias)
    assert counted.weights == layer.weight.numel()
    assert counted.parameters == sum(p.numel() for p in layer.parameters())
    assert 2 * counted.macs == counter.get_total_flops()
    full = cost.linear(B * thin, B * filters)
    assert full.weights == B * B * counted.weights  # B² fewer parameters
    assert full.macs == B * counted.macs  # B times less computation


def test_counts_do_not_overflow_numpy_integers() -> None:
    big = np.int32(2048)
    counted = cost.standard_conv(big, big, np.int32(7), output_size=np.int32(224))  # type: ignore[arg-type]
    assert counted.macs == 2048 * 2048 * 49 * 224 * 224


@pytest.mark.parametrize(
    ("blocks", "exact", "paper"),
    [(1, 2_530_992, 2.53), (2, 636_760, 0.64), (4, 161_196, 0.16), (8, 41_302, 0.04)],
)
def test_table_3_squeeze_and_excitation_of_resnet50(blocks: int, exact: int, paper: float) -> None:
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    total = sum(
        cost.tied_block_linear(c, c // 16, blocks=blocks, bias=True).parameters
        + cost.tied_block_linear(c // 16, c, blocks=blocks, bias=True).parameters
        for c in widths
    )
    assert total == exact
    assert round(total / 1e6, 2) == paper
