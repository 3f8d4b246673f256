"""ResNet-50 with global context blocks (Fig. 5b, Table 4), plain and tied.

As in GCNet there is one in every bottleneck of stages c3 to c5, and none in those of c2.
"""

from functools import partial
from typing import Any

from timm.models import generate_default_cfgs
from timm.models.resnet import Bottleneck
from torch import nn

from tbc_models.networks.attention import GCB, TiedGCB
from tbc_models.networks.resnet import configuration, create_resnet, network

default_cfgs = generate_default_cfgs(
    {"gc_resnet50": configuration(), "tied_gc_resnet50": configuration()}
)


class PlainBottleneck(Bottleneck):
    """timm's `Bottleneck`, without the attention that the trunk passes to all of its stages.

    Args:
        arguments: of timm's `Bottleneck`.
        attn_layer: left out.
        options: of timm's `Bottleneck`.

    Example:
        >>> print(PlainBottleneck(256, 64, attn_layer=GCB).se)
        None
    """

    def __init__(self, *arguments: Any, attn_layer: Any = None, **options: Any) -> None:  # noqa: ARG002
        super().__init__(*arguments, **options)


def _gc_resnet50(
    variant: str, pretrained: bool, options: dict[str, Any], attention: Any
) -> nn.Module:
    return create_resnet(
        variant,
        pretrained,
        options,
        block=(PlainBottleneck, Bottleneck, Bottleneck, Bottleneck),
        layers=(3, 4, 6, 3),
        block_args={"attn_layer": attention},
    )


@network
def gc_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50 with global context blocks, r = 1/4, in stages c3 to c5."""
    return _gc_resnet50("gc_resnet50", pretrained, options, GCB)


@network
def tied_gc_resnet50(pretrained: bool = False, *, blocks: int = 2, **options: Any) -> nn.Module:
    """ResNet-50 with tied global context blocks: `blocks` of the TiedGCB, 2 or 4 in Table 4."""
    attention = partial(TiedGCB, blocks=blocks)
    return _gc_resnet50("tied_gc_resnet50", pretrained, options, attention)
