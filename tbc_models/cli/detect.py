"""`tbc detect models` and `tbc detect train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from tbc_models.cli.data_options import Debug, list_skipped, number_of_workers
from tbc_models.cli.run_options import (
    RUN_REMEDIES,
    BatchSize,
    Devices,
    Epochs,
    LearningRate,
    Nodes,
    Precision,
    Resume,
    SaveEvery,
    Seed,
    check_run_options,
)
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    progress_of,
    require_file,
    require_writable,
    setting,
    write_report,
)
from tbc_models.data.instances import FORMS, parse_instances
from tbc_models.data.specification import folder_label

if TYPE_CHECKING:
    from tbc_models.data import InstanceData

DetectorName = Literal["retinanet", "faster-rcnn", "mask-rcnn", "cascade-rcnn", "cascade-mask-rcnn"]
InstancesSpec = typer.Option(metavar="DATA", help=f"Images with objects: {', '.join(FORMS)}.")
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Skip bad annotations and missing images, and list them."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Number of processes that load images, for each device.  "
        "[default: one fewer than the CPU cores, at most 8]",
    ),
]
DATA_REMEDIES = {"skip_bad": "repair or remove it, or skip it with --skip-bad"}
_TRAIN_REMEDIES = {
    **DATA_REMEDIES,
    **RUN_REMEDIES,
    "max_size": "choose others with --max-size or --min-size",
    "pretrained": "choose another network with --backbone, or give a file with --weights",
}

app = typer.Typer(
    no_args_is_help=True,
    help="Detect and segment objects: train, test and use detectors on tied backbones.",
)


@app.command(
    "models",
    epilog="Examples:\n\n- `tbc detect models`\n\n"
    "- `tbc detect models --backbone tied_resnet101_s --size 800x800 --json costs.json`",
)
def list_detectors(
    backbones: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            help="Name of a network, ours or timm's. Repeat for several.  "
            "[default: resnet50, tied_resnet50, tied_resnet50_s, tied_gc_resnet50]",
        ),
    ] = None,
    num_classes: Annotated[
        int, typer.Option(min=2, help="Number of classes, the background included.")
    ] = 91,
    size: Annotated[
        str, typer.Option(metavar="HEIGHTxWIDTH", help="Size of an image in pixels.")
    ] = "800x1344",
    json_file: JsonFile = None,
) -> None:
    """List detectors on several backbones with their costs, and those that ship trained."""
    require_writable(json_file, "--json")
    height, times, width = size.partition("x")
    if not (times and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise typer.BadParameter(f"{size!r} is not HEIGHTxWIDTH.", param_hint="--size")
    with errors_in_one_line():
        from tbc_models.detection.cost import detector_cost
        from tbc_models.detection.detectors import DETECTORS
        from tbc_models.detection.shipped import shipped_detectors

        named = backbones or ["resnet50", "tied_resnet50", "tied_resnet50_s", "tied_gc_resnet50"]
        parts = ("backbone", "neck", "heads", "all")
        shown = plain_table("detector", "backbone", *(f"{p} M" for p in parts), "MACs G", left=2)
        rows = []
        for detector in DETECTORS:
            for backbone in named:
                cost = detector_cost(
                    detector, backbone, num_classes=num_classes, size=(int(height), int(width))
                )
                parameters = [part.parameters for part in cost]
                macs = [part.macs for part in cost]
                shown.add_row(
                    detector,
                    backbone,
                    *(f"{number / 1e6:.2f}" for number in (*parameters, sum(parameters))),
                    " + ".join(f"{number / 1e9:.1f}" for number in macs),
                )
                rows.append(
                    {"detector": detector, "backbone": backbone}
                    | {f"{p} parameters": n for p, n in zip(parts, parameters, strict=False)}
                    | {f"{p} MACs": n for p, n in zip(parts, macs, strict=False)}
                )
        shown.caption = (
            f"M: millions of parameters. MACs: of backbone + neck + heads for one image of "
            f"{height}×{width}, with 1,000 proposals and 100 detections."
        )
        Console().print(shown, highlight=False)
        typer.echo(f"Trained, ready for `tbc detect predict`: {', '.join(shipped_detectors())}")
        if json_file is not None:
            found = {"classes": num_classes, "size": [int(height), int(width)], "rows": rows}
            write_report(json_file, "--json", found)


@app.command(
    "train",
    epilog="Examples:\n\n- `tbc detect train --data scenes --detector mask-rcnn --recipe small`\n\n"
    "- `tbc detect train --data coco:photos --detector faster-rcnn --backbone resnet50 "
    "--pretrained --recipe 1x --batch-size 2`\n\n"
    "- `tbc detect train --data coco:/data/coco --detector mask-rcnn --backbone tied_resnet50_s "
    "--weights runs/imagenet/weights.safetensors --recipe 2x --devices 8 --precision bf16-mixed "
    "--out runs/coco --resume`",
)
def train_detector_command(
    data: Annotated[str, InstancesSpec],
    detector: Annotated[DetectorName, typer.Option(help="Which detector.")] = "mask-rcnn",
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Name of a network, ours or timm's.  [default: tied_resnet14_s for small, else "
            "tied_resnet50_s]"
        ),
    ] = None,
    recipe: Annotated[
        Literal["1x", "2x", "small"] | None,
        typer.Option(help="Training recipe.  [default: small for scenes, otherwise 1x]"),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="Set an option of the backbone. Repeat for several.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Begin with this weights.safetensors of `tbc train`; stem, first stage and batch "
            "normalisation are then frozen.",
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained", help="Begin with timm's trained weights instead, which are downloaded."
        ),
    ] = False,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    min_size: Annotated[
        int | None,
        typer.Option(
            min=32, help="Pixels that short edges are scaled to.  [default: the recipe's]"
        ),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Largest long edge in pixels.  [default: the recipe's, in proportion to "
            "--min-size]",
        ),
    ] = None,
    no_mirror: Annotated[
        bool, typer.Option("--no-mirror", help="Do not mirror training images at random.")
    ] = False,
    seed: Seed = 0,
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "32-true",
    workers: Workers = None,
    save_every: SaveEvery = 1000,
    resume: Resume = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Folder of the run.  [default: runs/DETECTOR-BACKBONE-DATA-RECIPE, where DATA has "
            "the folder's name and a hash of its full path]",
        ),
    ] = None,
    skip_bad: SkipBad = False,
    debug: Debug = False,
) -> None:
    """Train a detector on images with boxes or masks; a killed run resumes with --resume.

    DIR receives last.ckpt and best.ckpt, metrics.csv, curves.png, events for TensorBoard and, when
    all epochs are complete, weights.safetensors. The test images are scored after each epoch and
    are not used for training, but best.ckpt is of the epoch that scored best on them.
    """
    with errors_in_one_line(_TRAIN_REMEDIES, debug=debug):
        kind, path = parse_instances(data)
        backbone_options = dict(setting(text) for text in options or [])
        if weights is not None:
            if pretrained:
                raise typer.BadParameter("give one of --weights and --pretrained, not both.")
            require_file(weights)
        check_run_options(batch_size=batch_size, lr=lr, devices=devices, nodes=nodes)
        chosen = recipe or ("small" if kind == "scenes" else "1x")
        network = backbone or ("tied_resnet14_s" if chosen == "small" else "tied_resnet50_s")

        from tbc_models.networks.registry import check_name

        check_name(network)
        from tbc_models.detection.detectors import MASKED
        from tbc_models.detection.run import train_detector
        from tbc_models.detection.settings import PRETRAINED, prepare_detection
        from tbc_models.training.settings import Machine, is_first

        machine = Machine(
            devices=devices,
            nodes=nodes,
            precision=precision,
            workers=number_of_workers(workers),
        )
        machine.check_devices()
        opened = open_with_progress(data, masks=detector in MASKED, skip_bad=skip_bad)
        begin = PRETRAINED if pretrained else weights
        settings = prepare_detection(
            detector,
            network,
            opened,
            chosen,
            options=backbone_options,
            weights=begin,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            min_size=min_size,
            max_size=max_size,
            mirror=not no_mirror,
            seed=seed,
        )
        folder = out or Path("runs") / f"{detector}-{network}-{_label(kind, path)}-{chosen}"
        row = train_detector(
            settings,
            opened,
            folder,
            machine,
            weights=begin,
            resume=resume,
            save_every=save_every,
            say=typer.echo,
            bar=sys.stdout.isatty() and is_first(),
        )
        if is_first():
            masks = f", of masks {row['test/mask AP']:.3f}" if settings.masks else ""
            typer.echo(
                f"Trained: AP of boxes {row['test/box AP']:.3f}{masks} on the test images. "
                f"All files are in {folder}"
            )


def open_with_progress(spec: str, *, masks: bool, skip_bad: bool) -> "InstanceData":
    """Open images with instances while a bar shows the progress; list what is skipped."""
    from tbc_models.data import open_instances
    from tbc_models.training.settings import is_first

    with progress_of("Checking annotations") as report:
        opened = open_instances(spec, masks=masks, skip_bad=skip_bad, progress=report)
    if is_first():
        list_skipped("bad annotations and images", opened.skipped)
    return opened


def _label(kind: str, path: Path | None) -> str:
    return kind if path is None else folder_label(path, kind)
