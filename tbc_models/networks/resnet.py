"""TiedResNet (Fig. 4a, Tables 1, 2, 5 and 6): timm's ResNet, built from tied bottlenecks.

Importing this module registers the networks with timm. They take every option of timm's ResNet,
and those of the `TiedBottleneck`: `design`, `splits`, `base_width`, `blocks`, `mixer`, `groups`.
"""

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from tbc_models.networks.bottleneck import TiedBottleneck
from tbc_models.networks.minimum_size import ChecksSize, set_minimum_size


def configuration(**changes: Any) -> dict[str, Any]:
    """Make the configuration that timm keeps of a network without pretrained weights.

    Args:
        changes: what differs from a ResNet for ImageNet.

    Returns:
        The configuration, for `timm.models.generate_default_cfgs`.

    Example:
        >>> configuration(input_size=(3, 32, 32))["input_size"]
        (3, 32, 32)
    """
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "conv1",
        "classifier": "fc",
        "license": "mit",
        **changes,
    }


default_cfgs = generate_default_cfgs(
    {
        "tied_resnet50": configuration(),
        "tied_resnet50_s": configuration(),
        "tied_resnet101": configuration(),
        "tied_resnet101_s": configuration(),
        "tied_resnet14_s": configuration(input_size=(3, 32, 32), pool_size=(2, 2)),
        "plain_resnet14": configuration(input_size=(3, 32, 32), pool_size=(2, 2)),
    }
)


class CheckedResNet(ChecksSize, ResNet):
    """timm's ResNet, which refuses images smaller than its total stride.

    Args:
        arguments: of timm's ResNet.
        options: of timm's ResNet.

    Example:
        >>> CheckedResNet(TiedBottleneck, (1, 1, 1, 1)).minimum_size
        MinimumSize(pixels=32)
    """


class SmallImageResNet(CheckedResNet):
    """timm's ResNet for images of 28 to 64 pixels: the stem is 3x3, and no pooling follows it.

    The strides of its features are 2, 2, 4, 8 and 16.

    Args:
        block: as in timm's ResNet.
        layers: as in timm's ResNet.
        output_stride: 16, or 8 or 4 for dilation in place of the last strides.
        options: of timm's ResNet, without a `stem_type`.

    Raises:
        ValueError: for another stride, or a `stem_type`.

    Example:
        >>> net = SmallImageResNet(TiedBottleneck, (1, 1, 1, 1), base_width=16)
        >>> [info["reduction"] for info in net.feature_info]
        [2, 2, 4, 8, 16]
    """

    def __init__(self, block: Any, layers: Any, *, output_stride: int = 16, **options: Any) -> None:
        if output_stride not in (4, 8, 16):
            raise ValueError(f"`output_stride` (={output_stride}) must be 4, 8 or 16")
        if options.get("stem_type"):
            raise ValueError(f"`stem_type` (={options['stem_type']!r}) must be '': it has its own")
        super().__init__(block, layers, output_stride=2 * output_stride, **options)
        stem: Any = self.conv1
        conv = nn.Conv2d(
            stem.in_channels,
            stem.out_channels,
            3,
            stride=2,
            padding=1,
            bias=False,
            device=stem.weight.device,
            dtype=stem.weight.dtype,
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.conv1, self.maxpool = conv, nn.Identity()  # type: ignore[assignment]
        stages: Any = self.feature_info[1:]
        for info in stages:
            info["reduction"] //= 2
        set_minimum_size(self)


def create_resnet(
    variant: str,
    pretrained: bool,
    options: dict[str, Any],
    trunk: type[CheckedResNet] = CheckedResNet,
    **defaults: Any,
) -> nn.Module:
    """Build a network on timm's ResNet trunk.

    Args:
        variant: the registered name.
        pretrained: whether to load trained weights; timm raises a RuntimeError if there are none.
        options: what the user gave: options of the trunk, and those of the `TiedBottleneck`.
        trunk: timm's ResNet or a subclass of it.
        defaults: the values of options that were not given.

    Returns:
        The network, or with `features_only` timm's list of its features.

    Raises:
        ValueError: for options that a `TiedBottleneck` cannot be built with.

    Example:
        >>> net = create_resnet("tied_resnet50", False, {"mixer": "none"}, layers=(1, 1, 1, 1))
        >>> type(net.layer1[0]).__name__
        'TiedBottleneck'
    """
    options = {"block": TiedBottleneck} | defaults | options
    own = ("design", "splits", "blocks", "mixer", "groups")
    of_block = {name: options.pop(name) for name in own if name in options}
    given = options.get("block_args") or {}
    options["block_args"] = defaults.get("block_args", {}) | of_block | given
    return set_minimum_size(build_model_with_cfg(trunk, variant, pretrained, **options))


@register_model
def tied_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet50, 4s32w (Table 1). Options: those of timm's ResNet and of `TiedBottleneck`."""
    return create_resnet("tied_resnet50", pretrained, options, layers=(3, 4, 6, 3), base_width=32)


@register_model
def tied_resnet50_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet50-S, 4s18w (Table 1). Options: as for `tied_resnet50`."""
    return create_resnet("tied_resnet50_s", pretrained, options, layers=(3, 4, 6, 3), base_width=18)


@register_model
def tied_resnet101(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet101, 4s32w (Table 1). Options: as for `tied_resnet50`."""
    return create_resnet("tied_resnet101", pretrained, options, layers=(3, 4, 23, 3), base_width=32)


@register_model
def tied_resnet101_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet101-S, 4s18w (Table 1). Options: as for `tied_resnet50`."""
    return create_resnet(
        "tied_resnet101_s", pretrained, options, layers=(3, 4, 23, 3), base_width=18
    )


@register_model
def tied_resnet14_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet14-S, for images of 28 to 64 pixels: half the channels, 4s16w, 14 layers.

    At 16w every width is a multiple of 8, so the splits have the paper's B = 1, 2, 4, 8. The
    bottlenecks do not start as identities (`zero_init_last`): a network of so few layers learns
    slowly from there. Options: as for `tied_resnet50`.
    """
    return create_resnet(
        "tied_resnet14_s",
        pretrained,
        options,
        SmallImageResNet,
        zero_init_last=False,
        layers=(1, 1, 1, 1),
        channels=(32, 64, 128, 256),
        base_width=16,
    )


@register_model
def plain_resnet14(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet14 of timm's bottlenecks, the control of `tied_resnet14_s`: nothing is tied in it.

    It has the same trunk, depth and start, and three quarters of the channels, so that its
    parameters and MACs are nearly the same. Options: those of timm's ResNet.
    """
    return create_resnet(
        "plain_resnet14",
        pretrained,
        options,
        SmallImageResNet,
        block=Bottleneck,
        zero_init_last=False,
        layers=(1, 1, 1, 1),
        channels=(24, 48, 96, 192),
    )
