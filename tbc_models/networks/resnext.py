"""TiedResNeXt (Fig. 4b, Table 1): tied bottlenecks whose splits are TGC.

The paper gives 4s64w and 4s36w, but not the groups of a split: G = 8 at 64w and G = 4 at 36w are
our choice. The blocks are those of TiedResNet, and so are the options of the networks.
"""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from tbc_models.networks.resnet import configuration, create_resnet

default_cfgs = generate_default_cfgs(
    {
        "tied_resnext50": configuration(),
        "tied_resnext50_s": configuration(),
        "tied_resnext101": configuration(),
        "tied_resnext101_s": configuration(),
    }
)


@register_model
def tied_resnext50(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNeXt50, 4s64w, eight groups in each split. Options: as for `tied_resnet50`."""
    return create_resnet(
        "tied_resnext50", pretrained, options, layers=(3, 4, 6, 3), base_width=64, groups=8
    )


@register_model
def tied_resnext50_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNeXt50-S, 4s36w, four groups in each split. Options: as for `tied_resnet50`."""
    return create_resnet(
        "tied_resnext50_s", pretrained, options, layers=(3, 4, 6, 3), base_width=36, groups=4
    )


@register_model
def tied_resnext101(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNeXt101, 4s64w, eight groups in each split. Options: as for `tied_resnet50`."""
    return create_resnet(
        "tied_resnext101", pretrained, options, layers=(3, 4, 23, 3), base_width=64, groups=8
    )


@register_model
def tied_resnext101_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNeXt101-S, 4s36w, four groups in each split. Options: as for `tied_resnet50`."""
    return create_resnet(
        "tied_resnext101_s", pretrained, options, layers=(3, 4, 23, 3), base_width=36, groups=4
    )
