"""Time the reference against PyTorch and other ways to convolve in NumPy, on one thread.

All compute the same TBC: 3x3 kernels, padding 1, float32. PyTorch folds the blocks into the batch,
as the authors' code does, and uses its own convolution and autograd. The peers are the usual ways
to convolve with NumPy: a window view with einsum, and scipy's correlation of two images. Extra
memory is the peak that NumPy allocates beyond the arguments, including the results.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from tbc_models.bench.timing import Time, interleaved
from tbc_ref import tied_block_conv, tied_block_conv_backward

Array = NDArray[Any]
Shape = tuple[int, int, int, int]

SHAPES: list[tuple[Shape, int]] = [
    *[((8, 64, 56, 56), 1), ((8, 64, 56, 56), 4), ((8, 256, 14, 14), 4)]
]
SMALL: tuple[Shape, int] = ((1, 64, 28, 28), 4)  # for the slow peers
REFERENCE, TORCH, EINSUM, SCIPY = "tbc_ref", "torch", "NumPy einsum", "scipy correlate"


@dataclass(frozen=True)
class ReferenceRow:
    """The times of one case.

    Attributes:
        input: (N, C, H, W), and as many output channels.
        blocks: B.
        computed: "forward" or "both ways".
        times: times by implementation.
        extra_mb: megabytes that the reference allocates beyond its arguments.
    """

    input: Shape
    blocks: int
    computed: str
    times: dict[str, Time]
    extra_mb: float

    def ratio(self, name: str = REFERENCE) -> float:
        """Divide the median time of an implementation by PyTorch's."""
        return self.times[name].median / self.times[TORCH].median

    def record(self) -> dict[str, Any]:
        """Return the row for a JSON file, each time as [median, low, high] in milliseconds."""
        return asdict(self) | {"times": {name: list(time) for name, time in self.times.items()}}


def time_reference(
    shape: Shape, blocks: int, *, peers: bool = False, seconds: float = 1.0
) -> Iterator[ReferenceRow]:
    """Time one TBC with as many output channels as input channels, on one thread.

    Args:
        shape: (N, C, H, W).
        blocks: B.
        peers: whether to time the forward pass of einsum and scipy as well.
        seconds: about how long to run each implementation.

    Yields:
        The times of the forward pass, then of forward and backward.

    Example:
        >>> [row.computed for row in time_reference((1, 4, 6, 6), 2, peers=True, seconds=0.01)]
        ['forward', 'both ways']
    """
    n, channels, height, width = shape
    thin = channels // blocks
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    w = rng.standard_normal((thin, thin, 3, 3), dtype=np.float32)
    tx, tw, tdy = (torch.from_numpy(a) for a in (x, w, dy))
    tx.requires_grad_()
    tw.requires_grad_()

    def fold() -> torch.Tensor:
        folded = tx.reshape(n * blocks, thin, height, width)
        return F.conv2d(folded, tw, padding=1).reshape(shape)

    def fold_without_grad() -> torch.Tensor:
        with torch.no_grad():
            return fold()

    def forward() -> Array:
        return cast(Array, tied_block_conv(x, w, padding=1, blocks=blocks))

    def both() -> object:  # as in training, where y is not kept for the gradients
        forward()
        return tied_block_conv_backward(dy, x, w, padding=1, blocks=blocks)

    ways: dict[str, dict[str, Callable[[], Any]]] = {
        "forward": {REFERENCE: forward, TORCH: fold_without_grad},
        "both ways": {
            REFERENCE: both,
            TORCH: lambda: torch.autograd.grad(fold(), (tx, tw), tdy),
        },
    }
    if peers:
        ways["forward"] |= {
            EINSUM: lambda: _einsum(x, w, blocks),
            SCIPY: lambda: _scipy(x, w),
        }
    for function in ways["forward"].values():
        np.testing.assert_allclose(function(), fold().detach().numpy(), rtol=1e-3, atol=1e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            for computed, functions in ways.items():
                times = interleaved(functions, seconds)
                extra = round(_extra_memory(functions[REFERENCE]) / 1e6, 1)
                yield ReferenceRow(shape, blocks, computed, times, extra)
    finally:
        torch.set_num_threads(threads)


def _einsum(x: Array, w: Array, blocks: int) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    split = windows.reshape(len(x), blocks, -1, *windows.shape[2:])
    y = np.einsum("nbchwij,ocij->nbohw", split, w, optimize=True).reshape(x.shape)
    return cast(Array, y)


def _scipy(x: Array, w: Array) -> Array:
    from scipy.signal import correlate  # takes 1.5 s to import, and only this function needs it

    y = np.zeros_like(x)
    thin = len(w)
    for n, c, o in np.ndindex(len(x), x.shape[1], thin):  # block c // thin reads channel c
        block, channel = divmod(c, thin)
        y[n, block * thin + o] += correlate(x[n, c], w[o, channel], mode="same", method="direct")
    return y


def _extra_memory(function: Callable[[], object]) -> int:
    """Return the peak bytes that NumPy allocates during a call."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


def blas() -> str:
    """Return the name of the library that computes NumPy's matrix products.

    Returns:
        Its name and the processor it was built for.

    Example:
        >>> "(" in blas()
        True
    """
    used = [i for i in threadpool_info() if i["user_api"] == "blas" and "numpy" in i["filepath"]]
    return f"{used[0]['internal_api']} ({used[0]['architecture']})" if used else "unknown"
