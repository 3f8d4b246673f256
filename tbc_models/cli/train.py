"""The command `tbc train`."""

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tbc_models.cli.data_options import (
    DATA_REMEDIES,
    DataSpec,
    Debug,
    Download,
    SkipBad,
    Workers,
    number_of_workers,
    open_specified,
)
from tbc_models.cli.terminal import errors_in_one_line, setting
from tbc_models.data.specification import parse_specification

_TRAIN_REMEDIES = {
    **DATA_REMEDIES,
    "resume": "resume it with --resume, or choose another folder with --out",
    "stopped": "run the command again with --resume to continue",
    "settings": "use the settings that it started with, or choose another folder with --out",
    "batch_size": "choose another one with --batch-size",
    "devices": "choose another number with --devices",
    "lr": "try a lower learning rate with --lr",
    "size": "choose another image size with --size",
}
# What torchrun and SLURM set in the environment of every process that they start.
_TORCHRUN = "TORCHELASTIC_RUN_ID"
_LAUNCHERS = {_TORCHRUN, "SLURM_NTASKS"}

app = typer.Typer()


@app.command(
    "train",
    epilog="Examples:\n\n- `tbc train --model tied_resnet14_s --data mnist`\n\n"
    "- `tbc train --model tied_resnet50 --data imagefolder:photos --out runs/photos`\n\n"
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
            help="Training recipe.  [default: small for images of up to 64 pixels, otherwise paper]"
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="Set an option of the network. Repeat for several.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs.  [default: the recipe's]")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of images in a step, over all devices.  [default: the recipe's]"
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
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
            help="Do not mirror training images at random. Use it for text, digits, hands, road "
            "signs and everything else that has another meaning when it is mirrored.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of every random choice.")
    ] = 0,
    devices: Annotated[
        int,
        typer.Option(min=1, help="Number of GPUs of each machine, or of processes without a GPU."),
    ] = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help="Number of machines, under SLURM or torchrun.")
    ] = 1,
    precision: Annotated[
        Literal["32-true", "16-mixed", "bf16-mixed"],
        typer.Option(help="Precision of the computation, as Lightning names it."),
    ] = "32-true",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network with torch.compile.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Use the channels-last memory format.")
    ] = False,
    workers: Workers = None,
    save_every: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Write last.ckpt every N steps, and after each epoch."
        ),
    ] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in DIR; start it if there is none.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Folder of the run.  [default: runs/MODEL-DATA-RECIPE; for imagefolder:PATH, DATA "
            "is the folder's name and a hash of its full path]",
        ),
    ] = None,
    skip_bad_images: SkipBad = False,
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Train a network on labelled images; a run that was killed resumes with --resume.

    DIR receives last.ckpt and best.ckpt, metrics.csv, curves.png, events for TensorBoard and, when
    all epochs are complete, weights.safetensors. On one CPU, a run that was killed and resumed ends
    with the same weights, bit for bit, as a run that was not. The test images are scored after each
    epoch and are not used for training, but best.ckpt is of the epoch that scored best on them.

    For several GPUs give --devices, or start the command with torchrun; for several machines give
    --nodes, under SLURM or torchrun. Each batch is divided among all devices.
    """
    with errors_in_one_line(_TRAIN_REMEDIES, debug=debug):
        # Everything that is refused without PyTorch, before it is imported.
        specification = parse_specification(data)
        network_options = dict(setting(text) for text in options or [])
        _refuse_download_by_several(download)
        if nodes > 1 and not _LAUNCHERS & os.environ.keys():
            raise typer.BadParameter(
                f"{nodes} machines need SLURM or torchrun, to start the command on each of them.",
                param_hint="--nodes",
            )
        if lr is not None and not 0 < lr < math.inf:
            raise typer.BadParameter(f"{lr} is not a positive number.", param_hint="--lr")
        if batch_size is not None and batch_size % (devices * nodes):
            raise typer.BadParameter(
                f"{batch_size} is not a multiple of the {devices * nodes} processes that share a "
                "batch.",
                param_hint="--batch-size",
            )

        from tbc_models.networks.registry import check_name

        check_name(model)
        from tbc_models.training.run import train
        from tbc_models.training.settings import Machine, is_first, prepare

        machine = Machine(
            devices=devices,
            nodes=nodes,
            precision=precision,
            compile=compile,
            channels_last=channels_last,
            workers=number_of_workers(workers, in_memory=not specification.in_files),
        )
        machine.check_devices()
        opened = open_specified(specification, skip_bad_images, download)
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
                f"Trained: top-1 {score.top1:.2%}, top-5 {score.top5:.2%} on the test images. "
                f"All files are in {folder}"
            )


def _refuse_download_by_several(download: bool) -> None:
    """Refuse --download if torchrun or SLURM started several processes, which would collide."""
    several = _TORCHRUN in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if download and several:
        raise typer.BadParameter(
            "several processes would download the data at the same time: download it first with "
            "`tbc train` in one process.",
            param_hint="--download",
        )
