"""What the commands share: tables, progress bars, errors, and files named by options."""

import ast
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
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


JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the results to this file.")
]

_PICTURES = (".png", ".svg", ".pdf")


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
    """Make a progress bar on stderr that counts, or shows a percentage, and vanishes at the end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn() if percentage else MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def progress_of(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, and give the function that is called with what is done and the total."""
    with progress_bar() as progress:
        task = progress.add_task(description, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report


def require_writable(file: Path | None, option: str) -> None:
    """Raise an error, before any work is done, if a file cannot be written."""
    if file is not None:
        folder = file.resolve().parent
        writable = all(os.access(path, os.W_OK) for path in (folder, file) if path.exists())
        if file.is_dir() or not folder.is_dir() or not writable:
            raise typer.BadParameter(f"{file} cannot be written.", param_hint=option)


def require_picture(file: Path | None, option: str) -> None:
    """Raise an error, before any work is done, if a picture cannot be written."""
    if file is not None and file.suffix.lower() not in _PICTURES:
        raise typer.BadParameter(f"{file} must end in .png, .svg or .pdf.", param_hint=option)
    require_writable(file, option)


def require_file(file: Path) -> None:
    """Raise an error, before any work is done, if a file does not exist."""
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist")


@contextmanager
def _writing(file: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error}", param_hint=option) from None


def write_named(file: Path, text: str, option: str) -> None:
    """Write a file that an option names; report an error as one in that option."""
    with _writing(file, option):
        write_text(file, text)


def command() -> str:
    """Return the command line that is running, as a user would type it."""
    return shlex.join(["tbc", *sys.argv[1:]])


def write_report(
    file: Path, option: str, found: dict[str, Any], machine: dict[str, Any] | None = None
) -> None:
    """Write results, the command and the machine to a file that an option names."""
    from tbc_models import results

    about = machine or results.machine()
    with _writing(file, option):
        results.write(file, {"command": command(), "machine": about} | found)


def write_picture(file: Path, figure: "Figure", option: str) -> None:
    """Write a figure to a file that an option names; report an error as one in that option."""
    with _writing(file, option), replacing(file) as temporary:
        figure.savefig(temporary, format=file.suffix[1:].lower(), dpi=120)


def setting(text: str) -> tuple[str, Any]:
    """Split OPTION=VALUE; the value is a Python literal or, failing that, a string."""
    option, equals, value = text.partition("=")
    if not equals or not option.isidentifier():
        raise typer.BadParameter(f"{text!r} is not OPTION=VALUE", param_hint="--set")
    try:
        return option, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return option, value


def verdict(passed: bool) -> str:
    """Return "pass" or "FAIL" in colour."""
    return "[green]pass[/green]" if passed else "[bold red]FAIL[/bold red]"


def print_error(text: str) -> None:
    """Print an error to stderr, in one line."""
    Console(stderr=True).print(f"[red]Error:[/red] {escape(text)}", highlight=False, soft_wrap=True)


@contextmanager
def errors_in_one_line(
    remedies: Mapping[str, str] | None = None, *, debug: bool | None = None
) -> Iterator[None]:
    """Print an error in one line, with the option of the command that avoids it, and exit.

    An error of the library may name a parameter in its attribute `option`; only a command knows
    which of its own options sets that parameter.

    Args:
        remedies: for parameters of the library, what to do in terms of the command's options.
        debug: whether to show the traceback; None if the command has no option --debug.
    """
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise
    except Exception as error:
        if debug:
            raise
        print_error(_explained(error, remedies or {}, debug is not None))
        signal = getattr(error, "by", None)  # of a run that was stopped
        raise typer.Exit(128 + signal if signal else 1) from None


def _explained(error: Exception, remedies: Mapping[str, str], has_debug: bool) -> str:
    from tbc_models.data import last_line

    text = last_line(error)
    if isinstance(error, FileNotFoundError) and error.filename:
        text = f"{error.filename} does not exist"
    if isinstance(error, ModuleNotFoundError):
        return f"{text}: run pip install '.[train]' in a clone of the project"
    if not isinstance(error, (ValueError, OSError, ImportError, ArithmeticError)):
        hint = " (--debug shows the traceback)" if has_debug else ""
        return f"{type(error).__name__}: {text}{hint}"
    remedy = remedies.get(getattr(error, "option", None) or "")
    return f"{text}; {remedy}" if remedy else text
