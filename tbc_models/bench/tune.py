"""Learn the tables of `tbc_gpu.dispatch` from measured times.

For every class of cases (dtype, layout, kernel, stride, gradients), the algorithm that is best on
average becomes the default. Then rules are added before it, one by one: bounds on a few sizes
within which another algorithm saves the most, as long as it saves enough. The quantity to minimise
is the regret of a choice, the logarithm of its time divided by the best algorithm's. A regret above
15 % counts more, and being slower than the authors' fold of a contiguous input counts most.
"""

import math
from collections.abc import Collection, Iterable
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tbc_gpu.dispatch import Condition, Kind, Rule, Table, first, read_table, table_file
from tbc_models.bench.layers import LayerCase, LayerRow, algorithms, grid

# When a rule is added: the least regret that it saves per case of the class, and per case that it
# covers; the fewest cases that it covers; and the most rules of a class, besides the default.
ENOUGH, WORTH, FEWEST, MOST = 0.006, 0.05, 2, 4
# Of equally fast algorithms the first in this list is chosen: the simplest come first.
SIMPLEST = ("fold", "dilated", "grouped", "conv3d", "fold_channels_last", "gemm")
# The 3x3 layers of the tied networks: width of one split and size of its input, and its strides.
SPLITS = [(18, 56), (36, 28), (72, 14), (144, 7), (32, 56), (64, 28), (128, 14), (256, 7)]


Floats = NDArray[np.float64]


class Timed(NamedTuple):
    """The sizes of a case that rules may use, and the milliseconds of each algorithm."""

    sizes: dict[str, int]
    times: dict[str, float]

    def regret(self, algorithm: str) -> float:
        """Return the weighted regret of an algorithm against the best one and the authors' fold."""
        regret = math.log(self.times[algorithm] / min(self.times.values()))
        weighted = regret + 5 * max(0.0, regret - math.log(1.15))
        if "fold" in self.times:  # nobody should lose by switching from the authors' code
            behind = math.log(self.times[algorithm] / self.times["fold"])
            weighted += 1000 * max(0.0, behind - math.log(1.05))
        return weighted


def cases(dtype: str, batch: int) -> list[LayerCase]:
    """List the cases to time for a table: ResNet-50's layers, and the splits of tied networks.

    Args:
        dtype: "float32" or "bfloat16".
        batch: N.

    Returns:
        The cases, in both layouts, with and without gradients.

    Example:
        >>> len(cases("float32", 8))
        448
    """
    splits = [
        LayerCase(width, width, 3, stride, size * stride, B, batch, layout, dtype, training)
        for (width, size), stride, B, layout, training in product(
            SPLITS, (1, 2), (2, 3, 4, 6, 8), ("channels_last", "contiguous"), (False, True)
        )
        if width % B == 0 and B in ((2, 3, 6) if width % 4 else (2, 4, 8))
    ]
    return grid(batches=(batch,), dtypes=(dtype,)) + splits


def learn(rows: Iterable[LayerRow]) -> Table:
    """Learn the rules of every class that was measured.

    Args:
        rows: measured times.

    Returns:
        The table.

    Example:
        >>> from tbc_models.bench.timing import Time
        >>> def row(size, dilated, grouped):
        ...     times = {"dilated": Time(dilated, 0, 0), "grouped": Time(grouped, 0, 0)}
        ...     return LayerRow(LayerCase(64, 64, 1, 1, size, blocks=2), times)
        >>> rows = [row(size, 1, 9) for size in (7, 8, 9)]
        >>> rows += [row(size, 9, 1) for size in (50, 51, 52)]
        >>> [(rule.conditions, rule.algorithm) for rules in learn(rows).values() for rule in rules]
        [((Condition(size='pixels', above=True, limit=81),), 'grouped'), ((), 'dilated')]
    """
    by_kind: dict[Kind, list[Timed]] = {}
    for row in rows:
        timed = {name: row.times[name].median for name in algorithms(row.case) if name in row.times}
        if row.case.kernel_size == 1:  # `dilated` does the same, and is fast on one thread too
            timed.pop("conv3d", None)
        by_kind.setdefault(kind_of(row.case), []).append(Timed(_sizes(row.case), timed))
    return {kind: _grow(timed) for kind, timed in sorted(by_kind.items())}


def complete(table: Table, device: str) -> Table:
    """Complete learned rules with the current rules of the classes that were not measured.

    Args:
        table: learned rules.
        device: "cpu" or "cuda".

    Returns:
        A table with every class.

    Example:
        >>> len(complete({}, "cpu"))
        32
    """
    in_use = read_table(table_file(device).read_text(encoding="utf-8"))
    return in_use | table


def regrets(rows: Iterable[LayerRow], table: Table) -> list[float]:
    """Compare the algorithm that a table chooses with the best one, for every case.

    Args:
        rows: measured times.
        table: the rules.

    Returns:
        Time of the chosen algorithm divided by that of the best, for every case.

    Example:
        >>> from tbc_models.bench.timing import Time
        >>> times = {"fold": Time(3, 3, 3), "dilated": Time(2, 2, 2)}
        >>> row = LayerRow(LayerCase(8, 8, 1, 1, 8, 2), times)
        >>> regrets([row], {kind_of(row.case): (Rule((), "fold"),)})
        [1.5]
    """
    chosen = [(row, first(table[kind_of(row.case)], _sizes(row.case))) for row in rows]
    return [row.times[algorithm].median / row.best() for row, algorithm in chosen]


def entries(table: Table, measured: Collection[Kind]) -> list[dict[str, Any]]:
    """Convert a table to the list of classes that `tbc_gpu.dispatch` reads from a file.

    Args:
        table: the rules of every class.
        measured: classes that were measured; the rules of the others are the old ones.

    Returns:
        Each class with its rules.

    Example:
        >>> kind = Kind("float32", "contiguous", "1x1", False, True)
        >>> rules = (Rule((Condition("batch", True, 8),), "gemm"), Rule((), "fold"))
        >>> entries({kind: rules}, {kind})[0]["rules"]
        [{'if': ['batch > 8'], 'use': 'gemm'}, {'use': 'fold'}]
    """
    return [
        {
            "kind": kind._asdict(),
            "measured": kind in measured,
            "rules": [
                ({"if": [*map(str, rule.conditions)]} if rule.conditions else {})
                | {"use": rule.algorithm}
                for rule in rules
            ],
        }
        for kind, rules in table.items()
    ]


def kind_of(case: LayerCase) -> Kind:
    """Return the class of a case.

    Args:
        case: the convolution.

    Returns:
        Its class.

    Example:
        >>> kind_of(LayerCase(8, 8, 3, 2, 8, blocks=2)).strided
        True
    """
    kernel = "1x1" if case.kernel_size == 1 else "larger"
    return Kind(case.dtype, case.layout, kernel, case.stride > 1, case.training)


def _sizes(case: LayerCase) -> dict[str, int]:
    return {
        "blocks": case.blocks,
        "thin": case.in_channels // case.blocks,
        "filters": case.out_channels // case.blocks,
        "pixels": case.size**2,
        "batch": case.batch,
    }


def _grow(timed: list[Timed]) -> tuple[Rule, ...]:
    """Add rules before the algorithm that is best on average, as long as they save enough."""
    names = [name for name in SIMPLEST if name in timed[0].times]
    regrets = np.array([[case.regret(name) for name in names] for case in timed])
    bounds = _bounds(timed)
    covers = np.array([[_holds(bound, case) for case in timed] for bound in bounds], bool)
    covers = covers.reshape(len(bounds), len(timed))  # there may be none
    covered = covers.sum(axis=1)
    chosen = np.full(len(timed), _simplest(regrets.mean(axis=0)))
    rules = [Rule((), names[chosen[0]])]
    while bounds and len(rules) <= MOST:
        saved = covers @ (regrets[range(len(timed)), chosen][:, None] - regrets)
        saved[(covered < FEWEST) | (saved.max(axis=1) < WORTH * covered)] = 0
        bound, algorithm = np.unravel_index(saved.argmax(), saved.shape)
        if saved[bound, algorithm] < ENOUGH * len(timed):
            break
        rules.insert(0, Rule(bounds[bound], names[algorithm]))
        chosen[covers[bound]] = algorithm
    return tuple(rules)


def _bounds(timed: list[Timed]) -> list[tuple[Condition, ...]]:
    """List all bounds on one size, on two, and on two and the batch, in this order."""
    one = [
        Condition(size, above, limit)
        for size in timed[0].sizes
        for limit in sorted({case.sizes[size] for case in timed})[:-1]
        for above in (False, True)
    ]
    two = [(a, b) for a, b in combinations(one, 2) if (a.size, a.above) != (b.size, b.above)]
    batch = [condition for condition in one if condition.size == "batch"]
    three = [
        (*pair, c) for pair in two for c in batch if "batch" not in (pair[0].size, pair[1].size)
    ]
    return [*((condition,) for condition in one), *two, *three]


def _holds(bound: tuple[Condition, ...], case: Timed) -> bool:
    return all((case.sizes[c.size] > c.limit) == c.above for c in bound)


def _simplest(regrets: Floats) -> int:
    """Return the first algorithm whose regret is within 0.015 of the best."""
    return int((regrets <= regrets.min() + 0.015).argmax())
