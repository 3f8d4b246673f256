"""What the paper says of its experiments and ablations, and in its summary, claim by claim."""

from tbc_models.paper.claims import (
    Claim,
    attention,
    contradicted,
    counted,
    first_of,
    gained,
    printed,
    unmeasured,
    untried,
)
from tbc_models.paper.claims.commands import (
    CLUSTER,
    COCO,
    FOCUS,
    IMAGENET,
    OCCLUSION,
    SCENES,
    SIMILARITY,
)
from tbc_models.paper.claims.occlusion import gain_grows, occluded
from tbc_models.paper.claims.seen import focus, less_alike
from tbc_models.paper.claims.trained import ablation, against, shipped, trade_off

_TABLES = "tutorials/07-reproduce-the-papers-tables.md"
_TABLE_1 = f"{_TABLES}#table-1"
_TABLE_3 = "tutorials/06-lighten-attention-64-times.md#table-3-se-resnet-50-exactly"
_TABLE_4 = "tutorials/06-lighten-attention-64-times.md#table-4-and-its-contradiction"
_ABLATIONS = "compare.md#the-ablations-of-tables-5-and-6-with-a-small-network"

_TOP1, _TOP5 = "top-1 (%)", "top-5 (%)"


def _share(row: str, base: str, column: str) -> str:
    """Write down how many per cent of a baseline's number Table 1 prints for a row."""
    ours, theirs = printed(1, row, column), printed(1, base, column)
    return f"{ours} of {theirs} is {100 * ours / theirs:.0f} %"


def _reductions() -> str:
    cut = []
    for depth in (50, 101):
        share = printed(1, f"TiedResNet{depth}", "params (%)")
        cut.append(f"{100 - share} % (ResNet{depth}: {share} % remain)")
    return f"Table 1 gives {' and '.join(cut)}"


def _gains_of_gcb() -> str:
    told = []
    for row in ("+TiedGCB B=2", "+TiedGCB B=4"):
        gains = (
            f"AP {kind} {gained(4, f'AP {kind}', row, 'Mask R-CNN')}" for kind in ("mask", "bbox")
        )
        told.append(f"{row[1:]}: {', '.join(gains)}")
    return f"the two gains are swapped, and are those of B = 2 (4× fewer): {'; '.join(told)}"


def _best_top5() -> str:
    best, other = printed(5, "4s×32w", _TOP5), printed(5, "6s×24w", _TOP5)
    return f"4s×32w has the bold top-5, {best}; 6s×24w has {other}"


RESULTS: tuple[Claim, ...] = (
    Claim(
        "imagenet-recipe",
        "ImageNet classification",
        "SGD with momentum 0.9, mini-batches of 256, a rate of 0.1 that falls tenfold every 30 "
        "epochs, 100 epochs, random crops of 224 pixels",
        unmeasured("`tbc train` has this recipe as `paper`; no network was trained with it"),
        IMAGENET.format("tied_resnet50"),
        "train.md#recipes",
    ),
    Claim(
        "imagenet-s-beats",
        "ImageNet classification",
        '"TiedResNet50-S beats ResNet50 in terms of top-1 accuracy"',
        contradicted(
            lambda: f"Table 1 has them equal: {gained(1, _TOP1, 'TiedResNet50-S', 'ResNet50')}"
        ),
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "imagenet-101-s",
        "ImageNet classification",
        '"with only 60% flops and 54% parameters, likewise for TiedResNet101-S"',
        counted.small_resnet101,
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "imagenet-gains",
        "ImageNet classification",
        '"TiedResNet50 and TiedResNet101 can beat benchmarks by more than 1.5% and 1.4% '
        'separately"',
        contradicted(
            lambda: (
                "Table 1 gives "
                + " and ".join(
                    gained(1, _TOP1, f"TiedResNet{depth}", f"ResNet{depth}") for depth in (50, 101)
                )
            )
        ),
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "imagenet-10-percent",
        "ImageNet classification",
        '"with 10% parameter reduction"',
        contradicted(_reductions),
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "imagenet-similar-tendency",
        "ImageNet classification",
        '"Similar tendency can be observed for TiedResNeXt and TiedSENet"',
        unmeasured(
            "printed gains: TiedResNeXt101-S "
            + gained(1, _TOP1, "TiedResNeXt101-S", "ResNeXt101-32×4d")
            + ", TiedSENet101-S "
            + gained(1, _TOP1, "TiedSENet101-S", "SENet101 ‡")
        ),
        IMAGENET.format("tied_senet101_s"),
        _TABLE_1,
    ),
    Claim(
        "imagenet-59-percent",
        "ImageNet classification",
        '"With only 59% of parameters and 82% of computation cost", TiedResNeSt-50-S is better '
        "than ResNeSt-50-S",
        contradicted(
            lambda: (
                f"Table 1 prints {printed(1, 'TiedResNeSt50-S', 'params (%)')} %: "
                + _share("TiedResNeSt50-S", "ResNeSt-50-fast ‡", "params (M)")
                + "; and its baseline is named ResNeSt-50-fast"
            )
        ),
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "imagenet-gflops",
        "ImageNet classification",
        '"GFlops" as the unit of computation',
        counted.macs_not_flops,
        "tbc table 1",
        "equations.md#cost",
    ),
    Claim(
        "imagenet-baselines",
        "ImageNet classification",
        '"Baselines are copied from Pytorch model zoo" (caption of Table 1)',
        counted.zoo,
        "tbc ledger --where 'ImageNet classification'",
        "networks.md#the-baselines",
    ),
    Claim(
        "imagenet-pruning",
        "ImageNet classification",
        '"TiedResNet-S even greatly surpasses" Taylor-FO-BN and GhostNet (caption of Table 1)',
        unmeasured("none of the three was trained here"),
        IMAGENET.format("tied_resnet50_s"),
        "train.md",
    ),
    Claim(
        "imagenet-se-parameters",
        "ImageNet classification",
        "TiedSENet101 has 2.4 M parameters more than TiedResNet101, with a reduction ratio of 16 "
        "according to the text",
        counted.senet_parameters,
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "imagenet-se-macs",
        "ImageNet classification",
        "TiedSENet101 has 0.5 GFlops more than TiedResNet101",
        counted.senet_macs,
        "tbc table 1",
        _TABLE_1,
    ),
    Claim(
        "attention-special-case",
        "Lightweight attention",
        '"The SE module can be seen as a special case of our TiedSE when B = 1; likewise, GCB is '
        'TiedGCB at B = 1"',
        attention.attention_untied,
        "tbc summary tied_seresnet50 --set blocks=1",
        "checking.md#whole-modules",
    ),
    Claim(
        "attention-reduction",
        "Lightweight attention",
        '"All experiments in Table 3 use reduction ratio of 16"',
        attention.attention_sixteenth,
        "tbc table 3",
        _TABLE_3,
    ),
    Claim(
        "attention-better",
        "Lightweight attention",
        '"Using only 1.6% (6.4%) of the parameters, the performance of TiedSE is better than SE on '
        'SEResNet50 (EfficientNet-B0)" (caption of Table 3)',
        contradicted(
            lambda: (
                "Table 3, EfficientNet-B0 at B = 4: "
                + gained(3, _TOP1, "EfficientNet-B0, TiedSE B=4", "EfficientNet-B0, SE")
                + "; SE-ResNet-50 at B = 8: "
                + gained(3, _TOP1, "SEResNet-50, TiedSE B=8", "SEResNet-50, SE ‡")
            )
        ),
        "tbc table 3",
        _TABLE_3,
    ),
    Claim(
        "attention-gcb-gains",
        "Lightweight attention",
        '"TiedGCB achieves 1.8% and 1.4% gain in AP^mask and AP^bbox respectively, with 16× '
        'parameters reduction"',
        contradicted(_gains_of_gcb),
        "tbc table 4",
        _TABLE_4,
    ),
    Claim(
        "attention-gcb-groups",
        "Lightweight attention",
        "Group convolution in GCB loses 0.4 % in AP of masks and boxes",
        unmeasured("Table 4 has no row for it"),
        COCO.format("mask-rcnn", "gc_resnet50"),
        CLUSTER,
    ),
    Claim(
        "ablation-splits",
        "Ablation studies",
        '"the best performance and model complexity trade-off can be reached at 4s×32w"',
        trade_off("splits", "4s32w"),
        "tbc compare --ablation splits",
        _ABLATIONS,
    ),
    Claim(
        "ablation-best-top-5",
        "Ablation studies",
        "Table 5 prints the top-5 of 4s×32w in bold, as the best",
        contradicted(_best_top5),
        "tbc table 5",
        f"{_TABLES}#table-5-puts-it-to-the-test",
    ),
    Claim(
        "ablation-2-splits",
        "Ablation studies",
        '"when there are only 2 splits, top-1 accuracy will drop 0.4%"',
        contradicted(
            lambda: (
                f"Table 5: {gained(5, _TOP1, '4s×32w', '2s×48w')}; with 8 splits "
                + gained(5, _TOP1, "4s×32w", "8s×18w")
            )
        ),
        "tbc table 5",
        f"{_TABLES}#table-5-puts-it-to-the-test",
    ),
    Claim(
        "ablation-2-splits-in-small",
        "Ablation studies",
        "Two splits are worse than four",
        ablation("splits", "2s48w", -1),
        "tbc compare --ablation splits",
        _ABLATIONS,
    ),
    Claim(
        "ablation-concatenate",
        "Ablation studies",
        "Concatenation instead of the sum adds 4.7 M parameters (Table 6)",
        counted.mixer_parameters,
        "tbc table 6",
        f"{_TABLES}#fourth-clue-the-mixer-keeps-its-width",
    ),
    Claim(
        "ablation-least-similar",
        "Ablation studies",
        '"Our TiedResNet has the least similarity and thus removes most redundancy throughout the '
        'depth layers, which validates our hypothesis and motivation"',
        less_alike,
        SIMILARITY,
        "similarity.md",
    ),
    Claim(
        "ablation-attention",
        "Ablation studies",
        '"TiedResNet focusing on target objects more properly …, suggesting that the performance '
        'boost comes from accurate attention"',
        focus,
        FOCUS,
        "gradcam.md",
    ),
    Claim(
        "ablation-false-positives",
        "Ablation studies",
        '"Incorrect attention to the target area would also lead to a large number of false '
        'positive proposals"',
        untried("attention and false positives were not measured on the same detector"),
        FOCUS,
        "occlusion.md#which-errors-grow-with-r",
    ),
    Claim(
        "summary-consistent",
        "Summary",
        '"consistent accuracy gain and model reduction"',
        first_of(against("TBC", "macs"), shipped),
        "tbc compare",
        "compare.md#all-data-sets",
    ),
    Claim(
        "summary-occlusion",
        "Summary",
        '"better object detection and segmentation especially with occlusion"',
        first_of(occluded("mask AP"), gain_grows("mask AP")),
        OCCLUSION,
        SCENES,
    ),
)
"""The claims, in the order of the paper."""
