"""The command `tbc ledger`."""

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from tbc_models.cli.terminal import (
    errors_in_one_line,
    progress_of,
    require_writable,
    write_report,
)
from tbc_models.paper.claims import LedgerRow, Status

app = typer.Typer()
console = Console()

_COLOURS = {
    Status.exact: "green",
    Status.small: "green",
    Status.fits: "cyan",
    Status.contradicts: "red",
    Status.otherwise: "yellow",
    Status.unmeasurable: "dim",
    Status.untried: "dim",
}


@app.command(
    epilog="Examples:\n\n- `tbc ledger`\n\n- `tbc ledger --where 'Fig. 3'`\n\n"
    "- `tbc ledger --status 'contradicts itself'`\n\n- `tbc ledger --json ledger.json`"
)
def ledger(
    where: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="Only claims from this place in the paper, such as Abstract, 'Table 1', 'Fig. 7' "
            "or Occlusion.",
        ),
    ] = "",
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            help="Only claims with this status, or with the one that begins with this text: "
            f"{'; '.join(Status)}.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            allow_dash=True,
            help="Write the rows to this file, or with - to the terminal, instead of a table.",
        ),
    ] = None,
) -> None:
    """Check the paper claim by claim: its text, its equations, its figures and its tables.

    For each claim, prints what the paper says, what became of it, our number, and the command that
    shows it. Numbers are counted on networks built now, or read from the project's committed
    results, so the command runs in a clone of the repository.
    """
    to_terminal = json_file == Path("-")
    if not to_terminal:
        require_writable(json_file, "--json")
    chosen = _status(status)
    with errors_in_one_line({"where": "choose another --where"}):
        from tbc_models import results
        from tbc_models.paper import ledger as made

        with progress_of("Checking claims") as progress:
            rows = made.ledger(where, chosen, progress)
        counts = {s.value: number for s, number in made.summary(rows).items() if number}
        if json_file:
            found: dict[str, Any] = {"summary": counts, "rows": [_as_dict(row) for row in rows]}
            if to_terminal:
                typer.echo(results.as_json(found), nl=False)
            else:
                write_report(json_file, "--json", found)
            return
    for name, group in groupby(rows, key=lambda row: made.section(row.where)):
        console.print(f"[bold underline]{escape(name)}[/bold underline]\n")
        for row in group:
            _print(row, name)
    words = ", ".join(f"{number} {name}" for name, number in counts.items())
    console.print(f"{len(rows)} rows: {words or 'none has this status'}.", highlight=False)


def _status(text: str | None) -> Status | None:
    """Find the status that a text begins."""
    if text is None:
        return None
    found = [status for status in Status if status.startswith(text.lower())]
    if len(found) != 1:
        known = "; ".join(found or Status)
        raise typer.BadParameter(f"{text} must be one of: {known}.", param_hint="--status")
    return found[0]


def _as_dict(row: LedgerRow) -> dict[str, str]:
    return {name: str(value) for name, value in vars(row).items()}


def _print(row: LedgerRow, section: str) -> None:
    colour = _COLOURS[row.status]
    console.print(f"[bold]{escape(row.id)}[/bold]  [{colour}]{row.status}[/{colour}]")
    place = "Paper" if row.where == section else row.where
    for text in (f"{place}: {row.says}", f"Ours: {row.ours}", row.command):
        console.print(Padding(escape(text), (0, 0, 0, 4), expand=False), highlight=False)
    console.print()
