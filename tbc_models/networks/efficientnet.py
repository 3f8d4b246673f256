"""EfficientNet-B0 with TiedSE in place of SE (Table 3).

Its squeeze is a quarter of the block's input, not a sixteenth of the channels that it scales. At
B = 4 squeezes of 4, 6 and 10 channels leave 1, 1.5 and 2.5 for a block: they are rounded down,
and to 2 at least, as everywhere in TiedSE.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from timm.models import generate_default_cfgs
from timm.models.efficientnet import efficientnet_b0
from torch import nn

from tbc_models.networks.attention import TiedSE
from tbc_models.networks.resnet import configuration, network, refuse_small_inputs

default_cfgs = generate_default_cfgs(
    {
        "tied_efficientnet_b0": configuration(
            first_conv="conv_stem", classifier="classifier", interpolation="bicubic"
        )
    }
)


def _tied_se(
    channels: int,
    rd_ratio: float,
    *,
    blocks: int,
    act_layer: Callable[..., nn.Module] = nn.SiLU,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TiedSE:
    # timm tells the squeeze as a part of the channels: 1/4 of the input is 1/24 of six times it.
    reduction = round(1 / rd_ratio)
    return TiedSE(
        channels,
        blocks=blocks,
        reduction=reduction,
        act_layer=act_layer,
        device=device,
        dtype=dtype,
    )


@network
def tied_efficientnet_b0(pretrained: bool = False, *, blocks: int = 4, **options: Any) -> nn.Module:
    """EfficientNet-B0 with TiedSE: `blocks` of the TiedSE, 2 or 4 in Table 3."""
    if blocks not in (1, 2, 4, 8):  # what divides all widths, and the 8 that timm tries first
        raise ValueError(f"`blocks` (={blocks}) must be 1, 2, 4 or 8 in EfficientNet-B0")
    defaults = {
        "pretrained_cfg": replace(
            default_cfgs["tied_efficientnet_b0"].default, architecture="tied_efficientnet_b0"
        ),
        "se_layer": partial(_tied_se, blocks=blocks),
    }
    given = {option: value for option, value in options.items() if value is not None}
    return refuse_small_inputs(efficientnet_b0(pretrained, **(defaults | given)))
