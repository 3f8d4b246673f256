"""`tbc similarity`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.data_options import Debug, Download
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
from tbc_models.data.specification import FORMS

if TYPE_CHECKING:
    from tbc_models.cli.opened import Opened

_REMEDIES = {
    "skip_bad_images": "repair it, or remove it from the folder",
    "download": "download it with --download",
}

app = typer.Typer()


@app.command(
    "similarity",
    epilog="Examples:\n\n"
    "- `tbc similarity resnet20.cifar10 tbc_resnet20.cifar10 --plot similarity.png`\n\n"
    "- `tbc similarity resnet50 --images photos --method code --json similarity.json`\n\n"
    "- `tbc similarity torchvision.models:vgg16=vgg16.pth --layers features.5,features.28`\n\n"
    "- `tbc similarity runs/plain-*/last.ckpt runs/tied-*/last.ckpt --images cifar10`",
)
def similarity_command(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK...",
            help="Name of a network with trained weights, of this package or of timm; a checkpoint "
            "or safetensors file; or MODULE:FUNCTION=FILE, a function that builds a network, and "
            "the file of its weights; NAME=FILE gives a named network other weights. Checkpoints "
            "that differ only in their seed are averaged.",
        ),
    ],
    images: Annotated[
        str,
        typer.Option(
            metavar="IMAGES",
            help="A folder of photographs; `embedded`, for those that come with Python packages "
            f"(MNIST for grey networks); or the test images of a data set: {', '.join(FORMS)}.",
        ),
    ] = "embedded",
    count: Annotated[int, typer.Option(min=1, help="Largest number of images.")] = 100,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name of a layer; repeat the option, or separate names by commas.  [default: four "
            "layers, evenly spaced over the depth]",
        ),
    ] = None,
    method: Annotated[
        Literal["text", "code"],
        typer.Option(
            help="The cosine of averaged patterns, as in the paper's text; or correlations in each "
            "image, as in its first author's later code."
        ),
    ] = "text",
    channels: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Number of filters of each layer, drawn at random.  [default: 64, or all of a "
            "smaller layer]",
        ),
    ] = None,
    filters: Annotated[
        Literal["responses", "stored"],
        typer.Option(
            help="For tied layers: compare all output channels, or the stored filters, each by the "
            "sum of its outputs."
        ),
    ] = "responses",
    gradient: Annotated[
        Literal["guided", "ordinary"],
        typer.Option(
            help="Guided backpropagation; or ordinary gradients, to see what the guiding does."
        ),
    ] = "guided",
    control: Annotated[
        str,
        typer.Option(
            metavar="SEEDS|none",
            help="Number of untrained networks that are measured beside each trained one.",
        ),
    ] = "3",
    seed: Annotated[int, typer.Option(help="Seed that draws the filters.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot histograms and matrices to this PNG, SVG or PDF."),
    ] = None,
    json_file: JsonFile = None,
    download: Download = False,
    debug: Debug = False,
) -> None:
    """Measure how alike filters are at several depths, Figs. 1 and 9, trained and untrained.

    The pattern of a filter in an image is computed by guided backpropagation. Networks with random
    weights are measured in the same way: what also appears in them was not brought about by
    training.
    """
    require_picture(plot, "--plot")
    require_writable(json_file, "--json")
    seeds = _control(control)
    with errors_in_one_line(_REMEDIES, debug=debug):
        from tbc_models.analysis.guided import check_layer
        from tbc_models.analysis.similarity_study import Subject, similarity_study
        from tbc_models.cli.opened import open_network
        from tbc_models.cli.opened_images import open_images

        opened = [open_network(one) for one in networks]
        _require_different(networks, opened)
        chosen = list(dict.fromkeys(name for text in layers or () for name in text.split(",")))
        for one in opened:
            for layer in chosen:
                check_layer(one.network, layer)
        shown = open_images(images, count, [one.preprocessing for one in opened], download=download)
        subjects = [
            Subject(label, one.network, batch, one.untrained, one.seed, one.weights)
            for one, label, batch in zip(opened, _labels(opened), shown.batches, strict=True)
        ]
        with progress_of("Backpropagation") as report:
            found = similarity_study(
                subjects,
                layers=chosen or None,
                method=method,
                filters=filters,
                gradient=gradient,
                channels=channels,
                control=seeds,
                seed=seed,
                progress=report,
            )
        found = {"data": shown.name, "files": shown.files} | found
        if json_file is not None:
            write_report(json_file, "--json", found)
        _print(found)
        if plot is not None:
            from tbc_models.analysis.similarity_plots import similarity_figure

            write_picture(plot, similarity_figure(found), "--plot")


def _control(text: str) -> range:
    if text == "none":
        return range(0)
    if not text.isdecimal() or not int(text):
        raise typer.BadParameter(
            f"{text!r} must be a number of seeds, from 1, or none.", param_hint="--control"
        )
    return range(int(text))


def _require_different(names: "list[str]", opened: "list[Opened]") -> None:
    """Refuse a network that is there twice: it would count as two seeds."""
    for i, one in enumerate(opened):
        for name, other in zip(names[:i], opened[:i], strict=True):
            if one.weights == other.weights:
                raise ValueError(f"{name} and {names[i]} have the same weights: name one of them")
            if one.run and (one.run, one.seed) == (other.run, other.seed):
                raise ValueError(
                    f"{name} and {names[i]} are from runs with the same settings and seed: name "
                    "one of them"
                )


def _labels(opened: "list[Opened]") -> list[str]:
    """Give networks different labels, but those of one run with several seeds the same one."""
    labels: list[str] = []
    for i, one in enumerate(opened):
        alike = next((j for j in range(i) if one.run and opened[j].run == one.run), None)
        if alike is not None:
            labels.append(labels[alike])
        elif one.label in labels:
            labels.append(f"{one.label} ({one.weights[:6]})")
        else:
            labels.append(one.label)
    return labels


def _print(found: dict[str, Any]) -> None:
    from tbc_models.analysis.similarity_plots import MEASURES
    from tbc_models.analysis.similarity_tables import (
        block_table,
        networks_of,
        seeds_in_words,
        similarity_conclusions,
        similarity_table,
    )

    console = Console()
    console.print(
        f"Images: {found['images']:,}, {escape(found['data'])}. Similarity: "
        f"{MEASURES[found['method']]}. Filters: {found['filters']}. "
        f"Gradients: {found['gradient']}.",
        highlight=False,
        soft_wrap=True,
    )
    for name in networks_of(found):
        title = f"{escape(name)}, mean similarity of pairs of filters"
        _print_table(console, title, *similarity_table(found, name))
        headers, lines = block_table(found, name)
        if lines:
            _print_table(console, f"{escape(name)}, pairs by block", headers, lines, left=2)
    for sentence in seeds_in_words(found):
        typer.echo(sentence)
    if any(row["dead"] for row in found["rows"] if row["weights"] == "untrained"):
        typer.echo("Dead filters of untrained networks, all together, stand after the slash.")
    for sentence in similarity_conclusions(found):
        typer.echo(sentence)


def _print_table(
    console: Console, title: str, headers: list[str], lines: list[list[str]], left: int = 1
) -> None:
    shown = plain_table(*headers, left=left)
    shown.title = title
    for line in lines:
        shown.add_row(*map(escape, line))
    console.print(shown, highlight=False)
