"""The tables that `tbc bench` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from tbc_models.cli.terminal import plain_table

if TYPE_CHECKING:
    from tbc_gpu.dispatch import Table as Rules
    from tbc_models.bench.blocks import Series
    from tbc_models.bench.calls import CallRow
    from tbc_models.bench.layers import LayerRow
    from tbc_models.bench.networks import Speed
    from tbc_models.bench.reference import ReferenceRow


def layers(rows: "Sequence[LayerRow]") -> Table:
    """Show each algorithm's mean time over that of the authors' fold."""
    from tbc_models.bench import layers as by_layer

    candidates = {"chosen": by_layer.CHOSEN, "fold": "fold", "foldCL": "fold_channels_last"}
    candidates |= {name: name for name in ("dilated", "conv3d", "gemm", "grouped", "SC")}
    shown = plain_table("layer", "", *candidates, left=2)
    shown.title = "Time ÷ the authors' fold of a contiguous input, geometric means"
    several = len({(row.case.dtype, row.case.batch) for row in rows}) > 1
    for alike, same in by_layer.classes(rows).items():
        layout, kernel, stride, training, dtype, batch = alike
        means = (by_layer.mean_ratio(same, name) for name in candidates.values())
        shown.add_row(
            f"{'NHWC' if layout == 'channels_last' else 'NCHW'} {kernel}x{kernel} s{stride}",
            f"{'both' if training else 'forward'}{f' {dtype} N={batch}' if several else ''}",
            *("" if mean is None else f"{mean:.2f}" for mean in means),
        )
    return shown


def every_layer(rows: "Sequence[LayerRow]") -> Table:
    """Show every case of `tbc bench layers`."""
    from tbc_models.bench import layers as by_layer

    shown = plain_table("layer", "B", "N", "dtype", "computed", "authors", "chosen", "best", left=1)
    for row in rows:
        c = row.case
        shown.add_row(
            f"{c.in_channels}→{c.out_channels} {c.kernel_size}x{c.kernel_size} s{c.stride} "
            f"{c.size}² {'NHWC' if c.layout == 'channels_last' else 'NCHW'}",
            str(c.blocks),
            str(c.batch),
            c.dtype,
            "both ways" if c.training else "forward",
            f"{row.times[by_layer.AUTHORS].median:.2f} ms",
            f"{row.ratio(by_layer.CHOSEN):.2f}",
            f"{row.best() / row.times[by_layer.AUTHORS].median:.2f}",
        )
    return shown


def blocks(measured: "Sequence[Series]") -> Table:
    """Show time against the number of blocks."""
    from tbc_models.bench import blocks as by_blocks

    shown = plain_table("", "layout", "dtype", "N", *(f"B = {B}" for B in by_blocks.BLOCKS), left=3)
    shown.title = "Milliseconds at fixed MACs, and their ratio to those at B = 1"
    for series in measured:
        cells = (f"{t.median:.1f}\n{series.ratio(B):.2f}" for B, t in series.times.items())
        head = (series.operator, series.layout, series.dtype, str(series.batch))
        shown.add_row(*head, *cells)
    return shown


def networks(measured: "Sequence[Speed]") -> Table:
    """Show the speed and peak memory of each network."""
    shown = plain_table("network", "mode", "images/s", "ms a batch", "ratio", "peak MB", left=2)
    for speed in measured:
        low, high = f"{speed.time.low:.0f}", f"{speed.time.high:.0f}"
        mode = f"{speed.mode}{', compiled' if speed.compiled else ''}"
        if speed.dtype != "float32":
            mode += f", {speed.dtype}"
        shown.add_row(
            speed.network,
            mode,
            f"{speed.images_per_second:.1f}",
            f"{speed.time.median:.0f} ({low} to {high})",
            f"{speed.ratio:.2f}",
            "" if speed.peak_mb is None else f"{speed.peak_mb:.0f}",
        )
    return shown


def parts(measured: "Sequence[Speed]") -> Table:
    """Show where the time of each network goes, by kind of operation."""
    from tbc_models.bench import networks as by_network

    kinds = [*by_network.KINDS, by_network.OTHER]
    shown = plain_table("network", "mode", *kinds, left=2)
    shown.title = "Where the milliseconds of a batch go, as a profiler sees them"
    for speed in measured:
        spent = (f"{speed.parts[kind]:.0f}" for kind in kinds)
        shown.add_row(speed.network, speed.mode.removesuffix(" step"), *spent)
    return shown


def reference(measured: "Sequence[ReferenceRow]") -> Table:
    """Show the time of the reference and its peers beside PyTorch's."""
    from tbc_models.bench import reference as by_reference

    shown = plain_table("input", "B", "computed", "by", "ms", "ratio", "extra MB")
    shown.title = "Against PyTorch, one thread, float32, 3x3"
    for row in measured:
        for name, time in row.times.items():
            extra = f"{row.extra_mb}" if name == by_reference.REFERENCE else ""
            shown.add_row(
                "x".join(map(str, row.input)),
                str(row.blocks),
                row.computed,
                name,
                f"{time.median:.2f}",
                f"{row.ratio(name):.2f}",
                extra,
            )
    return shown


def calls(rows: "Sequence[CallRow]") -> Table:
    """Show the time of one call of a tied and of a grouped layer."""
    from tbc_models.bench.calls import BLOCKS, GROUPED, SHAPE, TIED

    shown = plain_table("kernel", "layout", TIED, GROUPED, "ratio", left=2)
    shape = "x".join(map(str, SHAPE))
    shown.title = f"Microseconds of one call, {shape}, B = G = {BLOCKS}"
    for row in rows:
        shown.add_row(
            f"{row.kernel_size}x{row.kernel_size}",
            row.layout,
            *(f"{row.microseconds[name].median:.1f}" for name in (TIED, GROUPED)),
            f"{row.ratio:.2f}",
        )
    return shown


def rules(table: "Rules") -> Table:
    """Show the rules of each class of cases."""
    shown = plain_table("class", "dtype", "", "algorithm", "if", left=5)
    shown.title = "The first rule of a class whose conditions hold is used"
    for kind, of_class in table.items():
        layout = "NHWC" if kind.layout == "channels_last" else "NCHW"
        cells = [f"{layout} {kind.kernel} {'s>1' if kind.strided else 's1'}", kind.dtype]
        cells.append("both" if kind.training else "forward")
        for rule in of_class:
            shown.add_row(*cells, rule.algorithm, " and ".join(map(str, rule.conditions)))
            cells = [""] * len(cells)
    return shown
