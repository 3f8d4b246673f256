"""What can be counted, or computed on a small layer, for claims in the text and in figures.

Each function without arguments is the check of one claim, and returns a `Finding`. Networks are
built on the meta device, and counts are kept, so the whole ledger takes less than a minute.
"""

from functools import cache
from typing import Any

import torch
import torchvision
from torch import nn

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear, authors_channel_order, tied_block_conv2d
from tbc_models.count import layers, measure
from tbc_models.networks.bottleneck import fitting_blocks
from tbc_models.networks.registry import BASELINES, build, names
from tbc_models.paper.claims import Finding, Status, printed, signed
from tbc_models.paper.rows import DESIGNS
from tbc_models.paper.tables import compare
from tbc_ref import cost


@cache
def parameters(name: str, only: str = "", **options: Any) -> int:
    """Count the parameters of a network, or those of its layers of one name.

    Args:
        name: name of a network, as registered with timm.
        only: a part of the parameters' names, such as ".se."; by default all count.
        options: of the network.

    Returns:
        Their number.

    Example:
        >>> parameters("resnet50"), parameters("seresnet50", ".se.")
        (25557032, 2530992)
    """
    network = build(name, **options)
    return sum(p.numel() for n, p in network.named_parameters() if only in n)


@cache
def _layer(network: str, layer: str, size: int) -> tuple[int, int]:
    """Return the parameters and the MACs of a layer of a network, for one image."""
    (found,) = (one for one in layers(build(network), size) if one.name == layer)
    return found.parameters, found.macs


def _ours(table: int, row: str, column: str) -> dict[str, float]:
    """Return our count of a number of a table, by design."""
    found = [c for c in compare(table, row) if c.column == column]
    return {c.design: c.ours for c in found if c.ours is not None}


def agreed(agrees: bool, ours: str) -> Finding:
    """Say what a count found.

    Args:
        agrees: whether it agrees with the paper.
        ours: our number, in words.

    Returns:
        The finding, "exact" or "came out otherwise".

    Example:
        >>> agreed(True, "16 times fewer").status.value
        'exact'
    """
    return Finding(Status.exact if agrees else Status.otherwise, ours)


def tied_layer() -> Finding:
    """Compare a layer of ResNet-20 with the same layer tied at B = 2 (Fig. 2, Eq. 3)."""
    plain, tied = (_layer(name, "layer1.0.conv1", 32) for name in ("resnet20", "tbc_resnet20"))
    fewer, less = plain[0] / tied[0], plain[1] / tied[1]
    ours = f"layer1.0.conv1 of ResNet-20: {plain[0]:,} parameters, tied (B = 2) {tied[0]:,}, "
    ours += f"{fewer:g} times fewer; MACs are {less:g} times fewer"
    return agreed((fewer, less) == (4, 2), ours)


def group_layer() -> Finding:
    """Compare the layer of a ResNeXt with a standard convolution of the same size (Eq. 2)."""
    conv: Any = build("resnext50_32x4d").get_submodule("layer1.0.conv2")
    plain = cost.standard_conv(conv.in_channels, conv.out_channels, conv.kernel_size[0])
    fewer = plain.weights / conv.weight.numel()
    ours = f"layer1.0.conv2 of ResNeXt-50 has {conv.groups} groups and {conv.weight.numel():,} "
    ours += f"weights, {fewer:g} times fewer than SC"
    return agreed(fewer == conv.groups, ours)


def depthwise_layer() -> Finding:
    """Look at a depthwise convolution: as many groups as channels."""
    conv: Any = build("efficientnet_b0").get_submodule("blocks.0.0.conv_dw")
    ours = f"blocks.0.0.conv_dw of EfficientNet-B0 has {conv.groups} groups and "
    ours += f"{conv.in_channels} channels; each filter reads {conv.weight.shape[1]} of them"
    return agreed(conv.groups == conv.in_channels and conv.weight.shape[1] == 1, ours)


def formulas() -> Finding:
    """Count a tied network by the formulas below Eqs. (1) to (4), and without any formula."""
    network = build("tied_resnet50_s")
    listed, counted = layers(network), measure(network)
    sums = sum(one.parameters for one in listed), sum(one.macs for one in listed)
    ours = f"tied_resnet50_s: {sums[0]:,} parameters and {sums[1]:,} MACs by formula, "
    ours += f"{counted.parameters:,} and {counted.macs:,} counted"
    return agreed(sums == (counted.parameters, counted.macs), ours)


def tied_linear() -> Finding:
    """Compare a tied block fully connected layer with a fully connected one."""
    blocks, plain = 4, cost.linear(256, 64)
    tied, stored = (
        cost.tied_block_linear(256, 64, blocks=blocks),
        TiedBlockLinear(256, 64, blocks=blocks, bias=False),
    )
    weights = sum(p.numel() for p in stored.parameters())
    ours = f"256 to 64 features at B = {blocks}: {plain.weights / weights:g} times fewer weights, "
    ours += f"{plain.macs / tied.macs:g} times fewer MACs"
    return agreed((plain.weights / weights, plain.macs / tied.macs) == (16, 4), ours)


def tied_against_group() -> Finding:
    """Compare the weights of TBC with those of GC at B = G."""
    tied = TiedBlockConv2d(64, 64, 3, blocks=4, device="meta").weight.numel()
    group = nn.Conv2d(64, 64, 3, groups=4, device="meta").weight.numel()
    ours = f"64 channels, 3×3, B = G = 4: TBC has {tied:,} weights and GC {group:,}, "
    ours += f"{group / tied:g} times as many"
    return agreed(group == 4 * tied, ours)


def _inputs_of_an_output(channels: int, groups: int, blocks: int) -> int:
    """Count the input channels that the first output of a TGC depends on."""
    weight = torch.ones(channels // blocks, channels // (groups * blocks), 1, 1)
    one_each = torch.eye(channels)[:, :, None, None]
    outputs = tied_block_conv2d(one_each, weight, groups=groups, blocks=blocks)
    return int((outputs[:, 0] != 0).sum())


def isolated() -> Finding:
    """Count the input channels that an output of GC and of DW depends on."""
    channels = 8
    each = ((2, 1), (channels, 1), (1, 2))
    group, depthwise, tied = (_inputs_of_an_output(channels, *one) for one in each)
    ours = f"read as connections: an output of GC at G = 2 depends on {group} of {channels} "
    ours += f"channels, and one of DW on {depthwise}; but one of TBC at B = 2 also on {tied} only. "
    ours += "The correlation between filters of GC was not measured"
    return Finding(Status.fits if max(group, depthwise) < channels else Status.otherwise, ours)


def inputs_read() -> Finding:
    """Count the input channels that an output of TBC depends on: as many as in GC."""
    channels, blocks = 8, 2
    shares = [_inputs_of_an_output(channels, *one) for one in ((1, blocks), (blocks, 1))]
    ours = f"an output of TBC at B = {blocks} depends on {shares[0]} of {channels} channels, and "
    ours += (
        f"one of GC at G = {blocks} on {shares[1]}; the paper's own section on bottlenecks adds a "
    )
    ours += 'mixer because "losing cross-channel integration could weaken the model"'
    return Finding(Status.contradicts if shares[0] < channels else Status.exact, ours)


def group_shapes() -> Finding:
    """Compare the shapes printed below Eq. (4) with those that compute it."""
    channels, groups, blocks = 64, 2, 4
    stored = TiedBlockConv2d(channels, channels, 3, groups=groups, blocks=blocks).weight
    each = stored.shape[0] // groups, stored.shape[1]
    printed_outputs = groups * blocks * (channels // blocks)
    ours = f"c_i = c_o = {channels}, G = {groups}, B = {blocks}: each W'_g must be {each[0]} × "
    ours += f"{each[1]} × 3 × 3; the printed {channels // blocks} × {channels // blocks} × 3 × 3 "
    ours += f"would give {printed_outputs} output channels"
    return Finding(Status.contradicts if printed_outputs != channels else Status.exact, ours)


def authors_order() -> Finding:
    """Compare our tied block group convolution with that of the authors' published module."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 5, 5, dtype=torch.float64, generator=generator)
    weight = torch.randn(8, 4, 3, 3, dtype=torch.float64, generator=generator)
    order = authors_channel_order(16, 2, 2)
    folded = torch.cat([*x[:, order].chunk(2, dim=1)])
    theirs = torch.cat([*nn.functional.conv2d(folded, weight, groups=2).chunk(2)], dim=1)
    ours = tied_block_conv2d(x, weight, groups=2, blocks=2)[:, order]
    error = float((theirs - ours).abs().max())
    told = (
        f"largest difference {error:.1g} after a fixed permutation of the channels; in their order "
    )
    return agreed(error < 1e-12, f"{told}groups vary fastest, in that of Eq. (4) blocks do")


def equal_macs() -> Finding:
    """Check that MACs stay fixed in Fig. 3 if there are B times as many outputs."""
    counts = (1, 2, 4, 8, 16, 32)
    macs = {
        own.macs
        for n in counts
        for own in (
            cost.tied_block_conv(2048, 32 * n, 3, blocks=n, output_size=56),
            cost.group_conv(2048, 32 * n, 3, groups=n, output_size=56),
        )
    }
    ours = f"{max(macs) / 1e9:.2f} G MACs for TBC and GC at every B from 1 to {counts[-1]} with "
    return agreed(
        len(macs) == 1, f"{ours}32·B outputs; the paper does not give the number of outputs"
    )


def families() -> Finding:
    """Count the tied networks that can be built by name."""
    tied = [name for name in names() if name not in BASELINES and "tied" in name]
    ours = f"{len(tied)} tied networks are registered with timm, of the families ResNet, ResNeXt, "
    ours += "SENet, GCNet, ResNeSt and EfficientNet; timm's networks accept TiedSE and TiedGCB "
    ours += "where they accept attention modules"
    return agreed(bool(tied), ours)


def older_networks() -> Finding:
    """Compare VGG-16 and GoogLeNet with AlexNet, as torchvision has them."""
    weights = torchvision.models.get_model_weights
    alex, google = (
        next(iter(weights(name))).meta["num_params"] for name in ("alexnet", "googlenet")
    )
    vgg = parameters("vgg16")
    ours = f"AlexNet has {alex / 1e6:.1f} M parameters, GoogLeNet {google / 1e6:.1f} M "
    ours += (
        f"({alex / google:.1f} times fewer) and VGG-16 {vgg / 1e6:.1f} M (more than twice as many)"
    )
    return agreed(vgg < alex, ours)


def vgg_layers() -> Finding:
    """Look at the channels of VGG-16's layers 2, 7 and 12, in torchvision's numbering."""
    features: Any = torchvision.models.vgg16(weights=None, init_weights=False).features
    widths = {i: features[i].out_channels for i in (2, 7, 12)}
    ours = "in torchvision's numbering " + ", ".join(
        f"layer {i} has {n}" for i, n in widths.items()
    )
    return agreed([*widths.values()] == [64, 128, 256], f"{ours} channels")


def macs_not_flops() -> Finding:
    """Count ResNet-50 in MACs and in floating-point operations."""
    macs = _ours(1, "ResNet50", "GFlops")[""]
    paper = printed(1, "ResNet50", "GFlops")
    ours = f"ResNet-50 needs {macs:.2f} G MACs for one image, or {2 * macs:.2f} GFLOPs; "
    return Finding(Status.otherwise, f"{ours}the printed {paper} are MACs")


def zoo() -> Finding:
    """Compare the baselines of Table 1 with the accuracies that torchvision gives its weights."""
    rows = {"ResNet50": "resnet50", "ResNet101": "resnet101"}
    rows["ResNeXt101-32×4d"] = "resnext101_32x8d"
    agree, told = True, []
    for row, name in rows.items():
        meta = next(iter(torchvision.models.get_model_weights(name))).meta
        top1 = meta["_metrics"]["ImageNet-1K"]["acc@1"]
        paper = printed(1, row, "top-1 (%)")
        # Rounded twice: the model zoo of 2020 listed errors, 23.85 % for ResNet-50.
        agree = agree and abs(top1 - float(paper)) <= 0.1
        told.append(f"{name} {top1:.2f} (printed {paper})")
    ours = "torchvision's weights, of which 0.1 more or less may be due to rounding: "
    return agreed(agree, ours + ", ".join(told))


def half_of_resnext() -> Finding:
    """Compare ResNeXt-50 with TiedResNet50-S."""
    resnext, paper = parameters("resnext50_32x4d") / 1e6, printed(1, "TiedResNet50-S", "params (M)")
    literal = _ours(1, "TiedResNet50-S", "params (M)")["literal"]
    ours = (
        f"ResNeXt-50 32×4d has {resnext:.2f} M parameters, {resnext / float(paper):.1f} times the "
    )
    ours += f"printed {paper} M and {resnext / literal:.1f} times our literal {literal:.2f} M"
    return Finding(Status.unmeasurable, ours)


def heavier_resnext() -> Finding:
    """Compare ResNeXt-101 64×4d with TiedResNet101."""
    resnext, paper = parameters("resnext101_64x4d") / 1e6, printed(1, "TiedResNet101", "params (M)")
    ours = f"ResNeXt-101 64×4d has {resnext:.2f} M parameters, TiedResNet101 {paper} M"
    return Finding(Status.unmeasurable, ours)


def literal_design() -> Finding:
    """Count the network that does what the text says and nothing else."""
    ours, paper = _ours(1, "TiedResNet50", "params (M)"), printed(1, "TiedResNet50", "params (M)")
    told = ", ".join(f"{design} {ours[design]:.2f} M" for design in DESIGNS)
    agrees = abs(ours["literal"] - float(paper)) <= 0.05
    return agreed(agrees, f"{told}, Table 1 prints {paper} M; literal is what the text says")


def default_blocks() -> Finding:
    """Choose B of the four splits where 8 does not divide their width."""
    wide, thin = fitting_blocks(32, 4), fitting_blocks(18, 4)
    ours = f"B = {wide} at 32w; 18 is not a multiple of 4 or 8, so at 18w the first stage has "
    return Finding(Status.fits, f"{ours}{thin}, the largest divisors of 18 up to these")


def missing_weights() -> Finding:
    """Compute how many weights a bottleneck lacks from the difference of two networks."""
    told, planes, more = [], 256, 17
    for small in ("", "-S"):
        paper, ours = [], []
        for row in (f"TiedResNet101{small}", f"TiedResNet50{small}"):
            paper.append(float(printed(1, row, "params (M)")))
            ours.append(_ours(1, row, "params (M)")["literal"])
        missing = (paper[0] - paper[1] - ours[0] + ours[1]) * 1e6 / more / planes**2
        told.append(f"{missing:.2f} p² at {'4s18w' if small else '4s32w'}")
    ours_told = f"ResNet-101 has {more} more bottlenecks of p = {planes} planes than ResNet-50; by "
    ours_told += "the printed counts, each has more weights than the text's bottleneck, by "
    ours_told += " and ".join(told)
    return Finding(Status.otherwise, ours_told)


def _difference(table: int, column: str, larger: str, smaller: str) -> Finding:
    """Compare the difference of two rows with ours, design by design."""
    paper = printed(table, larger, column) - printed(table, smaller, column)
    more, less = _ours(table, larger, column), _ours(table, smaller, column)
    ours = {design: more[design] - less[design] for design in DESIGNS}
    # Both rows are rounded, so their difference may be off by a whole unit of the last digit.
    unit = 10.0 ** -len(str(paper).partition(".")[2])
    fits = any(abs(n - float(paper)) <= unit for n in ours.values())
    told = ", ".join(f"{design} {signed(n, 2)}" for design, n in ours.items())
    return Finding(
        Status.fits if fits else Status.otherwise, f"printed {signed(paper, 1)}; ours: {told}"
    )


def senet_parameters() -> Finding:
    """Compare what SE adds to TiedResNet101 in parameters."""
    return _difference(1, "params (M)", "TiedSENet101", "TiedResNet101")


def senet_macs() -> Finding:
    """Compare what SE adds to TiedResNet101 in MACs."""
    return _difference(1, "GFlops", "TiedSENet101", "TiedResNet101")


def mixer_parameters() -> Finding:
    """Compare what concatenation adds to the mixer in parameters."""
    return _difference(6, "params (M)", "concatenate", "element-sum")


def resnest_blocks() -> Finding:
    """Compute what B = 4 in place of 2 would save in TiedResNeSt50-S."""
    tied = [n for n in layers(build("tied_resnest50_s")) if n.operator in ("TBC", "TGC")]
    held = sum(n.parameters for n in tied) / 1e6
    all_of_it = parameters("tied_resnest50_s") / 1e6
    plain = all_of_it + 3 * held
    ours = (
        f"B = 2 saves {3 * held:.1f} M of {plain:.1f} M, B = 4 would save {3 * held / 4:.1f} M more"
    )
    return Finding(Status.unmeasurable, f"{ours}; measuring the effect on accuracy needs ImageNet")


def resnext_bottleneck() -> Finding:
    """Look at the splits of TiedResNeXt, whose groups the paper does not give."""
    block: Any = build("tied_resnext101_s").get_submodule("layer1.0")
    found = [m for m in block.modules() if isinstance(m, TiedBlockConv2d) and m.groups > 1]
    groups = found[0].groups
    blocks = fitting_blocks(36, 4, groups=groups)
    ours = _ours(1, "TiedResNeXt101-S", "params (M)")
    most, paper = max(ours.values()), printed(1, "TiedResNeXt101-S", "params (M)")
    return Finding(
        Status.otherwise,
        f"G = {groups} and B = {blocks} in the splits are our choice; the largest of our designs "
        f"of TiedResNeXt101-S has {most:.1f} M parameters, and the paper prints {paper} M",
    )


def resnext_settings() -> Finding:
    """Count the splits of our TiedResNeXt-50 and -50-S, and their widths."""
    told, agrees = [], True
    for name, width in (("tied_resnext50", 64), ("tied_resnext50_s", 36)):
        modules: list[Any] = [*build(name).get_submodule("layer1.0").modules()]
        found = [m for m in modules if getattr(m, "groups", 1) > 1 and hasattr(m, "in_channels")]
        agrees = agrees and [m.in_channels for m in found] == 4 * [width]
        told.append(f"{name} has {len(found)} splits of {found[0].in_channels} channels")
    return agreed(agrees, f"{' and '.join(told)}; the paper does not give their groups")


def resnest_bottleneck() -> Finding:
    """Count TiedResNeSt50-S, tied as the text says."""
    ours, paper = (
        _ours(1, "TiedResNeSt50-S", "params (M)")[""],
        printed(1, "TiedResNeSt50-S", "params (M)"),
    )
    agrees = abs(ours - float(paper)) <= 0.05
    return agreed(
        agrees, f"tied in this way it has {ours:.2f} M parameters; Table 1 prints {paper} M"
    )


def small_resnet101() -> Finding:
    """Compare TiedResNet101-S with ResNet-101 by our counts."""
    shares = [_ours(1, "TiedResNet101-S", column) for column in ("params (%)", "GFlops (%)")]
    told = ", ".join(f"{d} {shares[0][d]:.0f} and {shares[1][d]:.0f} %" for d in DESIGNS)
    ours = f"nothing was trained; by our counts, of ResNet-101's parameters and MACs: {told}"
    return Finding(Status.unmeasurable, ours)
