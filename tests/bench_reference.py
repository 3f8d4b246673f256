"""Time the reference against PyTorch: `python -m tests.bench_reference`.

Both compute the same TBC on one thread. PyTorch does it as the authors' code does, blocks
folded into the batch, with its own convolution and autograd. The two take turns, several
calls at a time; the medians of all calls are compared. Extra memory is the peak that NumPy
allocates beyond the arguments, results included.

The command starts itself again with an allocator that keeps freed memory (glibc's
`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4294967296`): otherwise the system's clearing of
fresh pages, which hits now the one and now the other, is most of what is measured.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_info, threadpool_limits

from tbc_models.files import write_text
from tbc_ref import tied_block_conv, tied_block_conv_backward

SHAPES = [((8, 64, 56, 56), 1), ((8, 64, 56, 56), 4), ((8, 256, 14, 14), 4)]
ROUNDS, BURST = 9, 5
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}


def interleaved(ours: Callable[[], object], theirs: Callable[[], object]) -> list[float]:
    """Median seconds of one call of each, after a warm-up, taking turns in bursts."""
    times: list[list[float]] = [[], []]
    for turn in range(ROUNDS + 1):
        for function, kept in zip((ours, theirs), times, strict=True):
            for _ in range(BURST):
                start = time.perf_counter()
                function()
                if turn > 0:
                    kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def extra_memory(function: Callable[[], object]) -> int:
    """Peak bytes that NumPy allocates during a call."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


def measure(shape: tuple[int, int, int, int], blocks: int) -> list[dict[str, Any]]:
    """Two rows, forward alone and both ways, of a 3x3 TBC with padding 1 in float32."""
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

    def forward() -> Any:
        return tied_block_conv(x, w, padding=1, blocks=blocks)

    def both() -> Any:  # as in training, y is gone when the gradients are wanted
        forward()
        return tied_block_conv_backward(dy, x, w, padding=1, blocks=blocks)

    np.testing.assert_allclose(forward(), fold().detach().numpy(), rtol=1e-3, atol=1e-3)
    rows = []
    for what, ours, theirs in (
        ("forward", forward, fold_without_grad),
        ("both ways", both, lambda: torch.autograd.grad(fold(), (tx, tw), tdy)),
    ):
        our_time, their_time = interleaved(ours, theirs)
        rows.append(
            {
                "input": list(shape),
                "blocks": blocks,
                "computed": what,
                "reference_ms": round(our_time * 1e3, 2),
                "torch_ms": round(their_time * 1e3, 2),
                "ratio": round(our_time / their_time, 2),
                "extra_mb": round(extra_memory(ours) / 1e6, 1),
            }
        )
    return rows


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    blas = [i for i in threadpool_info() if i["user_api"] == "blas" and "numpy" in i["filepath"]]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "threads": 1,
        "allocator": " ".join(f"{name}={value}" for name, value in ALLOCATOR.items()),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas[0]['internal_api']} ({blas[0]['architecture']})" if blas else "unknown",
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure, print the table, and store it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    file = parser.parse_args().json
    if not ALLOCATOR.items() <= os.environ.items():
        command = [sys.executable, "-m", "tests.bench_reference", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ALLOCATOR)  # noqa: S606 (itself)
    torch.set_num_threads(1)
    console = Console()
    with threadpool_limits(1):
        rows = [
            row
            for shape, blocks in track(SHAPES, "Measuring", console=Console(stderr=True))
            for row in measure(shape, blocks)
        ]
    table = Table(title="The reference (NumPy) against PyTorch, one thread, float32, 3x3")
    for heading in ("input", "B", "computed", "reference", "torch", "ratio", "extra memory"):
        table.add_column(heading, justify="left" if heading == "computed" else "right")
    for row in rows:
        table.add_row(
            "x".join(map(str, row["input"])),
            str(row["blocks"]),
            row["computed"],
            f"{row['reference_ms']} ms",
            f"{row['torch_ms']} ms",
            f"{row['ratio']:.2f}",
            f"{row['extra_mb']} MB",
        )
    console.print(table)
    if file is not None:
        report = {"command": "python -m tests.bench_reference", "machine": machine(), "rows": rows}
        write_text(file, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
