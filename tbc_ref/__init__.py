"""The reference: Tied Block Convolution (Wang & Yu, AAAI 2021) as plain functions on arrays.

The functions follow the Python array API standard, so the same lines run on NumPy, CuPy,
torch and array-api-strict arrays. Each `f` has its derivative `f_backward` below it.

`conv` has Eq. (1) and (2), `tied` Eq. (3) and (4) and the tied fully connected layer, and `cost`
the formulas for parameters and MACs. `geometry` computes sizes and checks every argument, and
`gradcheck` compares derivatives with differences. `nn`, `layers` and `network` are for training.
"""

from . import cost, layers, network, nn
from .conv import (
    Gradients,
    group_conv,
    group_conv_backward,
    split,
    standard_conv,
    standard_conv_backward,
)
from .geometry import Geometry, geometry
from .gradcheck import central_differences, gradcheck
from .linear import linear, linear_backward
from .tied import (
    tied_block_conv,
    tied_block_conv_backward,
    tied_block_group_conv,
    tied_block_group_conv_backward,
    tied_block_linear,
    tied_block_linear_backward,
)

__version__ = "0.1.0"

__all__ = [
    "Geometry",
    "Gradients",
    "central_differences",
    "cost",
    "geometry",
    "gradcheck",
    "group_conv",
    "group_conv_backward",
    "layers",
    "linear",
    "linear_backward",
    "network",
    "nn",
    "split",
    "standard_conv",
    "standard_conv_backward",
    "tied_block_conv",
    "tied_block_conv_backward",
    "tied_block_group_conv",
    "tied_block_group_conv_backward",
    "tied_block_linear",
    "tied_block_linear_backward",
]
