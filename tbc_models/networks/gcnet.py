"""ResNet-50 with global context blocks (Fig. 5b, Table 4), plain and tied.

As in GCNet, every bottleneck of stages c3 to c5 has one, and those of c2 have none.
"""

from functools import partial
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck
from torch import nn

from tbc_models.networks.attention import GCB, TiedGCB
from tbc_models.networks.resnet import configuration, create_resnet

default_cfgs = generate_default_cfgs(
    {"gc_resnet50": configuration(), "tied_gc_resnet50": configuration()}
)


class PlainBottleneck(Bottleneck):
    """timm's `Bottleneck` without attention, for a stage that has none: timm passes it to all.

    Args:
        arguments: of timm's `Bottleneck`.
        attn_layer: ignored.
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


@register_model
def gc_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50 with global context blocks, r = 1/4. Options: those of timm's ResNet."""
    return _gc_resnet50("gc_resnet50", pretrained, options, GCB)


@register_model
def tied_gc_resnet50(pretrained: bool = False, *, blocks: int = 2, **options: Any) -> nn.Module:
    """ResNet-50 with tied global context blocks (Table 4, which has B = 2 and 4).

    Options: those of timm's ResNet, and `blocks`, the B of the TiedGCB.
    """
    attention = partial(TiedGCB, blocks=blocks)
    return _gc_resnet50("tied_gc_resnet50", pretrained, options, attention)
