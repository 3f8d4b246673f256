"""`tbc publish`."""

from pathlib import Path
from typing import Annotated

import typer

from tbc_models.cli.data_options import (
    DATA_REMEDIES,
    Debug,
    Download,
    SkipBad,
    Workers,
    number_of_workers,
    open_specified,
)
from tbc_models.cli.terminal import errors_in_one_line, require_file
from tbc_models.data.specification import parse_specification

_REMEDIES = {**DATA_REMEDIES, "data": "name the data of the run with --data"}

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n- `tbc publish runs/resnet20-cifar10 --tag cifar10 --out published`\n\n"
    "- `tbc publish runs/tied_resnet50 --tag in1k --data imagenet:/data/imagenet --out published`"
)
def publish(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Folder of a completed run of `tbc train`, or its weights.safetensors.",
        ),
    ],
    tag: Annotated[
        str,
        typer.Option(
            metavar="TAG",
            help="What distinguishes these weights from others of the network: usually the data.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", file_okay=False, help="Folder that receives both files."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Where the data of the run is.  [default: where it usually is]"
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            "--licence", "--license", metavar="SPDX", help="Licence of the weights, such as MIT."
        ),
    ] = "MIT",
    workers: Workers = None,
    skip_bad_images: SkipBad = False,
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Prepare the weights of a run for others: half as large, tested, with a model card.

    Rounds the weights to float16, tests the rounded weights on all test images of the run's data,
    and writes NETWORK.TAG.safetensors, which `tbc evaluate`, `tbc predict` and timm load, and
    NETWORK.TAG.md, a model card in the format of Hugging Face's hub: data, recipe, the command
    that repeats the run, accuracy, limits and licence. Neither file names a folder of this machine.
    The options of the network must be the defaults.
    """
    with errors_in_one_line(_REMEDIES, debug=debug):
        require_file(run)
        named = None if data is None else parse_specification(data)

        from tbc_models.training.publishing import open_completed
        from tbc_models.training.publishing import publish as publish_weights
        from tbc_models.training.settings import Machine

        _, settings = open_completed(run)
        specification = named or parse_specification(settings.data)
        opened = open_specified(specification, skip_bad_images, download)
        machine = Machine(workers=number_of_workers(workers, in_memory=not specification.in_files))
        published = publish_weights(run, opened, out, tag=tag, licence=licence, machine=machine)
        facts = published.facts
        typer.echo(
            f"{published.weights.name}: {published.weights.stat().st_size / 1e6:.2f} MB, top-1 "
            f"{facts.correct / facts.images:.2%} ({facts.correct:,} of {facts.images:,} test "
            f"images). Its model card is {published.card}"
        )
