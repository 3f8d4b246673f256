"""The command `tbc tie`."""

import shutil
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tbc_models.cli.data_options import DATA_REMEDIES, Debug, Download, open_specified
from tbc_models.cli.networks import Size, create_named
from tbc_models.cli.run_options import (
    RUN_REMEDIES,
    ChannelsLast,
    Epochs,
    LearningRate,
    NoMirror,
    Precision,
    Resume,
    Seed,
    Teacher,
    TeacherWeight,
    Temperature,
    check_run_options,
    teaching_options,
)
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    require_writable,
    write_report,
)
from tbc_models.data.errors import first_line
from tbc_models.data.specification import Specification, parse_specification
from tbc_models.files import WEIGHTS, replacing

if TYPE_CHECKING:
    from tbc_gpu import TiedLayer
    from tbc_models.count import Count
    from tbc_models.data import Data

app = typer.Typer()
console = Console()
_REMEDIES = {
    **DATA_REMEDIES,
    **RUN_REMEDIES,
    "resume": "resume it with --resume, or choose another folder with --run",
    "settings": "use the settings that it started with, or choose another folder with --run",
    "temperature": "choose another one with --temperature",
    "data": "choose other data with --finetune",
    "teacher": "choose another one with --teacher",
}
_SHOWN = 30  # layers that `tbc tie` lists


@app.command(
    epilog="Examples:\n\n- `tbc tie resnet50 --blocks 2`\n\n"
    '- `tbc tie resnet18 --blocks 4 --where "layer4.*" --pretrained --out tied.safetensors`\n\n'
    "- `tbc tie vit_tiny_patch16_224 --blocks 2 --all --json tied.json`\n\n"
    '- `tbc tie resnet20.cifar10 --pretrained --blocks 2 --where "layer*" --finetune cifar10 '
    "--epochs 5`\n\n"
    "- `tbc tie runs/photos/weights.safetensors --blocks 2 --finetune imagefolder:photos`"
)
def tie(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="Name of a registered network, ours or timm's; or a file of trained weights, from "
            "`tbc train`.",
        ),
    ],
    blocks: Annotated[int, typer.Option(min=2, help="Number of blocks, B, that share one filter.")],
    where: Annotated[
        str,
        typer.Option(
            metavar="PATTERN", help="Pattern for the names of the layers to tie, with * and ?."
        ),
    ] = "*",
    weights: Annotated[
        Literal["nearest", "random"],
        typer.Option(
            help="Weights of the tied layers: nearest to the old ones, or drawn at random."
        ),
    ] = "nearest",
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained",
            help="Start from the trained weights that ship, or timm's, instead of random ones.",
        ),
    ] = False,
    size: Size = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"List all tied layers, not only the {_SHOWN} largest.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save the tied weights, after fine-tuning if there is one, to this safetensors "
            "file.",
        ),
    ] = None,
    json_file: JsonFile = None,
    finetune: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Then train the tied network on this data set, as `tbc train --data` names it. "
            "Needs trained weights. The options below are for this training.",
        ),
    ] = None,
    recipe: Annotated[
        Literal["paper", "strong", "small"] | None,
        typer.Option(help="Training recipe.  [default: as for `tbc train`]"),
    ] = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    teacher: Teacher = "",
    temperature: Temperature = None,
    teacher_weight: TeacherWeight = None,
    seed: Seed = 0,
    no_mirror: NoMirror = False,
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Folder of the training, with all that `tbc train` leaves.  "
            "[default: runs/NAME-tied-B-DATA]",
        ),
    ] = None,
    resume: Resume = False,
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Tie the convolutions and linear layers of a network: SC to TBC, GC to TGC, FC to TFC.

    Shows parameters and MACs before and after, the tied layers with the share of their weights
    that is lost, ‖W − T(W′)‖ / ‖W‖, and the layers that could not be tied, with reasons.

    A tied network must be trained again, because most of each weight is lost. With --finetune the
    command does all of it: it tests the trained network, ties it, tests it with the nearest
    weights, tests it again after measuring its batch normalisation anew, trains it, and tests it
    once more.
    """
    require_writable(out, "--out")
    require_writable(json_file, "--json")
    is_file = Path(name).is_file()
    if finetune is not None and not (pretrained or is_file):
        raise typer.BadParameter(
            "only trained weights can be fine-tuned: add --pretrained, or name a file of weights.",
            param_hint="--finetune",
        )
    if finetune is not None and weights == "random":
        raise typer.BadParameter(
            "fine-tuning starts from the nearest weights: omit --weights random.",
            param_hint="--weights",
        )
    if finetune is None and (recipe or epochs or lr or teacher or run or resume):
        raise typer.BadParameter(
            "the options of a training need --finetune with the data to train on.",
            param_hint="--finetune",
        )
    check_run_options(batch_size=None, lr=lr, devices=1, nodes=1)
    teaching = teaching_options(teacher, temperature, teacher_weight)
    specification = None if finetune is None else _specified(finetune)
    import tbc_gpu
    from tbc_models import exporting
    from tbc_models.count import measure
    from tbc_models.networks import registry

    network, options = _open(name) if is_file else (create_named(name, pretrained), {})
    try:
        tying = tbc_gpu.tie(network, blocks=blocks, where=where, weights=weights)
    except ValueError as error:
        raise typer.BadParameter(first_line(error), param_hint="--where") from None
    reasons = Counter(layer.reason for layer in tying.left)
    if not tying.tied:
        reason, times = reasons.most_common(1)[0]
        raise typer.BadParameter(
            f"no layer can be tied; {times} of {len(tying.left)}: {reason}", param_hint="--blocks"
        )
    pixels = size or registry.input_size(network)
    counts = []
    for hint, one in (("--size", network), ("--where", tying.model)):
        try:
            counts.append(measure(one, pixels))
        except Exception as error:  # some networks read the weights of a layer themselves
            tied = "tied " if one is tying.model else ""
            raise typer.BadParameter(
                f"the {tied}network does not run: {first_line(error)}", param_hint=hint
            ) from None
    source = "trained" if pretrained or is_file else "random"
    console.print(
        f"{name} with {source} weights, B = {blocks}: {len(tying.tied)} layers tied, "
        f"{len(tying.left)} left.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_tying_table(counts, pixels), highlight=False)
    console.print(_tied_table(tying.tied, every), highlight=False)
    if reasons:
        shown = plain_table("left as they were, because", "layers")
        for reason, times in reasons.most_common():
            shown.add_row(reason, str(times))
        console.print(shown, highlight=False)
    found = {}
    if specification is not None:
        with errors_in_one_line(_REMEDIES, debug=debug):
            folder = run or Path("runs") / f"{Path(name).stem}-tied-{blocks}-{specification.label}"
            found = _finetune(
                network,
                open_specified(specification, skip_bad_images=False, download=download),
                folder,
                recipe,
                {
                    "options": options,
                    "size": pixels,
                    "tie_from": name,
                    "blocks": blocks,
                    "where": where,
                    "epochs": epochs,
                    "lr": lr,
                    "seed": seed,
                    "mirror": not no_mirror,
                    **teaching,
                },
                {"precision": precision, "channels_last": channels_last},
                resume=resume,
            )
            if out is not None:
                with replacing(out) as temporary:
                    shutil.copyfile(folder / WEIGHTS, temporary)
    elif out is not None:
        try:
            exporting.save(
                out,
                tying.model,
                name=registry.architecture(network),
                options=options | _trained_with(network) if is_file or "." in name else None,
                blocks=blocks,
                where=where,
                weights=weights,
            )
        except OSError as error:
            raise typer.BadParameter(
                f"{out} cannot be written: {error}", param_hint="--out"
            ) from None
    if json_file is not None:
        before, after = (asdict(c) for c in counts)
        asked = {"network": name, "blocks": blocks, "where": where, "weights": weights}
        found |= {
            "options": asked | {"pretrained": pretrained, "size": pixels},
            "before": before,
            "after": after,
            "tied": [layer._asdict() for layer in tying.tied],
            "left": [layer._asdict() for layer in tying.left],
        }
        write_report(json_file, "--json", found)


def _specified(data: str) -> Specification:
    with errors_in_one_line():
        return parse_specification(data)


def _open(file: str) -> tuple[Any, dict[str, Any]]:
    with errors_in_one_line():
        from tbc_models.training.starting import open_source

        source = open_source(file)
        if source.blocks > 1:
            raise ValueError(f"{file} holds a network that is tied already: name a plain one")
        return source.network, source.options


def _trained_with(network: Any) -> dict[str, Any]:
    """Return the options that say which images and classes a network was trained with."""
    first = next(m for m in network.modules() if hasattr(m, "in_channels"))
    fields = ("input_size", "num_classes", "label_names", "mean", "std")
    overlay = {name: network.pretrained_cfg.get(name) for name in fields}
    shapes = {"in_chans": first.in_channels, "num_classes": network.num_classes}
    return shapes | {"pretrained_cfg_overlay": overlay}


def _finetune(
    network: Any,
    data: "Data",
    folder: Path,
    recipe: str | None,
    options: dict[str, Any],
    machine: dict[str, Any],
    *,
    resume: bool,
) -> dict[str, Any]:
    """Tie, calibrate and train; print the four accuracies, and return them for --json."""
    from tbc_models.networks.registry import architecture
    from tbc_models.training.recipes import usual_recipe
    from tbc_models.training.settings import Machine, prepare
    from tbc_models.training.tying import tie_and_tune

    name = architecture(network)
    settings = prepare(name, data, recipe or usual_recipe(options["size"]), **options)
    scores = tie_and_tune(
        settings,
        data,
        folder,
        Machine(**machine),
        resume=resume,
        say=typer.echo,
        bar=sys.stdout.isatty(),
    )
    shown = plain_table(f"top-1 on {len(data.test):,} test images of {data.name}", "%")
    stages = (
        ("before it was tied", scores.untied),
        ("tied, nearest weights", scores.at_once),
        ("batch normalisation measured anew", scores.recalibrated),
        (f"trained for {settings.epochs} epoch{'s' * (settings.epochs > 1)}", scores.tuned),
    )
    for stage, top1 in stages:
        shown.add_row(stage, f"{100 * top1:.2f}")
    console.print(shown, highlight=False)
    console.print(f"All files are in {escape(str(folder))}", highlight=False, soft_wrap=True)
    training = {
        name: getattr(settings, name) for name in ("recipe", "epochs", "batch_size", "lr", "seed")
    }
    return {"data": data.name, "training": training | machine, "scores": scores._asdict()}


def _tying_table(counts: "list[Count]", size: int) -> Table:
    before, after = counts
    table = plain_table(f"at {size}² pixels", "before", "tied", "%")
    for what, unit, b, a in (
        ("parameters (M)", 1e6, before.parameters, after.parameters),
        ("MACs (G)", 1e9, before.macs, after.macs),
    ):
        table.add_row(what, f"{b / unit:.3f}", f"{a / unit:.3f}", f"{100 * a / b:.1f}")
    return table


def _tied_table(layers: "list[TiedLayer]", every: bool) -> Table:
    table = plain_table("tied layer", "op", "params", "tied", "lost", left=2)
    largest = sorted(layers, key=lambda layer: layer.parameters_before, reverse=True)
    shown = layers if every else [layer for layer in layers if layer in largest[:_SHOWN]]
    for layer in shown:
        table.add_row(
            layer.name,
            f"{layer.before}→{layer.after}",
            f"{layer.parameters_before:,}",
            f"{layer.parameters_after:,}",
            "" if layer.error is None else f"{layer.error:.3f}",
        )
    if len(shown) < len(layers):
        table.caption = f"The {len(shown)} largest of {len(layers)}; --all lists every one."
    return table
