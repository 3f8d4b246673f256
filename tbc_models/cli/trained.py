"""`tbc evaluate` and `tbc predict`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.data_options import (
    DATA_REMEDIES,
    Debug,
    Download,
    SkipBad,
    Workers,
    number_of_workers,
    open_specified,
)
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    print_error,
    require_file,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)
from tbc_models.data.errors import BadImageError, DataError
from tbc_models.data.specification import parse_specification
from tbc_models.files import find_weights

CheckpointFile = typer.Argument(metavar="CHECKPOINT", help="A file that `tbc train` wrote.")
_EVALUATE_REMEDIES = {**DATA_REMEDIES, "data": "choose other data with --data"}

app = typer.Typer()


@app.command(
    "evaluate",
    epilog="Examples:\n\n- `tbc evaluate runs/tied_resnet14_s-mnist-small/last.ckpt`\n\n"
    "- `tbc evaluate last.ckpt --data imagefolder:photos --plot confusion.png`",
)
def evaluate_network(
    checkpoint: Annotated[Path, CheckpointFile],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Data set with the same classes.  [default: the one that the network was trained "
            "on]",
        ),
    ] = None,
    workers: Workers = None,
    skip_bad_images: SkipBad = False,
    download: Download = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Plot the confusion matrix to this PNG, SVG or PDF file."
        ),
    ] = None,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Test a trained network: top-1, top-5, and which classes it confuses most often."""
    require_picture(plot, "--plot")
    require_writable(json_file, "--json")
    with errors_in_one_line(_EVALUATE_REMEDIES, debug=debug):
        find_weights(checkpoint)
        named = None if data is None else parse_specification(data)

        from tbc_models.training.run import evaluate
        from tbc_models.training.settings import Machine
        from tbc_models.training.trained import open_trained

        trained = open_trained(checkpoint)
        try:
            specification = named or parse_specification(trained.settings.data)
            opened = open_specified(specification, skip_bad_images, download)
        except DataError as error:
            if named is not None:
                raise
            raise DataError(f"{error}; if the data has moved, name it with --data") from None
        machine = Machine(workers=number_of_workers(workers, in_memory=not specification.in_files))
        score, matrix, settings = evaluate(trained, opened, machine)
        console = Console()
        console.print(
            f"{settings.model} on {len(opened.test):,} test images of {escape(opened.name)}: "
            f"top-1 {score.top1:.2%}, top-5 {score.top5:.2%}, loss {score.loss:.4f}",
            highlight=False,
            soft_wrap=True,
        )
        mistakes = matrix.clone().fill_diagonal_(0)
        worst = mistakes.flatten().argsort(descending=True, stable=True)[:5].tolist()
        shown = plain_table("most often confused", "predicted as", "images", left=2)
        for true, predicted in (divmod(place, len(opened.classes)) for place in worst):
            if number := int(mistakes[true, predicted]):
                names = (escape(opened.classes[i]) for i in (true, predicted))
                shown.add_row(*names, str(number))
        if shown.row_count:
            console.print(shown, highlight=False)
        if plot is not None:
            from tbc_models.training.plots import confusion

            write_picture(plot, confusion(matrix, opened.classes), "--plot")
        if json_file is not None:
            found = {
                "network": settings.model,
                "data": opened.name,
                "images": len(opened.test),
                "top-1": score.top1,
                "top-5": score.top5,
                "loss": score.loss,
                "classes": list(opened.classes),
                "confusion": matrix.tolist(),
            }
            write_report(json_file, "--json", found)


@app.command(
    "predict",
    epilog="Examples:\n\n- `tbc predict runs/photos/last.ckpt holiday.jpg`\n\n"
    "- `tbc predict last.ckpt holiday/*.jpg --top 1 --json classes.json`",
)
def predict_classes(
    checkpoint: Annotated[Path, CheckpointFile],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, such as photographs.")
    ],
    top: Annotated[
        int, typer.Option(min=1, metavar="K", help="Number of classes to name for each image.")
    ] = 5,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Name the most probable classes of your own images, with their probabilities.

    Images are read, cropped and normalised like the test images of `tbc evaluate`, and converted to
    grey for a network that was trained on grey images. Files that are not readable images are
    reported after the others, and the exit code is then 1.
    """
    require_writable(json_file, "--json")
    with errors_in_one_line(debug=debug):
        find_weights(checkpoint)
        for file in images:
            require_file(file)

        from tbc_models.training.predict import predict
        from tbc_models.training.trained import open_trained

        trained = open_trained(checkpoint)
        bad: list[BadImageError] = []
        found = list(predict(trained, images, top=top, skipped=bad.append))
        shown = plain_table("image", "class", "probability", left=2)
        for prediction in found:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            for rank, (name, probability) in enumerate(pairs):
                image = "" if rank else escape(str(prediction.file))
                shown.add_row(image, escape(name), f"{probability:.1%}")
        if found:
            Console().print(shown, highlight=False)
        if json_file is not None:
            rows = [one._asdict() | {"file": str(one.file)} for one in found]
            report = {"network": trained.settings.model, "predictions": rows}
            write_report(json_file, "--json", report)
        for error in bad:
            print_error(str(error))
        if bad:
            raise typer.Exit(1)
