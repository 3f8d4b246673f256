"""Pictures of a training: its learning curves, and which classes are confused."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor
from torchmetrics.utilities.plot import plot_confusion_matrix


def curves(rows: Sequence[dict[str, float]], title: str = "") -> Figure:
    """Draw loss and, below it, top-1 of every epoch, on training and on test images.

    Args:
        rows: a row for each epoch, as in metrics.csv.
        title: text above both plots.

    Returns:
        The figure.

    Example:
        >>> row = {"epoch": 1, "train/loss": 1.0, "test/loss": 1.2}
        >>> row |= {"train/top-1": 0.6, "test/top-1": 0.5}
        >>> [axes.get_ylabel() for axes in curves([row]).axes]
        ['loss', 'top-1 (%)']
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    panels = figure.subplots(2, sharex=True)
    for axes, name, factor in zip(panels, ("loss", "top-1"), (1, 100), strict=True):
        for part, style in (("train", "--"), ("test", "-")):
            values = [factor * row[f"{part}/{name}"] for row in rows]
            axes.plot(epochs, values, style, marker="." if len(rows) < 50 else "", label=part)
        axes.set_ylabel(f"{name} (%)" if factor == 100 else name)
        axes.grid(alpha=0.3)
        if name == "loss":
            axes.set_yscale("log")  # the first losses on test images can be huge
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlabel("epoch")
    figure.suptitle(f"{title}  {rows[-1]['test/top-1']:.2%} after epoch {epochs[-1]:.0f}".strip())
    figure.axes[0].legend(frameon=False)
    return figure


def confusion(matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Draw which class was predicted for which.

    Args:
        matrix: number of images of class i that were predicted as class j, (classes, classes).
        classes: names of the classes.

    Returns:
        The figure; with up to 20 classes it shows their names and the numbers.

    Example:
        >>> import torch
        >>> len(confusion(torch.eye(3), ["a", "b", "c"]).axes[0].texts)
        9
    """
    few = len(classes) <= 20
    side = min(4 + 0.4 * len(classes), 12)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes: Any = figure.add_subplot()
    plot_confusion_matrix(
        matrix.long(), ax=axes, add_text=few, labels=list(classes) if few else None, cmap="Blues"
    )
    return figure
