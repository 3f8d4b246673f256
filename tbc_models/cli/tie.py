"""The command `tbc tie`."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from tbc_models.cli.networks import Size, create_named
from tbc_models.cli.terminal import JsonFile, plain_table, require_writable, write_report
from tbc_models.data.errors import first_line

if TYPE_CHECKING:
    from tbc_gpu import TiedLayer
    from tbc_models.count import Count

app = typer.Typer()
console = Console()
_SHOWN = 30  # layers that `tbc tie` lists


@app.command(
    epilog="Examples:\n\n- `tbc tie resnet50 --blocks 2`\n\n"
    '- `tbc tie resnet18 --blocks 4 --where "layer4.*" --pretrained --out tied.safetensors`\n\n'
    "- `tbc tie vit_tiny_patch16_224 --blocks 2 --all --json tied.json`"
)
def tie(
    name: Annotated[str, typer.Argument(help="Name of a registered network, ours or timm's.")],
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
            "--pretrained", help="Start from timm's trained weights instead of random ones."
        ),
    ] = False,
    size: Size = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"List all tied layers, not only the {_SHOWN} largest.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the tied weights to this safetensors file."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Tie the convolutions and linear layers of a network: SC to TBC, GC to TGC, FC to TFC.

    Shows parameters and MACs before and after, the tied layers with the share of their weights
    that is lost, ‖W − T(W′)‖ / ‖W‖, and the layers that could not be tied, with reasons. A tied
    network must be trained again, because most of each weight is lost.
    """
    require_writable(out, "--out")
    require_writable(json_file, "--json")
    import tbc_gpu
    from tbc_models import exporting
    from tbc_models.count import measure
    from tbc_models.networks import registry

    network = create_named(name, pretrained)
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
    source = "trained" if pretrained else "random"
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
    if json_file is not None:
        before, after = (asdict(c) for c in counts)
        asked = {"network": name, "blocks": blocks, "where": where, "weights": weights}
        found = {
            "options": asked | {"pretrained": pretrained, "size": pixels},
            "before": before,
            "after": after,
            "tied": [layer._asdict() for layer in tying.tied],
            "left": [layer._asdict() for layer in tying.left],
        }
        write_report(json_file, "--json", found)
    if out is not None:
        try:
            exporting.save(out, tying.model, name=name, blocks=blocks, where=where, weights=weights)
        except OSError as error:
            raise typer.BadParameter(
                f"{out} cannot be written: {error}", param_hint="--out"
            ) from None


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
