"""The command `tbc`."""

import io
import itertools
import json
import math
import platform
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

import tbc_gpu

from . import count, exporting, tables
from .bench.cli import bench
from .checking import cases as drawing
from .checking import modules as check_modules
from .checking import operators as checking
from .paper import TABLES
from .terminal import plain_table, progress_bar, require_writable, setting, write_named
from .training import cli as training
from .training.compare_cli import compare

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench, name="bench")
console = Console()
_SHOWN = 30  # layers that `tbc tie` lists

Size = Annotated[
    int | None, typer.Option(min=1, help="Image size in pixels.  [default: the network's]")
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version("tied-block-conv"))
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tied Block Convolution (Wang & Yu, AAAI 2021): learn it, check it, use it."""


@app.command(
    epilog="Examples:\n\n- `tbc check`\n\n"
    "- `tbc check --cases 1000 --dtype float32 --json result.json`\n\n"
    "- `tbc check --minutes 10`\n\n"
    "- `tbc check --operator TGC --case 17`\n\n- `tbc check --modules`"
)
def check(
    cases: Annotated[
        int | None,
        typer.Option(min=1, help="Random cases for each operator and dtype.  [default: 200]"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Instead, check as many cases as fit in this time."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Seed of all cases.  [default: 0; with --minutes, a new one every time]"
        ),
    ] = None,
    dtype: Annotated[
        list[drawing.DType] | None,
        typer.Option(case_sensitive=False, help="Repeat for several.  [default: all]"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where the backends run; auto: everywhere possible."),
    ] = "auto",
    operator: Annotated[
        list[drawing.Operator] | None,
        typer.Option(case_sensitive=False, help="Repeat for several.  [default: all]"),
    ] = None,
    case: Annotated[
        int | None, typer.Option(min=0, help="Instead, check the case with this index alone.")
    ] = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Check whole modules of Fig. 4 and 5 as well.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
    ] = None,
) -> None:
    """Cross-check the two implementations on random configurations, forward and backward.

    The reference (tbc_ref, on NumPy) and the PyTorch backend (tbc_gpu) share no code. Both get
    the same numbers; their largest differences are shown in units of the dtype's epsilon times
    the number of terms that an entry sums. Exits with 1 if any case differs by more than 4 units.
    In 16 bits, where the reference computes in float64, a unit is epsilon times the size of the
    output, and 8 are allowed.

    With --modules the tied bottleneck in each design, TiedSE and TiedGCB are compared with
    compositions of reference functions too: always in float64, every parameter's derivative, to
    1e-10; on the CPU unless --device is cuda.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("PyTorch finds no CUDA device here.", param_hint="--device")
    if [cases, minutes, case].count(None) < 2:
        raise typer.BadParameter(
            "only one of --cases, --minutes and --case can be given.", param_hint="--cases"
        )
    require_writable(json_file, "--json")
    if seed is None:
        seed = 0 if minutes is None else secrets.randbits(32)
    operators = operator or list(drawing.Operator)
    dtypes = dtype or list(drawing.DType)
    names = check_modules.MODULES if modules else ()

    def indices() -> Iterable[int]:
        if minutes is not None:
            return itertools.count()
        return range(cases or 200) if case is None else [case]

    where = "cuda" if device == "cuda" else "cpu"
    running: dict[str, Iterator[checking.Row | check_modules.ModuleRow]] = {
        f"{name} {kind}": checking.check(name, kind, indices=indices(), seed=seed, device=device)
        for name in operators
        for kind in dtypes
    }
    for module in names:
        running[module] = check_modules.check_modules(
            module, indices=indices(), seed=seed, device=where
        )
    per_row = 1 if case is not None else cases or 200
    total = None if minutes is not None else len(running) * per_row
    found = _rows(running, total=total, seconds=None if minutes is None else 60 * minutes)
    rows = [row for row in found if isinstance(row, checking.Row)]
    module_rows = [row for row in found if isinstance(row, check_modules.ModuleRow)]
    if case is not None:
        for name in operators:
            drawn = drawing.draw(name, seed, case, dtypes[0])
            console.print(str(drawn), highlight=False, soft_wrap=True)
    console.print(_table(rows))
    for row in rows:
        for failure in row.failures[:1]:
            console.print(
                f"[red]{len(row.failures)} of {row.cases} cases of {row.operator} {row.dtype} "
                f"failed.[/red] The first, on {failure['backend']}: {failure['case']}\n"
                f"  errors: {failure['errors']}\n  run it alone: {failure['command']}",
                highlight=False,
                soft_wrap=True,
            )
    if modules:
        console.print(_module_table(module_rows))
    for module_row in module_rows:
        for failed in module_row.failures[:1]:
            console.print(
                f"[red]{len(module_row.failures)} of {module_row.cases} cases of "
                f"{module_row.module} failed.[/red] The first: {failed}",
                highlight=False,
                soft_wrap=True,
            )
    checked, failures = sum(r.cases for r in found), sum(len(r.failures) for r in found)
    console.print(
        f"{checked - failures:,} of {checked:,} cases agree (seed {seed}).", highlight=False
    )
    passed = not failures
    if json_file is not None:
        report = _report(rows, module_rows, passed, seed=seed, case=case, minutes=minutes)
        write_named(json_file, json.dumps(report, indent=1) + "\n", "--json")
    if not passed:
        raise typer.Exit(1)


def _rows(
    running: dict[str, Iterator[checking.Row | check_modules.ModuleRow]],
    *,
    total: int | None,
    seconds: float | None,
) -> list[checking.Row | check_modules.ModuleRow]:
    """Run checks in turn, a burst of cases of each, to their end or for so many seconds."""
    rows: dict[str, checking.Row | check_modules.ModuleRow] = {}
    begun = time.monotonic()
    with progress_bar(percentage=seconds is not None) as progress:
        task = progress.add_task("", total=total or seconds)
        while running:
            for label, bursts in list(running.items()):
                elapsed = time.monotonic() - begun
                late = seconds is not None and elapsed > seconds and label in rows
                row = None if late else next(bursts, None)
                if row is None:
                    del running[label]
                    continue
                rows[label] = row
                checked = sum(r.cases for r in rows.values())
                failed = sum(len(r.failures) for r in rows.values())
                progress.update(
                    task,
                    completed=checked if seconds is None else min(elapsed, seconds),
                    description=f"{label}: {checked - failed:,} of {checked:,} agree",
                )
    return list(rows.values())


class Format(StrEnum):
    """How a table can be written."""

    terminal = "terminal"
    markdown = "markdown"
    json = "json"
    csv = "csv"


@app.command(
    epilog="Examples:\n\n- `tbc table 3`\n\n- `tbc table all`\n\n"
    "- `tbc table 1 --output table1.md`\n\n- `tbc table all --format csv`"
)
def table(
    number: Annotated[str, typer.Argument(help="1 to 6, or all.")],
    format: Annotated[
        Format | None,
        typer.Option(
            case_sensitive=False,
            help="How to write it.  [default: as FILE ends, .md, .json or .csv, or terminal]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there, not to the screen.")
    ] = None,
) -> None:
    """Regenerate a table of the paper: its numbers beside what we count on the built networks.

    Parameters and MACs are ours and the paper's, for each of the three designs of the tied
    bottleneck, with a reason where they differ by more than rounding. Accuracies are the paper's.
    """
    known = {str(n): [n] for n in TABLES} | {"all": list(TABLES)}
    number = number.lower()
    if number not in known:
        raise typer.BadParameter(f"{number} is not 1 to 6, or all.", param_hint="NUMBER")
    suffixes = {".md": Format.markdown, ".json": Format.json, ".csv": Format.csv}
    form = format or suffixes.get(output.suffix if output else "", Format.terminal)
    require_writable(output, "--output")
    compared = []
    with progress_bar() as progress:
        for n in progress.track(known[number], description="Building and counting"):
            compared.append(tables.compare(n))
    if form is Format.terminal:
        screen = Console(record=True, file=io.StringIO(), width=80) if output else console
        for one in compared:
            screen.print(tables.as_text(one), highlight=False)
        text = screen.export_text() if output else ""
    elif form is Format.markdown:
        text = "\n".join(tables.as_markdown(one) for one in compared)
    else:
        write = tables.as_json if form is Format.json else tables.as_csv
        text = write([c for one in compared for c in one])
    if output:
        write_named(output, text, "--output")
    else:
        typer.echo(text, nl=False)


@app.command(
    epilog="Examples:\n\n- `tbc models`\n\n- `tbc models resnet101`\n\n"
    '- `tbc models "hrnet_w*" --size 256`'
)
def models(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Part of a name, or a pattern with * and ?; of timm's networks too.  "
            "[default: the Tied networks and their baselines]"
        ),
    ] = None,
    size: Size = None,
) -> None:
    """List registered networks with their parameters and multiply-accumulates (MACs)."""
    names = count.names(pattern)
    if not names:
        raise typer.BadParameter(
            f"no network is called like {pattern!r}{count.nearest(str(pattern))}",
            param_hint="PATTERN",
        )
    shown = plain_table("network", "image", "params (M)", "MACs (G)", "with BN, ReLU, pool")
    refused: dict[str, str] = {}
    with progress_bar() as progress:
        for name in progress.track(names, description="Building and counting"):
            network = count.build(name)
            pixels = size or count.input_size(network)
            try:
                counted = count.measure(network, pixels)
            except Exception as error:  # one of timm's thousand should not hide the others
                refused[name] = _told(error)
                continue
            numbers = (counted.parameters / 1e6, counted.macs / 1e9, counted.all_macs / 1e9)
            shown.add_row(name, f"{pixels}²", *(f"{n:.3f}" for n in numbers))
    console.print(shown, highlight=False)
    for name, reason in refused.items():
        console.print(f"{name} could not be counted: {reason}", highlight=False)
    if refused and not shown.row_count:
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n- `tbc summary tied_resnet14_s`\n\n"
    "- `tbc summary tied_resnet50 --set design=fitted --set mixer=concatenate`"
)
def summary(
    name: Annotated[str, typer.Argument(help="Of a registered network, ours or timm's.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Of the network. Repeat for several."),
    ] = None,
    size: Size = None,
) -> None:
    """Show a network layer by layer: operator, shape, blocks, groups, parameters, MACs."""
    network = _build(name, dict(setting(text) for text in settings or []))
    pixels = size or count.input_size(network)
    try:
        layers, measured = count.layers(network, pixels), count.measure(network, pixels)
    except Exception as error:  # whatever the network does not bear
        raise typer.BadParameter(_told(error), param_hint="--size") from None
    headers = ("layer", "op", "output", "B", "G", "params", "%", "MACs (M)", "%")
    shown = plain_table(*headers, left=3, total=True)
    for layer in layers:
        shown.add_row(
            layer.name,
            _SHORT.get(layer.operator, layer.operator),
            "×".join(map(str, layer.output)),
            str(layer.blocks) if layer.operator in ("TBC", "TGC", "TFC") else "",
            str(layer.groups) if layer.operator in ("GC", "TGC") else "",
            f"{layer.parameters:,}",
            f"{100 * layer.parameters / measured.parameters:.1f}",
            f"{layer.macs / 1e6:.2f}" if layer.macs else "",
            f"{100 * layer.macs / measured.macs:.1f}" if layer.macs else "",
        )
    totals = (sum(x.parameters for x in layers), sum(x.macs for x in layers))
    shown.columns[0].footer = f"{name}, {pixels}² pixels"
    shown.columns[5].footer, shown.columns[7].footer = f"{totals[0]:,}", f"{totals[1] / 1e6:.2f}"
    console.print(shown, highlight=False)
    same = totals == (measured.parameters, measured.macs)
    console.print(
        "By formula, layer by layer; counted on the built network: "
        f"{measured.parameters:,} parameters, {measured.macs / 1e6:.2f} M MACs "
        f"({'the same' if same else 'the rest is computed outside of layers'}).",
        highlight=False,
    )


@app.command(
    epilog="Examples:\n\n- `tbc tie resnet50 --blocks 2`\n\n"
    '- `tbc tie resnet18 --blocks 4 --where "layer4.*" --pretrained --out tied.safetensors`\n\n'
    "- `tbc tie vit_tiny_patch16_224 --blocks 2 --all --json tied.json`"
)
def tie(
    name: Annotated[str, typer.Argument(help="Of a registered network, ours or timm's.")],
    blocks: Annotated[int, typer.Option(min=2, help="Blocks that share one filter, B.")],
    where: Annotated[
        str, typer.Option(metavar="PATTERN", help="Which layers, by name, with * and ?.")
    ] = "*",
    weights: Annotated[
        Literal["nearest", "random"],
        typer.Option(help="Of tied layers: nearest to those that were there, or drawn anew."),
    ] = "nearest",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from timm's trained weights, not random.")
    ] = False,
    size: Size = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"List all tied layers, not only {_SHOWN}.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the weights there, as safetensors."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
    ] = None,
) -> None:
    """Tie the convolutions and linear layers of a network: SC to TBC, GC to TGC, FC to TFC.

    Shows parameters and MACs before and after, the layers that were tied with what their weights
    lost, ‖W − T(W′)‖ / ‖W‖, and the layers that could not be tied, with reasons. A tied network
    has to be trained: most of each weight is lost.
    """
    require_writable(out, "--out")
    require_writable(json_file, "--json")
    network = _create(name, pretrained)
    try:
        tying = tbc_gpu.tie(network, blocks=blocks, where=where, weights=weights)
    except ValueError as error:
        raise typer.BadParameter(_told(error), param_hint="--where") from None
    reasons = Counter(layer.reason for layer in tying.left)
    if not tying.tied:
        reason, times = reasons.most_common(1)[0]
        raise typer.BadParameter(
            f"no layer can be tied; {times} of {len(tying.left)}: {reason}", param_hint="--blocks"
        )
    pixels = size or count.input_size(network)
    counts = []
    for hint, one in (("--size", network), ("--where", tying.model)):
        try:
            counts.append(count.measure(one, pixels))
        except Exception as error:  # some networks read the weights of a layer themselves
            tied = "tied " if one is tying.model else ""
            raise typer.BadParameter(
                f"the {tied}network does not run: {_told(error)}", param_hint=hint
            ) from None
    source = "trained" if pretrained else "random"
    console.print(
        f"{name} with {source} weights, B = {blocks}: {len(tying.tied)} layers tied, "
        f"{len(tying.left)} left.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_tying_table(counts, pixels), highlight=False)
    console.print(_tied_table(tying.tied, every), highlight=False)
    if reasons:
        shown = plain_table("left as they were, because", "layers")
        for reason, times in reasons.most_common():
            shown.add_row(reason, str(times))
        console.print(shown, highlight=False)
    if json_file is not None:
        before, after = (asdict(c) for c in counts)
        report = {
            "command": "tbc tie",
            "options": {
                "network": name,
                "blocks": blocks,
                "where": where,
                "weights": weights,
                "pretrained": pretrained,
                "size": pixels,
            },
            "before": before,
            "after": after,
            "tied": [layer._asdict() for layer in tying.tied],
            "left": [layer._asdict() for layer in tying.left],
        }
        write_named(json_file, json.dumps(report, indent=1) + "\n", "--json")
    if out is not None:
        try:
            exporting.save(out, tying.model, name=name, blocks=blocks, where=where, weights=weights)
        except OSError as error:
            raise typer.BadParameter(
                f"{out} cannot be written: {error}", param_hint="--out"
            ) from None


@app.command(
    epilog="Examples:\n\n- `tbc export tied_resnet14_s network.onnx`\n\n"
    "- `tbc export resnet18 tied.onnx --weights tied.safetensors`"
)
def export(
    name: Annotated[str, typer.Argument(help="Of a registered network, ours or timm's.")],
    file: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Weights as safetensors, of `tbc tie` or the network's own.  [default: random]",
        ),
    ] = None,
    size: Size = None,
) -> None:
    """Write a network as ONNX, and compare onnxruntime with PyTorch.

    With the weights that `tbc tie` saved it is the tied network. Tied layers are written as group
    convolutions and block-diagonal linear layers, which every runtime knows. The batch size is
    free. Exits with 1 if the outputs differ by more than 1e-4 of the largest. Needs onnx,
    onnxruntime and onnxscript: `pip install 'tied-block-conv[export]'`.
    """
    require_writable(file, "OUT.onnx")
    if weights is None:
        network = _create(name)
    else:
        try:
            network = exporting.load(name, weights)
        except Exception as error:  # of files there are all kinds
            raise typer.BadParameter(_told(error), param_hint="--weights") from None
    pixels = size or count.input_size(network)
    try:
        with Console(stderr=True).status(f"Exporting {name}"):
            difference = exporting.to_onnx(network, file, pixels)
    except ImportError as error:
        raise typer.BadParameter(_told(error), param_hint="OUT.onnx") from None
    except Exception as error:  # whatever the exporter, or the network, does not bear
        raise typer.BadParameter(
            f"{name} cannot be exported at {pixels}²: {_told(error)}", param_hint="NAME"
        ) from None
    passed = difference <= exporting.TOLERANCE
    console.print(
        f"{file}: {name} with {'its' if weights else 'random'} weights, for images of {pixels}² "
        f"pixels in any batch. onnxruntime differs from PyTorch by {difference:.1e} of the "
        f"largest output: {_verdict(passed)}",
        highlight=False,
        soft_wrap=True,
    )
    if not passed:
        raise typer.Exit(1)


app.command(
    epilog="Examples:\n\n- `tbc train --model tied_resnet14_s --data mnist`\n\n"
    "- `tbc train --model tied_resnet50 --data imagefolder:photos --epochs 30 --batch-size 64`\n\n"
    "- `tbc train --model tied_resnet50 --data imagenet:/data/imagenet --recipe paper --devices 8 "
    "--precision bf16-mixed --channels-last --out runs/r50 --resume`\n\n"
    "- `torchrun --nproc_per_node=8 -m tbc_models train --model tied_resnet50 "
    "--data imagenet:/data/imagenet`"
)(training.train)
app.command(
    epilog="Examples:\n\n- `tbc evaluate runs/tied_resnet14_s-mnist-small/last.ckpt`\n\n"
    "- `tbc evaluate last.ckpt --data imagefolder:photos --plot confusion.png`"
)(training.evaluate)
app.command(
    epilog="Examples:\n\n- `tbc compare --json mnist.json --plot mnist.png`\n\n"
    "- `tbc compare --data digits --epochs 10 --jobs 4`\n\n"
    "- `tbc compare --ablation splits --epochs 3`"
)(compare)

_SHORT = {"BatchNorm2d": "BN", "BatchNormAct2d": "BN", "LayerNorm": "LN", "GroupNorm": "GN"}


def _build(name: str, options: dict[str, Any]) -> torch.nn.Module:
    try:
        return count.build(name, **options)
    except Exception as error:  # timm raises all kinds
        hint = "--set" if options else "NAME"
        raise typer.BadParameter(_told(error), param_hint=hint) from None


def _create(name: str, pretrained: bool = False) -> torch.nn.Module:
    try:
        return exporting.create(name, pretrained=pretrained)
    except Exception as error:  # timm raises all kinds
        hint = "--pretrained" if pretrained else "NAME"
        raise typer.BadParameter(_told(error), param_hint=hint) from None


def _told(error: Exception) -> str:
    """Tell an error in one line; timm's bare assertions say nothing themselves."""
    return (str(error) or f"{type(error).__name__} in timm").splitlines()[0]


def _table(rows: list[checking.Row]) -> Table:
    table = Table(
        title="Largest differences, in units of ε · terms summed",
        caption=f"{_compared(rows)} A row passes if none exceeds {checking.TOLERANCE:g} units, "
        f"or {checking.HALF_TOLERANCE:g} in 16 bits.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("operator", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    table.add_column("cases", justify="right", no_wrap=True)
    for quantity in checking.QUANTITIES:
        table.add_column(quantity, justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    for row in rows:
        table.add_row(
            row.operator,
            row.dtype,
            str(row.cases),
            *(_units(row.errors[quantity]) for quantity in checking.QUANTITIES),
            _verdict(row.passed),
        )
    return table


def _compared(rows: list[checking.Row]) -> str:
    backends = dict.fromkeys(name for row in rows for name in row.backends[1:])
    return f"tbc_ref on NumPy against {', '.join(backends)}."


def _module_table(rows: list[check_modules.ModuleRow]) -> Table:
    table = plain_table("module", "cases", "y", "dx", "parameters", "result")
    table.title = "Modules: largest differences, relative to the largest entry"
    table.caption = f"float64; a row passes if none exceeds {check_modules.MODULE_TOLERANCE:g}."
    for row in rows:
        errors = (f"{error:.1e}" for error in row.errors.values())
        table.add_row(row.module, str(row.cases), *errors, _verdict(row.passed))
    return table


def _tying_table(counts: list[count.Count], size: int) -> Table:
    before, after = counts
    table = plain_table(f"at {size}² pixels", "before", "tied", "%")
    for what, unit, b, a in (
        ("parameters (M)", 1e6, before.parameters, after.parameters),
        ("MACs (G)", 1e9, before.macs, after.macs),
    ):
        table.add_row(what, f"{b / unit:.3f}", f"{a / unit:.3f}", f"{100 * a / b:.1f}")
    return table


def _tied_table(layers: list[tbc_gpu.TiedLayer], every: bool) -> Table:
    table = plain_table("tied layer", "op", "params", "tied", "lost", left=2)
    largest = sorted(layers, key=lambda layer: layer.parameters_before, reverse=True)
    shown = layers if every else [layer for layer in layers if layer in largest[:_SHOWN]]
    for layer in shown:
        table.add_row(
            layer.name,
            f"{layer.before}→{layer.after}",
            f"{layer.parameters_before:,}",
            f"{layer.parameters_after:,}",
            "" if layer.error is None else f"{layer.error:.3f}",
        )
    if len(shown) < len(layers):
        table.caption = f"The {len(shown)} largest of {len(layers)}; --all lists every one."
    return table


def _verdict(passed: bool) -> str:
    return "[green]pass[/green]" if passed else "[bold red]FAIL[/bold red]"


def _units(error: float) -> str:
    return f"{error:.3f}" if error < 1000 else f"{error:.0e}"


def _report(
    rows: list[checking.Row],
    module_rows: list[check_modules.ModuleRow],
    passed: bool,
    **options: Any,
) -> dict[str, Any]:
    return {
        "command": "tbc check",
        "options": options,
        "unit": "epsilon of the dtype times the number of terms summed",
        "tolerance": checking.TOLERANCE,
        "tolerance_16_bits": checking.HALF_TOLERANCE,
        "versions": {
            "tied-block-conv": version("tied-block-conv"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "passed": passed,
        "modules": [_record(row) for row in module_rows],
        "rows": [_record(row) for row in rows],
    }


def _record(row: checking.Row | check_modules.ModuleRow) -> dict[str, Any]:
    # JSON has no infinity and no NaN.
    errors = {str(q): e if math.isfinite(e) else str(e) for q, e in row.errors.items()}
    return asdict(row) | {"passed": row.passed, "errors": errors}
