"""The PyTorch backend: tied block convolution and linear layers as functions and modules.

`functional` has the functions and `modules` the layers. `algorithms` has six ways to compute the
convolution, and `dispatch` chooses one, by the measured tables in `tables`. `convert` ties and
unties the layers of existing networks, `nearest` has the tied weights nearest to plain ones,
`authors` converts weights from and to the authors' modules, and `operators` names the paper's
operator of a layer.
"""

from .algorithms import authors_channel_order, repeat_for_blocks
from .authors import from_authors, to_authors
from .convert import LeftLayer, TiedLayer, Tying, fuse_conv_bn, tie, untie
from .functional import tied_block_conv2d, tied_block_linear
from .modules import TiedBlockConv2d, TiedBlockLinear
from .nearest import load_nearest
from .operators import operator_name, operator_of

__all__ = [
    "LeftLayer",
    "TiedBlockConv2d",
    "TiedBlockLinear",
    "TiedLayer",
    "Tying",
    "authors_channel_order",
    "from_authors",
    "fuse_conv_bn",
    "load_nearest",
    "operator_name",
    "operator_of",
    "repeat_for_blocks",
    "tie",
    "tied_block_conv2d",
    "tied_block_linear",
    "to_authors",
    "untie",
]
