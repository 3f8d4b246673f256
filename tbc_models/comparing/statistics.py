"""What can be said of two networks that were trained with the same seeds.

Two networks with one seed see the same batches, so seeds are compared one by one: the mean of the
differences, its 95 % interval by Student's t, and the paired t-test. Several networks against one
yardstick are several chances to be wrong; Holm's correction pays for them.

What varies is the seed, and nothing else. So the intervals tell what other seeds would give with
these images to train and test with, and not what other images would.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_SAME = 1e-5
"""Accuracies nearer than this are equal: one image of 50,000 is more."""


class Interval(NamedTuple):
    """A mean, and where the mean of very many seeds would lie: 95 % of such intervals hold it.

    Attributes:
        mean: of the numbers.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """How a network differs from the yardstick.

    Attributes:
        difference: its top-1 minus the yardstick's, seed by seed.
        p: of the paired t-test, two-sided; None where the difference is the same in every seed,
            so that there is no spread to compare it with.
    """

    difference: Interval
    p: float | None


def interval(numbers: Sequence[float]) -> Interval:
    """Give the mean of some numbers and its 95 % interval by Student's t.

    Args:
        numbers: at least two, of a seed each.

    Returns:
        The mean and its interval, which is empty where all numbers are the same.

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
        numbers: of the network, one for each seed.
        yardstick: of the yardstick, for the same seeds in the same order.

    Returns:
        The mean difference, its 95 % interval, and p of the paired t-test.

    Raises:
        ValueError: if there are not as many of the one as of the other, or fewer than two.

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

    Below 0.05 it then says: were there no difference anywhere, a result like this would come up
    among all these comparisons in fewer than 5 % of experiments.

    Args:
        ps: of all comparisons with one yardstick; None, where there was no test, counts as one.

    Returns:
        The corrected ones, in the same order, at most 1.

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
