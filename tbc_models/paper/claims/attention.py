"""What can be counted of attention modules, for claims in the text and in Fig. 5.

Each function is the check of one claim, and returns a `Finding`.
"""

from tbc_models.networks.registry import build
from tbc_models.paper.claims import Finding, Status, printed
from tbc_models.paper.claims.counted import agreed, parameters
from tbc_models.paper.tables import compare


def attention_64_times() -> Finding:
    """Compare the attention of SE-ResNet-50 with that of TiedSE at B = 8."""
    all_se = parameters("seresnet50", ".se."), parameters("tied_seresnet50", ".se.", blocks=8)
    pair = (build("seresnet50"), build("tied_seresnet50", blocks=8))
    weights = [
        sum(p.numel() for n, p in net.named_parameters() if ".se." in n and p.ndim > 1)
        for net in pair
    ]
    ratio = weights[0] / weights[1]
    ours = f"{ratio:.1f} times fewer weights; with biases {all_se[0]:,} and {all_se[1]:,}, "
    return agreed(abs(ratio - 64) < 0.5, f"{ours}{all_se[0] / all_se[1]:.1f} times fewer")


def attention_pair() -> Finding:
    """Count the attention of SE-ResNet-50 and GC-ResNet-50, plain and tied."""
    rows = [
        (3, "SEResNet-50, SE"),
        (3, "SEResNet-50, TiedSE B=8"),
        (4, "+GCB"),
        (4, "+TiedGCB B=2"),
    ]
    counts = [c for row in rows for c in compare(*row) if c.column == "params (M)"]
    se, tied_se, gcb, tied_gcb = (c.ours for c in counts)
    ours = f"SE {se:.3f} and {tied_se:.3f} M, GCB {gcb:.2f} and {tied_gcb:.2f} M"
    return agreed(not any(c.reason for c in counts), ours)


def attention_share() -> Finding:
    """Compare the share of SE and GCB in a network with the 10 % and 25 % of the text."""
    row = "SEResNet-50, SE"
    part, whole = printed(3, row, "params (M)"), printed(3, row, "model params (M)")
    se = parameters("seresnet50", ".se.") / parameters("seresnet50")
    gcb = parameters("gc_resnet50", ".se.") / parameters("gc_resnet50")
    ours = f"Table 3 prints {part} M of {whole} M, {100 * part / whole:.1f} %; "
    ours += f"counted: SE {100 * se:.1f} % of SE-ResNet-50, GCB {100 * gcb:.1f} % of GC-ResNet-50"
    return Finding(Status.contradicts if round(100 * part / whole) != 10 else Status.exact, ours)


def attention_untied() -> Finding:
    """Count TiedSE and TiedGCB at B = 1 beside SE and GCB."""
    se = parameters("tied_seresnet50", ".se.", blocks=1), parameters("seresnet50", ".se.")
    gcb = parameters("tied_gc_resnet50", ".se.", blocks=1), parameters("gc_resnet50", ".se.")
    ours = f"TiedSE at B = 1 has {se[0]:,} parameters, SE {se[1]:,}; TiedGCB {gcb[0]:,} "
    return agreed(se[0] == se[1] and gcb[0] == gcb[1], f"{ours}at B = 1, GCB {gcb[1]:,}")


def attention_sixteenth() -> Finding:
    """Count what SE in EfficientNet-B0 has at r = 16, which the text gives for all experiments."""
    squeezed = 0
    for name, layer in build("efficientnet_b0").named_modules():
        if name.endswith("se.conv_reduce"):
            channels = int(layer.in_channels)
            hidden = max(2, channels // 16)
            squeezed += 2 * channels * hidden + hidden + channels
    paper = printed(3, "EfficientNet-B0, SE", "params (M)")
    quarter = parameters("efficientnet_b0", ".se.")
    ours = (
        f"a reduction ratio of 16 gives {squeezed / 1e6:.2f} M in EfficientNet-B0, and a quarter "
    )
    ours += f"of the input channels of each inverted residual {quarter / 1e6:.2f} M; "
    ours += f"Table 3 prints {paper} M"
    closer = abs(quarter / 1e6 - float(paper)) < abs(squeezed / 1e6 - float(paper))
    return Finding(Status.contradicts if closer else Status.exact, ours)
