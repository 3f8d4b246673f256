"""The network behind each row of the paper's tables, and why our counts differ from the paper's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from tbc_models.networks.bottleneck import Design

DESIGNS: tuple[str, ...] = get_args(Design)

UNEXPLAINED = "not explained yet"
"""The reason given for a difference that no row below explains."""

Reasons = Mapping[str, str | Mapping[str, str]]
"""By column: one reason for every design, or one for each design that differs."""


@dataclass(frozen=True)
class TableRow:
    """The network that a row of the paper is about.

    Attributes:
        network: its name, as registered with timm.
        options: options of the network.
        of: row whose network the percentages refer to.
        counted: "model", or "attention" if the row's parameters are those of the attention.
        reasons: why counts differ from the paper's, by column. "GFlops" stands for "GFlops, all"
            too; a percentage without a reason of its own follows from the counts.
    """

    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    of: str = ""
    counted: str = "model"
    reasons: Reasons = field(default_factory=dict)

    @property
    def designs(self) -> tuple[str, ...]:
        """The three designs of a network with tied bottlenecks; for others only ""."""
        tied = self.network.startswith(("tied_resnet", "tied_resnext", "tied_senet"))
        return DESIGNS if tied else ("",)

    def reason(self, column: str, design: str) -> str:
        """Say why a count differs from the paper's.

        Args:
            column: column of the table, or "GFlops, all".
            design: design of the network, "" if there is only one.

        Returns:
            The reason; `UNEXPLAINED` if the row has none.

        Example:
            >>> TableRow("resnet50", reasons={"GFlops": "rounded"}).reason("GFlops, all", "")
            'rounded'
            >>> TableRow("resnet50").reason("params (M)", "")
            'not explained yet'
        """
        default = "follows from the counts" if column.endswith("(%)") else UNEXPLAINED
        reason = self.reasons.get(column.removesuffix(", all"), default)
        return reason if isinstance(reason, str) else reason.get(design, default)


_SHORTCUT = "with a tied shortcut, about 2.3·p² weights per bottleneck stay unexplained"
_MULTIPLY = "the unexplained weights cost MACs, too"
_NOT_S = "fits the two full-size networks, not the -S networks"
_NOT_MACS = "fitted to the parameters, not to the MACs"
_NOT_ABLATIONS = "fitted to Table 1, not to the ablations"
_A_LITTLE = "a small difference remains even with BN, ReLU and pooling"
_OUT_OF_REACH = "not reached with B = 1, 2, 4, 8, even without groups"
_CONTRADICT = "the printed percentages contradict the row's own numbers"
_HALF_OF_SE = "as for TiedResNet101; SE with r = 16 adds half of what r = 8 adds"
_MACS_OF_SE = "as for TiedResNet101; and SE adds almost no MACs, not 0.4 to 0.5 G"
_TIED_AT_2 = "tying the entries and all 3x3 at B = 2, as the text says, saves more"
_SIXTEENTH = 'a sixteenth, as the text says ("16×"); the printed 13 % is an eighth'

_FULL_SIZE: Reasons = {
    "params (M)": {"literal": _SHORTCUT},
    "GFlops": {"literal": _MULTIPLY, "fitted": _NOT_MACS},
}
_SMALL: Reasons = {
    "params (M)": {"literal": _SHORTCUT, "fitted-tbc": _NOT_S},
    "GFlops": {"literal": _MULTIPLY, "fitted-tbc": _NOT_S},
}
_ABLATION: Reasons = {
    "params (M)": {
        "literal": _SHORTCUT,
        "fitted": _NOT_ABLATIONS,
        "fitted-tbc": _NOT_ABLATIONS,
    },
    "GFlops": {"literal": _MULTIPLY, "fitted": _NOT_ABLATIONS, "fitted-tbc": _NOT_ABLATIONS},
}

_SENET101 = TableRow(
    "seresnet101",
    reasons={"params (M)": "ours is SE-ResNet-101 with r = 16", "GFlops": _A_LITTLE},
)
_TIED_SENET101_S = TableRow(
    "tied_senet101_s",
    of="SENet101",
    reasons={
        "params (M)": {"literal": _HALF_OF_SE, "fitted-tbc": _NOT_S},
        "params (%)": {"literal": _HALF_OF_SE},
        "GFlops": _MACS_OF_SE,
        "GFlops (%)": _MACS_OF_SE,
    },
)
_SERESNET50 = TableRow("seresnet50", of="SEResNet-50, SE", counted="attention")


def _tied_seresnet50(blocks: int) -> TableRow:
    return TableRow("tied_seresnet50", {"blocks": blocks}, "SEResNet-50, SE", "attention")


ROWS: dict[int, dict[str, TableRow]] = {
    1: {
        "ResNet50": TableRow(
            "resnet50", reasons={"GFlops": "not explained by any usual way to count"}
        ),
        "TiedResNet50-S": TableRow("tied_resnet50_s", of="ResNet50", reasons=_SMALL),
        "TiedResNet50": TableRow("tied_resnet50", of="ResNet50", reasons=_FULL_SIZE),
        "ResNet101": TableRow(
            "resnet101", reasons={"params (M)": "rounded up by the paper", "GFlops": _A_LITTLE}
        ),
        "TiedResNet101-S": TableRow("tied_resnet101_s", of="ResNet101", reasons=_SMALL),
        "TiedResNet101": TableRow(
            "tied_resnet101",
            of="ResNet101",
            reasons={
                "params (M)": {
                    "literal": _SHORTCUT,
                    "fitted": "a fit, within 0.06 M of the paper; it proves nothing",
                },
                "GFlops": {
                    "literal": _MULTIPLY,
                    "fitted": _NOT_MACS,
                    "fitted-tbc": "fits without BN, ReLU and pooling",
                },
            },
        ),
        "ResNeXt101-32×4d": TableRow(
            "resnext101_32x8d",
            reasons={"GFlops": "the row's numbers are those of 32×8d; 32×4d has half of them"},
        ),
        "TiedResNeXt101-S": TableRow(
            "tied_resnext101_s",
            of="ResNeXt101-32×4d",
            reasons={
                "params (M)": _OUT_OF_REACH,
                "params (%)": _CONTRADICT,
                "GFlops": _OUT_OF_REACH,
                "GFlops (%)": _CONTRADICT,
            },
        ),
        "SENet101": _SENET101,
        "SENet101 ‡": _SENET101,
        "TiedSENet101-S": _TIED_SENET101_S,
        "TiedSENet101-S †": _TIED_SENET101_S,
        "TiedSENet101": TableRow(
            "tied_senet101",
            of="SENet101",
            reasons={
                "params (M)": {
                    "literal": _HALF_OF_SE,
                    "fitted": "as for TiedResNet101, to which it is fitted; with r = 8",
                },
                "params (%)": {"literal": _HALF_OF_SE},
                "GFlops": _MACS_OF_SE,
                "GFlops (%)": _MACS_OF_SE,
            },
        ),
        "ResNeSt-50-fast ‡": TableRow(
            "resnest50d",
            {"block_args": {"radix": 2, "avd": True, "avd_first": True}},
            reasons={"GFlops": "with BN, ReLU and pooling, it rounds to the paper's number"},
        ),
        "TiedResNeSt50-S": TableRow(
            "tied_resnest50_s",
            of="ResNeSt-50-fast ‡",
            reasons=dict.fromkeys(["params (M)", "params (%)", "GFlops", "GFlops (%)"], _TIED_AT_2),
        ),
        "TiedResNet50-S (2nd)": TableRow("tied_resnet50_s", reasons=_SMALL),
    },
    2: {
        "ResNet50": TableRow("resnet50"),
        "TiedResNet50-S": TableRow("tied_resnet50_s", reasons=_SMALL),
        "TiedResNet50": TableRow("tied_resnet50", reasons=_FULL_SIZE),
    },
    3: {
        "SEResNet-50, SE": _SERESNET50,
        "SEResNet-50, SE ‡": _SERESNET50,
        **{f"SEResNet-50, TiedSE B={B}": _tied_seresnet50(B) for B in (2, 4, 8)},
        "EfficientNet-B0, SE": TableRow(
            "efficientnet_b0",
            of="EfficientNet-B0, SE",
            counted="attention",
            reasons={
                "params (M)": "squeezing to a quarter of the input gives this; r = 16 gives less"
            },
        ),
        "EfficientNet-B0, TiedSE B=2": TableRow(
            "tied_efficientnet_b0", {"blocks": 2}, "EfficientNet-B0, SE", "attention"
        ),
        "EfficientNet-B0, TiedSE B=4": TableRow(
            "tied_efficientnet_b0",
            {"blocks": 4},
            "EfficientNet-B0, SE",
            "attention",
            reasons={"params (%)": "squeezes of 1, 1.5 and 2.5 channels in each block become 2"},
        ),
    },
    4: {
        "+GCB": TableRow("gc_resnet50", of="+GCB", counted="attention"),
        "+TiedGCB B=2": TableRow("tied_gc_resnet50", {"blocks": 2}, "+GCB", "attention"),
        "+TiedGCB B=4": TableRow(
            "tied_gc_resnet50",
            {"blocks": 4},
            "+GCB",
            "attention",
            reasons={"params (M)": _SIXTEENTH, "params (%)": _SIXTEENTH},
        ),
    },
    5: {
        "2s×48w": TableRow("tied_resnet50", {"splits": 2, "base_width": 48}, reasons=_ABLATION),
        "4s×32w": TableRow("tied_resnet50", {"splits": 4, "base_width": 32}, reasons=_FULL_SIZE),
        "6s×24w": TableRow(
            "tied_resnet50",
            {"splits": 6, "base_width": 24},
            reasons={
                "params (M)": {"fitted": _NOT_ABLATIONS},
                "GFlops": {
                    "literal": "the parameters fit, the MACs do not; B for six splits is our choice"
                },
            },
        ),
        "8s×18w": TableRow("tied_resnet50", {"splits": 8, "base_width": 18}, reasons=_ABLATION),
    },
    6: {
        "element-sum": TableRow("tied_resnet50", reasons=_FULL_SIZE),
        "concatenate": TableRow("tied_resnet50", {"mixer": "concatenate"}, reasons=_ABLATION),
    },
}
"""The rows whose network we or timm can build, by table. No library has the others."""
