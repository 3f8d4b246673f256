"""What the commands share: tables, bars and files that their options name."""

import ast
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from tbc_models.files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plain_table(*headers: str, left: int = 1, total: bool = False) -> Table:
    """Make a table without lines between its rows."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_footer=total,
        title_justify="left",
        caption_justify="left",
    )
    for i, header in enumerate(headers):
        shown.add_column(header, justify="left" if i < left else "right", overflow="fold")
    return shown


def progress_bar(*, percentage: bool = False) -> Progress:
    """Make a progress bar on stderr, which leaves no trace; it counts, or tells a percentage."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn() if percentage else MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def require_writable(file: Path | None, option: str) -> None:
    """Refuse, before any work, a file that cannot be written."""
    if file is not None:
        folder = file.resolve().parent
        if file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise typer.BadParameter(f"{file} cannot be written.", param_hint=option)


def write_named(file: Path, text: str, option: str) -> None:
    """Write a file that an option names, or say that it cannot be."""
    try:
        write_text(file, text)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error}", param_hint=option) from None


def command() -> str:
    """Give the command line that runs, as a user would type it."""
    return shlex.join(["tbc", *sys.argv[1:]])


def write_report(
    file: Path, option: str, found: dict[str, Any], machine: dict[str, Any] | None = None
) -> None:
    """Write results to a file that an option names: the command, the machine, and what it found."""
    from tbc_models import results

    about = machine or results.machine()
    write_named(file, results.as_json({"command": command(), "machine": about} | found), option)


def write_picture(file: Path, figure: "Figure", option: str) -> None:
    """Write a figure to a file that an option names, or say that it cannot be."""
    try:
        with replacing(file) as temporary:
            figure.savefig(temporary, format=file.suffix.removeprefix(".") or "png", dpi=120)
    except (OSError, ValueError) as error:  # a format that matplotlib does not know
        raise typer.BadParameter(f"{file} cannot be written: {error}", param_hint=option) from None


def setting(text: str) -> tuple[str, Any]:
    """Take OPTION=VALUE apart; the value is a Python literal, or a word."""
    option, equals, value = text.partition("=")
    if not equals or not option.isidentifier():
        raise typer.BadParameter(f"{text!r} is not OPTION=VALUE", param_hint="--set")
    try:
        return option, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return option, value  # a word


def verdict(passed: bool) -> str:
    """Word the outcome of a check, in colour."""
    return "[green]pass[/green]" if passed else "[bold red]FAIL[/bold red]"


def one_line(error: Exception) -> str:
    """Put an error in one line; timm's bare assertions say nothing themselves."""
    return (str(error) or f"{type(error).__name__} in timm").splitlines()[0]
