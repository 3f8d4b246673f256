"""The command `tbc bench`."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import geometric_mean
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console

from tbc_models.cli import bench_tables
from tbc_models.cli.terminal import JsonFile, progress_bar, require_writable, write_report

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console()
T = TypeVar("T")


class TimedDType(StrEnum):  # typer has no lists of Literal
    """Data types that can be timed."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class MemoryFormat(StrEnum):
    """Memory layouts of images."""

    channels_last = "channels_last"
    contiguous = "contiguous"


Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to measure.")]
Batch = Annotated[
    list[int] | None,
    typer.Option("--batch-size", min=1, help="Images per batch. Repeat for several."),
]
DTypes = Annotated[
    list[TimedDType] | None,
    typer.Option("--dtype", help="Data type. Repeat for several.  [default: float32; tune: both]"),
]
Layouts = Annotated[
    list[MemoryFormat] | None,
    typer.Option("--layout", help="Memory layout. Repeat for several.  [default: both]"),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads.  [default: one per core]"),
]
Seconds = Annotated[float, typer.Option(min=0.001, help="About how long to time each candidate.")]


@app.callback()
def about() -> None:
    """Measure speed: candidates take turns in one run, and their medians are compared.

    Do not compare times of different runs. On a CPU the command restarts itself with an allocator
    that keeps freed memory, whose settings it prints. On CUDA, float32 convolutions and matrix
    products use TF32; this is printed and recorded, too.
    """


@app.command(
    epilog="Examples:\n\n- `tbc bench layers`\n\n"
    "- `tbc bench layers --blocks 2 --layout channels_last --all`\n\n"
    "- `tbc bench layers --device cuda --batch-size 32 --batch-size 256 --dtype bfloat16`"
)
def layers(
    device: Device = "cpu",
    batch_sizes: Batch = None,
    block_counts: Annotated[
        list[int] | None,
        typer.Option(
            "--blocks", min=2, help="Number of blocks. Repeat for several.  [default: 2, 4, 8]"
        ),
    ] = None,
    dtypes: DTypes = None,
    layouts: Layouts = None,
    threads: Threads = None,
    seconds: Seconds = 0.15,
    every: Annotated[
        bool, typer.Option("--all", help="Show every case as well as the means.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Time every algorithm against the authors' fold and SC on ResNet-50's convolutions.

    Times the forward pass alone, and forward with backward. Prints geometric means of each time
    divided by that of the authors' fold of a contiguous input. About six minutes on two cores.
    """
    require_writable(json_file, "--json")
    from tbc_models.bench import layers as by_layer

    _start(device, threads)
    cases = by_layer.grid(
        batches=tuple(batch_sizes or [8]),
        blocks=tuple(block_counts or [2, 4, 8]),
        dtypes=_words(dtypes, [TimedDType.float32]),
        layouts=_words(layouts, list(MemoryFormat)),
    )
    rows = (by_layer.time_layer(case, seconds, device=device) for case in cases)
    measured = _tracked(rows, len(cases))
    if every:
        console.print(bench_tables.every_layer(measured))
    console.print(bench_tables.layers(measured))
    for line in by_layer.summaries(measured):
        console.print(line, highlight=False, soft_wrap=True)
    _finish(json_file, device, [row.record() for row in measured])


@app.command(
    epilog="Examples:\n\n- `tbc bench blocks`\n\n"
    "- `tbc bench blocks --kernel-size 1 --dtype bfloat16 --threads 1`"
)
def blocks(
    device: Device = "cpu",
    kernel_size: Annotated[
        int, typer.Option(min=1, help="Height and width of the kernel, an odd number.")
    ] = 3,
    batch_sizes: Batch = None,
    dtypes: DTypes = None,
    layouts: Layouts = None,
    threads: Threads = None,
    seconds: Seconds = 0.6,
    json_file: JsonFile = None,
) -> None:
    """Time TBC and GC against the number of blocks at fixed MACs: Fig. 3 of the paper.

    The paper claims that TBC stays flat while GC grows linearly. About half a minute.
    """
    if kernel_size % 2 == 0:
        raise typer.BadParameter(f"{kernel_size} is not odd.", param_hint="--kernel-size")
    require_writable(json_file, "--json")
    from tbc_models.bench import blocks as by_blocks

    _start(device, threads)
    settings: list[dict[str, Any]] = [
        {"layout": layout, "dtype": dtype, "batch": batch}
        for layout in _words(layouts, list(MemoryFormat))
        for dtype in _words(dtypes, [TimedDType.float32])
        for batch in batch_sizes or [1]
    ]
    measured = _tracked(
        (
            series
            for setting in settings
            for series in by_blocks.time_blocks(
                kernel_size=kernel_size, seconds=seconds, device=device, **setting
            )
        ),
        2 * len(settings),
    )
    console.print(bench_tables.blocks(measured))
    _finish(json_file, device, [series.record() for series in measured])


@app.command(
    epilog="Examples:\n\n- `tbc bench networks`\n\n"
    "- `tbc bench networks resnet101 tied_resnet101_s --compile --mode inference`\n\n"
    "- `tbc bench networks --device cuda --dtype bfloat16 --batch-size 256 --compile`"
)
def networks(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Registered networks; ratios are to the first.  "
            "[default: resnet50, tied_resnet50_s and tied_resnet50]"
        ),
    ] = None,
    device: Device = "cpu",
    mode: Annotated[
        Literal["both", "inference", "training"], typer.Option(help="What to time.")
    ] = "both",
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Also time the networks compiled, which takes minutes."),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 8,
    size: Annotated[
        int, typer.Option(min=32, help="Height and width of the images in pixels.")
    ] = 224,
    dtypes: DTypes = None,
    threads: Threads = None,
    seconds: Seconds = 3.0,
    json_file: JsonFile = None,
) -> None:
    """Time tied networks against timm's: images per second and peak memory, channels-last."""
    require_writable(json_file, "--json")
    from tbc_models.bench import networks as by_network
    from tbc_models.networks.registry import check_name

    chosen = tuple(names or by_network.NETWORKS)
    for name in chosen:
        try:
            check_name(name)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="NAMES") from None
    _start(device, threads)
    modes = [m == "training" for m in ("inference", "training") if mode in (m, "both")]
    settings: list[dict[str, Any]] = [
        {"training": training, "compiled": graph, "dtype": dtype}
        for dtype in _words(dtypes, [TimedDType.float32])
        for training in modes
        for graph in ((False, True) if compiled else (False,))
    ]
    of: Any = {"batch": batch_size, "size": size, "seconds": seconds, "device": device}
    measured = _tracked(
        (s for setting in settings for s in by_network.time_networks(chosen, **setting, **of)),
        len(settings) * len(chosen),
    )
    console.print(bench_tables.networks(measured))
    console.print(bench_tables.parts([speed for speed in measured if speed.parts]))
    _finish(json_file, device, [speed.record() for speed in measured])


@app.command(epilog="Examples:\n\n- `tbc bench reference`")
def reference(seconds: Seconds = 1.0, json_file: JsonFile = None) -> None:
    """Time the reference against PyTorch, einsum and scipy, on one thread. About half a minute."""
    require_writable(json_file, "--json")
    from tbc_models.bench import reference as by_reference

    _start("cpu", 1)
    cases = [(*case, False) for case in by_reference.SHAPES] + [(*by_reference.SMALL, True)]
    measured = _tracked(
        (
            row
            for shape, B, peers in cases
            for row in by_reference.time_reference(shape, B, peers=peers, seconds=seconds)
        ),
        2 * len(cases),
    )
    console.print(bench_tables.reference(measured))
    rows = [row.record() for row in measured]
    _finish(json_file, "cpu", rows, blas=by_reference.blas())


@app.command(epilog="Examples:\n\n- `tbc bench calls`\n\n- `tbc bench calls --json calls.json`")
def calls(device: Device = "cpu", seconds: Seconds = 1.0, json_file: JsonFile = None) -> None:
    """Time one call of a tied and of a grouped layer on a tiny input. About ten seconds.

    The input is so small that the cost of calling the layer dominates. Runs on one thread.
    """
    require_writable(json_file, "--json")
    from tbc_models.bench.calls import time_calls

    _start(device, 1)
    measured = _tracked(time_calls(seconds, device), 4)
    console.print(bench_tables.calls(measured))
    _finish(json_file, device, [row.record() for row in measured])


@app.command(
    epilog="Examples:\n\n- `tbc bench tune --out my-table.json --json times.json`\n\n"
    "- `tbc bench tune --device cuda --install`"
)
def tune(
    device: Device = "cpu",
    batch_sizes: Batch = None,
    dtypes: DTypes = None,
    threads: Threads = None,
    seconds: Seconds = 0.1,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table to this file.")
    ] = None,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Replace the table of the installed package, tbc_gpu/tables."
        ),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure every algorithm on this machine, and learn the table that chooses among them.

    Prints the learned rules, and how close their choices come to the fastest algorithms. The
    package keeps using its own table unless --install is given. About eight minutes on two cores.
    """
    require_writable(json_file, "--json")
    require_writable(out, "--out")
    from tbc_gpu.dispatch import table_file
    from tbc_models.bench import layers as by_layer
    from tbc_models.bench import tune as tuning

    targets = {"--out": out, "--install": table_file(device) if install else None}
    require_writable(targets["--install"], "--install")
    _start(device, threads)
    usual = [1, 8] if device == "cpu" else [32, 256]
    cases = [
        case
        for dtype in _words(dtypes, list(TimedDType))
        for batch in batch_sizes or usual
        for case in tuning.cases(dtype, batch)
    ]
    rows = (by_layer.time_layer(case, seconds, baselines=False, device=device) for case in cases)
    measured = _tracked(rows, len(cases))
    rules = tuning.learn(measured)
    classes = tuning.entries(tuning.complete(rules, device), set(rules))
    found = tuning.regrets(measured, rules)
    near = sum(regret <= 1.15 for regret in found) / len(found)
    console.print(bench_tables.rules(rules))
    console.print(
        f"{len(cases)} cases, {sum(map(len, rules.values()))} rules: the chosen algorithm takes "
        f"{geometric_mean(found):.3f} times the time of the fastest one on average, at most "
        f"{max(found):.2f} times, and at most 1.15 times in {near:.0%} of the cases.",
        highlight=False,
        soft_wrap=True,
    )
    for option, file in targets.items():
        if file is not None:
            write_report(file, option, {"classes": classes}, _machine(device))
            console.print(f"Wrote {file}", highlight=False, soft_wrap=True)
    if not any(targets.values()):
        console.print(
            "The table was not saved: --out FILE writes it, --install makes it the one used."
        )
    _finish(json_file, device, [row.record() for row in measured])


def _start(device: str, threads: int | None) -> None:
    """Refuse a device that is not there, prepare the process, and print the machine."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("PyTorch finds no CUDA device here.", param_hint="--device")
    if device == "cpu":
        _keep_freed_memory()
    if device == "cuda":  # as cuDNN's convolutions of float32 do by default, use TF32
        torch.set_float32_matmul_precision("high")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler prints a log
    if threads:
        torch.set_num_threads(threads)
    about = _machine(device)
    about["threads"] = f"{about['threads']} thread{'' if about['threads'] == 1 else 's'}"
    if "float32" in about:
        about["float32"] = f"float32 as {about['float32']}"
    console.print(", ".join(str(value) for value in about.values()), highlight=False)


def _keep_freed_memory() -> None:
    """Restart this command with `ALLOCATOR`, which glibc reads only when a process starts."""
    from tbc_models.bench.timing import ALLOCATOR

    if platform.system() == "Linux" and not ALLOCATOR.items() <= os.environ.items():
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, os.environ | ALLOCATOR)  # noqa: S606 (itself)


def _tracked(measured: Iterable[T], total: int) -> list[T]:
    with progress_bar() as bar:
        return list(bar.track(measured, total=total, description="Measuring"))


def _words(given: Sequence[StrEnum] | None, usual: Sequence[StrEnum]) -> tuple[str, ...]:
    return tuple(str(word) for word in given or usual)


def _finish(file: Path | None, device: str, rows: list[dict[str, Any]], **about: Any) -> None:
    """Write the rows to the file of --json, if it was given."""
    if file is not None:
        write_report(file, "--json", {"rows": rows}, _machine(device) | about)


def _machine(device: str) -> dict[str, Any]:
    from tbc_models.bench.timing import conditions
    from tbc_models.results import machine

    return machine() | conditions(device)
