"""Equal measured time: how long the networks of `tbc compare` take, relative to SC.

Times of different runs are never compared (see `bench.timing`), so all candidates take turns, and
only ratios are kept. Repeating the measurement gives the spread of a ratio.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import quantiles
from typing import get_args

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from tbc_models.bench.timing import interleaved
from tbc_models.comparing.networks import (
    Budget,
    Candidate,
    ImageShape,
    Mode,
    Ratio,
    Scale,
    build_candidate,
    equal_widths,
    families,
    possible_widths,
    trunk_candidate,
)

BATCH = 128
"""Images in a batch whose time is measured."""

SEARCHES, REPEATS = 3, 7
"""Number of measurements that a ratio is the median of, in the search and afterwards."""

SECONDS = 0.1
"""About how long a candidate is called in each measurement."""


@dataclass(frozen=True)
class Timer:
    """Measures candidates against one another, on batches of `BATCH` images.

    Attributes:
        images: shape of the images.
        device: "cpu" or "cuda".
    """

    images: ImageShape
    device: str = "cpu"

    def __call__(self, candidates: Sequence[Candidate], mode: Mode) -> list[float]:
        """Time inference, or a training step with the update of the weights.

        Args:
            candidates: what to time.
            mode: "inference" or "training".

        Returns:
            The median time of each.

        Example:
            >>> timer = Timer(ImageShape(1, 8, 10))
            >>> [t > 0 for t in timer(families(["macs"], timer.images)[:1], "training")]
            [True]
        """
        shape = (BATCH, self.images.channels, self.images.size, self.images.size)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        y = torch.arange(BATCH, device=self.device) % self.images.classes
        call = _inference if mode == "inference" else _step
        functions = {
            one.name: call(build_candidate(one, self.images).to(self.device), x, y)
            for one in candidates
        }
        times = interleaved(functions, SECONDS, self.device)
        return [times[one.name].median for one in candidates]


def equal_time(
    mode: Mode, groups: int, blocks: int, timer: Timer, scale: Scale = "small"
) -> tuple[int, ...]:
    """Find the widths at which a family takes as long as SC, by bisection.

    Args:
        mode: "inference" or "training".
        groups: G.
        blocks: B.
        timer: measures SC and a network of the family.
        scale: size of SC.

    Returns:
        Of the widths that were tried, those whose time was nearest to SC's. A wider
        network is not always slower, so others may be as near.

    Example:
        >>> equal_time("inference", 1, 1, Timer(ImageShape(1, 8, 10)))
        (8, 16, 32, 32)
    """
    (sc,) = families(["macs"], timer.images, scale)[:1]
    if (groups, blocks) == (1, 1):
        return tuple(sc.options["widths"])
    possible = possible_widths(groups, blocks, scale)
    tried: dict[tuple[int, ...], float] = {}
    first, last = 0, len(possible) - 1
    while first <= last:
        # Half-way in proportion, since a network that is much too wide takes long to measure.
        goal = math.sqrt(sum(possible[first]) * sum(possible[last]))
        middle = bisect_left(possible, goal, first, last, key=sum)
        widths = possible[middle]
        candidate = trunk_candidate(widths, groups, blocks, timer.images)
        ratio = _ratios([sc, candidate], mode, timer, SEARCHES)[1].median
        tried[widths] = max(ratio, 1 / ratio)
        if ratio > 1:
            last = middle - 1
        else:
            first = middle + 1
    return min(tried, key=tried.__getitem__)


def families_by_time(budgets: Sequence[Budget], timer: Timer, scale: Scale) -> list[Candidate]:
    """List the networks of a comparison some of whose budgets are times, SC first.

    Args:
        budgets: quantities that are equal, one comparison for each.
        timer: measures the times.
        scale: size of SC.

    Returns:
        The candidates, without their times.

    Example:
        >>> families_by_time(["macs"], Timer(ImageShape(1, 28, 10)), "small")[0].name
        'SC, 8-16-32-32'
    """

    def equal(
        budget: Budget, groups: int, blocks: int, images: ImageShape, scale: Scale
    ) -> tuple[int, ...]:
        if budget == "parameters" or budget == "macs":
            return equal_widths(budget, groups, blocks, images, scale)
        return equal_time(budget, groups, blocks, timer, scale)

    return families(budgets, timer.images, scale, equal)


def timed(candidates: Sequence[Candidate], timer: Timer) -> list[Candidate]:
    """Measure candidates against the first.

    Args:
        candidates: candidates, the yardstick first.
        timer: measures their times.

    Returns:
        The same candidates with their times.

    Example:
        >>> timer = Timer(ImageShape(1, 8, 10))
        >>> timed(families(["macs"], timer.images)[:1], timer)[0].times["inference"]
        Ratio(median=1.0, low=1.0, high=1.0)
    """
    modes: tuple[Mode, ...] = get_args(Mode)
    by_mode = [_ratios(candidates, mode, timer, REPEATS) for mode in modes]
    return [
        replace(one, times=dict(zip(modes, ratios, strict=True)))
        for one, *ratios in zip(candidates, *by_mode, strict=True)
    ]


def _ratios(candidates: Sequence[Candidate], mode: Mode, timer: Timer, repeats: int) -> list[Ratio]:
    """Divide the times of candidates by that of the first, in repeated measurements."""
    measured = [timer(candidates, mode) for _ in range(repeats)]
    ratios = []
    for times in zip(*measured, strict=True):
        of_first = [time / first for time, (first, *_) in zip(times, measured, strict=True)]
        low, median, high = (round(part, 4) for part in quantiles(of_first, n=4))
        ratios.append(Ratio(median, low, high))
    return ratios


def _inference(network: nn.Module, x: torch.Tensor, _: torch.Tensor) -> Callable[[], object]:
    network.eval()

    def infer() -> torch.Tensor:
        with torch.no_grad():
            return network(x)  # type: ignore[no-any-return]

    return infer


def _step(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[], object]:
    # At rate 0 the weights stay as they are, and so do the times.
    sgd = SGD(network.train().parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        sgd.zero_grad()
        F.cross_entropy(network(x), y).backward()
        sgd.step()

    return step
