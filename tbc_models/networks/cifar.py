"""ResNet-20 for images of 28 to 64 pixels, plain and tied (He et al. 2016, section 4.2).

The paper ties only bottlenecks, but ResNet-20 is built from basic blocks. So there are two tied
networks: `tied_resnet20` has 20 layers, too, but made of the paper's bottlenecks; `tbc_resnet20` is
ResNet-20 with its 3x3 convolutions tied. Importing this module registers them with timm.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from tbc_models.networks.bottleneck import convolution, tied_copy
from tbc_models.networks.minimum_size import set_minimum_size
from tbc_models.networks.pretrained import with_shipped
from tbc_models.networks.resnet import CheckedResNet, configuration, create_resnet

CONFIGURATIONS = {
    name: configuration(input_size=(3, 32, 32), pool_size=(8, 8), crop_pct=1.0, num_classes=10)
    for name in ("resnet20", "tied_resnet20", "tbc_resnet20")
}
default_cfgs = generate_default_cfgs(with_shipped(CONFIGURATIONS))


class ThreeStageResNet(CheckedResNet):
    """timm's ResNet with three stages and the stem of He et al. for CIFAR: one 3x3 convolution.

    The stem has as many channels as the first stage has `planes`; it has no stride and no pooling.
    The strides of the features are 1, 1, 2 and 4.

    Args:
        block: class of the residual units, as in timm's ResNet.
        layers: number of residual units in each of the three stages.
        channels: `planes` of each stage.
        output_stride: 4, or 2 for dilation in place of the last stride.
        options: options of timm's ResNet, except those of the stem.

    Raises:
        ValueError: for another number of stages, another stride, or an option of the stem.

    Example:
        >>> net = ThreeStageResNet(PaddedBasicBlock, (3, 3, 3), num_classes=10)
        >>> sum(parameter.numel() for parameter in net.parameters())
        269722
    """

    def __init__(
        self,
        block: Any,
        layers: Sequence[int],
        *,
        channels: Sequence[int] = (16, 32, 64),
        output_stride: int = 4,
        **options: Any,
    ) -> None:
        for name, value in (("layers", layers), ("channels", channels)):
            if len(value) != 3:
                raise ValueError(f"`{name}` (={value}) must have 3 numbers, one for each stage")
        if output_stride not in (2, 4):
            raise ValueError(f"`output_stride` (={output_stride}) must be 2 or 4")
        for name in ("stem_type", "stem_width", "replace_stem_pool"):
            if options.get(name):
                raise ValueError(f"`{name}` (={options[name]!r}) cannot be set: the stem is fixed")
        options |= {"stem_type": "deep", "stem_width": channels[0] // 2, "channels": channels}
        # timm's ResNet reduces an image by a factor of four before its first stage.
        super().__init__(block, layers, output_stride=4 * output_stride, **options)
        deep: Any = self.conv1
        self.conv1: Any = convolution(
            deep[0].in_channels,
            deep[-1].out_channels,
            3,
            blocks=1,
            device=deep[0].weight.device,
            dtype=deep[0].weight.dtype,
        )
        self.maxpool: Any = nn.Identity()
        self.layer4 = nn.Sequential()  # because timm's ResNet calls four stages
        stages: Any = self.feature_info
        for info in stages:
            info["reduction"] = max(1, info["reduction"] // 4)
        set_minimum_size(self)

    def forward_intermediates(
        self, x: Tensor, indices: int | list[int] | None = None, *arguments: Any, **options: Any
    ) -> Any:
        """Compute the features of several stages: by default of the stem and all three."""
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        return super().forward_intermediates(x, taken, *arguments, **options)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, *arguments: Any, **options: Any
    ) -> list[int]:
        """Remove the layers after the last of the features that are wanted."""
        taken, last = feature_take_indices(len(self.feature_info), indices)
        # timm also removes the head unless the features of its fourth stage are wanted.
        also = [4] if last == 3 else []
        super().prune_intermediate_layers([*taken, *also], *arguments, **options)
        return taken


class PaddedShortcut(nn.Module):
    """The shortcut of He et al. where the shape changes (option A), without parameters.

    It takes every `stride`-th pixel, and adds channels of zeros: half of them before the channels
    of the input, half after.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, no fewer.
        stride: step in pixels.

    Raises:
        ValueError: if the output has fewer channels.

    Shape:
        - Input: (N, in_channels, H, W).
        - Output: (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).

    Example:
        >>> import torch
        >>> PaddedShortcut(1, 3, stride=2)(torch.ones(1, 1, 1, 1)).flatten()
        tensor([0., 1., 0.])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        new = out_channels - in_channels
        if new < 0:
            raise ValueError(
                f"`out_channels` (={out_channels}) must be at least `in_channels` (={in_channels})"
            )
        self.before, self.after, self.stride = new // 2, new - new // 2, stride

    def extra_repr(self) -> str:
        """What `print` shows of the shortcut."""
        return f"before={self.before}, after={self.after}, stride={self.stride}"

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


class PaddedBasicBlock(BasicBlock):
    """timm's `BasicBlock` with a `PaddedShortcut` where the shape changes.

    Args:
        inplanes: channels of the input.
        planes: channels of the output.
        stride: of the first convolution.
        downsample: layers that timm's ResNet makes where the shape changes, or None; replaced.
        options: of timm's `BasicBlock`.

    Example:
        >>> [name for name, _ in PaddedBasicBlock(16, 16).named_parameters()]
        ['conv1.weight', 'bn1.weight', 'bn1.bias', 'conv2.weight', 'bn2.weight', 'bn2.bias']
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        **options: Any,
    ) -> None:
        if downsample is not None:
            downsample = PaddedShortcut(inplanes, planes, stride)
        super().__init__(inplanes, planes, stride, downsample, **options)


class TiedBasicBlock(PaddedBasicBlock):
    """A `PaddedBasicBlock` whose two 3x3 convolutions are tied.

    Args:
        arguments: of `PaddedBasicBlock`.
        blocks: B.
        options: of `PaddedBasicBlock`.

    Raises:
        ValueError: if the channels are not divisible by B.

    Example:
        >>> TiedBasicBlock(16, 16, blocks=2).conv1.weight.shape
        torch.Size([8, 8, 3, 3])
    """

    def __init__(self, *arguments: Any, blocks: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conv1: Any = tied_copy(self.conv1, blocks=blocks)
        self.conv2: Any = tied_copy(self.conv2, blocks=blocks)


def _create(variant: str, pretrained: bool, options: dict[str, Any], **defaults: Any) -> nn.Module:
    return create_resnet(
        variant,
        pretrained,
        options,
        ThreeStageResNet,
        zero_init_last=False,  # as in He et al.
        feature_cfg={"out_indices": (0, 1, 2, 3)},
        **defaults,
    )


@register_model
def resnet20(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-20 of He et al.: 3x3 stem, three stages of three basic blocks, nothing tied.

    Its shortcuts have no parameters, as in their networks for CIFAR, so weights published for
    those fit. Options: those of timm's ResNet, except those of the stem.
    """
    return _create("resnet20", pretrained, options, block=PaddedBasicBlock, layers=(3, 3, 3))


@register_model
def tied_resnet20(pretrained: bool = False, **options: Any) -> nn.Module:
    """TiedResNet of 20 layers: three stages of two tied bottlenecks, 4s32w as in TiedResNet50.

    Two bottlenecks have as many layers as three basic blocks. The splits are 8, 16 or 32 channels
    wide, depending on the stage, so the paper's B = 1, 2, 4, 8 divide them; ``layers=(3, 3, 3)``
    has as many residual units as ResNet-20, and nearly as many parameters. Options: as for
    `tied_resnet50`, except those of the stem.
    """
    return _create("tied_resnet20", pretrained, options, layers=(2, 2, 2), base_width=32)


@register_model
def tbc_resnet20(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-20 with every 3x3 convolution except the stem tied at B = 2.

    Options: as for `resnet20`, and `blocks`.
    """
    return _create(
        "tbc_resnet20", pretrained, options, block=TiedBasicBlock, layers=(3, 3, 3), blocks=2
    )
