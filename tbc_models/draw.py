"""Drawings for the tutorials and the site."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import nn

from tbc_models.networks.bottleneck import TiedBottleneck
from tbc_models.networks.registry import operator_name

# The colours of Okabe and Ito, which colour-blind readers can tell apart, without yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
# Lines and dots that are read on white and on black.
GREY = "#8a8f98"


def wiring(
    in_channels: int = 8,
    out_channels: int = 4,
    *,
    groups: int = 1,
    blocks: int = 1,
    axes: Axes | None = None,
) -> Axes:
    """Draw which input channels each output channel reads, one colour for each stored filter.

    As in Fig. 2, the input channels are on the left, the output channels on the right, and the
    stored filters below. Outputs of the same colour are computed with the same filter.

    Args:
        in_channels: C_in, the number of dots on the left.
        out_channels: C_out, the number of squares on the right.
        groups: G, the number of groups; each group has its own filters.
        blocks: B, the number of blocks in each group; all blocks of a group share its filters.
        axes: where to draw; by default in a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: if a count is less than one, the channels are not divisible by groups·blocks,
            or there are more stored filters than colours.

    Example:
        >>> wiring(8, 4, blocks=2).get_title()
        'TBC, B = 2'
    """
    parts = groups * blocks
    if groups < 1 or blocks < 1:
        raise ValueError(f"`groups` (={groups}) and `blocks` (={blocks}) must be at least 1")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels < 1 or channels % parts:
            raise ValueError(
                f"`{name}` (={channels}) must be a multiple of "
                f"`groups`·`blocks` (={groups}·{blocks})"
            )
    filters, thin, fan_out = out_channels // blocks, in_channels // parts, out_channels // parts
    if filters > len(COLOURS):
        raise ValueError(
            f"`out_channels` (={out_channels}) / `blocks` (={blocks}) must be at most "
            f"{len(COLOURS)}, the number of colours"
        )
    if axes is None:
        axes = plt.figure(figsize=(2.6, 3.4)).add_subplot()

    def height(channel: int, channels: int) -> float:
        gaps = 0.5 * (channel * parts // channels)
        return -(channel + 0.5) / channels * (9.4 - 0.5 * (parts - 1)) - gaps

    for part in range(parts):
        for row in range(fan_out):
            colour = COLOURS[part // blocks * fan_out + row]
            y = height(part * fan_out + row, out_channels)
            for channel in range(part * thin, (part + 1) * thin):
                axes.plot([0, 4], [height(channel, in_channels), y], color=colour, lw=1.3)
            axes.plot(4, y, "s", color=colour, ms=11, zorder=3)
    for channel in range(in_channels):
        axes.plot(0, height(channel, in_channels), "o", color=GREY, ms=8, zorder=3)
    for side, word in ((0, "input"), (4, "output")):
        axes.text(side, 0.1, word, ha="center", va="bottom", fontsize="small")

    top = -10.6  # of the stored filters
    for row in range(filters):
        for weight in range(thin):
            corner = (2 - thin / 4 + weight / 2, top - 0.62 * row)
            axes.add_patch(Rectangle(corner, 0.44, 0.44, color=COLOURS[row]))
    below = top - 0.62 * filters - 0.1
    stored = f"{filters} × {thin} = {filters * thin} weights"
    axes.text(2, below, stored, ha="center", va="center")
    axes.set(xlim=(-0.6, 4.6), ylim=(min(below, -13.2) - 0.5, 0.8))
    axes.set_title(_title(groups, blocks))
    axes.set_axis_off()
    return axes


def memory(
    *,
    channels_last: bool,
    blocks: int = 4,
    thin: int = 2,
    width: int = 3,
    read: int | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the numbers of one row of an image in the order of memory, one colour for each block.

    Every cell is a number, labelled with the index of its pixel. Contiguous images are stored
    channel after channel, channels-last images pixel after pixel.

    Args:
        channels_last: whether to draw a channels-last image or a contiguous one.
        blocks: B.
        thin: number of channels in a block.
        width: number of pixels in the row.
        read: a block to highlight: all that a kernel as wide as the row reads for this block.
        axes: where to draw; by default in a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: if a count is less than one, there are more blocks than colours, or `read` is
            not the index of a block.

    Example:
        >>> memory(channels_last=True, blocks=2).get_title("left")
        'channels-last (NHWC)'
    """
    for name, count in (("blocks", blocks), ("thin", thin), ("width", width)):
        if count < 1:
            raise ValueError(f"`{name}` (={count}) must be at least 1")
    if blocks > len(COLOURS):
        raise ValueError(
            f"`blocks` (={blocks}) must be at most {len(COLOURS)}, the number of colours"
        )
    if read is not None and not 0 <= read < blocks:
        raise ValueError(f"`read` (={read}) must be a block, from 0 to {blocks - 1}")
    if axes is None:
        axes = plt.figure(figsize=(10, 1.3), layout="constrained").add_subplot()
    channels = blocks * thin
    if channels_last:
        cells = [(pixel, channel) for pixel in range(width) for channel in range(channels)]
    else:
        cells = [(pixel, channel) for channel in range(channels) for pixel in range(width)]
    for place, (pixel, channel) in enumerate(cells):
        block = channel // thin
        faint = read not in (None, block)
        axes.add_patch(
            Rectangle((place, 0), 0.92, 1, color=COLOURS[block], alpha=0.25 if faint else 1)
        )
        ink = GREY if faint else _ink(COLOURS[block])
        axes.text(place + 0.46, 0.5, str(pixel), color=ink, ha="center", va="center")
    stretch = channels if channels_last else width
    for k in range(len(cells) // stretch):
        start, end = k * stretch, (k + 1) * stretch - 0.08
        axes.plot([start, start, end, end], [1.15, 1.3, 1.3, 1.15], color=GREY, lw=1)
        word = f"pixel {k}" if channels_last else f"ch {k}"
        axes.text((start + end) / 2, 1.45, word, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-0.2, len(cells) + 0.1), ylim=(-0.1, 2.1))
    axes.set_title("channels-last (NHWC)" if channels_last else "contiguous (NCHW)", loc="left")
    axes.set_axis_off()
    return axes


def bottleneck(block: TiedBottleneck, *, axes: Axes | None = None) -> Axes:
    r"""Draw a tied bottleneck as Fig. 4 does, with what each of its convolutions really is.

    Colours distinguish the operators: grey is SC, and blue is TBC or TGC, darker for more blocks.
    Activations and normalisations are left out.

    Args:
        block: the bottleneck.
        axes: where to draw; new ones by default.

    Returns:
        The axes.

    Example:
        >>> axes = bottleneck(TiedBottleneck(256, 64, base_width=18))
        >>> [text.get_text() for text in axes.texts][1]
        '1×1 TBC, B = 2\n256 → 72'
    """
    if axes is None:
        axes = plt.figure(figsize=(4.8, 5.2), layout="constrained").add_subplot()
    splits: list[Any] = list(block.conv2)
    middle = (len(splits) - 1) / 2
    right = len(splits) + 0.3  # where the shortcut runs
    mixer = [m for m in block.mixer or () if hasattr(m, "kernel_size")]
    bottom = -5.2 - 1.1 * max(len(mixer) - 1, 0)

    def line(x: list[float], y: list[float], style: str = "-") -> None:
        axes.plot(x, y, style, color=GREY, lw=1.4, zorder=1)

    def word(x: float, y: float, text: str) -> None:
        axes.text(x, y, text, ha="center", va="center", fontsize=10)

    word(middle, 0.75, "x")
    line([middle, middle, right, right], [0.6, 0.45, 0.45, bottom - 0.65])
    line([right, middle + 0.15], [bottom - 0.65, bottom - 0.65])
    line([middle, middle], [0.45, 0])
    _box(axes, middle, 0, 2.2, block.conv1)
    for i, conv in enumerate(splits):
        line([middle, i, i, middle], [-0.35, -0.95, -2.1, -2.6])
        _box(axes, i, -1.5, 0.9, conv, narrow=True)
    line([middle, middle], [-2.6, bottom - 0.5])
    for i, conv in enumerate(mixer):
        _box(axes, middle - 0.9, -3.4 - 1.1 * i, 1.7, conv)
    if mixer:
        joint = bottom + 0.85
        line([middle, middle - 0.9, middle - 0.9, middle], [-2.6, -2.9, joint, joint], "--")
        word(middle - 2.4, -3.4, "mixer:\n" + ("sum" if block.mixes == "sum" else "concat."))
        joined = "added" if block.design == "literal" else "appended"
        axes.text(middle + 0.12, joint, joined, va="center", fontsize=10)
    _box(axes, middle, bottom, 2.2, block.conv3)
    if block.downsample is not None:
        convs = [m for m in block.downsample.modules() if hasattr(m, "kernel_size")]
        _box(axes, right, -2.6, 0.9, convs[-1], narrow=True)
    word(middle, bottom - 0.65, "+")
    axes.set(xlim=(min(-0.6, middle - 2.9), right + 0.7), ylim=(bottom - 1, 1))
    axes.set_axis_off()
    return axes


def _box(
    axes: Axes, x: float, y: float, width: float, conv: nn.Module, narrow: bool = False
) -> None:
    layer: Any = conv
    blocks, groups = getattr(layer, "blocks", 1), layer.groups
    shade = {1: "#e3e5e9", 2: "#cfe3f2", 3: "#b3d4ea", 4: "#a2cae6", 6: "#7fb6db"}
    tall = 1.0 if narrow else 0.72
    patch = FancyBboxPatch(
        (x - width / 2, y - tall / 2),
        width,
        tall,
        "round,pad=0,rounding_size=0.1",
        fc=shade.get(blocks, "#6aa9d4"),
        ec="none",
        zorder=2,
    )
    axes.add_patch(patch)
    kernel, title = "×".join(map(str, layer.kernel_size)), _title(groups, blocks)
    operator, _, counts = title.partition(", ")
    if narrow:
        text = f"{kernel}\n{operator}\n{counts.replace(' = ', '=').replace(', ', ' ')}".strip()
    else:
        text = f"{kernel} {title}\n{layer.in_channels} → {layer.out_channels}"
    # Dark in both themes, as the boxes are light.
    axes.text(x, y, text, ha="center", va="center", fontsize=9, color="#1f2328")


def _ink(ground: Any) -> str:
    """Black or white, whichever has the higher contrast (as WCAG counts it) on a colour."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(ground)]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _title(groups: int, blocks: int) -> str:
    counts = [f"{letter} = {n}" for letter, n in (("G", groups), ("B", blocks)) if n > 1]
    return ", ".join([operator_name(groups, blocks), *counts])
