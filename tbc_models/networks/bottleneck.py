"""The tied bottleneck (Fig. 4a and 4b of the paper), in three designs.

The paper does not specify the mixer and the shortcut, and no obvious choice gives all the
parameter counts that it reports. So there are three designs:

- ``"literal"``, the default, follows the text, with the simplest choice where it says nothing:
  only the entry and the 3x3 layers are tied, and the mixer's output is added to every split.
- ``"fitted"`` comes within 0.06 M of the four main parameter counts. A search found it; whether
  the authors built this is not known.
- ``"fitted-tbc"`` is the simplest of the designs that fit the two full-size networks.

========== =============== ========================= ============ ========== ===========
design     shortcut        mixer's convolutions      its output   exit       bias
========== =============== ========================= ============ ========== ===========
literal    SC              1x1 SC u→u                is added     D→4p       none
fitted     TBC, B = 2      1x1 SC u→p/2→p/2          is appended  D+p/2→4p   in all
fitted-tbc TBC, B = 2      3x3 TBC u→u, B = 2        is appended  D+u→4p     none
========== =============== ========================= ============ ========== ===========

Here p is `planes`, u = ⌊p·w/64⌋ the width of one split, and D = s·u the width of all s splits.
With ``mixer="concatenate"`` the mixer reads all D channels instead of the sum of the splits.
"""

import copy
import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

import torch
from timm.layers import create_aa, create_attn
from torch import Tensor, nn

from tbc_gpu import TiedBlockConv2d, tie
from tbc_gpu.checks import as_int

Design = Literal["literal", "fitted", "fitted-tbc"]
Mixer = Literal["sum", "concatenate", "none"]
LayerFactory = Callable[..., nn.Module]

TIED = 2  # B of the entry, and in the fitted designs of the shortcut
# The paper gives the blocks for four splits. Those for two, six and eight are our choice.
BLOCKS: dict[int, tuple[int, ...]] = {
    2: (1, 2),
    4: (1, 2, 4, 8),
    6: (1, 1, 2, 2, 4, 4),
    8: (1, 1, 1, 1, 2, 2, 3, 3),
}


class TiedBottleneck(nn.Module):
    """Tied bottleneck, Fig. 4: entry TBC, splits of TBC (or TGC) with a B each, mixer, exit SC.

    It takes the arguments of timm's `Bottleneck`, so timm's ResNet can be built from it. Every
    convolution is followed by batch normalisation, and the 3x3 convolutions have the stride.

    Args:
        inplanes: channels of the input, c.
        planes: p; the output has 4p channels.
        stride: of the 3x3 convolutions.
        downsample: layers that give the shortcut the shape of the output, or None. The fitted
            designs tie a copy of its convolution.
        cardinality: always 1; timm's ResNet passes it. The number of groups is `groups`.
        base_width: w, the width of one split at p = 64.
        reduce_first: factor by which the entry is narrower than the splits.
        dilation: of the 3x3 convolutions in the bottlenecks that follow.
        first_dilation: of the 3x3 convolutions in this bottleneck, if it differs.
        act_layer: activation.
        norm_layer: normalisation.
        attn_layer: attention on the 4p output channels, such as `TiedSE`, or None.
        aa_layer: anti-aliasing that has the stride in place of the 3x3 convolutions, or None.
        drop_block: DropBlock, or None.
        drop_path: stochastic depth, or None.
        device: where to put the parameters.
        dtype: dtype of the parameters.
        splits: s, the number of splits; each has a 3x3 convolution of its own.
        blocks: B of each split; by default those of `BLOCKS`. Where a width is not divisible by
            G·B, the largest smaller B that fits is used. This applies to the entry's B = 2, too.
        mixer: "sum" mixes the sum of the splits, "concatenate" all of them; "none" has no mixer.
        design: "literal", "fitted" or "fitted-tbc"; see the table above.
        groups: G of each split; more than one gives TGC, as in TiedResNeXt (Fig. 4b).

    Shape:
        - Input: (N, inplanes, H, W).
        - Output: (N, 4·planes, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        TypeError: if a count is not an int.
        ValueError: for an unknown design or mixer, blocks that do not match the splits, or a width
            that is too small for its blocks.

    Example:
        >>> block = TiedBottleneck(256, 64, base_width=18)
        >>> block(torch.zeros(2, 256, 8, 8)).shape
        torch.Size([2, 256, 8, 8])
        >>> [getattr(conv, "blocks", 1) for conv in block.conv2]  # 18 divides by 6, not by 8
        [1, 2, 3, 6]
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        cardinality: int = 1,
        base_width: int = 32,
        reduce_first: int = 1,
        dilation: int = 1,
        first_dilation: int | None = None,
        act_layer: LayerFactory = nn.ReLU,
        norm_layer: LayerFactory = nn.BatchNorm2d,
        attn_layer: LayerFactory | None = None,
        aa_layer: LayerFactory | None = None,
        drop_block: LayerFactory | None = None,
        drop_path: nn.Module | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        splits: int = 4,
        blocks: Sequence[int] | None = None,
        mixer: Mixer = "sum",
        design: Design = "literal",
        groups: int = 1,
    ) -> None:
        super().__init__()
        if cardinality != 1:
            raise ValueError(f"`cardinality` (={cardinality}) must be 1: use `groups` instead")
        check_choice("design", design, get_args(Design))
        check_choice("mixer", mixer, get_args(Mixer))
        width = planes * as_int("base_width", base_width, 1) // 64  # u
        if width % as_int("reduce_first", reduce_first, 1):
            raise ValueError(
                f"`reduce_first` (={reduce_first}) must divide the width of a split (={width})"
            )
        narrow = width // reduce_first  # what a split reads
        blocks = fitting_blocks(narrow, splits, blocks, groups)
        entry, total, out = splits * narrow, splits * width, planes * self.expansion  # total: D
        literal, bias = design == "literal", design == "fitted"
        first_dilation = first_dilation or dilation
        use_aa = aa_layer is not None and (stride == 2 or first_dilation != dilation)
        # Passed on only where given, as not every normalisation or attention layer takes them.
        given = (("device", device), ("dtype", dtype))
        factory: dict[str, Any] = {k: v for k, v in given if v is not None}

        def conv(i: int, o: int, k: int = 1, *, B: int = 1, **options: int) -> nn.Module:  # noqa: N803
            return convolution(i, o, k, blocks=B, bias=bias, **options, **factory)  # type: ignore[arg-type]

        def tied(layer: nn.Module) -> nn.Module:
            if not isinstance(layer, nn.Conv2d):
                return layer
            B = largest_divisor(math.gcd(layer.in_channels, layer.out_channels), TIED)  # noqa: N806
            return tied_copy(layer, blocks=B, bias=bias)

        def norm_act(channels: int) -> list[nn.Module]:
            return [norm_layer(channels, **factory), act_layer(inplace=True)]

        self.conv1 = conv(inplanes, entry, B=largest_divisor(math.gcd(inplanes, entry), TIED))
        self.bn1, self.act1 = norm_layer(entry, **factory), act_layer(inplace=False)

        step, spread = 1 if use_aa else stride, first_dilation
        self.conv2 = nn.ModuleList(
            conv(narrow, width, 3, B=B, groups=groups, stride=step, dilation=spread) for B in blocks
        )
        self.bn2, self.act2 = norm_act(total)  # the same as one for each split
        self.drop_block = drop_block() if drop_block is not None else nn.Identity()
        aa: Any = aa_layer  # narrower in timm's annotations than in what timm accepts
        self.aa: Any = create_aa(aa, channels=total, stride=stride, enable=use_aa, **factory)

        mixed = width if mixer == "sum" else total  # channels that the mixer reads
        appended, layers = 0, []
        kind = None if mixer == "none" else design
        if kind == "literal":
            layers = [conv(mixed, mixed), *norm_act(mixed)]
        elif kind == "fitted":
            appended = planes // 2
            layers = [conv(mixed, appended), *norm_act(appended)]
            layers += [conv(appended, appended), *norm_act(appended)]
        elif kind == "fitted-tbc":
            appended = width
            layers = [conv(mixed, width, 3, B=largest_divisor(width, TIED)), *norm_act(width)]
        self.mixer = nn.Sequential(*layers) if layers else None
        self.splits, self.design, self.mixes = splits, design, mixer

        self.conv3 = conv(total + appended, out)
        self.bn3 = norm_layer(out, **factory)
        self.se: nn.Module | None = create_attn(attn_layer, out, **factory)
        self.act3 = act_layer(inplace=True)
        self.downsample = downsample
        if downsample is not None and not literal:
            self.downsample = nn.Sequential(*(tied(layer) for layer in downsample.children()))
        self.drop_path = drop_path
        self.stride, self.dilation = stride, dilation  # attributes of timm's `Bottleneck` too

    def extra_repr(self) -> str:
        """What `print` shows of the block, before its layers."""
        return f"splits={self.splits}, mixer={self.mixes!r}, design={self.design!r}"

    def zero_init_last(self) -> None:
        """Make the bottleneck its shortcut: set the scale of the last normalisation to zero."""
        if getattr(self.bn3, "weight", None) is not None:
            nn.init.zeros_(self.bn3.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inplanes, H, W) to (N, 4·planes, H/stride, W/stride)."""
        shortcut = x
        parts = self.bn1(self.conv1(x)).chunk(self.splits, dim=1)
        # Activated one by one, so that each convolution reads a split that has its own memory. By
        # index, as timm's feature_cls="fx" cannot iterate over a tuple that it only traces.
        x = torch.cat([conv(self.act1(parts[i])) for i, conv in enumerate(self.conv2)], dim=1)
        x = self.aa(self.act2(self.drop_block(self.bn2(x))))
        x = self.bn3(self.conv3(self.mix(x)))
        if self.se is not None:
            x = self.se(x)
        if self.drop_path is not None:
            x = self.drop_path(x)
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        x += shortcut
        return self.act3(x)  # type: ignore[no-any-return]

    def mix(self, x: Tensor) -> Tensor:
        """Mix information between the splits: (N, D, H, W) to (N, D or more, H, W)."""
        if self.mixer is None:
            return x
        # With the channels last, sums over the splits are fast and keep the memory format.
        by_split = x.permute(0, 2, 3, 1).unflatten(3, (self.splits, -1))
        read = by_split.sum(3).permute(0, 3, 1, 2) if self.mixes == "sum" else x
        mixed: Tensor = self.mixer(read)
        if self.design != "literal":
            return torch.cat([x, mixed], dim=1)
        # One mixed map for all splits, or one for each.
        added = mixed.permute(0, 2, 3, 1).unflatten(3, (-1, by_split.shape[4]))
        return (by_split + added).flatten(3).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    blocks: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Conv2d | TiedBlockConv2d:
    """Make a convolution that keeps the size of the map (at stride 1): plain if B = 1, else tied.

    Weights are drawn as in timm's ResNet, normal with variance 2 / fan_out, where the fan-out is
    that of the stored filters, C_out/B · k².

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: k, odd.
        blocks: B.
        stride: step in pixels.
        dilation: distance between the taps in pixels.
        groups: G.
        bias: whether to add a bias.
        device: where to put the parameters.
        dtype: dtype of the parameters.

    Returns:
        `torch.nn.Conv2d`, or `TiedBlockConv2d` if there is more than one block.

    Raises:
        ValueError: if the channels are not divisible by G·B.

    Example:
        >>> convolution(64, 64, 3, blocks=4).weight.shape
        torch.Size([16, 16, 3, 3])
    """
    padding = dilation * (kernel_size - 1) // 2
    arguments = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
    conv: nn.Conv2d | TiedBlockConv2d
    if blocks == 1:
        conv = nn.Conv2d(*arguments, device=device, dtype=dtype)
    else:
        conv = TiedBlockConv2d(*arguments, device=device, dtype=dtype, blocks=blocks)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def tied_copy(conv: nn.Conv2d, *, blocks: int, bias: bool = False) -> nn.Module:
    """Copy a convolution with tied filters, whose weights are drawn as in `convolution`.

    Args:
        conv: the plain convolution; it is not changed.
        blocks: B.
        bias: whether to add a bias if there is none.

    Returns:
        The tied convolution, or a plain one if there is a single block.

    Raises:
        ValueError: if the convolution cannot be tied.

    Example:
        >>> tied_copy(nn.Conv2d(64, 256, 1, stride=2), blocks=2).weight.shape
        torch.Size([128, 32, 1, 1])
    """
    new: Any = copy.deepcopy(conv)
    if bias and new.bias is None:
        new.bias = nn.Parameter(new.weight.new_zeros(new.out_channels))
    if blocks > 1:
        tying = tie(new, blocks=blocks, weights="random")
        if tying.left:
            raise ValueError(f"`conv` cannot be tied: {tying.left[0].reason}")
        new = tying.model
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new  # type: ignore[no-any-return]


def fitting_blocks(
    width: int, splits: int, blocks: Sequence[int] | None = None, groups: int = 1
) -> tuple[int, ...]:
    """Choose B of each split: the largest that fits the width and is at most the requested one.

    Args:
        width: u, the channels of one split.
        splits: s.
        blocks: the requested B of each split; by default those of `BLOCKS`.
        groups: G of each split; the width must be divisible by G·B.

    Returns:
        B of each split.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if the blocks do not match the splits, or the width is too small for them.

    Example:
        >>> fitting_blocks(18, splits=4)
        (1, 2, 3, 6)
    """
    splits, groups = as_int("splits", splits, 1), as_int("groups", groups, 1)
    if blocks is None and splits not in BLOCKS:
        raise ValueError(f"`splits` (={splits}) must be one of {tuple(BLOCKS)}, or give `blocks`")
    blocks = BLOCKS[splits] if blocks is None else blocks
    whole = isinstance(blocks, Sequence) and all(type(B) is int and B > 0 for B in blocks)
    if not whole or len(blocks) != splits:
        raise ValueError(
            f"`blocks` (={blocks}) must be {splits} ints of at least 1, one for each of `splits`"
        )
    if width < groups * max(blocks):
        raise ValueError(
            f"a split is {width} channels wide, too few for `groups` (={groups}) of "
            f"{max(blocks)} `blocks`: choose a larger `base_width` or smaller `blocks`"
        )
    if width % groups:
        raise ValueError(f"`groups` (={groups}) must divide the width of a split (={width})")
    return tuple(largest_divisor(width // groups, B) for B in blocks)


def largest_divisor(number: int, limit: int) -> int:
    """Find the largest divisor of a number that is at most a limit.

    Args:
        number: at least 1.
        limit: at least 1.

    Returns:
        The divisor.

    Example:
        >>> largest_divisor(18, 8)
        6
    """
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Check that an argument is one of several words.

    Args:
        name: name of the argument.
        value: its value.
        choices: the allowed values.

    Raises:
        ValueError: for any other value; the message suggests the most similar one.

    Example:
        >>> check_choice("mixer", "concat", ["sum", "concatenate", "none"])
        Traceback (most recent call last):
        ValueError: `mixer` (='concat') must be 'sum', 'concatenate' or 'none'; did you mean ...
    """
    if value in choices:
        return
    near = get_close_matches(str(value).lower(), choices, n=1, cutoff=0.3)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    *first, last = map(repr, choices)
    raise ValueError(f"`{name}` (={value!r}) must be {', '.join(first)} or {last}{meant}")
