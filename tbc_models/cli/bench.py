"""The command `tbc bench`."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from tbc_models.cli.terminal import (
    command,
    plain_table,
    progress_bar,
    require_writable,
    write_named,
    write_report,
)

if TYPE_CHECKING:
    from tbc_models.bench.blocks import Series
    from tbc_models.bench.layers import Row as LayerRow
    from tbc_models.bench.networks import Speed
    from tbc_models.bench.reference import Row as ReferenceRow

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console()
T = TypeVar("T")


class DType(StrEnum):
    """What is computed in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Layout(StrEnum):
    """How images are stored."""

    channels_last = "channels_last"
    contiguous = "contiguous"


Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to measure.")]
Batch = Annotated[list[int] | None, typer.Option("--batch-size", min=1, help="Repeat for several.")]
DTypes = Annotated[list[DType] | None, typer.Option("--dtype", help="Repeat for several.")]
Layouts = Annotated[
    list[Layout] | None, typer.Option("--layout", help="Repeat for several.  [default: both]")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of PyTorch on the CPU.  [default: one a core]")
]
Seconds = Annotated[float, typer.Option(min=0.001, help="About how long to run each candidate.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
]


@app.callback()
def about() -> None:
    """Measure, and compare only what was measured in the same minute.

    Candidates take turns, and medians and their ratios are shown. On a CPU the command starts
    itself again with an allocator that keeps freed memory, and says so. The site's figures are
    drawn from the files that --json writes into docs/_results.
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
        list[int] | None, typer.Option("--blocks", min=2, help="Repeat.  [default: 2, 4, 8]")
    ] = None,
    dtypes: DTypes = None,
    layouts: Layouts = None,
    threads: Threads = None,
    seconds: Seconds = 0.15,
    every: Annotated[bool, typer.Option("--all", help="Show every case, not only means.")] = False,
    json_file: Json = None,
) -> None:
    """Time every algorithm against the authors' fold and SC on ResNet-50's convolutions.

    Forward, and forward with backward; shown are geometric means of time over that of the
    authors' fold of a contiguous input. About six minutes on two cores.
    """
    from tbc_models.bench import layers as by_layer

    _start(device, threads, json_file)
    cases = by_layer.grid(
        batches=tuple(batch_sizes or [8]),
        blocks=tuple(block_counts or [2, 4, 8]),
        dtypes=_words(dtypes, [DType.float32]),
        layouts=_words(layouts, list(Layout)),
    )
    rows = (by_layer.measure(case, seconds, device=device) for case in cases)
    measured = _tracked(rows, len(cases))
    if every:
        console.print(_every_layer(measured))
    console.print(_layers(measured))
    for line in by_layer.verdicts(measured):
        console.print(line, highlight=False, soft_wrap=True)
    _finish(json_file, device, [row.record() for row in measured])


@app.command(
    epilog="Examples:\n\n- `tbc bench blocks`\n\n"
    "- `tbc bench blocks --kernel-size 1 --dtype bfloat16 --threads 1`"
)
def blocks(
    device: Device = "cpu",
    kernel_size: Annotated[int, typer.Option(min=1, help="An odd number.")] = 3,
    batch_sizes: Batch = None,
    dtypes: DTypes = None,
    layouts: Layouts = None,
    threads: Threads = None,
    seconds: Seconds = 0.6,
    json_file: Json = None,
) -> None:
    """Time TBC and GC against the number of blocks at fixed MACs: Fig. 3 of the paper.

    The paper claims that TBC stays flat while GC grows linearly. About half a minute.
    """
    from tbc_models.bench import blocks as by_blocks

    if kernel_size % 2 == 0:
        raise typer.BadParameter(f"{kernel_size} is not odd.", param_hint="--kernel-size")
    _start(device, threads, json_file)
    settings: list[dict[str, Any]] = [
        {"layout": layout, "dtype": dtype, "batch": batch}
        for layout in _words(layouts, list(Layout))
        for dtype in _words(dtypes, [DType.float32])
        for batch in batch_sizes or [1]
    ]
    measured = _tracked(
        (
            series
            for setting in settings
            for series in by_blocks.measure(
                kernel_size=kernel_size, seconds=seconds, device=device, **setting
            )
        ),
        2 * len(settings),
    )
    console.print(_blocks(measured))
    _finish(json_file, device, [series.record() for series in measured])


@app.command(
    epilog="Examples:\n\n- `tbc bench networks`\n\n"
    "- `tbc bench networks resnet101 tied_resnet101_s --compile --mode inference`\n\n"
    "- `tbc bench networks --device cuda --dtype bfloat16 --batch-size 256 --compile`"
)
def networks(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Ratios are to the first.  [default: resnet50 and its tied ones]"),
    ] = None,
    device: Device = "cpu",
    mode: Annotated[
        Literal["both", "inference", "training"], typer.Option(help="What to time.")
    ] = "both",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Time them compiled as well; that takes minutes.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    size: Annotated[int, typer.Option(min=32, help="Of an image in pixels.")] = 224,
    dtypes: DTypes = None,
    threads: Threads = None,
    seconds: Seconds = 3.0,
    json_file: Json = None,
) -> None:
    """Time tied networks against timm's: images a second, and peak memory, channels-last."""
    from tbc_models.bench import networks as by_network
    from tbc_models.networks.registry import check_name

    chosen = tuple(names or by_network.NETWORKS)
    for name in chosen:
        try:
            check_name(name)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="NAMES") from None
    _start(device, threads, json_file)
    modes = [m == "training" for m in ("inference", "training") if mode in (m, "both")]
    settings: list[dict[str, Any]] = [
        {"training": training, "compiled": graph, "dtype": dtype}
        for dtype in _words(dtypes, [DType.float32])
        for training in modes
        for graph in ((False, True) if compiled else (False,))
    ]
    of: Any = {"batch": batch_size, "size": size, "seconds": seconds, "device": device}
    measured = _tracked(
        (s for setting in settings for s in by_network.measure(chosen, **setting, **of)),
        len(settings) * len(chosen),
    )
    console.print(_networks(measured))
    console.print(_parts([speed for speed in measured if speed.parts]))
    _finish(json_file, device, [speed.record() for speed in measured])


@app.command(epilog="Examples:\n\n- `tbc bench reference`")
def reference(seconds: Seconds = 1.0, json_file: Json = None) -> None:
    """Time the reference against PyTorch, einsum and scipy, on one thread. About half a minute."""
    from tbc_models.bench import reference as by_reference

    _start("cpu", 1, json_file)
    cases = [(*case, False) for case in by_reference.SHAPES] + [(*by_reference.SMALL, True)]
    measured = _tracked(
        (
            row
            for shape, B, peers in cases
            for row in by_reference.measure(shape, B, peers=peers, seconds=seconds)
        ),
        2 * len(cases),
    )
    console.print(_reference(measured))
    rows = [row.record() for row in measured]
    _finish(json_file, "cpu", rows, blas=by_reference.blas())


@app.command(
    epilog="Examples:\n\n- `tbc bench tune --device cuda`\n\n"
    "- `tbc bench tune --out my-table.json --json times.json`"
)
def tune(
    device: Device = "cpu",
    batch_sizes: Batch = None,
    dtypes: DTypes = None,
    threads: Threads = None,
    seconds: Seconds = 0.1,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="[default: the table that is in use]")
    ] = None,
    json_file: Json = None,
) -> None:
    """Measure every algorithm on this machine, and write the table that chooses among them.

    The table is part of the package (tbc_gpu/tables): a clone, or an installed copy, will use the
    new one from the next start on. About eight minutes on two cores.
    """
    from tbc_gpu.dispatch import table_file
    from tbc_models.bench import layers as by_layer
    from tbc_models.bench import tune as tuning
    from tbc_models.bench.timing import machine

    table = out or table_file(device)
    require_writable(table, "--out")
    _start(device, threads, json_file)
    usual = [1, 8] if device == "cpu" else [32, 256]
    cases = [
        case
        for dtype in _words(dtypes, list(DType))
        for batch in batch_sizes or usual
        for case in tuning.cases(dtype, batch)
    ]
    rows = (by_layer.measure(case, seconds, baselines=False, device=device) for case in cases)
    measured = _tracked(rows, len(cases))
    rules = tuning.learn(measured)
    described = {"command": command(), "machine": machine(device)}
    text = tuning.as_json(tuning.complete(rules, device), described, set(rules))
    write_named(table, text, "--out")
    found = tuning.regrets(measured, rules)
    near = sum(regret <= 1.15 for regret in found) / len(found)
    console.print(
        f"{len(cases)} cases, {sum(map(len, rules.values()))} rules: on average "
        f"{geometric_mean(found):.3f} of the best algorithm's time, within 15 % of it in "
        f"{near:.0%}, at worst {max(found):.2f}.\nWrote {table}",
        highlight=False,
        soft_wrap=True,
    )
    _finish(json_file, device, [row.record() for row in measured])


def _layers(rows: "Sequence[LayerRow]") -> Table:
    from tbc_models.bench import layers as by_layer

    candidates = {"chosen": by_layer.CHOSEN, "fold": "fold", "foldCL": "fold_channels_last"}
    candidates |= {name: name for name in ("dilated", "conv3d", "gemm", "grouped", "SC")}
    shown = plain_table("layer", "", *candidates, left=2)
    shown.title = "Time ÷ the authors' fold of a contiguous input, geometric means"
    several = len({(row.case.dtype, row.case.batch) for row in rows}) > 1
    for alike, same in by_layer.classes(rows).items():
        layout, kernel, stride, training, dtype, batch = alike
        means = (by_layer.mean_ratio(same, name) for name in candidates.values())
        shown.add_row(
            f"{'NHWC' if layout == 'channels_last' else 'NCHW'} {kernel}x{kernel} s{stride}",
            f"{'both' if training else 'forward'}{f' {dtype} N={batch}' if several else ''}",
            *("" if mean is None else f"{mean:.2f}" for mean in means),
        )
    return shown


def _every_layer(rows: "Sequence[LayerRow]") -> Table:
    from tbc_models.bench import layers as by_layer

    shown = plain_table("layer", "B", "N", "dtype", "computed", "authors", "chosen", "best", left=1)
    for row in rows:
        c = row.case
        shown.add_row(
            f"{c.in_channels}→{c.out_channels} {c.kernel_size}x{c.kernel_size} s{c.stride} "
            f"{c.size}² {'NHWC' if c.layout == 'channels_last' else 'NCHW'}",
            *(str(c.blocks), str(c.batch), c.dtype, "both ways" if c.training else "forward"),
            f"{row.times[by_layer.AUTHORS].median:.2f} ms",
            f"{row.ratio(by_layer.CHOSEN):.2f}",
            f"{row.best() / row.times[by_layer.AUTHORS].median:.2f}",
        )
    return shown


def _blocks(measured: "Sequence[Series]") -> Table:
    from tbc_models.bench import blocks as by_blocks

    shown = plain_table("", "layout", "dtype", "N", *(f"B = {B}" for B in by_blocks.BLOCKS), left=3)
    shown.title = "Milliseconds at fixed MACs, and their ratio to those at B = 1"
    for series in measured:
        cells = (f"{t.median:.1f}\n{series.ratio(B):.2f}" for B, t in series.times.items())
        head = (series.operator, series.layout, series.dtype, str(series.batch))
        shown.add_row(*head, *cells)
    return shown


def _networks(measured: "Sequence[Speed]") -> Table:
    shown = plain_table("network", "mode", "images/s", "ms a batch", "ratio", "peak MB", left=2)
    for speed in measured:
        low, high = f"{speed.time.low:.0f}", f"{speed.time.high:.0f}"
        mode = f"{speed.mode}{', compiled' if speed.compiled else ''}"
        if speed.dtype != "float32":
            mode += f", {speed.dtype}"
        shown.add_row(
            *(speed.network, mode, f"{speed.images_per_second:.1f}"),
            f"{speed.time.median:.0f} ({low} to {high})",
            f"{speed.ratio:.2f}",
            "" if speed.peak_mb is None else f"{speed.peak_mb:.0f}",
        )
    return shown


def _parts(measured: "Sequence[Speed]") -> Table:
    from tbc_models.bench import networks as by_network

    kinds = [*by_network.KINDS, by_network.OTHER]
    shown = plain_table("network", "mode", *kinds, left=2)
    shown.title = "Where the milliseconds of a batch go, as a profiler sees them"
    for speed in measured:
        spent = (f"{speed.parts[kind]:.0f}" for kind in kinds)
        shown.add_row(speed.network, speed.mode.removesuffix(" step"), *spent)
    return shown


def _reference(measured: "Sequence[ReferenceRow]") -> Table:
    from tbc_models.bench import reference as by_reference

    shown = plain_table("input", "B", "computed", "by", "ms", "ratio", "extra MB")
    shown.title = "Against PyTorch, one thread, float32, 3x3"
    for row in measured:
        for name, time in row.times.items():
            extra = f"{row.extra_mb}" if name == by_reference.REFERENCE else ""
            shown.add_row(
                *("x".join(map(str, row.input)), str(row.blocks), row.computed, name),
                *(f"{time.median:.2f}", f"{row.ratio(name):.2f}", extra),
            )
    return shown


def _start(device: str, threads: int | None, json_file: Path | None) -> None:
    """Refuse what cannot be done, and prepare the process."""
    import torch

    from tbc_models.bench.timing import machine

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("PyTorch finds no CUDA device here.", param_hint="--device")
    require_writable(json_file, "--json")
    if device == "cpu":
        _keep_freed_memory()
    if device == "cuda":  # or float32 would mean one thing in convolutions, another in products
        torch.set_float32_matmul_precision("high")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter
    if threads:
        torch.set_num_threads(threads)
    about = machine(device)
    about["threads"] = f"{about['threads']} threads"
    console.print(", ".join(str(value) for value in about.values()), highlight=False)


def _keep_freed_memory() -> None:
    """Start this command again with `ALLOCATOR`, unless it has it (glibc reads it at the start)."""
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
    """Write what was measured, one row a line."""
    from tbc_models.bench.timing import machine

    if file is not None:
        write_report(file, "--json", {"rows": rows}, machine(device) | about)
