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

ShippedName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A trained network that ships, instead of CHECKPOINT; `tbc models --pretrained` lists "
        "them.",
    ),
]
_EVALUATE_REMEDIES = {**DATA_REMEDIES, "data": "choose other data with --data"}

app = typer.Typer()


@app.command(
    "evaluate",
    epilog="Examples:\n\n- `tbc evaluate runs/tied_resnet14_s-mnist-small/last.ckpt`\n\n"
    "- `tbc evaluate --model tbc_resnet20.cifar10 --download`\n\n"
    "- `tbc evaluate last.ckpt --data imagefolder:photos --plot confusion.png`",
)
def evaluate_network(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="last.ckpt, best.ckpt or weights.safetensors of a run of `tbc train`.",
            show_default=False,
        ),
    ] = None,
    model: ShippedName = None,
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
    if (checkpoint is None) == (model is None):
        raise typer.BadParameter("give either CHECKPOINT or --model NAME", param_hint="CHECKPOINT")
    with errors_in_one_line(_EVALUATE_REMEDIES, debug=debug):
        file = find_weights(str(model or checkpoint))
        named = None if data is None else parse_specification(data)

        from tbc_models.training.run import evaluate
        from tbc_models.training.settings import Machine
        from tbc_models.training.trained import open_trained

        trained = open_trained(file)
        try:
            specification = named or parse_specification(trained.settings.data)
            opened = open_specified(specification, skip_bad_images, download)
        except DataError as error:
            if named is not None:
                raise
            moved = "if the data has moved, " if ":" in trained.settings.data else ""
            raise DataError(f"{error}; {moved}name it with --data") from None
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
    "- `tbc predict --model tbc_resnet20.cifar10 photo.png`\n\n"
    "- `tbc predict last.ckpt holiday/*.jpg --top 1 --json classes.json`",
)
def predict_classes(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CHECKPOINT] IMAGE...",
            help="last.ckpt, best.ckpt or weights.safetensors of a run of `tbc train`, unless "
            "--model is given; and image files, such as photographs.",
        ),
    ],
    model: ShippedName = None,
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
    images = files if model else files[1:]
    if not images:
        raise typer.BadParameter(
            "name at least one image after CHECKPOINT, or a network with --model",
            param_hint="IMAGE",
        )
    with errors_in_one_line(debug=debug):
        network = find_weights(model or files[0])
        for image in images:
            require_file(image)

        from tbc_models.training.predict import predict
        from tbc_models.training.trained import open_trained

        trained = open_trained(network)
        bad: list[BadImageError] = []
        found = list(predict(trained, images, top=top, skipped=bad.append))
        shown = plain_table("image", "class", "probability", left=2)
        for prediction in found:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            for rank, (name, probability) in enumerate(pairs):
                named = "" if rank else escape(str(prediction.file))
                shown.add_row(named, escape(name), f"{probability:.1%}")
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
