"""The command `tbc train`."""

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
from tbc_models.cli.run_options import (
    RUN_REMEDIES,
    TORCHRUN,
    BatchSize,
    ChannelsLast,
    Devices,
    Epochs,
    LearningRate,
    Nodes,
    NoMirror,
    Precision,
    Resume,
    SaveEvery,
    Seed,
    Teacher,
    TeacherWeight,
    Temperature,
    check_run_options,
    teaching_options,
)
from tbc_models.cli.terminal import errors_in_one_line, setting
from tbc_models.data.specification import parse_specification

_TRAIN_REMEDIES = {
    **DATA_REMEDIES,
    **RUN_REMEDIES,
    "size": "choose another image size with --size",
    "weights": "a tied network starts from the weights of a plain one with --tie-from",
    "tie_from": "use --weights if both are tied, or both plain",
    "temperature": "choose another one with --temperature",
    "teacher": "choose another one with --teacher",
}

app = typer.Typer()


@app.command(
    "train",
    epilog="Examples:\n\n- `tbc train --model tied_resnet14_s --data mnist`\n\n"
    "- `tbc train --model tied_resnet50 --data imagefolder:photos --out runs/photos`\n\n"
    "- `tbc train --model tied_resnet50 --data imagenet:/data/imagenet --recipe paper --devices 8 "
    "--precision bf16-mixed --channels-last --out runs/r50 --resume`\n\n"
    "- `tbc train --model resnet20 --data imagefolder:photos --weights resnet20.cifar10`\n\n"
    "- `tbc train --model tbc_resnet20 --data cifar10 --tie-from resnet20.cifar10 "
    "--teacher resnet20.cifar10`\n\n"
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
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Image size in pixels.  [default: the data set's]")
    ] = None,
    no_mirror: NoMirror = False,
    weights: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME",
            help="Start from trained weights of this network.  [default: from random ones]",
        ),
    ] = "",
    tie_from: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME",
            help="Start a tied network from trained weights of the same network without ties: each "
            "tied layer from the nearest weights that it can have.",
        ),
    ] = "",
    teacher: Teacher = "",
    temperature: Temperature = None,
    teacher_weight: TeacherWeight = None,
    seed: Seed = 0,
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "32-true",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network with torch.compile.")
    ] = False,
    channels_last: ChannelsLast = False,
    workers: Workers = None,
    save_every: SaveEvery = 1000,
    resume: Resume = False,
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

    FILE is last.ckpt, best.ckpt or weights.safetensors of a run, or what `tbc tie` wrote. NAME is a
    network whose trained weights ship (`tbc models --pretrained`), or one that timm has trained
    weights for. With another number of classes the classifier starts at random.

    For several GPUs give --devices, or start the command with torchrun; for several machines give
    --nodes, under SLURM or torchrun. Each batch is divided among all devices.
    """
    with errors_in_one_line(_TRAIN_REMEDIES, debug=debug):
        # Everything that is refused without PyTorch, before it is imported.
        specification = parse_specification(data)
        network_options = dict(setting(text) for text in options or [])
        _refuse_download_by_several(download)
        check_run_options(batch_size=batch_size, lr=lr, devices=devices, nodes=nodes)
        teaching = teaching_options(teacher, temperature, teacher_weight)

        from tbc_models.networks.registry import check_name

        check_name(model)
        from tbc_models.training.recipes import usual_recipe
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
        chosen = recipe or usual_recipe(size or opened.size)
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
            weights=weights,
            tie_from=tie_from,
            **teaching,
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
    several = TORCHRUN in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if download and several:
        raise typer.BadParameter(
            "several processes would download the data at the same time: download it first with "
            "`tbc train` in one process.",
            param_hint="--download",
        )
