"""Draw maps of Grad-CAM over their images, as Fig. 8 does."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor


class Overlay(NamedTuple):
    """An image and the map that one network has of it.

    Attributes:
        image: as the network sees it, (C, H, W) in [0, 1].
        heat: the map, (H, W) from 0 up.
        caption: one or two lines below it, such as the class.
        mask: where the object is, (H, W) from 0 to 1, or None.
    """

    image: Tensor
    heat: Tensor
    caption: str
    mask: Tensor | None = None


def gradcam_figure(networks: Mapping[str, Sequence[Overlay]]) -> Figure:
    """Draw images in the first row, and below them what each network finds in them.

    Each map has colours of its own, from its smallest to its largest value. White lines are the
    outlines of objects.

    Args:
        networks: for each network by its name, the same images in the same order.

    Returns:
        The figure, with a row more than networks and a column for each image.

    Example:
        >>> import torch
        >>> overlay = Overlay(torch.zeros(3, 8, 8), torch.ones(8, 8), "cat 90 %")
        >>> figure = gradcam_figure({"plain": [overlay], "tied": [overlay]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['', 'plain', 'tied']
    """
    columns = len(next(iter(networks.values())))
    size = (0.4 + 1.7 * columns, 0.2 + 1.6 + 2.0 * len(networks))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + len(networks), columns, squeeze=False)
    for axes, overlay in zip(grid[0], next(iter(networks.values())), strict=True):
        _show(axes, overlay)
    for line, (name, overlays) in zip(grid[1:], networks.items(), strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for axes, overlay in zip(line, overlays, strict=True):
            _show(axes, overlay)
            axes.imshow(overlay.heat.cpu().numpy(), cmap="turbo", alpha=0.5)
            if overlay.mask is not None and 0 < overlay.mask.mean() < 1:
                axes.contour(overlay.mask.cpu().numpy(), levels=[0.5], colors="white", linewidths=1)
            axes.set_xlabel(overlay.caption, fontsize=8)
    return figure


def _show(axes: Axes, overlay: Overlay) -> None:
    picture = overlay.image.movedim(0, -1)
    axes.imshow(picture.expand(-1, -1, 3).cpu().numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
