"""Pictures of a training: its learning curves, and which class was taken for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torchmetrics.utilities.plot import plot_confusion_matrix

from tbc_models.files import replacing


def curves(rows: Sequence[dict[str, float]], title: str = "") -> Figure:
    """Draw loss and top-1 of every epoch, on the images that are learned and on the test images.

    Args:
        rows: of the epochs, as metrics.csv has them.
        title: above both.

    Returns:
        The figure.

    Example:
        >>> row = {"epoch": 1, "train/loss": 1.0, "test/loss": 1.2}
        >>> row |= {"train/top-1": 0.6, "test/top-1": 0.5}
        >>> [axes.get_ylabel() for axes in curves([row]).axes]
        ['loss', 'top-1 (%)']
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, name, factor in zip(figure.subplots(1, 2), ("loss", "top-1"), (1, 100), strict=True):
        for part, style in (("train", "--"), ("test", "-")):
            values = [factor * row[f"{part}/{name}"] for row in rows]
            axes.plot(epochs, values, style, marker="." if len(rows) < 50 else "", label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} (%)" if factor == 100 else name)
        axes.grid(alpha=0.3)
        if name == "loss":
            axes.set_yscale("log")  # early losses on test images can be huge
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"{title}  {rows[-1]['test/top-1']:.2%} after epoch {epochs[-1]:.0f}".strip())
    figure.axes[0].legend(frameon=False)
    return figure


def draw_curves(file: Path, rows: Sequence[dict[str, float]], title: str) -> None:
    """Write `curves` as PNG.

    Args:
        file: to write; one that exists is replaced.
        rows: of the epochs.
        title: above both.

    Raises:
        OSError: if the file cannot be written.

    Example:
        >>> row = {"epoch": 1, "train/loss": 1.0, "test/loss": 1.2}
        >>> row |= {"train/top-1": 0.6, "test/top-1": 0.5}
        >>> draw_curves(Path("/no/such/folder/curves.png"), [row], "")
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    figure = curves(rows, title)
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def confusion(matrix: Tensor, classes: Sequence[str]) -> Figure:
    """Draw which class was taken for which.

    Args:
        matrix: images of class i that were taken for class j, (classes, classes).
        classes: their names.

    Returns:
        The figure, with numbers and names where there is room for them.

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
