"""The names of the paper's operators, for a layer that exists or for a number of groups and blocks.

======== ============================================ ==========================
name     operator                                     the layer
======== ============================================ ==========================
SC       standard convolution, Eq. (1)                `torch.nn.Conv2d`
GC       group convolution, Eq. (2)                   `torch.nn.Conv2d`, G > 1
DW       depthwise convolution, GC with G = C_in      `torch.nn.Conv2d`, G = C_in
TBC      tied block convolution, Eq. (3)              `TiedBlockConv2d`
TGC      tied block group convolution, Eq. (4)        `TiedBlockConv2d`, G > 1
FC       fully connected layer                        `torch.nn.Linear`
TFC      tied block fully connected layer             `TiedBlockLinear`
======== ============================================ ==========================

A tied layer with a single block, B = 1, is the plain operator, and is named so.
"""

from torch import nn

from .checks import as_int
from .modules import TiedBlockConv2d, TiedBlockLinear


def operator_name(groups: int, blocks: int) -> str:
    """Name the convolution that has G groups of B blocks.

    Args:
        groups: G. Whether a group convolution is depthwise depends on its channels too: ask
            `operator_of`.
        blocks: B.

    Returns:
        "SC", "GC", "TBC" or "TGC".

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one.

    Example:
        >>> operator_name(groups=1, blocks=4), operator_name(groups=2, blocks=4)
        ('TBC', 'TGC')
    """
    grouped, tied = as_int("groups", groups, 1) > 1, as_int("blocks", blocks, 1) > 1
    if tied:
        return "TGC" if grouped else "TBC"
    return "GC" if grouped else "SC"


def operator_of(layer: nn.Module) -> str:
    """Name the operator of a convolution or a linear layer.

    Args:
        layer: a `torch.nn.Conv2d`, `torch.nn.Linear`, `TiedBlockConv2d` or `TiedBlockLinear`.

    Returns:
        "SC", "GC", "DW", "TBC", "TGC", "FC" or "TFC".

    Raises:
        TypeError: for another kind of layer.

    Example:
        >>> operator_of(nn.Conv2d(8, 8, 3)), operator_of(nn.Conv2d(8, 8, 3, groups=8))
        ('SC', 'DW')
        >>> operator_of(TiedBlockLinear(8, 8, blocks=2))
        'TFC'
    """
    if isinstance(layer, nn.Conv2d):
        depthwise = layer.groups == layer.in_channels > 1
        return "DW" if depthwise else operator_name(layer.groups, 1)
    if isinstance(layer, TiedBlockConv2d):
        return operator_name(layer.groups, layer.blocks)
    if isinstance(layer, TiedBlockLinear):
        return "TFC" if layer.blocks > 1 else "FC"
    if isinstance(layer, nn.Linear):
        return "FC"
    raise TypeError(
        f"`layer` (a {type(layer).__name__}) must be an nn.Conv2d, an nn.Linear, "
        "a TiedBlockConv2d or a TiedBlockLinear"
    )
