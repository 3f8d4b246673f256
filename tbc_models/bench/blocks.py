"""Time against the number of blocks at a fixed number of MACs: Fig. 3 of the paper.

The input is the paper's, 56x56 pixels with 2048 channels. With B blocks (or groups) there are 32·B
output channels, so that B changes while the number of MACs stays the same: TBC has 32 filters of
2048/B channels, which all blocks share; GC has 32 of them for every group. The paper does not give
its number of filters.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tbc_gpu import tied_block_conv2d
from tbc_models.bench.layers import DTYPES, LAYOUTS
from tbc_models.bench.timing import Time, interleaved

CHANNELS, FILTERS, SIZE = 2048, 32, 56
BLOCKS = (1, 2, 4, 8, 16, 32)
TBC, GC = "TBC", "GC"


@dataclass(frozen=True)
class Series:
    """Time against B, for one kernel, layout and dtype.

    Attributes:
        operator: "TBC" or "GC".
        kernel_size: k.
        layout: "channels_last" or "contiguous".
        dtype: "float32" or "bfloat16".
        batch: N.
        times: times by B.
    """

    operator: str
    kernel_size: int
    layout: str
    dtype: str
    batch: int
    times: dict[int, Time]

    def ratio(self, blocks: int) -> float:
        """Divide the time at this B by the time at B = 1."""
        return self.times[blocks].median / self.times[1].median

    def record(self) -> dict[str, Any]:
        """Return the series for a JSON file, each time as [median, low, high] in milliseconds."""
        return asdict(self) | {"times": {str(B): list(t) for B, t in self.times.items()}}


def time_blocks(
    *,
    kernel_size: int = 3,
    layout: str = "channels_last",
    dtype: str = "float32",
    batch: int = 1,
    blocks: tuple[int, ...] = BLOCKS,
    seconds: float = 0.6,
    device: str = "cpu",
) -> Iterator[Series]:
    """Time TBC and GC at every B, all of them in turn, forward only.

    Args:
        kernel_size: k, odd.
        layout: "channels_last" or "contiguous".
        dtype: "float32" or "bfloat16".
        batch: N.
        blocks: values of B for TBC, and of G for GC.
        seconds: about how long to run each candidate.
        device: "cpu" or "cuda".

    Yields:
        The series of TBC, then that of GC.

    Example:
        >>> tbc, gc = time_blocks(kernel_size=1, blocks=(1, 2), seconds=0.01)
        >>> tbc.operator, gc.operator, sorted(gc.times)
        ('TBC', 'GC', [1, 2])
    """
    generator = torch.Generator(device).manual_seed(0)
    of: dict[str, Any] = {"generator": generator, "device": device, "dtype": DTYPES[dtype]}
    padding = kernel_size // 2

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, **of).contiguous(memory_format=LAYOUTS[layout])

    x = normal(batch, CHANNELS, SIZE, SIZE)

    def tied(blocks: int) -> Callable[[], object]:
        w = normal(FILTERS, CHANNELS // blocks, kernel_size, kernel_size)
        return lambda: tied_block_conv2d(x, w, None, 1, padding, blocks=blocks)

    def group(groups: int) -> Callable[[], object]:
        w = normal(FILTERS * groups, CHANNELS // groups, kernel_size, kernel_size)
        return lambda: F.conv2d(x, w, None, 1, padding, groups=groups)

    candidates = {f"{TBC} {B}": tied(B) for B in blocks} | {f"{GC} {B}": group(B) for B in blocks}
    with torch.no_grad():
        times = interleaved(candidates, seconds, device)
    for operator in (TBC, GC):
        by_blocks = {B: times[f"{operator} {B}"] for B in blocks}
        yield Series(operator, kernel_size, layout, dtype, batch, by_blocks)
