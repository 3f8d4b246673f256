"""The PyTorch backend: tied block convolution and linear layers as functions and modules."""

from .algorithms import authors_channel_order, repeat_for_blocks
from .functional import tied_block_conv2d, tied_block_linear
from .modules import TiedBlockConv2d, TiedBlockLinear

__all__ = [
    "TiedBlockConv2d",
    "TiedBlockLinear",
    "authors_channel_order",
    "repeat_for_blocks",
    "tied_block_conv2d",
    "tied_block_linear",
]
