"""TiedResNet (Fig. 4a, Tables 1, 2, 5 and 6): timm's ResNet, built of tied bottlenecks.

Importing this registers the names with timm. Beside all options of timm's ResNet they take those
of the `TiedBottleneck`: `design`, `splits`, `base_width`, `blocks`, `mixer` and `groups`.
"""

from collections.abc import Callable
from functools import partial
from inspect import cleandoc, signature
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import ResNet
from torch import Tensor, nn

from tbc_models.networks.bottleneck import TiedBottleneck


def configuration(**changes: Any) -> dict[str, Any]:
    """Make what timm wants to know of a network without pretrained weights.

    Args:
        changes: to the configuration of a ResNet for ImageNet.

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
    }
)


def create_resnet(
    variant: str,
    pretrained: bool,
    options: dict[str, Any],
    trunk: type[ResNet] = ResNet,
    **defaults: Any,
) -> nn.Module:
    """Build a network on timm's ResNet trunk.

    Args:
        variant: the registered name.
        pretrained: whether to load weights; there are none yet, so True is an error of timm's.
        options: as the user gave them: of the trunk, and of the block if it is `TiedBottleneck`.
        trunk: timm's ResNet or a subclass of it.
        defaults: what the options are when they are not given.

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
    built: nn.Module = build_model_with_cfg(trunk, variant, pretrained, **options)
    return refuse_small_inputs(built)


def network(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Register a function that builds a network with timm, and complete its docstring.

    Args:
        function: named like the network, with what it is as its docstring.

    Returns:
        The same function.

    Example:
        >>> print(tied_resnet50.__doc__.splitlines()[0])
        TiedResNet50, 4s32w (Table 1).
    """
    blocks = (
        "\n    blocks: B of the attention." if "blocks" in signature(function).parameters else ""
    )
    function.__doc__ = f"""{cleandoc(function.__doc__ or "")}

Args:
    pretrained: whether to load weights; there are none yet, so True is an error.{blocks}
    options: of timm's network and, where it has them, of `TiedBottleneck`.

Returns:
    The network, or with `features_only` timm's list of its features.

Raises:
    RuntimeError: if `pretrained`.
    ValueError: for blocks, splits or widths that do not fit one another.

Example:
    >>> {function.__name__}(num_classes=10).num_classes
    10
"""
    return register_model(function)


def refuse_small_inputs(built: nn.Module) -> nn.Module:
    """Let a network raise a clear error for images smaller than its total stride.

    Without it padding would make up the missing pixels, and the features would mean nothing.

    Args:
        built: a network of timm, with `feature_info`.

    Returns:
        The same network; its first convolution checks what it gets.

    Example:
        >>> import timm, torch
        >>> timm.create_model("tied_resnet50_s")(torch.zeros(1, 3, 28, 28))
        Traceback (most recent call last):
        ValueError: `input` (shape (1, 3, 28, 28)) must be at least 32x32 pixels, ...
    """
    info: Any = built.feature_info
    steps = info.reduction() if hasattr(info, "reduction") else [f["reduction"] for f in info]
    first = next(m for m in built.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_pre_hook(partial(_check_size, max(steps)))
    return built


def _check_size(stride: int, _: nn.Module, arguments: tuple[Tensor]) -> None:
    (x,) = arguments
    if x.shape[-2] < stride or x.shape[-1] < stride:
        raise ValueError(
            f"`input` (shape {tuple(x.shape)}) must be at least {stride}x{stride} pixels, the "
            "total stride of this network"
            + ("; tied_resnet14_s is made for small images" if stride > 16 else "")
        )


class SmallImageResNet(ResNet):
    """timm's ResNet for images of 28 to 64 pixels: the stem is 3x3, and no pooling follows it.

    The strides of its features are 2, 2, 4, 8 and 16.

    Args:
        block: as timm's ResNet takes it.
        layers: as timm's ResNet takes them.
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


@network
def tied_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet50, 4s32w (Table 1)."""
    return create_resnet("tied_resnet50", pretrained, options, layers=(3, 4, 6, 3), base_width=32)


@network
def tied_resnet50_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet50-S, 4s18w (Table 1)."""
    return create_resnet("tied_resnet50_s", pretrained, options, layers=(3, 4, 6, 3), base_width=18)


@network
def tied_resnet101(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet101, 4s32w (Table 1)."""
    return create_resnet("tied_resnet101", pretrained, options, layers=(3, 4, 23, 3), base_width=32)


@network
def tied_resnet101_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet101-S, 4s18w (Table 1)."""
    return create_resnet(
        "tied_resnet101_s", pretrained, options, layers=(3, 4, 23, 3), base_width=18
    )


@network
def tied_resnet14_s(pretrained: bool = False, **options: Any) -> nn.Module:
    """A small TiedResNet for images of 28 to 64 pixels: half the channels, 4s16w, 14 layers.

    At 16w every width is a multiple of 8, so that the splits have the paper's B = 1, 2, 4, 8. Its
    blocks do not begin as identities (`zero_init_last`), with which so few layers learn slowly.
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
