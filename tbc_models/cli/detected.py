"""`tbc detect evaluate` and `tbc detect predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.data_options import Debug, number_of_workers
from tbc_models.cli.detect import (
    DATA_REMEDIES,
    SkipBad,
    Workers,
    open_with_progress,
)
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    print_error,
    progress_of,
    require_file,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)
from tbc_models.data.errors import BadImageError, DataError
from tbc_models.data.instances import FORMS, parse_instances

if TYPE_CHECKING:
    from rich.table import Table

    from tbc_models.data import InstanceData
    from tbc_models.detection.settings import DetectionSettings
    from tbc_models.detection.testing import Detection, DetectionScores

CHECKPOINT = (
    "last.ckpt, best.ckpt or weights.safetensors that `tbc detect train` wrote, or the name of a "
    "detector that ships, such as mask-rcnn-tied_resnet14_s-scenes."
)
Checkpoint = Annotated[str, typer.Argument(metavar="CHECKPOINT", help=CHECKPOINT)]
_REMEDIES = {**DATA_REMEDIES, "data": "choose other data with --data"}

app = typer.Typer()


@app.command(
    "evaluate",
    epilog="Examples:\n\n"
    "- `tbc detect evaluate runs/mask-rcnn-tied_resnet14_s-scenes-small/last.ckpt`\n\n"
    "- `tbc detect evaluate best.ckpt --data coco:/data/coco --json ap.json --plot curve.png`",
)
def evaluate_command(
    checkpoint: Checkpoint,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help=f"Images with the same classes: {', '.join(FORMS)}.  [default: those that the "
            "detector was trained on]",
        ),
    ] = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Plot precision against recall to this PNG, SVG or PDF file."
        ),
    ] = None,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Test a detector: average precision of boxes and masks, as COCO defines it.

    On Pascal VOC its own AP is added in both forms (11 points, and the area under the curve), on
    Cityscapes its own AP of masks.
    """
    require_picture(plot, "--plot")
    require_writable(json_file, "--json")
    with errors_in_one_line(_REMEDIES, debug=debug):
        if data is not None:
            parse_instances(data)

        from tbc_models.detection.run import read_detector
        from tbc_models.detection.testing import evaluate_detector

        trained = read_detector(checkpoint)
        opened = open_tested(data, trained.settings, skip_bad=skip_bad)
        with progress_of("Testing images") as report:
            scores = evaluate_detector(
                trained, opened, workers=number_of_workers(workers), progress=report
            )
        _print_scores(scores, trained.settings, opened)
        if plot is not None:
            from tbc_models.detection.plots import precision_recall

            title = f"{trained.settings.detector} on {trained.settings.backbone}"
            write_picture(plot, precision_recall(scores.precision, title), "--plot")
        if json_file is not None:
            found = {
                "detector": trained.settings.detector,
                "backbone": trained.settings.backbone,
                "data": opened.name,
                "images": len(opened.test),
                "classes": trained.settings.classes,
                **scores._asdict(),
            }
            write_report(json_file, "--json", found)


@app.command(
    "predict",
    epilog="Examples:\n\n"
    "- `tbc detect predict mask-rcnn-tied_resnet14_s-scenes docs/_static/scene.png`\n\n"
    "- `tbc detect predict last.ckpt street.jpg --out found`\n\n"
    "- `tbc detect predict last.ckpt street/*.jpg --score 0.7 --json objects.json`",
)
def predict_command(
    checkpoint: Checkpoint,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, such as photographs.")
    ],
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out objects with a lower score.")
    ] = 0.5,
    out: Annotated[
        Path, typer.Option(metavar="DIR", file_okay=False, help="Folder for the pictures.")
    ] = Path("detected"),
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write the objects to this file."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Find objects on your own images, and draw their boxes and masks.

    DIR receives a PNG for each image.
    """
    require_writable(json_file, "--json")
    with errors_in_one_line(debug=debug):
        for file in images:
            require_file(file)
        taken = {file.resolve() for file in images}
        for file in images:
            target = out / f"{file.stem}.png"
            if target.resolve() in taken:
                raise typer.BadParameter(
                    f"the picture of {file} would replace {target}, which is one of the images or "
                    f"the picture of another: rename {file.name}, or choose another folder.",
                    param_hint="--out",
                )
            taken.add(target.resolve())

        from tbc_models.detection.plots import draw_objects
        from tbc_models.detection.run import read_detector
        from tbc_models.detection.testing import detect
        from tbc_models.files import replacing

        trained = read_detector(checkpoint)
        out.mkdir(parents=True, exist_ok=True)
        shown = plain_table("image", "class", "score", "box", left=2)
        rows: list[dict[str, Any]] = []
        bad: list[BadImageError] = []
        for found in detect(trained, images, least=score, skipped=bad.append):
            labels = [
                f"{name} {sure:.0%}" for name, sure in zip(found.classes, found.scores, strict=True)
            ]
            picture = draw_objects(found.image, found.boxes, labels, found.masks)
            with replacing(out / f"{found.file.stem}.png") as temporary:
                picture.save(temporary, format="PNG")
            rows.append(_as_row(found))
            _show(shown, found)
        if shown.row_count:
            Console().print(shown, highlight=False)
        if rows:
            typer.echo(f"Pictures are in {out}")
        if json_file is not None:
            write_report(
                json_file, "--json", {"detector": trained.settings.detector, "images": rows}
            )
        for error in bad:
            print_error(str(error))
        if bad:
            raise typer.Exit(1)


def open_tested(
    data: str | None, settings: "DetectionSettings", *, skip_bad: bool, masks: bool = False
) -> "InstanceData":
    """Open the images that an option names, or else those that the detector was trained on.

    Masks are needed if the detector predicts some, or if `masks` says so.
    """
    needed = masks or settings.masks
    try:
        return open_with_progress(data or settings.data, masks=needed, skip_bad=skip_bad)
    except DataError as error:
        if data is not None or error.option:
            raise
        raise DataError(f"{error}; if the data has moved, name it with --data") from None


def _show(table: "Table", found: "Detection") -> None:
    if not found.classes:
        table.add_row(escape(str(found.file)), "nothing", "", "")
    for i, (name, sure, box) in enumerate(
        zip(found.classes, found.scores, found.boxes.tolist(), strict=True)
    ):
        image = "" if i else escape(str(found.file))
        table.add_row(image, escape(name), f"{sure:.2f}", ", ".join(f"{x:.0f}" for x in box))


def _as_row(found: "Detection") -> dict[str, Any]:
    import numpy as np
    from faster_coco_eval.core import mask as rle

    objects: list[dict[str, Any]] = [
        {"class": name, "score": round(sure, 4), "box": [round(x, 2) for x in box]}
        for name, sure, box in zip(found.classes, found.scores, found.boxes.tolist(), strict=True)
    ]
    if found.masks is not None:
        for one, mask in zip(objects, found.masks, strict=True):
            encoded = rle.encode(np.asfortranarray(mask.byte().numpy()))
            one["mask"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    return {"file": str(found.file), "size": list(found.image.shape[-2:]), "objects": objects}


def _print_scores(
    scores: "DetectionScores", settings: "DetectionSettings", opened: "InstanceData"
) -> None:
    console = Console()
    console.print(
        f"{settings.detector} on {settings.backbone}: {len(opened.test):,} test images of "
        f"{escape(opened.name)}",
        highlight=False,
        soft_wrap=True,
    )
    names = list(scores.box)
    shown = plain_table("", *names)
    for kind, values in (("boxes", scores.box), ("masks", scores.mask)):
        if values is not None:
            shown.add_row(kind, *(_number(values[name]) for name in names))
    if -1 in scores.box.values():
        shown.caption = "–: there are no such objects."
    console.print(shown, highlight=False)
    for name, values in scores.more.items():
        own = ", ".join(f"{k} {_number(v)}" for k, v in values.items() if "/" not in k)
        console.print(f"{name}: {own}", highlight=False)


def _number(value: float) -> str:
    return "–" if value == -1 else f"{value:.3f}"
