"""TiedResNeSt50-S (Fig. 4c, Table 1): ResNeSt-50-fast with tied entry and 3x3 convolutions."""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnest import ResNestBottleneck
from torch import nn

from tbc_models.networks.bottleneck import tied_copy
from tbc_models.networks.resnet import configuration, create_resnet

default_cfgs = generate_default_cfgs(
    {"tied_resnest50_s": configuration(first_conv="conv1.0")},
)


class TiedResNestBottleneck(ResNestBottleneck):
    """timm's `ResNestBottleneck` with its entry (TBC) and its 3x3 (TGC, G = radix) tied at B = 2.

    Args:
        arguments: of timm's `ResNestBottleneck`.
        options: of timm's `ResNestBottleneck`.

    Example:
        >>> block = TiedResNestBottleneck(256, 64, radix=2)
        >>> block.conv2.conv.groups, block.conv2.conv.blocks
        (2, 2)
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        attention: Any = self.conv2  # split attention, over a 3x3 convolution
        self.conv1 = tied_copy(self.conv1, blocks=2)  # type: ignore[assignment]
        attention.conv = tied_copy(attention.conv, blocks=2)


@register_model
def tied_resnest50_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNeSt50-S, on ResNeSt-50-fast 2s1x64d (Table 1). Options: those of timm's ResNet."""
    return create_resnet(
        "tied_resnest50_s",
        pretrained,
        options,
        block=TiedResNestBottleneck,
        layers=(3, 4, 6, 3),
        stem_type="deep",
        stem_width=32,
        avg_down=True,
        base_width=64,
        block_args={"radix": 2, "avd": True, "avd_first": True},
    )
