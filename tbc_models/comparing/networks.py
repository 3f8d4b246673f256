"""Which networks `tbc compare` compares: one small trunk in four families, and two ablations.

Families are compared at equal cost. TBC with B blocks stores B² times fewer weights than SC of the
same channels and multiplies B times less; so at equal parameters it may have about B times as many
channels, and at equal MACs √B times as many. All widths are SC's times one factor, rounded to
multiples of G·B, and the factor is the one whose count, of the whole network, is nearest to SC's.

The ablations are Tables 5 and 6 of the paper on a smaller network. Their rows differ in cost, as
the paper's do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import timm
import torch
from torch import nn

from tbc_gpu import TiedBlockConv2d
from tbc_models.count import measure
from tbc_ref import cost

Budget = Literal["parameters", "macs"]
Ablation = Literal["splits", "mixer"]

WIDTHS = (8, 16, 32, 32)
"""Channels of the trunk's four layers in SC; the widths of the others follow from them."""

FAMILIES = (
    *((1, 1), (2, 1), (4, 1), (8, 1)),  # SC and GC
    *((1, 2), (1, 4), (1, 8)),  # TBC, which at B = 1 is SC
    *((2, 2), (2, 4), (2, 8)),  # TGC, which at B = 1 is GC
)
"""(G, B) of all that are compared."""

MOST = 1.05
"""No network costs more than this times what SC costs."""

RESNET: dict[str, Any] = {"channels": (16, 32, 64, 128)}
"""Of `tied_resnet14_s`, for the ablations: a quarter of ResNet-50's channels, with the splits and
the base widths that the paper names."""

_STRIDES = (2, 1, 2)  # of the layers after the stem
_SETTINGS: dict[Ablation, dict[str, dict[str, Any]]] = {
    "splits": {
        "4s32w": {"splits": 4, "base_width": 32},
        "2s48w": {"splits": 2, "base_width": 48},
        "6s24w": {"splits": 6, "base_width": 24},
        "8s18w": {"splits": 8, "base_width": 18},
    },
    "mixer": {
        name: {"splits": 4, "base_width": 32, "mixer": name}
        for name in ("sum", "concatenate", "none")
    },
}


class Images(NamedTuple):
    """What a network must know of the images.

    Attributes:
        channels: of an image.
        size: height and width in pixels.
        classes: how many there are.
    """

    channels: int
    size: int
    classes: int


@dataclass(frozen=True)
class Network:
    """One of the networks that are compared.

    Attributes:
        name: that no other one has.
        label: how it is called in tables and plots.
        panels: where it is shown: "parameters" or "macs", those that are equal to SC's; or the
            name of the ablation.
        options: of `SmallTrunk`, or in an ablation of `tied_resnet14_s`.
        parameters: of the whole network, batch normalisation included.
        macs: of its convolutions and linear layers, for one image.
    """

    name: str
    label: str
    panels: tuple[str, ...]
    options: dict[str, Any]
    parameters: int
    macs: int


class SmallTrunk(nn.Sequential):
    """A 3x3 SC, three 3x3 layers of a family, global average pooling, a linear classifier.

    Batch normalisation and ReLU follow every convolution. Filters are drawn as `torch.nn.Conv2d`
    draws them, for the fan-in that they really have; SC and GC are `torch.nn.Conv2d`.

    Args:
        widths: output channels of the four convolutions, multiples of G·B.
        groups: G.
        blocks: B.
        images: what it is for. The first convolution halves images of more than 16 pixels.

    Shape:
        - Input: (N, C, H, W).
        - Output: (N, classes).

    Raises:
        ValueError: if there are not four widths, or one is not a multiple of G·B.

    Example:
        >>> trunk = SmallTrunk((16, 32, 64, 64), blocks=2, images=Images(1, 28, 10))
        >>> trunk(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 10])
        >>> trunk_cost((16, 32, 64, 64), blocks=2, images=trunk.images)[0]
        16122
        >>> measure(trunk, 28).parameters
        16122
    """

    def __init__(
        self, widths: Sequence[int], *, groups: int = 1, blocks: int = 1, images: Images
    ) -> None:
        if len(widths) != 1 + len(_STRIDES) or any(w < 1 or w % (groups * blocks) for w in widths):
            raise ValueError(
                f"`widths` (={tuple(widths)}) must be {1 + len(_STRIDES)} multiples of "
                f"`groups`·`blocks` (={groups}·{blocks})"
            )
        layers: list[nn.Module] = []
        into = images.channels
        for i, (out, stride) in enumerate(zip(widths, _strides(images), strict=True)):
            G, B = (groups, blocks) if i else (1, 1)  # noqa: N806
            layers += [_convolution(into, out, stride, G, B), nn.BatchNorm2d(out), nn.ReLU()]
            into = out
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, *pool, nn.Linear(into, images.classes))
        self.images, self.in_chans = images, images.channels  # the latter is timm's name for it


def trunk_cost(
    widths: Sequence[int], *, groups: int = 1, blocks: int = 1, images: Images
) -> tuple[int, int]:
    """Count a `SmallTrunk` by the paper's formulas.

    Args:
        widths: output channels of the four convolutions.
        groups: G.
        blocks: B.
        images: what it is for.

    Returns:
        Parameters and MACs.

    Raises:
        ValueError: if a width does not divide by G·B.

    Example:
        >>> trunk_cost(WIDTHS, images=Images(1, 28, 10))
        (15554, 444128)
    """
    parameters = macs = 0
    into, size = images.channels, images.size
    for i, (out, stride) in enumerate(zip(widths, _strides(images), strict=True)):
        size = math.ceil(size / stride)
        G, B = (groups, blocks) if i else (1, 1)  # noqa: N806
        layer = cost.tied_block_group_conv(into, out, 3, groups=G, blocks=B, output_size=size)
        parameters += layer.parameters + 2 * out  # scale and shift of the normalisation
        macs += layer.macs
        into = out
    classifier = cost.linear(into, images.classes, bias=True)
    return parameters + classifier.parameters, macs + classifier.macs


@cache
def equal_widths(budget: Budget, groups: int, blocks: int, images: Images) -> tuple[int, ...]:
    """Find the widths at which a family costs what SC costs.

    Args:
        budget: what is to be equal.
        groups: G.
        blocks: B.
        images: what the network is for.

    Returns:
        The widths of the four layers, SC's times one factor, rounded to multiples of G·B.

    Example:
        >>> equal_widths("macs", 1, 4, Images(1, 28, 10))
        (16, 32, 64, 64)
    """
    parts = groups * blocks
    which = 0 if budget == "parameters" else 1
    whole = trunk_cost(WIDTHS, images=images)[which]
    found = {
        tuple(max(1, round(factor / 200 * width / parts)) * parts for width in WIDTHS)
        for factor in range(100, 400 * parts)
    }

    def off(widths: tuple[int, ...]) -> float:
        ratio = trunk_cost(widths, groups=groups, blocks=blocks, images=images)[which] / whole
        return abs(ratio - 1) if ratio <= MOST else math.inf

    return min(sorted(found), key=off)


def families(budgets: Sequence[Budget], images: Images) -> list[Network]:
    """List the networks of a comparison at equal cost, SC first.

    Args:
        budgets: what is to be equal, in turn.
        images: what the networks are for.

    Returns:
        The networks; one that fits both budgets stands there once.

    Example:
        >>> networks = families(["parameters", "macs"], Images(1, 28, 10))
        >>> [n.name for n in networks][:2]
        ['SC, 8-16-32-32', 'GC G=2, 12-22-44-44']
    """
    panels: dict[tuple[int, int, tuple[int, ...]], list[str]] = {}
    for groups, blocks in FAMILIES:
        for budget in budgets:
            widths = equal_widths(budget, groups, blocks, images)
            panels.setdefault((groups, blocks, widths), []).append(budget)
    return [
        Network(
            f"{family(groups, blocks)}, {'-'.join(map(str, widths))}",
            family(groups, blocks),
            tuple(shown),
            {"widths": list(widths), "groups": groups, "blocks": blocks},
            *trunk_cost(widths, groups=groups, blocks=blocks, images=images),
        )
        for (groups, blocks, widths), shown in panels.items()
    ]


def ablation(which: Ablation, images: Images) -> list[Network]:
    """List the networks of an ablation, what the paper chose first.

    Args:
        which: "splits" for Table 5, "mixer" for Table 6 and no mixer at all.
        images: what the networks are for, of at least 16 pixels.

    Returns:
        The networks.

    Example:
        >>> [network.name for network in ablation("splits", Images(1, 28, 10))]
        ['4s32w', '2s48w', '6s24w', '8s18w']
    """
    networks = []
    for name, own in _SETTINGS[which].items():
        options = RESNET | own
        with torch.device("meta"):
            counted = measure(_resnet(options, images), images.size)
        networks.append(Network(name, name, (which,), options, counted.parameters, counted.macs))
    return networks


def build(network: Network, images: Images) -> nn.Module:
    """Build a network; its weights are drawn from PyTorch's generator.

    Args:
        network: as `families` or `ablation` list it.
        images: what it is for.

    Returns:
        The network, with channels-last weights, which is the faster layout for most of them.

    Example:
        >>> images = Images(1, 8, 10)
        >>> build(families(["macs"], images)[4], images)[3]
        TiedBlockConv2d(...)
    """
    trunk = "widths" in network.options
    built = (
        SmallTrunk(**network.options, images=images) if trunk else _resnet(network.options, images)
    )
    return built.to(memory_format=torch.channels_last)


def family(groups: int, blocks: int) -> str:
    """Name a member of a family.

    Args:
        groups: G.
        blocks: B.

    Returns:
        The operator, with what it needs to be told.

    Example:
        >>> family(1, 1), family(1, 4), family(2, 4)
        ('SC', 'TBC B=4', 'TGC G=2 B=4')
    """
    operator = {
        (False, False): "SC",
        (True, False): "GC",
        (False, True): "TBC",
        (True, True): "TGC",
    }
    told = [f"{name}={n}" for name, n in (("G", groups), ("B", blocks)) if n > 1]
    return " ".join([operator[groups > 1, blocks > 1], *told])


def _strides(images: Images) -> tuple[int, ...]:
    return (2 if images.size > 16 else 1, *_STRIDES)


def _convolution(into: int, out: int, stride: int, groups: int, blocks: int) -> nn.Module:
    options: dict[str, Any] = {"stride": stride, "padding": 1, "groups": groups, "bias": False}
    if blocks == 1:
        return nn.Conv2d(into, out, 3, **options)
    return TiedBlockConv2d(into, out, 3, **options, blocks=blocks)


def _resnet(options: dict[str, Any], images: Images) -> nn.Module:
    of_images = {"in_chans": images.channels, "num_classes": images.classes}
    built: nn.Module = timm.create_model("tied_resnet14_s", **(options | of_images))
    return built
