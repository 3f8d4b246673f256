"""The command `tbc`: one module for each group of commands, put together here.

These modules read options and print results; the other packages compute. What takes seconds to
import, above all PyTorch, is imported by the commands that need it when they run, so that help and
errors in the options appear at once.
"""

from importlib.metadata import version
from typing import Annotated

import typer

from tbc_models.cli import (
    bench,
    check,
    compare,
    detect,
    detected,
    focus,
    gradcam,
    ledger,
    networks,
    occlusion,
    paper,
    publish,
    similarity,
    tie,
    tie_study,
    train,
    trained,
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    check,
    paper,
    ledger,
    networks,
    tie,
    tie_study,
    train,
    trained,
    publish,
    compare,
    similarity,
    gradcam,
    focus,
):
    app.add_typer(group.app)
detect.app.add_typer(detected.app)
detect.app.add_typer(occlusion.app)
app.add_typer(detect.app, name="detect")
app.add_typer(bench.app, name="bench")


def _version(given: bool) -> None:
    if given:
        typer.echo(version("tied-block-conv"))
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tied Block Convolution (Wang & Yu, AAAI 2021): learn it, check it, use it."""
