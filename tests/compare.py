"""Comparing a PyTorch function with the reference, and with another PyTorch function."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close

import tbc_ref

from .oracles import Array
from .strategies import Conv

# float64 against float64, sums of at most some hundred terms.
close = partial(assert_close, rtol=1e-12, atol=1e-12)


def equals_the_reference(
    convolve: Callable[..., Tensor], x: Tensor, array: Array, case: Conv, *, bias: bool
) -> None:
    """Value and gradients of `convolve(x, w, b, …)`, where `x` holds the numbers of `array`."""
    counts: Any = {"groups": case.groups, "blocks": case.blocks}
    b = case.b if bias else None
    expected_y = tbc_ref.tied_block_group_conv(array, case.w, b, **counts, **case.options)
    dy = np.random.default_rng(0).standard_normal(expected_y.shape)
    expected = tbc_ref.tied_block_group_conv_backward(dy, array, case.w, **counts, **case.options)
    x.requires_grad_()
    w, b_ = (torch.from_numpy(a).to(x.device).requires_grad_() for a in (case.w, case.b))
    y = convolve(x, w, b_ if bias else None, **counts, **case.options)
    close(y.detach().cpu(), torch.from_numpy(expected_y))
    leaves = (x, w, b_) if bias else (x, w)
    ours = torch.autograd.grad(y, leaves, torch.from_numpy(dy).to(x.device))
    for gradient, right in zip(ours, expected, strict=False):
        close(gradient.cpu(), torch.from_numpy(right))


def same_gradients(y: Tensor, expected: Tensor, arguments: Sequence[Tensor]) -> None:
    """The derivatives of two outputs with respect to the same arguments."""
    dy = torch.randn_like(expected)
    ours, right = (torch.autograd.grad(output, arguments, dy) for output in (y, expected))
    for gradient, other in zip(ours, right, strict=True):
        close(gradient, other)
