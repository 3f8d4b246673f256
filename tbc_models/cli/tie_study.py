"""The command `tbc tie-study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tbc_models.cli.data_options import DATA_REMEDIES, DataSpec, Debug, Download, open_specified
from tbc_models.cli.run_options import ChannelsLast, NoMirror, Precision, Seed
from tbc_models.cli.terminal import (
    errors_in_one_line,
    plain_table,
    progress_bar,
    require_writable,
    write_report,
)
from tbc_models.data.specification import parse_specification

if TYPE_CHECKING:
    from tbc_models.comparing.tying import Study

app = typer.Typer()
_REMEDIES = {
    **DATA_REMEDIES,
    "json": "write to another file with --json",
    "settings": "choose another folder with --runs",
    "stopped": "run the command again to continue",
}


@app.command(
    "tie-study",
    epilog='Examples:\n\n- `tbc tie-study resnet20.cifar10 --data cifar10 --where "layer*" '
    '--where "layer3*" --json tying.json`\n\n'
    "- `tbc tie-study runs/photos/weights.safetensors --data imagefolder:photos --blocks 2 "
    "--epochs 1 --json tying.json`",
)
def study_tying(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help="Trained network: a name with trained weights, or a file."
        ),
    ],
    data: Annotated[str, DataSpec],
    json_file: Annotated[
        Path,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the results to this file after every training; those it holds are kept.",
        ),
    ],
    blocks: Annotated[
        list[int], typer.Option(min=2, help="Number of blocks B. Repeat for several.")
    ] = [2, 4],  # noqa: B006 (typer copies it)
    where: Annotated[
        list[str],
        typer.Option(
            metavar="PATTERN",
            help="Pattern for the names of the layers to tie. Repeat for several.",
        ),
    ] = ["*"],  # noqa: B006
    epochs: Annotated[
        list[int], typer.Option(min=1, help="Length of a training. Repeat for several.")
    ] = [1, 5, 15],  # noqa: B006
    seed: Seed = 0,
    no_mirror: NoMirror = False,
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    runs: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="Folder of the runs.")
    ] = Path("runs/tie-study"),
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Tie a trained network in several ways, and train each: with a teacher, without, from scratch.

    For every B, pattern and length: from the nearest tied weights, from these with the untied
    network as teacher, and from random weights. To resume a study that was killed, repeat the
    command. `tbc tie --finetune` reproduces a single row that starts from tied weights.
    """
    require_writable(json_file, "--json")
    with errors_in_one_line(_REMEDIES, debug=debug):
        specification = parse_specification(data)
        from dataclasses import replace

        from tbc_models.comparing.tying import Study, read_rows
        from tbc_models.networks.registry import architecture, input_size
        from tbc_models.training.recipes import usual_recipe
        from tbc_models.training.settings import Machine
        from tbc_models.training.starting import open_source

        opened = open_specified(specification, skip_bad_images=False, download=download)
        trained = open_source(source)
        size = input_size(trained.network)
        study = Study(
            source=source,
            model=architecture(trained.network),
            options=trained.options,
            size=size,
            data=replace(opened, mirror=opened.mirror and not no_mirror),
            blocks=tuple(blocks),
            where=tuple(where),
            epochs=tuple(sorted(set(epochs))),
            recipe=usual_recipe(size),
            seed=seed,
            machine=Machine(precision=precision, channels_last=channels_last),
        )
        rows = read_rows(json_file, study) if json_file.exists() else []
        rows = _run(study, rows, runs, json_file)
        shown = plain_table("start", "layers", "B", "epochs", "at once", "recalibrated", "trained")
        for row in rows:
            scores = (row.get(stage) for stage in ("at_once", "recalibrated", "tuned"))
            shown.add_row(
                row["start"],
                row["where"],
                str(row["blocks"]),
                str(row["epochs"]),
                *("" if score is None else f"{100 * score:.2f}" for score in scores),
            )
        Console().print(shown, highlight=False)


def _run(
    study: "Study", rows: list[dict[str, Any]], runs: Path, json_file: Path
) -> list[dict[str, Any]]:
    """Make the trainings that are missing, and write the report after each."""
    from tbc_models.comparing.tying import PACKAGES, run_cases, study_report
    from tbc_models.results import machine

    rows = list(rows)
    with progress_bar() as bar:
        task = bar.add_task("Training", total=len(study.cases()), completed=len(rows))
        for row in run_cases(study, rows, runs):
            rows.append(row)
            write_report(json_file, "--json", study_report(study, rows), machine(*PACKAGES))
            bar.advance(task)
    return rows
