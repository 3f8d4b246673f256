"""How alike the filters of a layer are, by what they respond to: Figs. 1 and 9.

The pattern of a filter in an image is what `guided_backprop` returns: the gradient of the sum of
its outputs over all positions, (C, H, W). There are two ways to compare patterns:

- **text**, as the paper describes it. The patterns p_i of filter i are averaged over the images,
  and two filters are as similar as the cosine of their averages, from −1 to 1:

      s_ij = ⟨p̄_i, p̄_j⟩ / (‖p̄_i‖ · ‖p̄_j‖)

- **code**, as the first author's later published code does it. In each image n, two filters are as
  similar as the absolute value of Pearson's correlation of their patterns, from 0 to 1:

      r_nij = abs(⟨p_ni − m_ni, p_nj − m_nj⟩) / (‖p_ni − m_ni‖ · ‖p_nj − m_nj‖)

  with m_ni the mean of p_ni over its channels and pixels. The values of all images and pairs are
  pooled; undefined ones, and exact ones, are dropped. That code takes the outputs of whole stages
  after their rectifier as layers.

The two differ in all their steps, so their numbers cannot be compared: averaging before the
comparison removes what is particular to an image, and the absolute value counts opposite patterns
as alike. `default_layers` chooses the layers that go with each method.

A filter whose pattern is zero (constant, for "code") in every image is dead. Dead filters are
counted, and left out of everything else.

Two controls belong to every measurement. What an untrained network shows, training did not bring
about (`build_untrained`). And what ordinary gradients do not show (``gradient="ordinary"``), guided
backpropagation brought about: with it, similarity rises with depth in untrained networks, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tbc_models.analysis.computed import Method
from tbc_models.analysis.drawn import Filters, draw_filters
from tbc_models.analysis.guided import Gradient, Progress, check_choice, gradient_patterns

BINS = 41
"""Number of bins of a histogram, as in the published code."""

_ONE = 1 - 1e-9
"""From here a correlation is an exact one: rounding in float32 changes it by 1e-13."""


@dataclass(frozen=True)
class Similarity:
    """How alike the filters of a layer are.

    Attributes:
        layer: name of the layer.
        depth: number of convolutions and linear layers computed up to it.
        method: "text" or "code".
        filters: "responses" if every output channel counted, "stored" if every stored filter did.
        channels: the channels, or the stored filters, that were drawn and are not dead.
        dead: number of dead filters among those drawn.
        images: number of images.
        matrix: similarity of each pair, (len(channels), len(channels)); for "code" the mean over
            the images in which it is defined, 0 if there are none.
        histogram: number of values in each bin; see `bin_edges`.
        mean: mean of these values.
    """

    layer: str
    depth: int
    method: Method
    filters: Filters
    channels: tuple[int, ...]
    dead: int
    images: int
    matrix: NDArray[np.float64]
    histogram: NDArray[np.int64]
    mean: float


def bin_edges(method: Method) -> NDArray[np.float64]:
    """Return the edges of the bins, the same for all layers and networks.

    Args:
        method: "text" for cosines, from −1 to 1; "code" for correlations, from 0 to 1.

    Returns:
        The edges, one more than there are bins.

    Raises:
        ValueError: if there is no such method.

    Example:
        >>> len(bin_edges("text"))
        42
    """
    check_choice("method", method, Method)
    return np.linspace(-1 if method == "text" else 0, 1, BINS + 1)


def filter_similarity(
    network: nn.Module,
    images: Tensor,
    layer: str,
    *,
    channels: int | None = 64,
    method: Method = "text",
    filters: Filters = "responses",
    gradient: Gradient = "guided",
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Similarity:
    """Measure how alike the filters of a layer are, by one of two methods.

    Args:
        network: network with rectifiers.
        images: (N, C, H, W), normalised as the network takes them.
        layer: name of the layer.
        channels: number of filters, drawn at random; None for 64, or all of a smaller layer.
        method: "text" as the paper describes it, or "code" as published later.
        filters: of a tied layer, "responses" compares its output channels, of which B belong to
            each stored filter; "stored" compares the stored filters, each by the sum of its B
            outputs. In a plain convolution both are the same.
        gradient: "guided"; or "ordinary" for patterns without guided rectifiers, the control of the
            instrument.
        seed: seed of the drawing.
        batch_size: images that are computed at once, as `guided_backprop` takes it.
        progress: called with the number of backward passes done so far and their total.

    Returns:
        The similarity of each pair, their histogram and mean, and the number of dead filters.

    Raises:
        ValueError: as `guided_backprop`; if `method`, `filters` or `gradient` is misspelt; if the
            layer has fewer filters than asked for, or fewer than two are not dead; or if
            "stored" is asked of a layer that is not a convolution.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU())
        >>> _ = nn.init.ones_(network[0].weight)  # two identical filters
        >>> round(filter_similarity(network, torch.ones(1, 1, 2, 2), "1", channels=2).mean, 6)
        1.0
    """
    (found,) = filter_similarities(
        network,
        images,
        [layer],
        channels=channels,
        method=method,
        filters=filters,
        gradient=gradient,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    return found


def filter_similarities(
    network: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    *,
    channels: int | None = 64,
    method: Method = "text",
    filters: Filters = "responses",
    gradient: Gradient = "guided",
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[Similarity]:
    """Measure several layers as `filter_similarity` does, with one forward pass for all.

    Args:
        network: as `filter_similarity` takes it.
        images: as `filter_similarity` takes them.
        layers: names of the layers.
        channels: as `filter_similarity` takes it, for each layer.
        method: as `filter_similarity` takes it.
        filters: as `filter_similarity` takes it.
        gradient: as `filter_similarity` takes it.
        seed: as `filter_similarity` takes it; layers of the same size get the same channels.
        batch_size: images that are computed at once, as `guided_backprop` takes it.
        progress: called with the number of backward passes done so far and their total.

    Returns:
        The similarities, in the order of the layers.

    Raises:
        ValueError: as `filter_similarity`.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        >>> images = torch.randn(2, 1, 8, 8)
        >>> found = filter_similarities(network, images, ["0", "2"], channels=4)
        >>> [(one.layer, one.depth) for one in found]
        [('0', 1), ('2', 2)]
    """
    check_choice("method", method, Method)
    check_choice("gradient", gradient, Gradient)
    drawn = draw_filters(network, images, layers, channels=channels, filters=filters, seed=seed)
    wanted = {layer: own.channels for layer, own in drawn.items()}
    pools: dict[str, _AveragedPatterns | _Correlations] = {
        layer: (_AveragedPatterns if method == "text" else _Correlations)(len(wanted[layer]))
        for layer in layers
    }
    for layer, patterns in gradient_patterns(
        network, images, wanted, gradient=gradient, batch_size=batch_size, progress=progress
    ):
        if not patterns.isfinite().all():
            raise ValueError(f"the patterns of `layer` (={layer!r}) are not finite numbers")
        pools[layer].add(patterns.flatten(2).double().cpu().numpy())
    return [
        pools[layer].result(
            drawn[layer].filters,
            layer=layer,
            depth=drawn[layer].depth,
            filters=filters,
            images=len(images),
        )
        for layer in layers
    ]


class _AveragedPatterns:
    """The method of the text: cosines of averages."""

    def __init__(self, _: int) -> None:
        self.total: Any = 0.0

    def add(self, patterns: NDArray[np.float64]) -> None:
        """Add the patterns of some images, (filters, images, numbers)."""
        self.total = self.total + patterns.sum(axis=1)

    def result(self, drawn: list[int], **facts: Any) -> Similarity:
        lengths = np.linalg.norm(self.total, axis=1)
        alive = lengths > 0
        _require_two(alive, facts["layer"])
        directions = self.total[alive] / lengths[alive, None]
        matrix = np.clip(directions @ directions.T, -1, 1)
        values = matrix[np.triu_indices(len(matrix), 1)]
        return Similarity(
            method="text",
            channels=_chosen(drawn, alive),
            dead=int((~alive).sum()),
            matrix=matrix,
            histogram=np.histogram(values, bin_edges("text"))[0],
            mean=float(values.mean()),
            **facts,
        )


class _Correlations:
    """The method of the published code: correlations in each image, pooled."""

    def __init__(self, filters: int) -> None:
        self.alive = np.zeros(filters, bool)
        self.total, self.number = (np.zeros((filters, filters)) for _ in range(2))
        self.histogram = np.zeros(BINS, np.int64)
        self.sum = 0.0

    def add(self, patterns: NDArray[np.float64]) -> None:
        """Add the patterns of some images, (filters, images, numbers)."""
        for of_image in patterns.swapaxes(0, 1):
            alive = np.ptp(of_image, axis=1) > 0
            centred = of_image[alive] - of_image[alive].mean(axis=1, keepdims=True)
            directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
            correlations = np.clip(np.abs(directions @ directions.T), 0, 1)
            self.alive |= alive
            self.total[np.ix_(alive, alive)] += correlations
            self.number[np.ix_(alive, alive)] += 1
            values = correlations[np.triu_indices(len(correlations), 1)]
            values = values[values < _ONE]
            self.histogram += np.histogram(values, bin_edges("code"))[0]
            self.sum += float(values.sum())

    def result(self, drawn: list[int], **facts: Any) -> Similarity:
        alive = self.alive
        _require_two(alive, facts["layer"])
        if not self.histogram.any():
            raise ValueError(
                f"all correlations of layer {facts['layer']!r} are exact ones or undefined, which "
                'method "code" drops'
            )
        means = self.total / np.maximum(self.number, 1)
        return Similarity(
            method="code",
            channels=_chosen(drawn, alive),
            dead=int((~alive).sum()),
            matrix=means[np.ix_(alive, alive)],
            histogram=self.histogram,
            mean=self.sum / int(self.histogram.sum()),
            **facts,
        )


def _require_two(alive: NDArray[np.bool_], layer: str) -> None:
    if alive.sum() < 2:
        raise ValueError(
            f"of {len(alive)} filters of layer {layer!r}, {(~alive).sum()} are dead: fewer than "
            "two are left to compare"
        )


def _chosen(drawn: list[int], alive: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(channel for channel, is_alive in zip(drawn, alive, strict=True) if is_alive)
