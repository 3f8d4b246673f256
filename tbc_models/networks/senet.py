"""Networks with TiedSE (Fig. 5a): TiedSENet101 (Table 1) and SE-ResNet-50 (Table 3).

The text gives r = 16. But in Table 1 TiedSENet101 has 2.4 M more parameters than TiedResNet101,
which takes r = 8 and B = 2. So the literal design has r = 16, and the fitted designs have r = 8.
"""

from functools import partial
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck
from torch import nn

from tbc_models.networks.attention import TiedSE
from tbc_models.networks.resnet import configuration, create_resnet

default_cfgs = generate_default_cfgs(
    {
        "tied_senet101": configuration(),
        "tied_senet101_s": configuration(),
        "tied_seresnet50": configuration(),
    }
)


def _tied_senet(
    variant: str, pretrained: bool, options: dict[str, Any], base_width: int
) -> nn.Module:
    chosen = options | (options.get("block_args") or {})
    reduction = 16 if chosen.get("design", "literal") == "literal" else 8
    return create_resnet(
        variant,
        pretrained,
        options,
        layers=(3, 4, 23, 3),
        base_width=base_width,
        block_args={"attn_layer": partial(TiedSE, blocks=2, reduction=reduction)},
    )


@register_model
def tied_senet101(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet101 (4s32w) with TiedSE, B = 2 (Table 1). Options: as for `tied_resnet50`."""
    return _tied_senet("tied_senet101", pretrained, options, base_width=32)


@register_model
def tied_senet101_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet101-S (4s18w) with TiedSE, B = 2 (Table 1). Options: as for `tied_resnet50`."""
    return _tied_senet("tied_senet101_s", pretrained, options, base_width=18)


@register_model
def tied_seresnet50(pretrained: bool = False, *, blocks: int = 8, **options: Any) -> nn.Module:
    """SE-ResNet-50 with TiedSE in place of SE (Table 3, whose last row has B = 8).

    Options: those of timm's ResNet, and `blocks`, the B of the TiedSE.
    """
    return create_resnet(
        "tied_seresnet50",
        pretrained,
        options,
        block=Bottleneck,
        layers=(3, 4, 6, 3),
        block_args={"attn_layer": partial(TiedSE, blocks=blocks)},
    )
