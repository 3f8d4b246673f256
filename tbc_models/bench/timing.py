"""How time is measured: candidates take turns, in bursts, and medians are compared.

Absolute times on a shared machine change from minute to minute, so times of different runs are
never compared. Within a run, the candidates of a case take the same number of turns, one after the
other; a turn is a burst of calls, because the first call after another candidate finds that one's
data in the caches.

A process that measures on a CPU should keep its freed memory (`ALLOCATOR`). Otherwise most of the
time is spent by the system, which clears new pages for every large output.
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch

ROUNDS, MOST_CALLS = 7, 15
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}


class Time(NamedTuple):
    """The time of one call, in milliseconds.

    Attributes:
        median: median over all calls.
        low: first quartile.
        high: third quartile.
    """

    median: float
    low: float
    high: float


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    seconds: float = 0.15,
    device: str = "cpu",
) -> dict[str, Time]:
    """Time functions against one another: after a warm-up, they take turns in bursts of calls.

    Args:
        functions: functions to call, by name.
        seconds: about how long to call each of them in total.
        device: where they work; on "cuda", events on the GPU measure the time.

    Returns:
        The time of one call of each, by name.

    Example:
        >>> sums = {"few": lambda: sum(range(9)), "many": lambda: sum(range(9999))}
        >>> times = interleaved(sums, seconds=0.01)
        >>> times["few"].median < times["many"].median
        True
    """
    burst = _burst_on_cuda if device == "cuda" else _burst
    calls = {}
    for name, function in functions.items():
        burst(function, 1)
        once = burst(function, 1)[0] / 1e3
        calls[name] = max(1, min(MOST_CALLS, int(seconds / ROUNDS / once)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    order, dice = list(functions), random.Random(0)  # noqa: S311 (no secret)
    for _ in range(ROUNDS):
        dice.shuffle(order)  # so that none always follows the same one
        for name in order:
            burst(functions[name], 1)  # a warm-up: the previous one has cleared the caches
            times[name] += burst(functions[name], calls[name])
    return {name: _summary(taken) for name, taken in times.items()}


def _burst(function: Callable[[], object], calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def _burst_on_cuda(function: Callable[[], object], calls: int) -> list[float]:
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    marks[0].record()
    for mark in marks[1:]:
        function()
        mark.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairwise(marks)]


def _summary(taken: list[float]) -> Time:
    low, median, high = statistics.quantiles(taken, n=4) if len(taken) > 1 else taken * 3
    return Time(round(median, 4), round(low, 4), round(high, 4))


def conditions(device: str = "cpu") -> dict[str, Any]:
    """Describe the settings that times depend on, in addition to `results.machine`.

    Args:
        device: "cpu" or "cuda".

    Returns:
        The number of threads and the allocator; on CUDA also the GPU, cuDNN and the precision.

    Example:
        >>> list(conditions())
        ['threads', 'allocator']
    """
    described: dict[str, Any] = {"threads": torch.get_num_threads()}
    described["allocator"] = " ".join(f"{name}={os.environ.get(name)}" for name in ALLOCATOR)
    if device == "cuda":
        described["gpu"] = torch.cuda.get_device_name()
        described["cudnn"] = torch.backends.cudnn.version()
        # TF32 rounds the factors of float32 products to 10 bits.
        convolutions = "TF32" if torch.backends.cudnn.allow_tf32 else "float32"
        matrices = {"highest": "float32"}.get(torch.get_float32_matmul_precision(), "TF32")
        described["float32"] = f"{convolutions} in convolutions, {matrices} in matrix products"
    return described
