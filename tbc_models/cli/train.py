"""`tbc train`, `tbc evaluate` and `tbc predict`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.terminal import (
    errors_in_one_line,
    plain_table,
    progress_bar,
    require_file,
    require_writable,
    setting,
    write_picture,
    write_report,
)
from tbc_models.data.errors import DataError
from tbc_models.data.specification import FORMS, parse_specification

if TYPE_CHECKING:
    from tbc_models.data import Data

DataSpec = typer.Option(metavar="DATA", help=f"Data set: {', '.join(FORMS)}.")
CheckpointFile = typer.Argument(metavar="CHECKPOINT", help="A file that `tbc train` wrote.")
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad-images", help="Read every file first; list those that are bad and skip them."
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Download Fashion-MNIST or CIFAR if PATH does not have it."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that load images, for each device.  "
        "[default: the number of CPU cores less one, at most 8; 0 if the images are in memory]",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_DATA_REMEDIES = {
    "skip_bad_images": "repair or remove it, or skip bad images with --skip-bad-images",
    "download": "download it with --download",
}
_TRAIN_REMEDIES = {
    **_DATA_REMEDIES,
    "resume": "continue it with --resume, or choose another folder with --out",
    "settings": "repeat the settings that it started with, or choose another folder with --out",
    "batch_size": "choose another one with --batch-size",
    "devices": "choose another number with --devices",
    "lr": "try a lower learning rate with --lr",
    "size": "choose another image size with --size",
}
_EVALUATE_REMEDIES = {**_DATA_REMEDIES, "data": "choose other data with --data"}


app = typer.Typer()


@app.command(
    "train",
    epilog="Examples:\n\n- `tbc train --model tied_resnet14_s --data mnist`\n\n"
    "- `tbc train --model tied_resnet50 --data imagefolder:photos --epochs 30 --batch-size 64`\n\n"
    "- `tbc train --model tied_resnet50 --data imagenet:/data/imagenet --recipe paper --devices 8 "
    "--precision bf16-mixed --channels-last --out runs/r50 --resume`\n\n"
    "- `torchrun --nproc_per_node=8 -m tbc_models train --model tied_resnet50 "
    "--data imagenet:/data/imagenet`",
)
def train_network(
    model: Annotated[str, typer.Option(help="Name of a network, ours or timm's.")],
    data: Annotated[str, DataSpec],
    recipe: Annotated[
        Literal["paper", "strong", "small"] | None,
        typer.Option(
            help="How to train.  [default: small for images of up to 64 pixels, else paper]"
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="OPTION=VALUE", help="Option of the network. Repeat it for several."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs.  [default: the recipe's]")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images of a step, over all devices.  [default: the recipe's]"),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Learning rate for this batch size.  "
            "[default: the recipe's, scaled in proportion to the batch size]",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Image size in pixels.  [default: the data set's]")
    ] = None,
    no_mirror: Annotated[
        bool,
        typer.Option(
            "--no-mirror",
            help="Do not mirror training images at random. For text, digits, hands, road signs and "
            "everything else that means something else in a mirror.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of every random choice.")
    ] = 0,
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs of each machine, or processes if it has no GPU.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    precision: Annotated[
        Literal["32-true", "16-mixed", "bf16-mixed"],
        typer.Option(help="Precision to compute in, as Lightning names it."),
    ] = "32-true",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network with torch.compile.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Use the channels-last memory format.")
    ] = False,
    workers: Workers = None,
    save_every: Annotated[
        int, typer.Option(min=1, help="Write last.ckpt after this many steps, too.")
    ] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in DIR; start it if there is none.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Folder of the run.  [default: runs/MODEL-DATA-RECIPE, where DATA is the name of "
            "the folder for imagefolder:PATH]",
        ),
    ] = None,
    skip_bad_images: SkipBad = False,
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Train a network on labelled images; a run that was killed resumes with --resume.

    DIR receives last.ckpt and best.ckpt, metrics.csv, curves.png, events for TensorBoard and, when
    all epochs are complete, weights.safetensors. On one CPU, a run that was killed and resumed ends
    with the weights of a run that was not, bit for bit. Test images are scored after each epoch and
    are not used for training; but best.ckpt is the epoch that scored best on them.

    For several GPUs give --devices, or start the command with torchrun; for several machines give
    --nodes, under SLURM or torchrun. Each batch is divided among them.
    """
    with errors_in_one_line(_TRAIN_REMEDIES, debug=debug):
        # What can be wrong in the options alone, before PyTorch is imported.
        specification = parse_specification(data)
        network_options = dict(setting(text) for text in options or [])
        _refuse_download_by_several(download)
        if batch_size is not None and batch_size % (devices * nodes):
            raise typer.BadParameter(
                f"{batch_size} must be a multiple of the {devices * nodes} processes that share a "
                "batch.",
                param_hint="--batch-size",
            )

        from tbc_models.networks.registry import check_name

        check_name(model)
        from tbc_models.training.run import train
        from tbc_models.training.settings import Machine, is_first, prepare

        opened = _open(data, skip_bad_images, download)
        chosen = recipe or ("small" if (size or opened.size) <= 64 else "paper")
        settings = prepare(
            model,
            opened,
            chosen,
            options=network_options,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            size=size,
            seed=seed,
            mirror=not no_mirror,
        )
        machine = Machine(
            devices=devices,
            nodes=nodes,
            precision=precision,
            compile=compile,
            channels_last=channels_last,
            workers=_workers(workers, data),
        )
        folder = out or Path("runs") / f"{model}-{specification.label}-{chosen}"
        score = train(
            settings,
            opened,
            folder,
            machine,
            resume=resume,
            save_every=save_every,
            say=typer.echo,
            bar=sys.stdout.isatty() and is_first(),
        )
        if is_first():
            typer.echo(
                f"Trained: top-1 {score.top1:.2%}, top-5 {score.top5:.2%}. "
                f"Everything is in {folder}"
            )


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
            metavar="FILE", help="Draw which class was predicted for which: PNG, SVG or PDF."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results to FILE, too.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Test a trained network: top-1, top-5, and which classes it confuses most often."""
    require_writable(plot, "--plot")
    require_writable(json_file, "--json")
    with errors_in_one_line(_EVALUATE_REMEDIES, debug=debug):
        require_file(checkpoint)
        if data is not None:
            parse_specification(data)

        from tbc_models.training.callbacks import read_checkpoint
        from tbc_models.training.run import evaluate
        from tbc_models.training.settings import Machine

        trained = read_checkpoint(checkpoint)
        spec = data or trained.settings.data
        try:
            opened = _open(spec, skip_bad_images, download)
        except DataError as error:
            if data is None and error.option is None:
                raise DataError(f"{error}; if the data has moved, name it with --data") from None
            raise
        machine = Machine(workers=_workers(workers, spec))
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
    epilog="Examples:\n\n- `tbc predict runs/tied_resnet50-photos-paper/last.ckpt holiday.jpg`\n\n"
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
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results to FILE, too.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Name the most probable classes of your own images, with their probabilities.

    Images are read, cropped and normalised as the test images of `tbc evaluate` are. A network that
    was trained on grey images gets them in grey.
    """
    require_writable(json_file, "--json")
    with errors_in_one_line(debug=debug):
        for file in (checkpoint, *images):
            require_file(file)

        from tbc_models.training.callbacks import read_checkpoint
        from tbc_models.training.predict import predict

        trained = read_checkpoint(checkpoint)
        found = list(predict(trained, images, top=top))
        shown = plain_table("image", "class", "probability", left=2)
        for prediction in found:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            for rank, (name, probability) in enumerate(pairs):
                image = "" if rank else escape(str(prediction.file))
                shown.add_row(image, escape(name), f"{probability:.1%}")
        Console().print(shown, highlight=False)
        if json_file is not None:
            rows = [one._asdict() | {"file": str(one.file)} for one in found]
            report = {"network": trained.settings.model, "predictions": rows}
            write_report(json_file, "--json", report)


def _refuse_download_by_several(download: bool) -> None:
    """Refuse --download if torchrun or SLURM started several processes, which would collide."""
    several = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if download and several:
        raise typer.BadParameter(
            "several processes would download at once: run `tbc train` alone first.",
            param_hint="--download",
        )


def _open(spec: str, skip_bad_images: bool, download: bool) -> "Data":
    from tbc_models.data import open_data
    from tbc_models.training.settings import is_first

    if not skip_bad_images:
        return open_data(spec, download=download)
    with progress_bar() as progress:
        task = progress.add_task("Reading images")

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        opened = open_data(spec, skip_bad_images=True, download=download, progress=report)
    if opened.skipped and is_first():
        typer.echo(f"Skipped bad images: {len(opened.skipped)}")
        for file in opened.skipped[:10]:
            typer.echo(f"  {file}")
        if len(opened.skipped) > 10:
            typer.echo("  …")
    return opened


def _workers(workers: int | None, spec: str) -> int:
    if workers is not None:
        return workers
    return min(8, (os.cpu_count() or 1) - 1) if parse_specification(spec).in_files else 0
