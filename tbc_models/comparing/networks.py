"""The networks that `tbc compare` compares: one trunk in four families, and two ablations.

Families are compared at equal cost. With the same channels, TBC with B blocks stores B² times fewer
weights than SC and needs B times fewer multiplications. So at equal parameters it can have about B
times as many channels, and at equal MACs about √B times as many. All widths of a family are SC's
times one factor, rounded to multiples of G·B; the factor is the one at which the count of the whole
network is nearest to SC's. For equal time, `times` finds the factor by measuring.

The ablations repeat Tables 5 and 6 of the paper with a smaller network. Their rows differ in cost,
as in the paper.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import timm
import torch
from torch import nn

from tbc_gpu import TiedBlockConv2d, operator_name
from tbc_models.count import measure
from tbc_ref import cost

Counted = Literal["parameters", "macs"]
Mode = Literal["inference", "training"]
Budget = Counted | Mode
Scale = Literal["small", "large"]
Ablation = Literal["splits", "mixer"]

WIDTHS: dict[Scale, tuple[int, ...]] = {"small": (8, 16, 32, 32), "large": (32, 64, 128, 128)}
"""Output channels of the trunk's four layers in SC; the other families' widths follow from them."""

FAMILIES = (
    (1, 1),  # SC
    (2, 1),  # GC
    (4, 1),
    (1, 2),  # TBC, which at B = 1 is SC
    (1, 4),
    (2, 2),  # TGC, which at B = 1 is GC
)
"""(G, B) of every network that is compared."""

MOST = 1.05
"""Largest count of a network at equal parameters or MACs, relative to SC's."""

RESNET: dict[str, Any] = {"channels": (16, 32, 64, 128)}
"""Options of `tied_resnet14_s` in the ablations: a quarter of ResNet-50's channels, so that the
paper's splits and base widths fit."""

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


class ImageShape(NamedTuple):
    """The properties of the images that a network is built for.

    Attributes:
        channels: number of channels.
        size: height and width in pixels.
        classes: number of classes.
    """

    channels: int
    size: int
    classes: int


class Ratio(NamedTuple):
    """The time of a network, divided by the yardstick's.

    Attributes:
        median: median over repeated measurements.
        low: first quartile.
        high: third quartile.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """One of the networks that are compared.

    Attributes:
        name: unique name.
        label: short name in tables and plots.
        panels: comparisons that it takes part in: the budgets at which it equals SC, or the
            ablation.
        options: arguments of `SmallTrunk`, or of `tied_resnet14_s` in an ablation.
        parameters: number of parameters, batch normalisation included.
        macs: MACs of its convolutions and linear layers for one image.
        times: time of inference and of a training step, relative to the first candidate's; empty
            if they were not measured.
    """

    name: str
    label: str
    panels: tuple[str, ...]
    options: dict[str, Any]
    parameters: int
    macs: int
    times: dict[Mode, Ratio] = field(default_factory=dict)


class SmallTrunk(nn.Sequential):
    """A 3x3 SC, three 3x3 layers of a family, global average pooling, a linear classifier.

    Batch normalisation and ReLU follow every convolution. Filters are initialised as in
    `torch.nn.Conv2d`, according to their actual fan-in; SC and GC are `torch.nn.Conv2d`.

    Args:
        widths: output channels of the four convolutions, multiples of G·B.
        groups: G.
        blocks: B.
        images: shape of the images. The first convolution halves those of more than 16 pixels.

    Shape:
        - Input: (N, C, H, W).
        - Output: (N, classes).

    Raises:
        ValueError: if there are not four widths, or one is not a multiple of G·B.

    Example:
        >>> trunk = SmallTrunk((16, 32, 64, 64), blocks=2, images=ImageShape(1, 28, 10))
        >>> trunk(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 10])
        >>> trunk_cost((16, 32, 64, 64), blocks=2, images=trunk.images)[0]
        16122
        >>> measure(trunk, 28).parameters
        16122
    """

    def __init__(
        self, widths: Sequence[int], *, groups: int = 1, blocks: int = 1, images: ImageShape
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
    widths: Sequence[int], *, groups: int = 1, blocks: int = 1, images: ImageShape
) -> tuple[int, int]:
    """Count a `SmallTrunk` by the paper's formulas.

    Args:
        widths: output channels of the four convolutions.
        groups: G.
        blocks: B.
        images: shape of the images.

    Returns:
        Parameters and MACs.

    Raises:
        ValueError: if a width is not divisible by G·B.

    Example:
        >>> trunk_cost(WIDTHS["small"], images=ImageShape(1, 28, 10))
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
def possible_widths(groups: int, blocks: int, scale: Scale) -> tuple[tuple[int, ...], ...]:
    """List the widths that a family can have: SC's times a factor, rounded to multiples of G·B.

    Args:
        groups: G.
        blocks: B.
        scale: size of SC.

    Returns:
        The widths of the four layers for factors from 1/2 to 2·G·B, the narrowest first.

    Example:
        >>> possible_widths(1, 4, "small")[:3]
        ((4, 8, 16, 16), (4, 8, 20, 20), (4, 12, 20, 20))
    """
    parts = groups * blocks
    found = {
        tuple(max(1, round(factor / 200 * width / parts)) * parts for width in WIDTHS[scale])
        for factor in range(100, 400 * parts)
    }
    return tuple(sorted(found))


@cache
def equal_widths(
    budget: Counted, groups: int, blocks: int, images: ImageShape, scale: Scale = "small"
) -> tuple[int, ...]:
    """Find the widths at which a family has as many parameters, or MACs, as SC.

    Args:
        budget: quantity that is equal.
        groups: G.
        blocks: B.
        images: shape of the images.
        scale: size of SC.

    Returns:
        The widths of the four layers, SC's times one factor, rounded to multiples of G·B.

    Raises:
        ValueError: if the budget is a time, which has to be measured.

    Example:
        >>> equal_widths("macs", 1, 4, ImageShape(1, 28, 10))
        (16, 32, 64, 64)
    """
    if budget not in get_args(Counted):
        raise ValueError(f"`budget` (={budget!r}) must be 'parameters' or 'macs'")
    which = get_args(Counted).index(budget)
    whole = trunk_cost(WIDTHS[scale], images=images)[which]

    def distance(widths: tuple[int, ...]) -> float:
        ratio = trunk_cost(widths, groups=groups, blocks=blocks, images=images)[which] / whole
        return abs(ratio - 1) if ratio <= MOST else math.inf

    return min(possible_widths(groups, blocks, scale), key=distance)


def trunk_candidate(
    widths: Sequence[int], groups: int, blocks: int, images: ImageShape, panels: Sequence[str] = ()
) -> Candidate:
    """Describe a `SmallTrunk` as a candidate.

    Args:
        widths: output channels of the four convolutions.
        groups: G.
        blocks: B.
        images: shape of the images.
        panels: comparisons that it takes part in.

    Returns:
        The candidate.

    Example:
        >>> trunk_candidate((16, 32, 64, 64), 1, 4, ImageShape(1, 28, 10)).name
        'TBC B=4, 16-32-64-64'
    """
    label = family(groups, blocks)
    return Candidate(
        f"{label}, {'-'.join(map(str, widths))}",
        label,
        tuple(panels),
        {"widths": list(widths), "groups": groups, "blocks": blocks},
        *trunk_cost(widths, groups=groups, blocks=blocks, images=images),
    )


def families(
    budgets: Sequence[Budget],
    images: ImageShape,
    scale: Scale = "small",
    equal: Callable[..., tuple[int, ...]] = equal_widths,
) -> list[Candidate]:
    """List the networks of a comparison at equal cost, SC first.

    Args:
        budgets: quantities that are equal, one comparison for each.
        images: shape of the images.
        scale: size of SC.
        equal: finds the widths, with the arguments of `equal_widths`, which knows no times.

    Returns:
        The candidates; one that fits several budgets is listed once.

    Example:
        >>> networks = families(["parameters", "macs"], ImageShape(1, 28, 10))
        >>> [n.name for n in networks][:2]
        ['SC, 8-16-32-32', 'GC G=2, 12-22-44-44']
    """
    panels: dict[tuple[int, int, tuple[int, ...]], list[str]] = {}
    for groups, blocks in FAMILIES:
        for budget in budgets:
            widths = equal(budget, groups, blocks, images, scale)
            panels.setdefault((groups, blocks, widths), []).append(budget)
    return [
        trunk_candidate(widths, groups, blocks, images, shown)
        for (groups, blocks, widths), shown in panels.items()
    ]


def ablation(which: Ablation, images: ImageShape) -> list[Candidate]:
    """List the networks of an ablation, the paper's choice first.

    Args:
        which: "splits" for Table 5; "mixer" for Table 6, with a network without a mixer beside it.
        images: shape of the images, which need at least 16 pixels.

    Returns:
        The candidates.

    Example:
        >>> [network.name for network in ablation("splits", ImageShape(1, 28, 10))]
        ['4s32w', '2s48w', '6s24w', '8s18w']
    """
    networks = []
    for name, own in _SETTINGS[which].items():
        options = RESNET | own
        with torch.device("meta"):
            counted = measure(_resnet(options, images), images.size)
        networks.append(Candidate(name, name, (which,), options, counted.parameters, counted.macs))
    return networks


def build_candidate(candidate: Candidate, images: ImageShape) -> nn.Module:
    """Build a candidate; its weights are drawn from PyTorch's global generator.

    Args:
        candidate: candidate that `families` or `ablation` lists.
        images: shape of the images.

    Returns:
        The network, with channels-last weights, the faster layout for most candidates.

    Example:
        >>> images = ImageShape(1, 8, 10)
        >>> build_candidate(families(["macs"], images)[4], images)[3]
        TiedBlockConv2d(...)
    """
    options = candidate.options
    trunk = "widths" in options
    built = SmallTrunk(**options, images=images) if trunk else _resnet(options, images)
    return built.to(memory_format=torch.channels_last)


def family(groups: int, blocks: int) -> str:
    """Name a member of a family.

    Args:
        groups: G.
        blocks: B.

    Returns:
        The operator, with G and B where they are more than one.

    Example:
        >>> family(1, 1), family(1, 4), family(2, 4)
        ('SC', 'TBC B=4', 'TGC G=2 B=4')
    """
    counts = [f"{name}={n}" for name, n in (("G", groups), ("B", blocks)) if n > 1]
    return " ".join([operator_name(groups, blocks), *counts])


def _strides(images: ImageShape) -> tuple[int, ...]:
    return (2 if images.size > 16 else 1, *_STRIDES)


def _convolution(into: int, out: int, stride: int, groups: int, blocks: int) -> nn.Module:
    options: dict[str, Any] = {"stride": stride, "padding": 1, "groups": groups, "bias": False}
    if blocks == 1:
        return nn.Conv2d(into, out, 3, **options)
    return TiedBlockConv2d(into, out, 3, **options, blocks=blocks)


def _resnet(options: dict[str, Any], images: ImageShape) -> nn.Module:
    of_images = {"in_chans": images.channels, "num_classes": images.classes}
    return timm.create_model("tied_resnet14_s", **(options | of_images))
