"""Pictures of detectors: learning curves, precision against recall, and objects on images."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks


def detection_curves(rows: Sequence[dict[str, float]], title: str = "") -> Figure:
    """Draw the loss, and the average precision on test images, of every epoch.

    Args:
        rows: a row for each epoch, as in metrics.csv.
        title: title above both plots.

    Returns:
        The figure.

    Example:
        >>> row = {"epoch": 1, "train/loss": 1.0, "test/box AP": 0.2, "test/box AP50": 0.4}
        >>> [axes.get_ylabel() for axes in detection_curves([row]).axes]
        ['training loss', 'AP on test images']
    """
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    loss, precision = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    marker = "." if len(rows) < 50 else ""
    loss.plot(epochs, [row["train/loss"] for row in rows], marker=marker)
    loss.set_ylabel("training loss")
    for name in ("box AP50", "box AP", "mask AP50", "mask AP"):
        if f"test/{name}" in rows[0]:
            style = "-" if name.startswith("box") else "--"
            values = [row[f"test/{name}"] for row in rows]
            precision.plot(epochs, values, style, marker=marker, label=name)
    precision.set_ylabel("AP on test images")
    precision.set_ylim(bottom=0)
    for axes in (loss, precision):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def precision_recall(curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Draw precision against recall.

    Args:
        curves: precision at the recalls 0, 0.01, …, 1, by name.
        title: title above the plot.

    Returns:
        The figure.

    Example:
        >>> figure = precision_recall({"IoU 0.5": [1.0] * 101})
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('recall', 'precision')
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, precision in curves.items():
        axes.plot([i / 100 for i in range(len(precision))], precision, label=name)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(title)
    return figure


def draw_objects(
    image: Tensor,
    boxes: Tensor,
    labels: Sequence[str],
    masks: Tensor | None = None,
) -> Image.Image:
    """Draw boxes, labels and masks on an image, each object in a colour of its own.

    Args:
        image: uint8 (3, H, W).
        boxes: (n, 4) as x1, y1, x2, y2 in pixels.
        labels: a text for each box.
        masks: bool (n, H, W), or None.

    Returns:
        The picture.

    Example:
        >>> import torch
        >>> image = torch.zeros(3, 40, 60, dtype=torch.uint8)
        >>> draw_objects(image, torch.tensor([[5.0, 5, 30, 30]]), ["cat"]).size
        (60, 40)
    """
    palette = colormaps["tab10"].colors  # type: ignore[attr-defined]
    colours = [
        tuple(round(255 * part) for part in palette[i % len(palette)]) for i in range(len(boxes))
    ]
    if len(boxes):
        if masks is not None:
            image = draw_segmentation_masks(image, masks.bool(), alpha=0.5, colors=colours)
        side = min(image.shape[-2:])
        image = draw_bounding_boxes(
            image,
            boxes,
            list(labels),
            colours,
            width=max(1, round(side / 300)),
            font=findfont("DejaVu Sans"),  # Matplotlib's own
            font_size=max(10, round(side / 40)),
        )
    picture: Image.Image = to_pil_image(image)
    return picture


def show_boxes(
    axes: Axes,
    image: Tensor | None,
    boxes: Tensor,
    labels: Sequence[str] = (),
    *,
    colours: str | Sequence[str] = "white",
    title: str = "",
    **style: Any,
) -> Axes:
    """Show an image, and outline boxes on it; the axes are in the image's pixels.

    Args:
        axes: where to draw.
        image: (3, H, W), uint8 or floats from 0 to 1; None to draw boxes alone.
        boxes: (n, 4) as x1, y1, x2, y2 in pixels.
        labels: a text for each box, or none at all. They are at different corners of successive
            boxes, so that the texts of boxes in the same place do not hide one another.
        colours: one colour of all outlines, or one for each.
        title: title above the image.
        style: other properties of the outlines, as those of matplotlib's `Rectangle`.

    Returns:
        The axes.

    Example:
        >>> import torch
        >>> axes = Figure().subplots()
        >>> boxes = torch.tensor([[5.0, 5, 30, 30]])
        >>> len(show_boxes(axes, torch.zeros(3, 40, 60), boxes, ["cat"]).patches)
        1
    """
    if image is not None:
        height, width = image.shape[-2:]
        shown = image.permute(1, 2, 0).numpy()
        axes.imshow(shown, extent=(0, width, height, 0), interpolation="nearest")
    each = [colours] * len(boxes) if isinstance(colours, str) else colours
    for i, (box, colour) in enumerate(zip(boxes.tolist(), each, strict=True)):
        x1, y1, x2, y2 = box
        outline: dict[str, Any] = {"fill": False, "ec": colour, "lw": 1.5} | style
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **outline))
        if labels:
            corner = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))[i % 4]
            ground = {"fc": colour, "ec": "none", "pad": 1.5}
            text = axes.text(*corner, labels[i], size=9, ha="center", va="center", bbox=ground)
            text.set(color="#202020", clip_on=True)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=10)
    return axes
