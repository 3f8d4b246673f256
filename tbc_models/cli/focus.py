"""`tbc focus`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.data_options import Debug
from tbc_models.cli.detect import DATA_REMEDIES, SkipBad, open_with_progress
from tbc_models.cli.terminal import (
    JsonFile,
    errors_in_one_line,
    plain_table,
    progress_of,
    require_picture,
    require_writable,
    write_picture,
    write_report,
)

if TYPE_CHECKING:
    from tbc_models.analysis.focus_study import Objects, Onlooker
    from tbc_models.cli.opened import Opened

app = typer.Typer()


@app.command(
    "focus",
    epilog="Examples:\n\n"
    "- `tbc focus resnet20.cifar10 tbc_resnet20.cifar10 --data coco:/data/coco`\n\n"
    "- `tbc focus runs/resnet20-*/last.ckpt runs/tbc_resnet20-*/last.ckpt --data scenes "
    "--json focus.json --plot focus.png`",
)
def focus_command(
    context: typer.Context,
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK...",
            help="Name of a network with trained weights, of this package or of timm; a checkpoint "
            "or safetensors file; or MODULE:FUNCTION=FILE, a function that builds a network, and "
            "its weights; =FILE may follow a name, too. Networks that differ only in their "
            "seed are averaged; all others are compared with the first.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="scenes (crowded scenes of digits), for networks that know digits; or coco:PATH "
            "or voc:PATH (photographs with boxes), for networks that know some of their classes.",
        ),
    ],
    scenes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of scenes in each bin of r, the occlusion ratio; for --data scenes only.",
        ),
    ] = 60,
    controls: Annotated[
        int, typer.Option(min=1, help="Number of untrained networks for each trained one.")
    ] = 5,
    resamples: Annotated[
        int, typer.Option(min=100, help="Number of bootstrap draws of images for the intervals.")
    ] = 1000,
    skip_bad: SkipBad = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot the energy to this PNG, SVG or PDF file."),
    ] = None,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Measure whether networks look at the object: how much of Grad-CAM lies on it (Fig. 8).

    Energy is the part of a map that lies on the object whose class it explains, and pointing is
    how often its largest value lies there. Both are compared with a uniform map, with the
    network's maps of other images and with untrained networks, and have 95 % bootstrap intervals
    over images.
    """
    require_picture(plot, "--plot")
    require_writable(json_file, "--json")
    with errors_in_one_line(DATA_REMEDIES, debug=debug):
        from tbc_models.analysis.focus_study import study_focus
        from tbc_models.cli.opened import open_network
        from tbc_models.data.instances import parse_instances, without_folders

        kind = parse_instances(data)[0]
        given = context.get_parameter_source("scenes")
        if kind != "scenes" and given is not None and given.name == "COMMANDLINE":
            raise typer.BadParameter("it is for --data scenes.", param_hint="--scenes")
        opened = [open_network(name) for name in networks]
        onlookers = _onlookers(opened)
        about: dict[str, Any] = {"data": without_folders(data)}
        if kind == "scenes":
            objects = _in_scenes(opened, scenes)
            about["scenes"] = scenes
        else:
            objects, about["ids"] = _in_photographs(opened, data, skip_bad)
        with progress_of("Explaining") as report:
            found = study_focus(
                onlookers, objects, controls=controls, resamples=resamples, progress=report
            )
        found = about | found
        if json_file is not None:
            write_report(json_file, "--json", found)
        _print(found)
        if plot is not None:
            from tbc_models.analysis.focus_plots import focus_figure

            write_picture(plot, focus_figure(found, "energy"), "--plot")


def _onlookers(opened: "Sequence[Opened]") -> "list[Onlooker]":
    """Name networks that differ only in their seed alike: by their architecture."""
    from torchvision.transforms.v2 import functional

    from tbc_models.analysis.focus_study import Onlooker
    from tbc_models.networks.registry import architecture

    runs = [one.run or one.label for one in opened]
    same = [(run, one.seed) for run, one in zip(runs, opened, strict=True)]
    for one, own in zip(opened, same, strict=True):
        if same.count(own) > 1:
            raise ValueError(f"{one.label} is named twice")
    onlookers = []
    called: dict[str, str] = {}
    for one, run in zip(opened, runs, strict=True):
        name = architecture(one.network) if runs.count(run) > 1 else one.label
        if called.setdefault(name, run) != run:
            raise ValueError(
                f"two networks are called {name} and differ in more than their seed: measure them "
                "in two commands"
            )
        p = one.preprocessing

        def normalise(images: Any, p: Any = p) -> Any:
            return functional.normalize(images[:, : p.channels], list(p.mean), list(p.std))

        onlookers.append(Onlooker(name, one.network, normalise, one.untrained, one.seed))
    return onlookers


def _in_scenes(opened: "Sequence[Opened]", count: int) -> "Objects":
    from tbc_models.analysis.focus_scenes import objects_in_scenes
    from tbc_models.data.scenes import CLASSES

    for one in opened:
        if one.classes != CLASSES:
            raise ValueError(
                f"{one.label} does not know the classes of scenes, the digits 0 to 9: train one "
                "on single digits, as the site's page about Grad-CAM shows"
            )
    return objects_in_scenes(count)


def _in_photographs(
    opened: "Sequence[Opened]", data: str, skip_bad: bool
) -> "tuple[Objects, dict[str, list[int]]]":
    from tbc_models.analysis.focus_photographs import objects_in_photographs

    first = opened[0]
    for one in opened:
        if one.classes is None:
            raise ValueError(f"{one.label} does not say which classes it knows")
        if one.classes != first.classes or one.preprocessing.size != first.preprocessing.size:
            raise ValueError(
                f"{one.label} and {first.label} must know the same classes and see images of the "
                "same size"
            )
    photographs = open_with_progress(data, masks=False, skip_bad=skip_bad)
    with progress_of("Reading photographs") as report:
        return objects_in_photographs(
            photographs, first.classes or (), first.preprocessing.size, progress=report
        )


def _print(found: dict[str, Any]) -> None:
    from tbc_models.analysis.focus_plots import focus_conclusions, focus_table
    from tbc_models.analysis.focus_study import LEAST_IMAGES

    console = Console()
    console.print(f"{escape(found['data'])}:", highlight=False)
    shown = plain_table("network", "predicts the object", "something present", "by chance")
    for network in found["networks"]:
        means = [
            sum(network[key]) / len(network[key])
            for key in ("predicts the object", "predicts what is present")
        ]
        chance = network["present by chance"]
        shown.add_row(escape(network["name"]), *(f"{value:.0%}" for value in (*means, chance)))
    console.print(shown, highlight=False)
    for what in ("energy", "pointing"):
        headers, lines = focus_table(found, what, intervals=False)
        table = plain_table(*map(escape, headers), left=3)
        table.title = what
        for line in lines:
            table.add_row(*map(escape, line))
        console.print(table, highlight=False)
    few = [part["name"] for part in found["parts"] if part["images"] < LEAST_IMAGES]
    if few:
        console.print(f"Too few images: {', '.join(map(escape, few))}.", highlight=False)
    for network in found["networks"]:
        for key, of in (("empty maps", "trained"), ("empty maps, untrained", "untrained")):
            if any(network[key]):
                numbers = ", ".join(map(str, network[key]))
                typer.echo(f"{network['name']}, {of}: {numbers} maps are empty and left out.")
    typer.echo("[…]: 95 % intervals over images, by bootstrap.")
    for sentence in focus_conclusions(found):
        typer.echo(sentence)
