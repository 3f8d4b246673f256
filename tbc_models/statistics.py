"""Intervals and paired tests, over seeds and over images.

Two networks with one seed see the same batches, so seeds are compared one by one: the mean of the
differences, its 95 % interval by Student's t, and the paired t-test. Comparing several networks
with one yardstick makes chance findings more likely; Holm's correction accounts for that.

Where only the seed varies, the intervals say what other seeds would give with the same training and
test images, not what other images would give. That is what `bootstrap_interval` is for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_SAME = 1e-5
"""Accuracies that differ by less are equal; one image of 50,000 is a larger difference."""


class Interval(NamedTuple):
    """A mean, and an interval that contains the mean over all seeds in 95 % of experiments.

    Attributes:
        mean: mean of the numbers.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """The difference between a network and the yardstick.

    Attributes:
        difference: its top-1 minus the yardstick's, seed by seed.
        p: p-value of the two-sided paired t-test; None if the difference is the same in every
            seed, so that there is no spread to compare it with.
    """

    difference: Interval
    p: float | None


def interval(numbers: Sequence[float]) -> Interval:
    """Return the mean of some numbers and its 95 % interval by Student's t.

    Args:
        numbers: at least two, one for each seed.

    Returns:
        The mean and its interval, whose ends equal the mean if all numbers are the same.

    Raises:
        ValueError: for fewer than two numbers.

    Example:
        >>> [round(x, 2) for x in interval([1, 2, 3, 4, 5])]
        [3.0, 1.04, 4.96]
    """
    if len(numbers) < 2:
        raise ValueError(f"an interval needs at least 2 numbers, not {len(numbers)}")
    mean = float(np.mean(numbers))
    if np.ptp(numbers) < _SAME:  # scipy would give NaN
        return Interval(mean, mean, mean)
    low, high = stats.t.interval(0.95, len(numbers) - 1, mean, stats.sem(numbers))
    return Interval(mean, float(low), float(high))


def compare_paired(numbers: Sequence[float], yardstick: Sequence[float]) -> Paired:
    """Compare a network with the yardstick, seed by seed.

    Args:
        numbers: accuracies of the network, one for each seed.
        yardstick: accuracies of the yardstick, for the same seeds in the same order.

    Returns:
        The mean difference, its 95 % interval, and p of the paired t-test.

    Raises:
        ValueError: if the two have different lengths, or fewer than two numbers.

    Example:
        >>> compare_paired([3, 5, 4], [1, 2, 3]).difference.mean
        2.0
    """
    if len(numbers) != len(yardstick):
        raise ValueError(f"{len(numbers)} numbers have no pairs among {len(yardstick)}")
    differences = np.subtract(numbers, yardstick)
    difference = interval(differences.tolist())
    p = None
    if np.ptp(differences) >= _SAME:
        p = float(stats.ttest_rel(numbers, yardstick).pvalue)
    return Paired(difference, p)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number, as Holm (1979) does.

    If no network differed from the yardstick, fewer than 5 % of experiments would have any
    corrected value below 0.05.

    Args:
        ps: p-values of all comparisons with one yardstick; None, where there was no test, still
            counts as a comparison.

    Returns:
        The corrected values in the same order, at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03, None])
        [0.04, 0.09, 0.09, None]
    """
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(sorted((p, i) for i, p in enumerate(ps) if p is not None)):
        largest = max(largest, min(1.0, (len(ps) - rank) * p))
        corrected[i] = largest
    return corrected


def bootstrap_interval(value: float, resampled: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % basic bootstrap interval of a quantity of some images.

    The basic interval mirrors the percentiles about the value. So it corrects for a bias of
    resampling: average precision of few images is too high on average, and that of a resample,
    which has fewer different images, is higher still.

    Args:
        value: the quantity on the images.
        resampled: the quantity on images drawn from them with replacement, many times.

    Returns:
        The lower and the upper end.

    Example:
        >>> [round(end, 2) for end in bootstrap_interval(0.5, np.linspace(0.4, 0.8, 1001))]
        [0.21, 0.59]
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    return 2 * value - float(high), 2 * value - float(low)
