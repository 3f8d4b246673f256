"""Time the algorithms of one tied layer against the authors' fold and against SC.

The cases are the tied convolutions of ResNet-50 at 224x224 pixels. Two baselines are the authors'
code, which folds the blocks of a contiguous input into the batch. In a channels-last network its
output has to be copied back, here or in every later layer; the second baseline includes that copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import geometric_mean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tbc_gpu import tied_block_conv2d
from tbc_gpu.algorithms import ALGORITHMS
from tbc_models.bench.timing import Time, interleaved

# in_channels, out_channels, kernel_size, stride, height and width of the input
RESNET50 = [
    *[(64, 64, 3, 1, 56), (128, 128, 3, 2, 56), (128, 128, 3, 1, 28), (256, 256, 3, 2, 28)],
    *[(256, 256, 3, 1, 14), (512, 512, 3, 2, 14), (512, 512, 3, 1, 7)],
    *[(64, 64, 1, 1, 56), (64, 256, 1, 1, 56), (256, 64, 1, 1, 56), (256, 128, 1, 1, 56)],
    *[(256, 512, 1, 2, 56), (128, 512, 1, 1, 28), (512, 128, 1, 1, 28), (512, 256, 1, 1, 28)],
    *[(512, 1024, 1, 2, 28), (256, 1024, 1, 1, 14), (1024, 256, 1, 1, 14)],
    *[(1024, 512, 1, 1, 14), (1024, 2048, 1, 2, 14), (512, 2048, 1, 1, 7), (2048, 512, 1, 1, 7)],
]
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AUTHORS, BACK, STANDARD, CHOSEN = "authors", "authors, copied back", "SC", "tied_block_conv2d"


@dataclass(frozen=True)
class LayerCase:
    """One tied convolution, padded to keep the size of the map, without bias.

    Attributes:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: k, odd.
        stride: step in pixels.
        size: height and width of the input in pixels.
        blocks: B.
        batch: N.
        layout: "channels_last" or "contiguous".
        dtype: "float32" or "bfloat16".
        training: whether the gradients of input and filters are computed too.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    size: int
    blocks: int
    batch: int = 8
    layout: str = "channels_last"
    dtype: str = "float32"
    training: bool = False


@dataclass(frozen=True)
class LayerRow:
    """The times of one case.

    Attributes:
        case: the convolution.
        times: time of each algorithm and baseline, by name.
    """

    case: LayerCase
    times: dict[str, Time]

    def ratio(self, name: str, baseline: str = AUTHORS) -> float:
        """Divide the median time of one candidate by that of another."""
        return self.times[name].median / self.times[baseline].median

    def best(self) -> float:
        """Return the median time of the fastest algorithm, in milliseconds."""
        return min(t.median for name, t in self.times.items() if name in ALGORITHMS)

    def record(self) -> dict[str, Any]:
        """Return the row for a JSON file, each time as [median, low, high] in milliseconds."""
        return {"case": asdict(self.case), "ms": {n: list(t) for n, t in self.times.items()}}


def grid(
    *,
    batches: tuple[int, ...] = (8,),
    blocks: tuple[int, ...] = (2, 4, 8),
    dtypes: tuple[str, ...] = ("float32",),
    layouts: tuple[str, ...] = tuple(LAYOUTS),
) -> list[LayerCase]:
    """List the cases of ResNet-50.

    Args:
        batches: N.
        blocks: B.
        dtypes: "float32", "bfloat16" or both.
        layouts: "channels_last", "contiguous" or both.

    Returns:
        Every shape in all combinations, with and without gradients.

    Example:
        >>> len(grid(blocks=(2,), layouts=("channels_last",)))
        44
    """
    return [
        LayerCase(*shape, B, N, layout, dtype, training)
        for shape, B, N, layout, dtype, training in product(
            RESNET50, blocks, batches, layouts, dtypes, (False, True)
        )
    ]


def algorithms(case: LayerCase) -> list[str]:
    """List the algorithms worth timing for a case: all except those that copy twice as much.

    Args:
        case: the convolution.

    Returns:
        Names of `tbc_gpu.algorithms`.

    Example:
        >>> algorithms(LayerCase(64, 64, 3, 1, 56, blocks=2, layout="contiguous"))
        ['fold', 'grouped']
    """
    names = ["fold_channels_last", "dilated", "conv3d", "grouped"]
    if case.layout == "contiguous":
        names = ["fold", "grouped"]
    return names + (["gemm"] if case.kernel_size == 1 else [])


def time_layer(
    case: LayerCase, seconds: float = 0.15, *, baselines: bool = True, device: str = "cpu"
) -> LayerRow:
    """Time every algorithm of a case, and the baselines.

    Args:
        case: the convolution.
        seconds: about how long to run each candidate.
        baselines: whether to time the authors' fold, SC and `tied_block_conv2d` as well.
        device: "cpu" or "cuda".

    Returns:
        The times.

    Example:
        >>> row = time_layer(LayerCase(8, 8, 3, 1, 8, blocks=2, batch=1), seconds=0.001)
        >>> sorted(row.times)[:3]
        ['SC', 'authors', 'authors, copied back']
    """
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device=device, dtype=DTYPES[case.dtype])
        drawn = drawn.contiguous(memory_format=LAYOUTS[case.layout])
        return drawn.requires_grad_(case.training)

    k, padding = case.kernel_size, case.kernel_size // 2
    size, out = (case.size, case.size), (-(-case.size // case.stride),) * 2
    x, dy = (
        normal(case.batch, c, *s) for c, s in ((case.in_channels, size), (case.out_channels, out))
    )
    filters = normal(case.out_channels // case.blocks, case.in_channels // case.blocks, k, k)

    def candidate(
        of: Callable[[Tensor, Tensor], Tensor], x: Tensor = x, w: Tensor = filters, dy: Tensor = dy
    ) -> Callable[[], object]:
        if case.training:
            return lambda: torch.autograd.grad(of(x, w), (x, w), dy)
        return lambda: of(x, w)

    def tied(algorithm: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, w: tied_block_conv2d(
            x, w, None, case.stride, padding, blocks=case.blocks, algorithm=algorithm
        )

    def authors(x: Tensor, w: Tensor) -> Tensor:
        folded = x.contiguous().view(case.batch * case.blocks, -1, *size)
        return F.conv2d(folded, w, None, case.stride, padding).view(dy.shape)

    candidates = {name: candidate(tied(name)) for name in algorithms(case)}
    if baselines:
        candidates[CHOSEN] = candidate(tied(None))
        plain = [t.detach().contiguous().requires_grad_(case.training) for t in (x, filters, dy)]
        candidates[AUTHORS] = candidate(authors, *plain)
        if case.layout == "channels_last":
            candidates[BACK] = candidate(
                lambda x, w: authors(x, w).contiguous(memory_format=torch.channels_last),
                w=plain[1],  # as their code needs: it takes views of the output
            )
        dense = normal(case.out_channels, case.in_channels, k, k)
        candidates[STANDARD] = candidate(
            lambda x, w: F.conv2d(x, w, None, case.stride, padding), w=dense
        )
    with torch.set_grad_enabled(case.training):
        return LayerRow(case, interleaved(candidates, seconds, device))


class Alike(NamedTuple):
    """What rows must share for their ratios to be averaged: all but channels, size and blocks."""

    layout: str
    kernel_size: int
    stride: int
    training: bool
    dtype: str
    batch: int


def classes(rows: Sequence[LayerRow]) -> dict[Alike, list[LayerRow]]:
    """Group rows that differ only in channels, size and blocks.

    Args:
        rows: measured times.

    Returns:
        The rows of each group, by what they share.

    Example:
        >>> list(classes([LayerRow(LayerCase(8, 8, 3, 2, 8, 2), {})]))[0][:4]
        ('channels_last', 3, 2, False)
    """
    grouped: dict[Alike, list[LayerRow]] = {}
    for row in rows:
        alike = Alike(*(getattr(row.case, name) for name in Alike._fields))
        grouped.setdefault(alike, []).append(row)
    return grouped


def mean_ratio(rows: Sequence[LayerRow], name: str, baseline: str = AUTHORS) -> float | None:
    """Average the ratios of a candidate to a baseline.

    Args:
        rows: measured times.
        name: name of the candidate.
        baseline: name of the baseline that its time is divided by.

    Returns:
        The geometric mean over the cases where both were timed; None if there are none.

    Example:
        >>> times = {"fold": Time(3.0, 3, 3), "authors": Time(2.0, 2, 2)}
        >>> mean_ratio([LayerRow(LayerCase(8, 8, 3, 1, 8, 2), times)], "fold")
        1.5
    """
    ratios = [r.ratio(name, baseline) for r in rows if {name, baseline} <= r.times.keys()]
    return geometric_mean(ratios) if ratios else None


def summaries(rows: Sequence[LayerRow]) -> list[str]:
    """Summarise the speed of `tied_block_conv2d` in sentences.

    Args:
        rows: measured times, including the baselines.

    Returns:
        A sentence for each dtype, batch, layout and direction.

    Example:
        >>> times = {n: Time(3.0, 3, 3) for n in ("dilated", CHOSEN, AUTHORS, BACK)}
        >>> print(summaries([LayerRow(LayerCase(8, 8, 3, 1, 8, 2), times)])[0])
        float32, N = 8, channels_last, forward, 1 cases: on average 1.00 ...
    """
    by_kind: dict[Alike, list[LayerRow]] = {}
    for alike, same in classes(rows).items():
        by_kind.setdefault(alike._replace(kernel_size=0, stride=0), []).extend(same)
    sentences = []
    for (layout, _, _, training, dtype, batch), same in by_kind.items():
        of_best = [row.times[CHOSEN].median / row.best() for row in same]
        back = mean_ratio(same, CHOSEN, BACK)
        near = sum(ratio <= 1.15 for ratio in of_best)
        sentences.append(
            f"{dtype}, N = {batch}, {layout}, {'both ways' if training else 'forward'}, "
            f"{len(same)} cases: "
            f"on average {mean_ratio(same, CHOSEN):.2f} times as long as the authors' fold"
            f"{f' ({back:.2f} times as long as the fold copied back)' if back else ''}, "
            f"at most {max(row.ratio(CHOSEN) for row in same):.2f} times; at most 1.15 times as "
            f"long as the fastest algorithm in {near / len(same):.0%} of the cases, at most "
            f"{max(of_best):.2f} times in all."
        )
    return sentences
