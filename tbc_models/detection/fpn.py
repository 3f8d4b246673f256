"""A backbone with a feature pyramid on top: any network of timm, tied or not."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from tbc_models import exporting
from tbc_models.networks.registry import build, check_name


class BackboneWithFPN(nn.Module):
    """A network whose features of several strides become maps of equally many channels.

    Args:
        body: network of timm with `features_only`.
        out_channels: channels of each map of the pyramid.
        extra_blocks: coarser maps on top, or None.

    Shape:
        - Input: images (N, 3, H, W).
        - Output: a dict of maps (N, out_channels, H / stride, W / stride), finest first.

    Example:
        >>> import torch
        >>> pyramid = backbone_with_fpn("tied_resnet14_s", strides=(4, 8, 16), out_channels=64)
        >>> [tuple(map.shape) for map in pyramid(torch.zeros(1, 3, 64, 64)).values()]
        [(1, 64, 16, 16), (1, 64, 8, 8), (1, 64, 4, 4)]
    """

    def __init__(
        self, body: nn.Module, out_channels: int, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__()
        self.body, self.out_channels = body, out_channels
        info: Any = body.feature_info
        self.fpn = FeaturePyramidNetwork(info.channels(), out_channels, extra_blocks)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the maps of images (N, 3, H, W)."""
        features = OrderedDict((str(i), x) for i, x in enumerate(self.body(images)))
        return cast("dict[str, Tensor]", self.fpn(features))


def backbone_with_fpn(
    name: str,
    *,
    out_channels: int = 256,
    strides: Sequence[int] = (4, 8, 16, 32),
    extra: str | None = None,
    pretrained: bool = False,
    weights: Path | None = None,
    frozen_norm: bool = False,
    frozen_stages: int = 0,
    **options: Any,
) -> BackboneWithFPN:
    """Build a network of timm, and a feature pyramid (Lin et al. 2017) on its features.

    Args:
        name: of a network, as registered with timm, ours or timm's.
        out_channels: channels of each map of the pyramid.
        strides: strides of the features that are used, in pixels. For each, the last and richest
            features of that stride are taken.
        extra: "pool" adds a coarser map by pooling, as for Faster R-CNN; "p6p7" adds two by
            convolution of the last map, as torchvision's first RetinaNet has them.
        pretrained: whether the network begins with timm's trained weights, which are downloaded.
        weights: weights.safetensors of a run of `tbc train`, with which it begins instead.
        frozen_norm: whether batch normalisation uses stored statistics, scales and shifts that
            are not trained, as is usual when a detector begins with trained weights.
        frozen_stages: number of stages that are not trained, counted from the images: 1 is the
            stem, 2 the stem and the first stage of bottlenecks.
        options: options of the network.

    Returns:
        The backbone, with `out_channels`, as torchvision's detectors take it.

    Raises:
        ValueError: if there is no such network, it has no features of one of the strides, or
            the file does not hold its weights.
        OSError: if the file cannot be read.

    Example:
        >>> pyramid = backbone_with_fpn("tied_resnet50_s", extra="pool")
        >>> sum(p.numel() for p in pyramid.fpn.parameters())
        3344384
    """
    check_name(name)
    if extra not in (None, "pool", "p6p7"):
        raise ValueError(f'`extra` (={extra!r}) must be None, "pool" or "p6p7"')
    info: Any = build(name, features_only=True, **options).feature_info
    found = {
        stride: index for index, stride in zip(info.out_indices, info.reduction(), strict=True)
    }
    for stride in strides:
        if stride not in found:
            raise ValueError(
                f"`strides` (={tuple(strides)}) must be strides of features of {name}, "
                f"which are {', '.join(map(str, found))}"
            )
    chosen = [found[stride] for stride in strides]
    body = timm.create_model(
        name, pretrained=pretrained, features_only=True, out_indices=chosen, **options
    )
    if weights is not None:
        trained = exporting.load(name, weights).state_dict()
        try:
            missing = body.load_state_dict(trained, strict=False).missing_keys
        except RuntimeError:
            raise ValueError(f"{weights} has other shapes than {name} with these options") from None
        if missing:
            raise ValueError(f"{weights} lacks {missing[0]} of {name} with these options")
    if frozen_norm:
        body = freeze_batch_norm_2d(body)
    _freeze(body, frozen_stages, info)
    blocks: dict[str | None, ExtraFPNBlock | None] = {
        None: None,
        "pool": LastLevelMaxPool(),
        "p6p7": LastLevelP6P7(out_channels, out_channels),
    }
    return BackboneWithFPN(body, out_channels, blocks[extra])


def _freeze(body: nn.Module, stages: int, info: Any) -> None:
    if not 0 <= stages <= len(info):
        raise ValueError(f"`frozen_stages` (={stages}) must be from 0 to {len(info)}")
    if not stages:
        return
    last = info.module_name()[stages - 1].replace(".", "_")
    children = dict(body.named_children())
    if last not in children:
        raise ValueError(
            f"`frozen_stages` (={stages}) must be 0: {type(body).__name__} does not hold its "
            "stages one after another"
        )
    for child, module in children.items():
        module.requires_grad_(False)
        if child == last:
            return
