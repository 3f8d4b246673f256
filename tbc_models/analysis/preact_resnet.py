"""ResNet-50 v2 with normalisation before each convolution (He et al. 2016, Identity Mappings).

In the order of MXNet Gluon, as the ONNX Model Zoo has it as resnet50-v2-7: the images, which are
normalised by ImageNet's statistics first, are normalised once more by a layer of the network; a
unit's stride is in its 3x3 convolution; and the shortcut of a stage's first unit is fed by the
unit's first rectifier. Neither timm nor torchvision has this network. It is here so that those
public weights can be analysed:

    tbc similarity tbc_models.analysis.preact_resnet:resnet50_v2_features=FILE
"""

from collections import OrderedDict

from torch import Tensor, nn

_UNITS = (3, 4, 6, 3)  # of ResNet-50, in each stage


class PreactivatedBottleneck(nn.Module):
    """A residual unit: three times normalisation, rectifier and convolution, and a shortcut.

    Args:
        in_channels: channels of the input.
        channels: channels of the 3x3 convolution; the output has four times as many.
        stride: of the 3x3 convolution.
        first: whether it is the first unit of its stage, whose shortcut is a 1x1 convolution.

    Shape:
        - Input: (N, in_channels, H, W).
        - Output: (N, 4·channels, H/stride, W/stride).

    Example:
        >>> import torch
        >>> PreactivatedBottleneck(64, 64, 1, first=True)(torch.zeros(1, 64, 8, 8)).shape
        torch.Size([1, 256, 8, 8])
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, first: bool) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.bn1, self.relu1 = nn.BatchNorm2d(in_channels), nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(channels), nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3, self.relu3 = nn.BatchNorm2d(channels), nn.ReLU()
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.shortcut = (
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if first else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 4·channels, H/stride, W/stride)."""
        activated = self.relu1(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        x = self.conv1(activated)
        x = self.conv2(self.relu2(self.bn2(x)))
        x = self.conv3(self.relu3(self.bn3(x)))
        return x + shortcut


def resnet50_v2(stages: int = 4) -> nn.Sequential:
    """Build ResNet-50 v2 for the 1,000 classes of ImageNet, or its first stages.

    Args:
        stages: number of stages; with fewer than four there is no classifier.

    Returns:
        The network, with random weights.

    Raises:
        ValueError: if `stages` is not from 1 to 4.

    Example:
        >>> sum(parameter.numel() for parameter in resnet50_v2().parameters())
        25549486
    """
    if not 1 <= stages <= len(_UNITS):
        raise ValueError(f"`stages` (={stages}) must be from 1 to {len(_UNITS)}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        bn0=nn.BatchNorm2d(3),
        conv0=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, 2, 1),
    )
    in_channels = 64
    for stage in range(stages):
        channels, units = 64 * 2**stage, []
        for unit in range(_UNITS[stage]):
            stride = 2 if stage and not unit else 1
            units.append(PreactivatedBottleneck(in_channels, channels, stride, first=not unit))
            in_channels = 4 * channels
        layers[f"stage{stage + 1}"] = nn.Sequential(*units)
    if stages == len(_UNITS):
        layers |= OrderedDict(
            bn2=nn.BatchNorm2d(in_channels),
            relu2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(in_channels, 1000),
        )
    return nn.Sequential(layers)


def resnet50_v2_features() -> nn.Sequential:
    """Build ResNet-50 v2 up to its third stage, whose weights are small enough to be passed on.

    Returns:
        The network, which maps (N, 3, H, W) to (N, 1024, H/16, W/16), with random weights.

    Example:
        >>> list(resnet50_v2_features()._modules)[-1]
        'stage3'
    """
    return resnet50_v2(stages=3)
