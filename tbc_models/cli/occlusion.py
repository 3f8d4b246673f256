"""`tbc detect occlusion`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.data_options import Debug, number_of_workers
from tbc_models.cli.detect import DATA_REMEDIES, SkipBad, Workers, open_with_progress
from tbc_models.cli.detected import CHECKPOINT, open_tested
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    progress_of,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)
from tbc_models.data.instances import FORMS, parse_instances

_REMEDIES = {
    **DATA_REMEDIES,
    "data": "choose other data with --data",
    "of": "leave out --of masks",
    "bins": "choose other edges with --bins",
}

_OF_DETECTORS = ("bins", "scenes", "of", "overlap", "total", "score", "resamples", "workers")

app = typer.Typer()


@app.command(
    "occlusion",
    epilog="Examples:\n\n"
    "- `tbc detect occlusion mask-rcnn-plain_resnet14-scenes mask-rcnn-tied_resnet14_s-scenes`\n\n"
    "- `tbc detect occlusion runs/plain-*/last.ckpt runs/tied-*/last.ckpt --data coco:/data/coco "
    "--json occlusion.json --plot occlusion.png`\n\n"
    "- `tbc detect occlusion --data coco:/data/coco` (r alone, under every reading)",
)
def occlusion_command(
    context: typer.Context,
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help=f"{CHECKPOINT} Those that differ only in their seed are averaged; the others are "
            "compared with the first. Without any, only r is computed.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help=f"Images with the same classes: {', '.join(FORMS)}.  [default: those that the "
            "first detector was trained on]",
        ),
    ] = None,
    bins: Annotated[
        str | None,
        typer.Option(
            metavar="EDGES",
            help="Edges of the bins of r.  [default: 0,0.1,0.2,0.3,0.45,0.6,0.75,0.85]",
        ),
    ] = None,
    scenes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of scenes in each bin of the default reading; for --data scenes only.",
        ),
    ] = 250,
    of: Annotated[
        Literal["boxes", "masks"], typer.Option(help="What overlaps in Eq. (5).")
    ] = "boxes",
    overlap: Annotated[
        Literal["pairs", "pairs-twice", "covered"],
        typer.Option(
            help="How overlap is counted: each pair once, each pair from both sides, or the area "
            "that two or more objects cover."
        ),
    ] = "pairs",
    total: Annotated[
        Literal["sum", "union"],
        typer.Option(
            help="How total area is counted: the areas of all objects added up, or the area "
            "that they cover together."
        ),
    ] = "sum",
    score: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Do not count detections with a lower score as false positives."
        ),
    ] = 0.5,
    resamples: Annotated[
        int, typer.Option(min=100, help="Number of times that images are drawn for the intervals.")
    ] = 1000,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot the curves to this PNG, SVG or PDF file."),
    ] = None,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Measure what occlusion does to detectors, Fig. 7: AP and false positives against r.

    r is the occlusion ratio of an image, Eq. (5). For each bin of r, the command gives AP, AP75,
    false positives and duplicates (another box on an object already found), with 95 % bootstrap
    intervals over images, and the differences between detectors, paired by image.
    """
    require_picture(plot, "--plot")
    require_writable(json_file, "--json")
    edges = _edges(bins)
    with errors_in_one_line(_REMEDIES, debug=debug):
        kind = parse_instances(data)[0] if data is not None else None
        if not checkpoints:
            if data is None:
                raise typer.BadParameter("give a detector, or images with --data.")
            _refuse(context, "needs a detector", *_OF_DETECTORS)
            _distribution(data, skip_bad, plot, json_file)
            return

        from tbc_models.data.occlusion import Reading
        from tbc_models.data.scenes import open_scenes_in_bins
        from tbc_models.detection.occlusion import BINS, check_bins, measure_occlusion
        from tbc_models.detection.run import read_detector

        detectors = [read_detector(checkpoint) for checkpoint in checkpoints]
        first = detectors[0].settings
        chosen = edges or BINS
        check_bins(chosen)
        if (kind or first.data) == "scenes":
            if of == "masks":
                raise typer.BadParameter(
                    "masks of scenes show only what is visible and never overlap: choose boxes.",
                    param_hint="--of",
                )
            opened = open_scenes_in_bins(chosen, scenes)
        else:
            _refuse(context, "is for --data scenes", "scenes")
            masks = of == "masks" or any(one.settings.masks for one in detectors)
            opened = open_tested(data, first, skip_bad=skip_bad, masks=masks)
        with progress_of("Testing images") as report:
            found = measure_occlusion(
                detectors,
                opened,
                bins=chosen,
                reading=Reading(of, overlap, total),
                least_score=score,
                resamples=resamples,
                workers=number_of_workers(workers),
                progress=report,
            )
        if json_file is not None:
            write_report(json_file, "--json", found)
        _print(found)
        if plot is not None:
            from tbc_models.detection.occlusion_plots import occlusion_figure

            write_picture(plot, occlusion_figure(found), "--plot")


def _refuse(context: typer.Context, why: str, *options: str) -> None:
    """Refuse options that would do nothing."""
    for option in options:
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"it {why}.", param_hint=f"--{option}")


def _edges(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(edge) for edge in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be numbers with commas between them, such as 0,0.1,0.3,0.8.",
            param_hint="--bins",
        ) from None


def _print(found: dict[str, Any]) -> None:
    from tbc_models.detection.occlusion_plots import (
        MAIN,
        TITLES,
        error_changes,
        occlusion_conclusions,
        occlusion_table,
    )

    console = Console()
    reading = found["reading"]
    console.print(
        f"{escape(found['data'])}: {found['images']:,} images. r: {reading['of']}, "
        f"{reading['overlap']} / {reading['total']}",
        highlight=False,
        soft_wrap=True,
    )
    if found["left out"]:
        typer.echo(f"{found['left out']:,} images are in no bin and are left out.")
    if found["without objects"]:
        typer.echo(f"{found['without objects']:,} images have no objects: their r is 0.")
    values = 2 + len(found["detectors"])  # columns; narrow terminals have no room for all
    for what in MAIN:
        headers, lines = occlusion_table(found, what)
        rows = [headers, *lines]
        tables = [[row[:values] for row in rows[: 1 + len(found["bins"])]]]
        if len(headers) > values:
            tables.append([[row[0], *row[values:]] for row in rows])
        for number, (first, *others) in enumerate(tables):
            shown = plain_table(*map(escape, first))
            if not number:
                shown.title = TITLES[what] + (", points" if "AP" in what else "")
            for line in others:
                shown.add_row(*map(escape, line))
            console.print(shown, highlight=False)
    typer.echo("[…]: 95 % intervals over images, by bootstrap.")
    for sentence in occlusion_conclusions(found):
        typer.echo(sentence)
    if changes := error_changes(found):
        typer.echo("Errors, from the first bin to the last:")
    for sentence in changes:
        typer.echo(sentence)


def _distribution(data: str, skip_bad: bool, plot: Path | None, json_file: Path | None) -> None:
    from tbc_models.data.occlusion import occlusion_distribution

    opened = open_with_progress(data, masks=False, skip_bad=skip_bad)
    with progress_of("Reading images") as report:
        found = occlusion_distribution(opened, progress=report)
    shares = (25, 50, 75, 90, 100)
    shown = plain_table("r", "25 %", "median", "75 %", "90 %", "largest", "r ≥ 0.8")
    for row in found["rows"]:
        numbers = [f"{row['percentiles'][p]:.3f}" for p in shares]
        shown.add_row(row["reading"], *numbers, f"{row['from 0.8']:,}")
    shown.caption = f"Over all {found['images']:,} images, for training and testing."
    if found["without objects"]:
        shown.caption += f" {found['without objects']:,} have no objects: their r is 0."
    if json_file is not None:
        write_report(json_file, "--json", found)
    Console().print(shown, highlight=False)
    if plot is not None:
        from tbc_models.detection.occlusion_plots import distribution_figure

        write_picture(plot, distribution_figure(found), "--plot")
