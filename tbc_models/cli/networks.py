"""The commands that look at networks: `tbc models`, `summary` and `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tbc_models.cli.terminal import (
    plain_table,
    progress_bar,
    require_writable,
    setting,
    verdict,
)
from tbc_models.data.errors import first_line
from tbc_models.files import require_safetensors

if TYPE_CHECKING:
    from torch import nn

app = typer.Typer()
console = Console()
_SHORT = {"BatchNorm2d": "BN", "BatchNormAct2d": "BN", "LayerNorm": "LN", "GroupNorm": "GN"}

Size = Annotated[
    int | None,
    typer.Option(min=1, help="Height and width of the image in pixels.  [default: the network's]"),
]


@app.command(
    epilog="Examples:\n\n- `tbc models`\n\n- `tbc models resnet101`\n\n"
    '- `tbc models "hrnet_w*" --size 256`\n\n- `tbc models --pretrained`'
)
def models(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Part of a name, or a pattern with * and ?; of timm's networks too.  "
            "[default: the Tied networks and their baselines]"
        ),
    ] = None,
    size: Size = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained",
            help="List the trained networks that ship instead, with their accuracy on the test "
            "images.",
        ),
    ] = False,
) -> None:
    """List registered networks with their parameters and multiply-accumulates (MACs)."""
    if pretrained:
        if pattern or size:
            raise typer.BadParameter("takes no PATTERN and no --size", param_hint="--pretrained")
        _list_shipped()
        return
    from tbc_models.count import measure
    from tbc_models.networks import registry

    names = registry.names(pattern)
    if not names:
        raise typer.BadParameter(
            f"no registered network matches {pattern!r}{registry.nearest(str(pattern))}",
            param_hint="PATTERN",
        )
    shown = plain_table("network", "image", "params (M)", "MACs (G)", "with BN, ReLU, pool")
    refused: list[str] = []
    with progress_bar() as progress:
        for name in progress.track(names, description="Building and counting"):
            step = "built"
            try:
                network = registry.build(name)
                pixels = size or registry.input_size(network)
                step = "counted"
                counted = measure(network, pixels)
            except Exception as error:  # one of timm's thousand should not hide the others
                refused.append(f"{name} could not be {step}: {first_line(error)}")
                continue
            numbers = (counted.parameters / 1e6, counted.macs / 1e9, counted.all_macs / 1e9)
            shown.add_row(name, f"{pixels}²", *(f"{n:.3f}" for n in numbers))
    console.print(shown, highlight=False)
    for reason in refused:
        console.print(reason, highlight=False)
    if refused and not shown.row_count:
        raise typer.Exit(1)


def _list_shipped() -> None:
    from tbc_models.networks.pretrained import shipped_networks

    shown = plain_table("network", "data", "params", "MB", "test images", "top-1", left=2)
    for name, file, facts in shipped_networks():
        accuracy = f"{facts.correct / facts.images:.2%}"
        megabytes = f"{file.stat().st_size / 1e6:.2f}"
        numbers = (f"{facts.parameters:,}", megabytes, f"{facts.images:,}", accuracy)
        shown.add_row(name, facts.data, *numbers)
    if shown.row_count:
        console.print(shown, highlight=False)
    else:
        console.print("No trained networks ship with this version.", highlight=False)


@app.command(
    epilog="Examples:\n\n- `tbc summary tied_resnet14_s`\n\n"
    "- `tbc summary tied_resnet50 --set design=fitted --set mixer=concatenate`"
)
def summary(
    name: Annotated[str, typer.Argument(help="Name of a registered network, ours or timm's.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="Set an option of the network. Repeat for several.",
        ),
    ] = None,
    size: Size = None,
) -> None:
    """Show a network layer by layer: operator, shape, blocks, groups, parameters, MACs."""
    options = dict(setting(text) for text in settings or [])
    from tbc_models.count import layers as layers_of
    from tbc_models.count import measure
    from tbc_models.networks import registry

    network = _build(name, options)
    pixels = size or registry.input_size(network)
    try:
        layers, measured = layers_of(network, pixels), measure(network, pixels)
    except Exception as error:  # any exception that the network raises
        hint = "--size" if size else "NAME"
        raise typer.BadParameter(first_line(error), param_hint=hint) from None
    headers = ("layer", "op", "output", "B", "G", "params", "%", "MACs (M)", "%")
    shown = plain_table(*headers, left=3, total=True)
    for layer in layers:
        shown.add_row(
            layer.name,
            _SHORT.get(layer.operator, layer.operator),
            "×".join(map(str, layer.output)),
            str(layer.blocks) if layer.operator in ("TBC", "TGC", "TFC") else "",
            str(layer.groups) if layer.operator in ("GC", "DW", "TGC") else "",
            f"{layer.parameters:,}",
            f"{100 * layer.parameters / measured.parameters:.1f}",
            f"{layer.macs / 1e6:.2f}" if layer.macs else "",
            f"{100 * layer.macs / measured.macs:.1f}" if layer.macs else "",
        )
    totals = (sum(x.parameters for x in layers), sum(x.macs for x in layers))
    shown.columns[0].footer = f"{name}, {pixels}² pixels"
    shown.columns[5].footer, shown.columns[7].footer = f"{totals[0]:,}", f"{totals[1] / 1e6:.2f}"
    console.print(shown, highlight=False)
    same = totals == (measured.parameters, measured.macs)
    console.print(
        "The table is by formula, layer by layer. PyTorch counts on the built network "
        f"{measured.parameters:,} parameters and {measured.macs / 1e6:.2f} M MACs: "
        f"{'the same' if same else 'the rest is computed outside of layers'}.",
        highlight=False,
    )


@app.command(
    epilog="Examples:\n\n- `tbc export tied_resnet14_s network.onnx`\n\n"
    "- `tbc export resnet18 tied.onnx --weights tied.safetensors`"
)
def export(
    name: Annotated[str, typer.Argument(help="Name of a registered network, ours or timm's.")],
    file: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Weights as safetensors, from `tbc tie` or `tbc train`.  [default: random]",
        ),
    ] = None,
    size: Size = None,
) -> None:
    """Write a network as ONNX, after comparing onnxruntime with PyTorch.

    Give the weights that `tbc tie` or `tbc train` saved to export that network. Tied layers are
    written as group convolutions and block-diagonal linear layers, which every runtime supports.
    The batch size is free. If the outputs differ by more than 1e-4 of the largest, OUT.onnx is not
    written and the exit code is 1. Needs onnx, onnxruntime and onnxscript:
    `pip install '.[export]'` in a clone of the project.
    """
    require_writable(file, "OUT.onnx")
    if weights is not None:
        try:
            require_safetensors(weights)
        except (ValueError, OSError) as error:
            raise typer.BadParameter(str(error), param_hint="--weights") from None
    from tbc_models import exporting
    from tbc_models.count import measure
    from tbc_models.networks import registry

    if weights is None:
        network = create_named(name)
    else:
        try:
            network = exporting.load(name, weights)
        except Exception as error:  # a file can be wrong in many ways
            raise typer.BadParameter(first_line(error), param_hint="--weights") from None
    pixels = size or registry.input_size(network)
    try:
        measure(network, pixels)
    except Exception as error:  # any exception that the network raises
        raise typer.BadParameter(
            f"{name} does not run on images of {pixels}²: {first_line(error)}",
            param_hint="--size" if size else "NAME",
        ) from None
    try:
        with Console(stderr=True).status(f"Exporting {name}"):
            difference = exporting.to_onnx(network, file, pixels)
    except ImportError as error:
        raise typer.BadParameter(first_line(error), param_hint="OUT.onnx") from None
    except exporting.MismatchError as error:
        console.print(
            f"{name}: {error}: {verdict(False)}. {escape(str(file))} was not written.",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1) from None
    except Exception as error:  # any exception that the exporter raises
        raise typer.BadParameter(
            f"{name} cannot be exported: {first_line(error)}", param_hint="NAME"
        ) from None
    source = f"the weights of {escape(str(weights))}" if weights else "random weights"
    console.print(
        f"{escape(str(file))}: {name} with {source}, for images of {pixels}² pixels and any "
        f"batch size. onnxruntime differs from PyTorch by {difference:.1e} of the largest output: "
        f"{verdict(True)}",
        highlight=False,
        soft_wrap=True,
    )


def _build(name: str, options: dict[str, Any]) -> "nn.Module":
    from tbc_models.networks import registry

    try:
        return registry.build(name, **options)
    except Exception as error:  # timm raises all kinds
        hint = "--set" if options else "NAME"
        raise typer.BadParameter(first_line(error), param_hint=hint) from None


def create_named(name: str, pretrained: bool = False) -> "nn.Module":
    """Build a network; report every error as one in the command's argument or in --pretrained."""
    from tbc_models.networks import registry

    try:
        return registry.create(name, pretrained=pretrained)
    except Exception as error:  # timm raises all kinds
        hint = "--pretrained" if pretrained else "NAME"
        raise typer.BadParameter(first_line(error), param_hint=hint) from None
