"""`tbc train` and `tbc evaluate`. What takes seconds to import is imported when it is needed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.terminal import (
    plain_table,
    progress_bar,
    require_writable,
    setting,
    write_picture,
    write_report,
)


class Precision(StrEnum):
    """What a network computes in, as Lightning spells it."""

    full = "32-true"
    half = "16-mixed"
    brain = "bf16-mixed"


DataSpec = typer.Option(
    metavar="DATA",
    help="mnist, digits, or fashion-mnist:PATH, cifar10:PATH, cifar100:PATH, imagenet:PATH, "
    "imagefolder:PATH.",
)
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad-images", help="Read every file first; leave out and list bad ones."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch Fashion-MNIST or CIFAR if it is not in PATH.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that load images, for each device.  "
        "[default: one for each CPU core but one, at most 8; 0 where the images are in memory]",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


app = typer.Typer()


@app.command(
    epilog="Examples:\n\n- `tbc train --model tied_resnet14_s --data mnist`\n\n"
    "- `tbc train --model tied_resnet50 --data imagefolder:photos --epochs 30 --batch-size 64`\n\n"
    "- `tbc train --model tied_resnet50 --data imagenet:/data/imagenet --recipe paper --devices 8 "
    "--precision bf16-mixed --channels-last --out runs/r50 --resume`\n\n"
    "- `torchrun --nproc_per_node=8 -m tbc_models train --model tied_resnet50 "
    "--data imagenet:/data/imagenet`"
)
def train(
    model: Annotated[str, typer.Option(help="A registered network, ours or timm's.")],
    data: Annotated[str, DataSpec],
    recipe: Annotated[
        Literal["paper", "strong", "small"] | None,
        typer.Option(help="How to train.  [default: small for images up to 64 pixels, or paper]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Of the network. Repeat for several."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="How many.  [default: the recipe's]")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images of a step, over all devices.  [default: the recipe's]"),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            min=0, help="Learning rate, as it is.  [default: the recipe's, scaled to the batch]"
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Image size in pixels.  [default: the data's]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of everything random.")] = 0,
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs, or CPU processes, of each machine.")
    ] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    precision: Annotated[Precision, typer.Option(help="What to compute in.")] = Precision.full,
    compile: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Keep the channels of a pixel together.")
    ] = False,
    workers: Workers = None,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints of an epoch.")
    ] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in DIR, if there is one.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of the run.  [default: runs/MODEL-DATA-RECIPE]"),
    ] = None,
    skip_bad_images: SkipBad = False,
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Train a network on labelled images; a run that is killed goes on with --resume.

    DIR gets last.ckpt and best.ckpt, metrics.csv, curves.png, events for TensorBoard and, when all
    epochs are through, weights.safetensors. A resumed run ends with the weights of a run that was
    never stopped, bit for bit on one CPU. Test images are scored after each epoch and never
    learned from; note that best.ckpt is chosen by them.

    For several GPUs give --devices, or start the command with torchrun; for several machines
    --nodes, under SLURM or torchrun. A batch is divided among them.
    """
    with told_in_one_line(debug):
        from tbc_models.networks.registry import check_name

        check_name(model)
        from tbc_models.training.run import train as run_training
        from tbc_models.training.settings import Machine, is_first, prepare

        opened = _open(data, skip_bad_images, download)
        chosen = recipe or ("small" if (size or opened.size) <= 64 else "paper")
        prepared = prepare(
            model,
            opened,
            chosen,
            options=dict(setting(text) for text in settings or []),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            size=size,
            seed=seed,
        )
        machine = Machine(
            devices=devices,
            nodes=nodes,
            precision=precision.value,
            compile=compile,
            channels_last=channels_last,
            workers=_workers(workers, data),
        )
        folder = out or Path("runs") / f"{model}-{data.partition(':')[0]}-{chosen}"
        score = run_training(
            prepared,
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
                f"Trained: top-1 {score.top1:.2%}, top-5 {score.top5:.2%}. All of it is in {folder}"
            )


@app.command(
    epilog="Examples:\n\n- `tbc evaluate runs/tied_resnet14_s-mnist-small/last.ckpt`\n\n"
    "- `tbc evaluate last.ckpt --data imagefolder:photos --plot confusion.png`"
)
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="That `tbc train` wrote.")
    ],
    data: Annotated[str | None, DataSpec] = None,
    workers: Workers = None,
    skip_bad_images: SkipBad = False,
    download: Download = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw there which class was taken for which."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Test a trained network: top-1, top-5, and which classes it takes for one another."""
    require_writable(plot, "--plot")
    require_writable(json_file, "--json")
    with told_in_one_line(debug):
        from tbc_models.training.callbacks import read_checkpoint
        from tbc_models.training.run import evaluate as run_evaluation
        from tbc_models.training.settings import Machine

        trained, _ = read_checkpoint(checkpoint)
        spec = data or trained.data
        opened = _open(spec, skip_bad_images, download)
        machine = Machine(workers=_workers(workers, spec))
        score, matrix, _ = run_evaluation(checkpoint, opened, machine)
        console = Console()
        console.print(
            f"{trained.model} on {len(opened.test):,} test images of {spec}: "
            f"top-1 {score.top1:.2%}, top-5 {score.top5:.2%}, loss {score.loss:.4f}",
            highlight=False,
            soft_wrap=True,
        )
        mistakes = matrix.clone().fill_diagonal_(0)
        worst = mistakes.flatten().argsort(descending=True, stable=True)[:5].tolist()
        shown = plain_table("most often taken", "for", "images", left=2)
        for true, taken in (divmod(place, len(opened.classes)) for place in worst):
            if number := int(mistakes[true, taken]):
                shown.add_row(opened.classes[true], opened.classes[taken], str(number))
        if shown.row_count:
            console.print(shown, highlight=False)
        if plot is not None:
            from tbc_models.training.plots import confusion

            write_picture(plot, confusion(matrix, opened.classes), "--plot")
        if json_file is not None:
            write_report(
                json_file,
                "--json",
                {
                    "network": trained.model,
                    "data": spec,
                    "images": len(opened.test),
                    "top-1": score.top1,
                    "top-5": score.top5,
                    "loss": score.loss,
                    "classes": list(opened.classes),
                    "confusion": matrix.tolist(),
                },
            )


def _open(spec: str, skip_bad_images: bool, download: bool) -> Any:
    from tbc_models.data import open_data
    from tbc_models.training.settings import RunError, is_first

    several = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if download and several:
        raise RunError(
            "--download is for one process: fetch the data first, with `tbc train` alone"
        )
    if not skip_bad_images:
        return open_data(spec, download=download)
    with progress_bar() as progress:
        task = progress.add_task("Reading images")

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        opened = open_data(spec, skip_bad_images=True, download=download, progress=report)
    if opened.skipped and is_first():
        typer.echo(f"Bad images, left out: {len(opened.skipped)}")
        for file in opened.skipped[:10]:
            typer.echo(f"  {file}")
        if len(opened.skipped) > 10:
            typer.echo("  …")
    return opened


def _workers(asked: int | None, spec: str) -> int:
    if asked is not None:
        return asked
    in_files = spec.partition(":")[0] in ("imagefolder", "imagenet")
    return min(8, (os.cpu_count() or 1) - 1) if in_files else 0


@contextmanager
def told_in_one_line(debug: bool) -> Iterator[None]:
    """Turn what a user can mend into one line."""
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise
    except Exception as error:
        if debug:
            raise
        from tbc_models.data import one_line

        text = one_line(error)
        if isinstance(error, FileNotFoundError) and error.filename:
            text = f"{error.filename} does not exist"
        if isinstance(error, ModuleNotFoundError):
            text += ": pip install 'tied-block-conv[train]'"
        elif not isinstance(error, (ValueError, OSError, ImportError, ArithmeticError)):
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        Console(stderr=True).print(
            f"[red]Error:[/red] {escape(text)}", highlight=False, soft_wrap=True
        )
        stopped = getattr(error, "by", None)  # the signal that stopped a run
        raise typer.Exit(128 + stopped if stopped else 1) from None
