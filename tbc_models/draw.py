"""Drawings that the tutorials and the site share."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

# Okabe and Ito's colours, which colour-blind readers can tell apart, yellow left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def wiring(
    in_channels: int = 8,
    out_channels: int = 4,
    *,
    groups: int = 1,
    blocks: int = 1,
    axes: Axes | None = None,
) -> Axes:
    """Draw which input channels each output channel sees, one colour for each stored filter.

    After Fig. 2: on the left the input channels, on the right the output channels, below them
    the filters that are stored. Two outputs of one colour are responses of one filter.

    Args:
        in_channels: C_in, drawn as so many dots.
        out_channels: C_out, drawn as so many squares.
        groups: G, the groups that share nothing.
        blocks: B, the blocks in each group that share their filters.
        axes: where to draw; new ones by default.

    Returns:
        The axes.

    Raises:
        ValueError: if a count is less than one, the channels do not divide by groups·blocks, or
            there are more stored filters than colours.

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
            f"{len(COLOURS)}, the colours there are"
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
        axes.plot(0, height(channel, in_channels), "o", color="#8a8f98", ms=8, zorder=3)

    top = -10.6  # of the stored filters
    for row in range(filters):
        for weight in range(thin):
            corner = (2 - thin / 4 + weight / 2, top - 0.62 * row)
            axes.add_patch(Rectangle(corner, 0.44, 0.44, color=COLOURS[row]))
    below = top - 0.62 * filters - 0.1
    stored = f"{filters} × {thin} = {filters * thin} weights"
    axes.text(2, below, stored, ha="center", va="center")
    axes.set(xlim=(-0.6, 4.6), ylim=(min(below, -13.2) - 0.5, 0.3))
    axes.set_title(_title(groups, blocks))
    axes.set_axis_off()
    return axes


def _title(groups: int, blocks: int) -> str:
    name = {(False, False): "SC", (True, False): "GC", (False, True): "TBC", (True, True): "TGC"}[
        groups > 1, blocks > 1
    ]
    counts = [f"{letter} = {n}" for letter, n in (("G", groups), ("B", blocks)) if n > 1]
    return ", ".join([name, *counts])
