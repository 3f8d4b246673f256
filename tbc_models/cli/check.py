"""The command `tbc check`."""

import itertools
import math
import secrets
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tbc_models.checking.names import DType, Operator
from tbc_models.cli.terminal import (
    JsonFile,
    plain_table,
    progress_bar,
    require_writable,
    verdict,
    write_report,
)

if TYPE_CHECKING:
    from tbc_models.checking.modules import ModuleRow
    from tbc_models.checking.operators import OperatorRow

app = typer.Typer()
console = Console()
_STORE_SECONDS = 60  # how often the results so far are written to the file


@app.command(
    epilog="Examples:\n\n- `tbc check`\n\n"
    "- `tbc check --cases 1000 --dtype float32 --json result.json`\n\n"
    "- `tbc check --minutes 10`\n\n"
    "- `tbc check --operator TGC --case 17`\n\n- `tbc check --modules`"
)
def check(
    cases: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of random cases for each operator and dtype.  [default: 200]"
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Instead of --cases: check for this many minutes."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Seed of every random choice.  [default: 0; with --minutes, a new one]"
        ),
    ] = None,
    dtype: Annotated[
        list[DType] | None,
        typer.Option(
            case_sensitive=False, help="Data type to check. Repeat for several.  [default: all]"
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Device to check; auto: the CPU, and CUDA if there is one."),
    ] = "auto",
    operator: Annotated[
        list[Operator] | None,
        typer.Option(
            case_sensitive=False, help="Operator to check. Repeat for several.  [default: all]"
        ),
    ] = None,
    case: Annotated[
        int | None,
        typer.Option(min=0, help="Instead of --cases: check only the case with this index."),
    ] = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Also check the modules of Fig. 4 and 5.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Cross-check the two implementations on random configurations, forward and backward.

    The reference (tbc_ref, on NumPy) and the PyTorch backend (tbc_gpu) share no code. Both get
    the same numbers, and the largest differences are printed. Their unit is the dtype's epsilon
    times the number of terms that an entry sums. The exit code is 1 if any case differs by more
    than 4 units. In 16 bits, where the reference computes in float64, a unit is epsilon times the
    largest entry, or times the square root of the number of terms if that is larger.

    With --modules, the tied bottleneck in each design, TiedSE and TiedGCB are also compared with
    compositions of reference functions: outputs and the derivatives of every parameter, in
    float64, to 1e-10, on the CPU unless --device is cuda.
    """
    if minutes is not None and not math.isfinite(minutes):
        raise typer.BadParameter(f"{minutes} is not a finite number.", param_hint="--minutes")
    if [cases, minutes, case].count(None) < 2:
        raise typer.BadParameter(
            "only one of --cases, --minutes and --case can be given.", param_hint="--cases"
        )
    require_writable(json_file, "--json")
    import torch

    from tbc_models.checking.cases import draw_case
    from tbc_models.checking.modules import MODULES, ModuleRow, check_modules
    from tbc_models.checking.operators import OperatorRow, tolerances
    from tbc_models.checking.operators import check as check_operator

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("PyTorch finds no CUDA device here.", param_hint="--device")
    if seed is None:
        seed = 0 if minutes is None else secrets.randbits(32)
    operators = operator or list(Operator)
    dtypes = dtype or list(DType)
    names = MODULES if modules else ()

    def indices() -> Iterable[int]:
        if minutes is not None:
            return itertools.count()
        return range(cases or 200) if case is None else [case]

    where = "cuda" if device == "cuda" else "cpu"
    alone = partial(_command, seed=seed, device=where)
    running: dict[str, Iterator[OperatorRow | ModuleRow]] = {
        f"{name} {kind}": check_operator(name, kind, indices=indices(), seed=seed, device=device)
        for name in operators
        for kind in dtypes
    }
    for module in names:
        running[module] = check_modules(module, indices=indices(), seed=seed, device=where)
    per_row = 1 if case is not None else cases or 200
    total = None if minutes is not None else len(running) * per_row
    # The seed is printed first, and results are written while the checks run, so that a case that
    # crashes the process can be found again.
    console.print(f"Seed {seed}.", highlight=False)

    def store(every: "list[OperatorRow | ModuleRow]") -> None:
        if json_file is None:
            return
        from tbc_models.results import machine

        allowed = {str(kind): tolerances(kind) for kind in dtypes}
        found = {
            "seed": seed,
            "passed": all(row.passed for row in every),
            "unit": "epsilon times terms summed; in 16 bits epsilon times the size of the output",
            "tolerances": allowed,
            "modules": [_record(row, alone) for row in every if isinstance(row, ModuleRow)],
            "rows": [_record(row, alone) for row in every if isinstance(row, OperatorRow)],
        }
        write_report(json_file, "--json", found, machine("numpy"))

    seconds = None if minutes is None else 60 * minutes
    every = _rows(running, total=total, seconds=seconds, store=store)
    rows = [row for row in every if isinstance(row, OperatorRow)]
    module_rows = [row for row in every if isinstance(row, ModuleRow)]
    if case is not None:
        for name in operators:
            drawn = draw_case(name, seed, case, dtypes[0])
            console.print(str(drawn), highlight=False, soft_wrap=True)
    console.print(_table(rows))
    if modules:
        console.print(_module_table(module_rows))
    for row in every:
        for failure in row.failures[:1]:
            backend = f", on {failure['backend']}" if "backend" in failure else ""
            console.print(
                f"[red]{row.failed} of {row.cases} cases of {row.name} failed.[/red] The first"
                f"{backend}: {escape(failure['case'])}\n  errors: {escape(failure['errors'])}\n"
                f"  run it alone: {alone(row, failure)}",
                highlight=False,
                soft_wrap=True,
            )
    checked, failures = sum(r.cases for r in every), sum(r.failed for r in every)
    console.print(
        f"{checked - failures:,} of {checked:,} cases agree (seed {seed}).", highlight=False
    )
    if failures:
        raise typer.Exit(1)


def _rows(
    running: "dict[str, Iterator[OperatorRow | ModuleRow]]",
    *,
    total: int | None,
    seconds: float | None,
    store: "Callable[[list[OperatorRow | ModuleRow]], None]",
) -> "list[OperatorRow | ModuleRow]":
    """Run the checks in turn, some cases of each at a time, until they end or the time is up."""
    rows: dict[str, OperatorRow | ModuleRow] = {}
    begun = stored = time.monotonic()
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
                failed = sum(r.failed for r in rows.values())
                so_far = f"{checked - failed:,} of {checked:,} agree"
                now = time.monotonic()
                progress.update(
                    task,
                    completed=checked if seconds is None else min(now - begun, seconds),
                    description=f"{label}: {so_far}",
                )
                if now - stored > _STORE_SECONDS:
                    stored = now
                    store(list(rows.values()))
                    if not console.is_terminal:  # the progress bar does not appear in a log
                        console.print(f"{(now - begun) / 60:.0f} min: {so_far}", highlight=False)
    store(list(rows.values()))
    return list(rows.values())


def _table(rows: "list[OperatorRow]") -> Table:
    from tbc_models.checking.operators import HALF_TOLERANCES, QUANTITIES, TOLERANCE

    half = ", ".join(f"{quantity} {most:g}" for quantity, most in HALF_TOLERANCES.items())
    table = plain_table("operator", "dtype", "cases", *QUANTITIES, "result", left=2)
    table.title = "Largest differences, in units of ε · terms summed, in 16 bits ε · size"
    table.caption = (
        f"{_compared(rows)} A row passes if none exceeds {TOLERANCE:g} units; in 16 bits {half}."
    )
    for row in rows:
        table.add_row(
            row.operator,
            row.dtype,
            str(row.cases),
            *(_units(row.errors[quantity]) for quantity in QUANTITIES),
            verdict(row.passed),
        )
    return table


def _compared(rows: "list[OperatorRow]") -> str:
    backends = dict.fromkeys(name for row in rows for name in row.backends[1:])
    return f"tbc_ref on NumPy against {', '.join(backends)}."


def _module_table(rows: "list[ModuleRow]") -> Table:
    from tbc_models.checking.modules import MODULE_TOLERANCE

    table = plain_table("module", "cases", "y", "dx", "parameters", "result")
    table.title = "Modules: largest differences, relative to the largest entry"
    table.caption = f"float64; a row passes if none exceeds {MODULE_TOLERANCE:g}."
    for row in rows:
        errors = (f"{error:.1e}" for error in row.errors.values())
        table.add_row(row.module, str(row.cases), *errors, verdict(row.passed))
    return table


def _units(error: float) -> str:
    return f"{error:.3f}" if error < 1000 else f"{error:.0e}"


def _command(
    row: "OperatorRow | ModuleRow", failure: dict[str, str], *, seed: int, device: str
) -> str:
    """Return the command line that runs one failing case alone."""
    from tbc_models.checking.operators import OperatorRow

    what = ["--modules"]
    if isinstance(row, OperatorRow):
        what = ["--operator", row.operator, "--dtype", row.dtype]
        device = "cpu" if failure["backend"] == "torch CPU" else "cuda"
    numbers = ["--case", failure["index"], "--seed", str(seed)]
    return shlex.join(["tbc", "check", *what, *numbers, "--device", device])


def _record(
    row: "OperatorRow | ModuleRow",
    alone: "Callable[[OperatorRow | ModuleRow, dict[str, str]], str]",
) -> dict[str, Any]:
    # JSON has no infinity and no NaN.
    errors = {str(q): e if math.isfinite(e) else str(e) for q, e in row.errors.items()}
    failures = [failure | {"command": alone(row, failure)} for failure in row.failures]
    return asdict(row) | {"passed": row.passed, "errors": errors, "failures": failures}
