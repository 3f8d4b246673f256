"""What the paper says of its operators, bottlenecks and attention modules, claim by claim."""

from tbc_models.paper.claims import (
    Claim,
    Status,
    attention,
    contradicted,
    counted,
    first_of,
    gained,
)
from tbc_models.paper.claims.checked import modules, time_against_blocks
from tbc_models.paper.claims.commands import CLUSTER, COCO
from tbc_models.paper.claims.trained import ablation, against_group, trade_off

_DESIGNS = "tutorials/07-reproduce-the-papers-tables.md#what-we-conclude"

METHOD: tuple[Claim, ...] = (
    Claim(
        "formulation-parameters",
        "TBC formulation",
        "SC has c_o · c_i · k · k parameters; GC divides them by G, TBC by B²",
        counted.formulas,
        "tbc summary tied_resnet50_s",
        "equations.md#cost",
    ),
    Claim(
        "tbc-gc-parameters",
        "TBC vs. GC",
        '"TBC has B× fewer parameters than GC"',
        counted.tied_against_group,
        "tbc ledger --where 'TBC vs. GC'",
        "equations.md#cost",
    ),
    Claim(
        "tbc-gc-fragmentation",
        "TBC vs. GC",
        '"the processing time increases linearly with the number of groups in GC, whereas our TBC '
        'keeps almost the same processing time"',
        time_against_blocks,
        "tbc bench blocks --device cuda",
        "tutorials/12-does-it-stay-flat.md#and-on-a-gpu",
    ),
    Claim(
        "tbc-gc-dependencies",
        "TBC vs. GC",
        '"GC has trouble comparing and aggregating information across channels … TBC filters are '
        'applied to all input channels and can better model cross-channel dependencies"',
        first_of(counted.inputs_read, against_group("macs")),
        "tbc compare",
        "compare.md#all-data-sets",
    ),
    Claim(
        "tbc-gc-resnext",
        "TBC vs. GC",
        '"TiedResNet-S can even outperform ResNeXt with 2× model size reduction"',
        counted.half_of_resnext,
        COCO.format("mask-rcnn", "tied_resnet50_s"),
        CLUSTER,
    ),
    Claim(
        "tfc-cost",
        "TBC formulation",
        '"TFC could reduce B² times parameters and B times computational cost"',
        counted.tied_linear,
        "tbc summary tied_seresnet50",
        "equations.md#cost",
    ),
    Claim(
        "bottleneck-text",
        "Bottleneck modules",
        "TiedResNet-50: entry 1×1 by TBC at B = 2, the 3×3 in four splits, a mixer, the exit kept",
        counted.literal_design,
        "tbc table 1",
        _DESIGNS,
    ),
    Claim(
        "bottleneck-missing-weights",
        "Bottleneck modules",
        "The bottleneck has an entry, splits, a mixer and an exit, and nothing else is mentioned",
        counted.missing_weights,
        "tbc table 1",
        "tutorials/07-reproduce-the-papers-tables.md#second-clue-seventeen-bottlenecks",
    ),
    Claim(
        "bottleneck-resnest",
        "Bottleneck modules",
        'In ResNeSt, "further increase of B would only marginally reduce the model size but '
        'greatly reduce the model performance"',
        counted.resnest_blocks,
        "tbc summary tied_resnest50_s",
        "networks.md",
    ),
    Claim(
        "bottleneck-settings",
        "Bottleneck modules",
        "4s×32w for TiedResNet-50 and 4s×18w for TiedResNet-S, with B = 1, 2, 4, 8 at 32w",
        counted.default_blocks,
        "tbc summary tied_resnet50_s",
        "tutorials/05-build-a-tied-bottleneck.md#widths-that-eight-does-not-divide",
    ),
    Claim(
        "bottleneck-settings-resnext",
        "Bottleneck modules",
        "4s×64w for TiedResNeXt-50 and 4s×36w for TiedResNeXt-50-S",
        counted.resnext_settings,
        "tbc summary tied_resnext50",
        "networks.md#options-of-the-tied-bottleneck",
    ),
    Claim(
        "bottleneck-1-percent",
        "Bottleneck modules",
        '"more than 1% performance improvement in term of top-1 accuracy on ImageNet-1K", and '
        '"introducing the mixer increases performance by another 0.5%"',
        contradicted(
            lambda: (
                "together more than 1.5; Table 1, with the mixer, gives "
                + gained(1, "top-1 (%)", "TiedResNet50", "ResNet50")
            )
        ),
        "tbc table 1",
        _DESIGNS,
    ),
    Claim(
        "bottleneck-mixer",
        "Bottleneck modules",
        '"Introducing the mixer increases performance by another 0.5%"',
        ablation("mixer", "none", -1),
        "tbc compare --ablation mixer",
        "compare.md#the-ablations-of-tables-5-and-6-with-a-small-network",
    ),
    Claim(
        "bottleneck-sum",
        "Bottleneck modules",
        '"Table 6 shows that element-wise sum has a better trade-off" than concatenation, which '
        f"adds 4.7 M parameters there, and {gained(6, 'top-1 (%)', 'concatenate', 'element-sum')} "
        "points of top-1",
        trade_off("mixer", "sum", "concatenate"),
        "tbc compare --ablation mixer",
        "compare.md#the-ablations-of-tables-5-and-6-with-a-small-network",
    ),
    Claim(
        "attention-modules",
        "Attention modules",
        '"Both designs significantly reduce the number of parameters"; that they do so "without '
        'dropping performance" stands in the rows of Tables 3 and 4',
        first_of(
            modules("Tied", Status.exact),
            attention.attention_pair,
        ),
        "tbc check --modules",
        "checking.md#whole-modules",
    ),
)
"""The claims, in the order of the paper."""
