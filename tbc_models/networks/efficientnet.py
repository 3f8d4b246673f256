"""EfficientNet-B0 with TiedSE in place of SE (Table 3).

The hidden layer of its SE has a quarter of the channels at the input of the inverted residual, not
a sixteenth of the channels that it scales. With B = 4, hidden layers of 4, 6 and 10 channels would
have 1, 1.5 and 2.5 in each block: TiedSE rounds down, but never below 2.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.efficientnet import (
    EfficientNet,
    EfficientNetFeatures,
    decode_arch_def,
    pretrained_cfg_for_features,
    resolve_act_layer,
    resolve_bn_args,
)
from torch import Tensor, nn

from tbc_models.networks.attention import TiedSE
from tbc_models.networks.minimum_size import ChecksSize, set_minimum_size
from tbc_models.networks.resnet import configuration

default_cfgs = generate_default_cfgs(
    {
        "tied_efficientnet_b0": configuration(
            first_conv="conv_stem", classifier="classifier", interpolation="bicubic"
        )
    }
)

# The seven stages of B0 in timm's notation: the kind of block, how often it is repeated (r), its
# kernel (k), stride (s), expansion (e) and output channels (c), and the squeeze of its SE.
STAGES = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]


class CheckedEfficientNet(ChecksSize, EfficientNet):
    """timm's EfficientNet, which refuses images smaller than its total stride.

    Args:
        arguments: of timm's EfficientNet.
        options: of timm's EfficientNet.

    Example:
        >>> CheckedEfficientNet(decode_arch_def(STAGES)).minimum_size
        MinimumSize(pixels=32)
    """


class CheckedEfficientNetFeatures(ChecksSize, EfficientNetFeatures):
    """timm's `EfficientNetFeatures`, which refuses images smaller than its total stride.

    Args:
        arguments: of timm's `EfficientNetFeatures`.
        options: of timm's `EfficientNetFeatures`.

    Example:
        >>> CheckedEfficientNetFeatures(decode_arch_def(STAGES), out_indices=(0, 2)).minimum_size
        MinimumSize(pixels=8)
    """

    def forward(self, x: Tensor) -> list[Tensor]:
        """Check the size of the images, and compute their features."""
        return super().forward(self.minimum_size(x))


def _tied_se(
    channels: int,
    rd_ratio: float,
    *,
    blocks: int,
    act_layer: Callable[..., nn.Module] = nn.SiLU,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TiedSE:
    # timm gives the ratio to the expanded channels: 1/4 of the input is 1/24 of six times as many.
    reduction = round(1 / rd_ratio)
    return TiedSE(
        channels,
        blocks=blocks,
        reduction=reduction,
        act_layer=act_layer,
        device=device,
        dtype=dtype,
    )


@register_model
def tied_efficientnet_b0(pretrained: bool = False, *, blocks: int = 4, **options: Any) -> nn.Module:
    """EfficientNet-B0 with TiedSE in place of SE (Table 3, which has B = 2 and 4).

    Options: those of timm's `efficientnet_b0`, and `blocks`, the B of the TiedSE.
    """
    # These divide all widths, and the 8 channels with which timm first tries a layer.
    if blocks not in (1, 2, 4, 8):
        raise ValueError(f"`blocks` (={blocks}) must be 1, 2, 4 or 8 in EfficientNet-B0")
    options = {"se_layer": partial(_tied_se, blocks=blocks)} | options
    # From here on as in timm's `efficientnet_b0`, which cannot be given another class to build.
    trunk: type[ChecksSize] = CheckedEfficientNet
    if options.get("features_only") and not options.keys() & {"feature_cls", "feature_cfg"}:
        del options["features_only"]
        trunk = CheckedEfficientNetFeatures
        unused = ("num_classes", "num_features", "head_conv", "global_pool")
        options |= {"kwargs_filter": unused, "pretrained_strict": False}
    network: Any = build_model_with_cfg(
        trunk,
        "tied_efficientnet_b0",
        pretrained,
        block_args=decode_arch_def(STAGES, group_size=options.pop("group_size", None)),
        act_layer=resolve_act_layer(options, "swish"),
        norm_layer=options.pop("norm_layer", None)
        or partial(nn.BatchNorm2d, **resolve_bn_args(options)),
        **options,
    )
    if trunk is CheckedEfficientNetFeatures:
        network.pretrained_cfg = pretrained_cfg_for_features(network.pretrained_cfg)
        network.default_cfg = network.pretrained_cfg
    return set_minimum_size(network)
