"""Options for data that `tbc train`, `evaluate` and `predict` share, and how they are used."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tbc_models.cli.terminal import progress_of
from tbc_models.data.specification import FORMS, Specification

if TYPE_CHECKING:
    from tbc_models.data import Data

DataSpec = typer.Option(metavar="DATA", help=f"Data set: {', '.join(FORMS)}.")
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad-images", help="Read every file first; list the unreadable ones and skip them."
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Download Fashion-MNIST or CIFAR if it is not there: to PATH, or without one to "
        "~/.cache/tied-block-conv.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Number of processes that load images, for each device.  "
        "[default: one fewer than the CPU cores, at most 8; 0 if the images are in memory]",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

DATA_REMEDIES = {
    "skip_bad_images": "repair or remove it, or skip bad images with --skip-bad-images",
    "download": "download it with --download",
}


def open_specified(specification: Specification, skip_bad_images: bool, download: bool) -> "Data":
    """Open a data set; list the bad images if they are to be skipped."""
    from tbc_models.data import open_data
    from tbc_models.training.settings import is_first

    if not skip_bad_images:
        return open_data(specification, download=download)
    with progress_of("Reading images") as report:
        opened = open_data(specification, skip_bad_images=True, download=download, progress=report)
    if is_first():
        list_skipped("bad images", opened.skipped)
    return opened


def list_skipped(what: str, skipped: Sequence[object]) -> None:
    """Print how many things were skipped, if any, and the first ten."""
    if skipped:
        typer.echo(f"Skipped {what}: {len(skipped)}")
        for one in skipped[:10]:
            typer.echo(f"  {one}")
        if len(skipped) > 10:
            typer.echo("  …")


def number_of_workers(workers: int | None, *, in_memory: bool = False) -> int:
    """Return the number that was asked for, or the default for such images."""
    if workers is not None:
        return workers
    return 0 if in_memory else min(8, (os.cpu_count() or 1) - 1)
