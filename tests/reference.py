"""The operators of tbc_ref by name, with arguments that each of them takes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tbc_ref import (
    Gradients,
    group_conv,
    group_conv_backward,
    linear,
    linear_backward,
    standard_conv,
    standard_conv_backward,
    tied_block_conv,
    tied_block_conv_backward,
    tied_block_group_conv,
    tied_block_group_conv_backward,
    tied_block_linear,
    tied_block_linear_backward,
)

from .oracles import Array

CONVS: dict[str, tuple[Callable[..., Array], Callable[..., Gradients]]] = {
    "SC": (standard_conv, standard_conv_backward),
    "GC": (group_conv, group_conv_backward),
    "TBC": (tied_block_conv, tied_block_conv_backward),
    "TGC": (tied_block_group_conv, tied_block_group_conv_backward),
}

EVERY: dict[str, tuple[Any, Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "SC": (*CONVS["SC"], (2, 4, 6, 5), (6, 4, 3, 2), {"padding": "same"}),
    "GC": (*CONVS["GC"], (2, 4, 6, 5), (6, 2, 3, 2), {"groups": 2, "stride": (2, 1)}),
    "TBC": (*CONVS["TBC"], (2, 4, 6, 5), (3, 2, 3, 2), {"blocks": 2, "padding": (1, 2)}),
    "TGC": (
        *CONVS["TGC"],
        (2, 8, 6, 5),
        (4, 2, 3, 2),
        {"groups": 2, "blocks": 2, "dilation": (1, 2)},
    ),
    "FC": (linear, linear_backward, (3, 4), (6, 4), {}),
    "TFC": (tied_block_linear, tied_block_linear_backward, (2, 3, 4), (3, 2), {"blocks": 2}),
}


def cotangent(y: Array, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(y.shape)


def numbers(name: str, dtype: str = "float64") -> tuple[Array, Array, Array, Array]:
    forward, _, x_shape, w_shape, options = EVERY[name]
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[0]).astype(dtype)
    return x, w, b, cotangent(forward(x, w, b, **options)).astype(dtype)
