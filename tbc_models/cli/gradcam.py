"""`tbc gradcam`."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.data_options import Debug
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from tbc_models.cli.opened import Opened, Preprocessing
    from tbc_models.data.annotations import Box

_MOST_IMAGES = 24  # a wider figure cannot be read
_REMEDIES = {"layer": "name another with --layer", "target": "choose another with --target"}

app = typer.Typer()


@app.command(
    "gradcam",
    epilog="Examples:\n\n"
    "- `tbc gradcam resnet20.cifar10 tbc_resnet20.cifar10 tests/images/cifar10-*.png`\n\n"
    "- `tbc gradcam resnet50 photo.jpg --target 281`\n\n"
    "- `tbc gradcam runs/plain/last.ckpt runs/tied/last.ckpt photos --boxes instances_val.json`",
)
def gradcam_command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK... IMAGE...",
            help="Networks: names of networks with trained weights, of this package or of timm; "
            "checkpoints or safetensors files; or MODULE:FUNCTION=FILE, functions that build a "
            "network, and its weights; =FILE may follow a name, too. Images: files, or folders of "
            "them. Image files and folders are images, and everything else is a network.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS|INDEX",
            help="Explain this class, by its name or its index from 0.  [default: the class that "
            "each network predicts]",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Weight the channels of this layer.  [default: the last one before the pooling]",
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Boxes of the images in COCO's format, matched by the paths of the image files, "
            "to say how much of each map lies inside the boxes of its class.",
        ),
    ] = None,
    plot: Annotated[
        Path, typer.Option(metavar="FILE", help="Draw the maps to this PNG, SVG or PDF file.")
    ] = Path("gradcam.png"),
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Show where in images networks find their classes, by Grad-CAM (Fig. 8).

    The first row of the figure has the images, and each further row the maps of a network. A map
    shows which places speak for one class; its colours go from its own smallest value to its own
    largest. With --boxes, the boxes of that class are drawn in white. The table then gives the part
    of the map inside them (energy), the part of the image that they cover, which is the energy of
    a uniform map, and whether the largest value lies inside (pointing).
    """
    require_picture(plot, "--plot")
    require_writable(json_file, "--json")
    with errors_in_one_line(_REMEDIES, debug=debug):
        names, files = _networks_and_images(arguments)

        from tbc_models.analysis.gradcam_plots import gradcam_figure
        from tbc_models.cli.opened import open_network
        from tbc_models.data.folders import read_image

        known = _boxes(boxes, files)
        images = [read_image(file) for file in files]
        opened = [open_network(name) for name in names]
        labels = [one.label for one in opened]
        networks = [
            replace(one, label=name) if labels.count(one.label) > 1 else one
            for one, name in zip(opened, names, strict=True)
        ]
        explained = [_explain(one, files, images, target, layer, known) for one in networks]
        _print(explained, boxes is not None)
        if json_file is not None:
            about = [
                {"network": one.network.label, "weights": one.network.weights, "layer": one.layer}
                for one in explained
            ]
            rows = [row for one in explained for row in one.rows]
            write_report(json_file, "--json", {"networks": about, "rows": rows})
        overlays = {one.network.label: one.overlays for one in explained}
        write_picture(plot, gradcam_figure(overlays), "--plot")
        typer.echo(f"The maps are in {plot}.")


def _networks_and_images(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Tell images from networks: files with the suffix or content of an image, and folders."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    networks: list[str] = []
    images: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = [one for one in sorted(path.iterdir()) if one.suffix.lower() in IMG_EXTENSIONS]
            if not found:
                hint = ", ".join(IMG_EXTENSIONS)
                raise ValueError(
                    f"{path} has no images ({hint}); of a trained network, name the file, such as "
                    f"{path / 'last.ckpt'}"
                )
            images += found
        elif path.suffix.lower() in IMG_EXTENSIONS or _is_image(path):
            images.append(path)
        else:
            networks.append(argument)
    if not networks:
        raise ValueError("name at least one network before the images, such as resnet20.cifar10")
    if not images:
        raise ValueError(f"name at least one image: {', '.join(networks)} were taken for networks")
    if len(images) > _MOST_IMAGES:
        raise ValueError(f"name at most {_MOST_IMAGES} images, not {len(images)}")
    if double := {name for name in networks if networks.count(name) > 1}:
        raise ValueError(f"name {double.pop()} once")
    return networks, images


def _is_image(file: Path) -> bool:
    from PIL import Image

    if not file.is_file():
        return False
    try:
        with Image.open(file):
            return True
    except Exception:  # Pillow raises a dozen types
        return False


class _Explained(NamedTuple):
    network: "Opened"
    layer: str
    rows: list[dict[str, Any]]
    overlays: list[Any]


def _explain(
    network: "Opened",
    files: Sequence[Path],
    images: Sequence["Image.Image"],
    target: str | None,
    layer: str | None,
    boxes: "dict[Path, list[tuple[str, Box]]]",
) -> _Explained:
    """Explain one network's classes of all images."""
    import torch

    from tbc_models.analysis.focus import measure_focus
    from tbc_models.analysis.gradcam import grad_cam
    from tbc_models.analysis.gradcam_plots import Overlay

    preprocessing = network.preprocessing
    batch = torch.stack([preprocessing.prepared(image) for image in images])
    found = grad_cam(network.network, batch, _index(target, network), layer)
    rows, overlays = [], []
    for i, (file, image) in enumerate(zip(files, images, strict=True)):
        index, heat = int(found.classes[i]), found.maps[i]
        name = network.classes[index] if network.classes else str(index)
        row = {
            "network": network.label,
            "image": str(file),
            "class": name,
            "index": index,
            "probability": float(found.probabilities[i]),
            "empty": not bool(heat.any()),
        }
        mask = _mask(name, boxes.get(file, []), image, preprocessing)
        if mask is not None:
            row["share"] = float(mask.mean())
            focus = measure_focus(heat[None], mask[None])
            row["energy"], row["pointing"] = (
                float(values[0]) if len(values) else None
                for values in (focus.energy, focus.pointing)
            )
        rows.append(row)
        caption = f"{name} {row['probability']:.0%}" + ("\nno map" if row["empty"] else "")
        overlays.append(Overlay(preprocessing.cropped(image), heat, caption, mask))
    return _Explained(network, found.layer, rows, overlays)


def _index(target: str | None, network: "Opened") -> int | None:
    """Find the index of a class by its name, or read it."""
    if target is None:
        return None
    names = [name.lower() for name in network.classes or ()]
    found = [index for index, name in enumerate(names) if name == target.lower()]
    if len(found) > 1:
        several = "; ".join(f"{index}, {_full_name(network, index)}" for index in found)
        raise typer.BadParameter(
            f"{target!r} is the name of {len(found)} classes: give the index ({several})",
            param_hint="--target",
        )
    if found:
        return found[0]
    if target.removeprefix("-").isdecimal():
        return int(target)
    near = get_close_matches(target.lower(), names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise typer.BadParameter(
        f"{target!r} must be the name of a class, or its index from 0{hint}", param_hint="--target"
    )


def _full_name(network: "Opened", index: int) -> str:
    """Name a class of ImageNet with all its synonyms; other classes have one name."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    built: Any = network.network
    subset = infer_imagenet_subset(built)
    if subset is None or built.pretrained_cfg.get("label_names"):
        return (network.classes or ())[index]
    found: str = ImageNetInfo(subset).index_to_description(index, detailed=True)
    return found


def _boxes(file: Path | None, images: Sequence[Path]) -> "dict[Path, list[tuple[str, Box]]]":
    if file is None:
        return {}
    from tbc_models.analysis.focus_photographs import match_images, read_boxes

    known = read_boxes(file)
    matched = match_images(images, known)
    if not matched:
        raise typer.BadParameter(
            f"{file} has no image named {images[0].name}, nor any other of the images",
            param_hint="--boxes",
        )
    return {image: known[name] for image, name in matched.items()}


def _mask(
    name: str,
    boxes: "Sequence[tuple[str, Box]]",
    image: "Image.Image",
    preprocessing: "Preprocessing",
) -> "Tensor | None":
    """Draw the boxes of a class as the network sees them; None if it sees none."""
    import torch
    from torchvision.transforms.v2 import functional

    from tbc_models.analysis.focus import box_mask
    from tbc_models.analysis.focus_photographs import OTHER_NAMES

    own = [box for label, box in boxes if OTHER_NAMES.get(label, label) == name or label == name]
    if not own:
        return None
    filled = torch.stack([box_mask(box, image.height, image.width) for box in own]).amax(0)
    size = preprocessing.size
    resized = functional.resize(filled[None], [round(size / preprocessing.crop)], antialias=True)
    mask: torch.Tensor = functional.center_crop(resized, [size, size])[0].clamp(0, 1)
    return mask if bool(mask.any()) else None


def _print(explained: Sequence[_Explained], with_boxes: bool) -> None:
    numbers = ["probability", *(("energy", "uniform", "pointing") if with_boxes else ())]
    shown = plain_table("image", "network", "class", *numbers, left=3)
    for rows in zip(*(one.rows for one in explained), strict=True):
        for i, row in enumerate(rows):
            texts = [f"{row['probability']:.1%}"]
            if with_boxes:
                values = (row.get("energy"), row.get("share"), row.get("pointing"))
                texts += ["–" if value is None else f"{value:.2f}" for value in values]
            named = "" if i else Path(row["image"]).name
            shown.add_row(*map(escape, (named, row["network"], row["class"], *texts)))
    Console().print(shown, highlight=False)
    empty = sum(row["empty"] for one in explained for row in one.rows)
    if empty:
        typer.echo(f"{empty} maps are zero everywhere: no pixel speaks for the class.")
    if with_boxes:
        typer.echo("–: the network sees no box of the class, or the map is zero everywhere.")
