"""Filter similarity of several networks at several depths, each beside its untrained control."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from tbc_gpu import TiedBlockConv2d
from tbc_models.analysis.computed import Method, default_layers
from tbc_models.analysis.drawn import Filters, draw_filters
from tbc_models.analysis.guided import Gradient, Progress
from tbc_models.analysis.similarity import Similarity, filter_similarities


class Subject(NamedTuple):
    """A trained network whose filters are compared.

    Attributes:
        label: its name; networks with the same one differ only in the seed of their training.
        network: the trained network.
        images: what it sees, (N, C, H, W), normalised.
        untrained: builds the network with the random weights of a seed.
        seed: seed of its training, if it is known.
        weights: digest of its weights.
    """

    label: str
    network: nn.Module
    images: Tensor
    untrained: Callable[[int], nn.Module]
    seed: int | None = None
    weights: str = ""


def similarity_study(
    subjects: Sequence[Subject],
    *,
    layers: Sequence[str] | None = None,
    method: Method = "text",
    filters: Filters = "responses",
    gradient: Gradient = "guided",
    channels: int | None = None,
    control: Sequence[int] = (0, 1, 2),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the filter similarity of networks, trained and untrained, at several depths.

    Args:
        subjects: the trained networks.
        layers: names of the layers, the same for all networks; by default what `default_layers`
            chooses for each.
        method: "text" or "code", as `filter_similarity` takes it.
        filters: "responses" or "stored", as `filter_similarity` takes it.
        gradient: "guided" or "ordinary", as `filter_similarity` takes it.
        channels: number of filters of each layer; None for 64, or all of a smaller layer.
        control: seeds of the untrained networks, which are built once for each label.
        seed: seed of the drawing of filters.
        progress: called with the number of backward passes done so far, and about their total.

    Returns:
        How it was measured, the networks, and a row for each network, weights and layer, with the
        histogram and, for the first trained network of a label, the matrix. A layer whose
        channels are divided has two more means, `within_and_between`.

    Raises:
        ValueError: as `filter_similarity`, with the network; before any work, but for dead filters.

    Example:
        >>> import torch
        >>> def network(seed=0): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> subject = Subject("small", network(), torch.randn(2, 1, 8, 8), network)
        >>> report = similarity_study([subject], control=[0])
        >>> [(row["weights"], row["layer"]) for row in report["rows"]]
        [('trained', '0'), ('untrained', '0')]
    """
    runs: list[tuple[Subject, Sequence[str], str, int | None]] = []
    known: set[str] = set()
    for subject in subjects:
        with _named(subject.label):
            of = (subject.network, subject.images)
            chosen = layers or default_layers(*of, method=method)
            draw_filters(*of, chosen, channels=channels, filters=filters)
        runs.append((subject, chosen, "trained", subject.seed))
        if subject.label not in known:
            runs += [(subject, chosen, "untrained", one) for one in control]
        known.add(subject.label)
    rows: list[dict[str, Any]] = []
    shown: set[str] = set()
    for place, (subject, chosen, weights, own_seed) in enumerate(runs):
        trained = weights == "trained"
        network = subject.network if trained else subject.untrained(own_seed or 0)
        with _named(f"{subject.label}, {weights}"):
            found = filter_similarities(
                network,
                subject.images,
                chosen,
                channels=channels,
                method=method,
                filters=filters,
                gradient=gradient,
                seed=seed,
                progress=_part(progress, place, len(runs)),
            )
        about = {"network": subject.label, "weights": weights, "seed": own_seed}
        with_matrix = trained and subject.label not in shown
        shown.add(subject.label)
        for one in found:
            row = about | _row(one, with_matrix=with_matrix)
            if (means := within_and_between(network, one)) is not None:
                row["within"], row["between"] = (round(mean, 5) for mean in means)
            rows.append(row)
    return {
        "images": len(subjects[0].images),
        "method": method,
        "filters": filters,
        "gradient": gradient,
        "channels": channels,
        "drawn with seed": seed,
        "networks": [
            {"network": one.label, "seed": one.seed, "weights": one.weights} for one in subjects
        ],
        "rows": rows,
    }


def within_and_between(network: nn.Module, found: Similarity) -> tuple[float, float] | None:
    """Compute the mean similarity of filters in the same block or group, and in different ones.

    Filters of different blocks or groups read different channels. In a network that keeps its
    blocks apart from layer to layer, that alone can make their patterns different.

    Args:
        network: the network.
        found: the similarity of a layer, with ``filters="responses"``.

    Returns:
        Both means; None if the layer is not a convolution with blocks or groups, if stored filters
        were compared, if there are no pairs of one kind, or for method "code", whose mean drops
        values that the matrix has.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.ReLU())
        >>> images = torch.zeros(1, 4, 8, 8)
        >>> (found,) = filter_similarities(network, images, ["0"], channels=4)
        >>> within_and_between(network, found)[1]  # the groups read different channels
        0.0
    """
    layer = network.get_submodule(found.layer)
    if not isinstance(layer, nn.Conv2d | TiedBlockConv2d):
        return None
    if found.filters == "stored" or found.method == "code":
        return None
    parts = layer.groups * getattr(layer, "blocks", 1)
    part = np.array(found.channels) // (layer.out_channels // parts)
    same = part[:, None] == part
    pairs = ~np.eye(len(part), dtype=bool)
    if parts == 1 or same.all() or not (same & pairs).any():
        return None
    return float(found.matrix[same & pairs].mean()), float(found.matrix[~same].mean())


@contextmanager
def _named(network: str) -> Iterator[None]:
    """Say which network an error is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{network}: {error}") from error


def _part(progress: Progress | None, place: int, runs: int) -> Progress | None:
    if progress is None:
        return None
    report = progress
    return lambda done, total: report(place * total + done, runs * total)


def _row(found: Similarity, *, with_matrix: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "layer": found.layer,
        "depth": found.depth,
        "filters": len(found.channels),
        "dead": found.dead,
        "mean": round(found.mean, 5),
        "histogram": found.histogram.tolist(),
    }
    if with_matrix:
        row["matrix"] = found.matrix.round(2).tolist()
    return row
