"""The command `tbc`."""

import json
import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import check as checking
from .files import write_text

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()


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
    "- `tbc check --operator TGC --case 17`"
)
def check(
    cases: Annotated[int, typer.Option(min=1, help="Random cases for each operator.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed that all cases are drawn from.")] = 0,
    dtype: Annotated[
        list[checking.DType] | None,
        typer.Option(case_sensitive=False, help="Repeat for several.  [default: both]"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Where the backends run; auto: everywhere possible."),
    ] = "auto",
    operator: Annotated[
        list[checking.Operator] | None,
        typer.Option(case_sensitive=False, help="Repeat for several.  [default: all]"),
    ] = None,
    case: Annotated[
        int | None,
        typer.Option(min=0, help="Run the case with this index alone; --cases is ignored."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
    ] = None,
) -> None:
    """Cross-check the two implementations on random configurations, forward and backward.

    The reference (tbc_ref, on NumPy) and the PyTorch backend (tbc_gpu) share no code. Both get
    the same numbers; their largest differences are shown in units of the dtype's epsilon times
    the number of terms that an entry sums. Exits with 1 if any case differs by more than 4 units.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("PyTorch finds no CUDA device here.", param_hint="--device")
    if json_file is not None:
        folder = json_file.resolve().parent
        if json_file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise typer.BadParameter(f"{json_file} cannot be written.", param_hint="--json")
    operators = operator or list(checking.Operator)
    dtypes = dtype or list(checking.DType)
    indices = range(cases) if case is None else [case]
    rows = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("", total=len(operators) * len(dtypes) * len(indices))
        for name in operators:
            for kind in dtypes:
                progress.update(task, description=f"{name} {kind}")
                done = progress.tasks[0].completed
                for row in checking.check(name, kind, indices=indices, seed=seed, device=device):
                    progress.update(task, completed=done + row.cases)
                rows.append(row)
    if case is not None:
        for name in operators:
            drawn = checking.draw(name, seed, case, dtypes[0])
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
    if json_file is not None:
        write_text(json_file, json.dumps(_report(rows, seed=seed, case=case), indent=1) + "\n")
    if not all(row.passed for row in rows):
        raise typer.Exit(1)


def _table(rows: list[checking.Row]) -> Table:
    table = Table(
        title="Largest differences, in units of ε · terms summed",
        caption=f"A row passes if none exceeds {checking.TOLERANCE:g} units.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("operator", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    table.add_column("cases", justify="right", no_wrap=True)
    table.add_column("backends")
    for quantity in checking.QUANTITIES:
        table.add_column(quantity, justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    for row in rows:
        table.add_row(
            row.operator,
            row.dtype,
            str(row.cases),
            ", ".join(row.backends),
            *(_units(row.errors[quantity]) for quantity in checking.QUANTITIES),
            "[green]pass[/green]" if row.passed else "[bold red]FAIL[/bold red]",
        )
    return table


def _units(error: float) -> str:
    return f"{error:.3f}" if error < 1000 else f"{error:.0e}"


def _report(rows: list[checking.Row], **options: Any) -> dict[str, Any]:
    return {
        "command": "tbc check",
        "options": options,
        "unit": "epsilon of the dtype times the number of terms summed",
        "tolerance": checking.TOLERANCE,
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
        "passed": all(row.passed for row in rows),
        "rows": [
            asdict(row)
            | {"passed": row.passed}
            # JSON has no infinity and no NaN.
            | {"errors": {q: e if math.isfinite(e) else str(e) for q, e in row.errors.items()}}
            for row in rows
        ],
    }
