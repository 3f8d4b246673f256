"""The command `tbc table`."""

import io
import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.markup import escape

from tbc_models.cli.terminal import plain_table, progress_bar, require_writable, write_named

if TYPE_CHECKING:
    from tbc_models.paper.tables import TableLayout

app = typer.Typer()
console = Console()


class Format(StrEnum):
    """Formats of a table."""

    terminal = "terminal"
    markdown = "markdown"
    json = "json"
    csv = "csv"


@app.command(
    epilog="Examples:\n\n- `tbc table 3`\n\n- `tbc table all`\n\n"
    "- `tbc table 1 --output table1.md`\n\n- `tbc table all --format csv`"
)
def table(
    number: Annotated[str, typer.Argument(help="Number of the table, 1 to 6, or all.")],
    format: Annotated[
        Format | None,
        typer.Option(
            case_sensitive=False,
            help="Format.  [default: by the suffix of FILE (.md, .json or .csv), or terminal]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the table to this file instead of the terminal."),
    ] = None,
) -> None:
    """Regenerate a table of the paper: its numbers beside our counts on the built networks.

    Prints the paper's parameters and MACs beside ours, for each of the three designs of the tied
    bottleneck, and gives a reason where they differ by more than rounding. Accuracies are those of
    the paper.
    """
    known = {str(n): [n] for n in range(1, 7)} | {"all": list(range(1, 7))}
    number = number.lower()
    if number not in known:
        raise typer.BadParameter(f"{number} is not 1 to 6, or all.", param_hint="NUMBER")
    suffixes = {".md": Format.markdown, ".json": Format.json, ".csv": Format.csv}
    form = format or suffixes.get(output.suffix if output else "", Format.terminal)
    require_writable(output, "--output")
    from tbc_models.paper import tables

    compared = []
    with progress_bar() as progress:
        for n in progress.track(known[number], description="Building and counting"):
            compared.append(tables.compare(n))
    if form is Format.terminal:
        screen = Console(record=True, file=io.StringIO(), width=80) if output else console
        for one in compared:
            screen.print(_shown(tables.lay_out(one)), highlight=False)
        text = screen.export_text() if output else ""
    elif form is Format.markdown:
        text = "\n".join(tables.as_markdown(one) for one in compared)
    else:
        every = [c for one in compared for c in one]
        if form is Format.csv:
            text = tables.as_csv(every)
        else:
            text = json.dumps([asdict(c) for c in every], indent=1, ensure_ascii=False) + "\n"
    if output:
        write_named(output, text, "--output")
    else:
        typer.echo(text, nl=False)


def _shown(layout: "TableLayout") -> Group:
    table = plain_table("", *layout.headers[2:])
    table.title = layout.title
    for numbers in table.columns[1:]:
        numbers.no_wrap = True
    for row, column, *cells in layout.lines:
        if row:
            table.add_section()
            table.add_row(f"[bold]{escape(row)}[/bold]")
        table.add_row(f"  {column}", *cells)
    reasons = (f"{letter}  {reason}" for letter, reason in layout.reasons.items())
    return Group(table, *layout.notes, *reasons, "")
