"""Options that `tbc train` and `tbc detect train` share, what they refuse, and their remedies."""

import math
import os
from typing import Annotated, Any, Literal

import typer

from tbc_models.training.defaults import TEACHER_WEIGHT, TEMPERATURE

Epochs = Annotated[
    int | None, typer.Option(min=1, help="Number of epochs.  [default: the recipe's]")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of images in a step, over all devices.  [default: the recipe's]"
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="Learning rate for this batch size.  "
        "[default: the recipe's, scaled in proportion to the batch size]",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of every random choice.")]
NoMirror = Annotated[
    bool,
    typer.Option(
        "--no-mirror",
        help="Do not mirror training images at random. Use it for text, digits, hands, road signs "
        "and everything else that has another meaning when it is mirrored.",
    ),
]
ChannelsLast = Annotated[
    bool, typer.Option("--channels-last", help="Use the channels-last memory format.")
]
Devices = Annotated[
    int,
    typer.Option(min=1, help="Number of GPUs of each machine, or of processes without a GPU."),
]
Nodes = Annotated[int, typer.Option(min=1, help="Number of machines, under SLURM or torchrun.")]
Precision = Annotated[
    Literal["32-true", "16-mixed", "bf16-mixed"],
    typer.Option(help="Precision of the computation, as Lightning names it."),
]
SaveEvery = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Write last.ckpt every N steps, and after each epoch."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume the run in DIR; start it if there is none.")
]
Teacher = Annotated[
    str,
    typer.Option(
        metavar="FILE|NAME",
        help="Learn from the outputs of this trained network too (distillation).",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Temperature that softens the outputs of network and teacher alike.  "
        f"[default: {TEMPERATURE:g}]",
    ),
]
TeacherWeight = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        min=0,
        max=1,
        help="Part of the loss that compares with the teacher; the rest compares with the labels.  "
        f"[default: {TEACHER_WEIGHT:g}]",
    ),
]

RUN_REMEDIES = {
    "resume": "resume it with --resume, or choose another folder with --out",
    "stopped": "run the command again with --resume to continue",
    "settings": "use the settings that it started with, or choose another folder with --out",
    "batch_size": "choose another one with --batch-size",
    "devices": "choose another number with --devices",
    "lr": "try a lower learning rate with --lr",
}

# What torchrun and SLURM set in the environment of every process that they start.
TORCHRUN = "TORCHELASTIC_RUN_ID"
_LAUNCHERS = {TORCHRUN, "SLURM_NTASKS"}


def check_run_options(
    *, batch_size: int | None, lr: float | None, devices: int, nodes: int
) -> None:
    """Refuse what is wrong in these options alone, before PyTorch is imported."""
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


def teaching_options(
    teacher: str, temperature: float | None, teacher_weight: float | None
) -> dict[str, Any]:
    """Return those of the options about a teacher that are given; refuse the others without it."""
    given = {"temperature": temperature, "teacher_weight": teacher_weight}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not teacher:
        option = "--" + next(iter(given)).replace("_", "-")
        raise typer.BadParameter("needs --teacher with a trained network.", param_hint=option)
    return {"teacher": teacher, **given}
