"""What the paper says from its abstract to the design of the bottlenecks, claim by claim."""

from tbc_models.paper.claims import (
    Claim,
    Finding,
    Status,
    attention,
    contradicted,
    counted,
    first_of,
    unmeasured,
    untried,
)
from tbc_models.paper.claims.checked import checked, layer_times
from tbc_models.paper.claims.commands import CLUSTER, COCO, IMAGENET, OCCLUSION, SCENES, SIMILARITY
from tbc_models.paper.claims.occlusion import occluded
from tbc_models.paper.claims.seen import less_alike, more_alike
from tbc_models.paper.claims.trained import (
    against,
    against_group,
    shipped,
    tied_after_training,
)

_TIED_LAYER = "tutorials/01-share-one-thin-filter.md"
_COSTS = "tutorials/02-count-parameters-and-macs.md"


def partly_public() -> Finding:
    """Say what the authors' repository holds."""
    ours = "three modules are public (TBC, TFC, TiedSE) and can be converted here; the networks "
    return Finding(Status.otherwise, f"{ours}and their weights are not")


TEXT: tuple[Claim, ...] = (
    Claim(
        "abstract-correlated-filters",
        "Abstract",
        '"an optimized CNN often has highly correlated filters as the number of channels increases '
        'with depth"',
        more_alike,
        SIMILARITY,
        "similarity.md",
    ),
    Claim(
        "abstract-one-filter",
        "Abstract",
        'TBC "shares the same thinner filter over equal blocks of channels and produces multiple '
        'responses with a single filter"',
        checked("TBC"),
        "tbc check --operator TBC",
        "checking.md#what-the-numbers-mean",
    ),
    Claim(
        "abstract-extended",
        "Abstract",
        '"can also be extended to group convolution and fully connected layers"',
        checked("TGC", "TFC"),
        "tbc check --operator TGC",
        "checking.md#what-the-numbers-mean",
    ),
    Claim(
        "abstract-applied",
        "Abstract",
        '"can be applied to various backbone networks and attention modules"',
        counted.families,
        "tbc models",
        "networks.md",
    ),
    Claim(
        "abstract-significantly-better",
        "Abstract",
        '"TBC is consistently leaner and significantly better than standard convolution"',
        against("TBC", "parameters", "macs"),
        "tbc compare",
        "compare.md#all-data-sets",
    ),
    Claim(
        "abstract-better-than-gc",
        "Abstract",
        '"… and group convolution" (significantly better than GC)',
        against_group("parameters"),
        "tbc compare",
        "compare.md#all-data-sets",
    ),
    Claim(
        "abstract-64-times",
        "Abstract",
        '"with 64× fewer parameters" (TiedSE at B = 8 against SE)',
        attention.attention_64_times,
        "tbc table 3",
        "tutorials/06-lighten-attention-64-times.md#where-64-comes-from",
    ),
    Claim(
        "abstract-on-par",
        "Abstract",
        '"our TiedSE performs on par with the standard SE"',
        unmeasured("no SE-ResNet-50 was trained here"),
        IMAGENET.format("tied_seresnet50"),
        "train.md",
    ),
    Claim(
        "abstract-overlapping",
        "Abstract",
        '"TBC can effectively handle highly overlapping instances, whereas standard CNNs … result '
        'in multiple redundant partial object proposals"',
        occluded("duplicate", better=-1),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "abstract-reduces-correlation",
        "Abstract",
        '"By sharing filters across channels, TBC reduces correlation"',
        less_alike,
        SIMILARITY,
        "similarity.md",
    ),
    Claim(
        "abstract-6-percent",
        "Abstract",
        '"a sizable gain of 6% in the average precision for object detection on MS-COCO when the '
        'occlusion ratio is 80%"',
        contradicted(lambda: "the caption of Fig. 7 and the section on occlusion say 5.9 %"),
        "tbc ledger --where 'Fig. 7'",
        "occlusion.md#what-may-be-concluded",
    ),
    Claim(
        "abstract-code",
        "Abstract",
        '"Our code is publicly available"',
        partly_public,
        "tbc ledger --where 'published code'",
        "convert.md#the-authors-weights",
    ),
    Claim(
        "introduction-depth",
        "Introduction",
        '"Filters at the same layer become more similar from early to later layers"',
        more_alike,
        SIMILARITY,
        "similarity.md",
    ),
    Claim(
        "introduction-isolated",
        "Introduction",
        '"While GC and DW are effective at reducing the model size, there is no correlation '
        "between filters, resulting in an isolated representation without cross-channel "
        'connections"',
        counted.isolated,
        "tbc ledger --where Introduction",
        "tutorials/05-build-a-tied-bottleneck.md#what-a-split-cannot-see",
    ),
    Claim(
        "introduction-gc-saves",
        "Introduction",
        '"each GC layer reduces the number of parameters B times by reducing the size of each '
        'filter by B times"',
        counted.group_layer,
        "tbc summary resnext50_32x4d",
        _COSTS,
    ),
    Claim(
        "introduction-depthwise",
        "Introduction",
        '"Depth-wise convolution is an extreme case of GC, where each group only contains one '
        'channel"',
        counted.depthwise_layer,
        "tbc summary efficientnet_b0",
        _COSTS,
    ),
    Claim(
        "introduction-fewer-filters",
        "Introduction",
        '"Directly reducing the number of filters is known to reduce the model capacity"',
        untried("cited from He et al. (2016)"),
        "tbc compare",
        "compare.md",
    ),
    Claim(
        "introduction-reuse",
        "Introduction",
        '"since SC filters become more similar (Fig. 1), we can reduce the effective number of '
        'filters by reusing them across channels"',
        tied_after_training,
        "tbc tie-study resnet20.cifar10 --data cifar10 --json study.json",
        "convert.md#what-it-wins-back",
    ),
    Claim(
        "introduction-b-1",
        "Introduction",
        '"TBC is GC shared across groups, and TBC at B = 1 is SC"',
        checked("SC", "TBC"),
        "tbc check --operator TBC",
        "checking.md#third-opinions",
    ),
    Claim(
        "introduction-4-times",
        "Introduction",
        '"At B = 2, TBC obtains twice responses with one half-size thin filter, achieving 4 times '
        'model reduction"',
        counted.tied_layer,
        "tbc summary tbc_resnet20",
        _TIED_LAYER,
    ),
    Claim(
        "introduction-memory-access",
        "Introduction",
        '"TBC has more efficient memory access by utilizing GPU\'s parallel processing"',
        layer_times,
        "tbc bench layers --device cuda",
        "speed.md#one-layer",
    ),
    Claim(
        "introduction-more-samples",
        "Introduction",
        '"Since each thin filter is trained on B times more samples, learning also becomes more '
        'effective"',
        against("TBC", "parameters"),
        "tbc compare",
        "compare.md#all-data-sets",
    ),
    Claim(
        "introduction-global-information",
        "Introduction",
        '"each set of TBC filters are applied to all input channels, TBC could aggregate global '
        'information across channels"',
        counted.inputs_read,
        "tbc ledger --where Introduction",
        "tutorials/05-build-a-tied-bottleneck.md#what-a-split-cannot-see",
    ),
    Claim(
        "introduction-outperforms",
        "Introduction",
        '"TiedResNet consistently outperforms ResNet, ResNeXt and HRNetV2 by a larger margin with '
        'a much leaner model (Fig. 6)"',
        unmeasured("no detector was trained on COCO here"),
        COCO.format("mask-rcnn", "tied_resnet50"),
        CLUSTER,
    ),
    Claim(
        "introduction-frameworks",
        "Introduction",
        '"similar performance boost and model reduction on a variety of frameworks, tasks and '
        'datasets"',
        shipped,
        "tbc models --pretrained",
        "networks.md#trained-weights",
    ),
    Claim(
        "introduction-capacity",
        "Introduction",
        '"filter redundancy in an optimized CNN not only reduces the effective model capacity, but '
        'also makes it unable to capture diverse outputs and thereby loses performance"',
        untried("we have no experiment that changes the redundancy alone"),
        SIMILARITY,
        "similarity.md",
    ),
    Claim(
        "introduction-8-percent",
        "Introduction",
        '"increase the average precision (AP) by 6% (in particular, 8.3% in AP at IoU = 0.75) when '
        'the occlusion ratio is 80%"',
        first_of(occluded("box AP75"), occluded("box AP")),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "related-12-times",
        "Related works",
        '"GoogleNet and VGGNet only need 12 times fewer parameters to outperform" AlexNet',
        counted.older_networks,
        "tbc summary vgg16",
        "networks.md#the-baselines",
    ),
    Claim(
        "related-comparable",
        "Related works",
        '"its responses over subsets of channels become comparable and relatable"',
        untried("the paper says neither what this means nor how to measure it"),
        "tbc check --operator TBC",
        _TIED_LAYER,
    ),
    Claim(
        "related-fragmentation",
        "Related works",
        '"With only one fragmentation, TBC can take full advantage of the powerful parallel '
        'computing capabilities of GPUs"',
        layer_times,
        "tbc bench layers --device cuda",
        "speed.md#on-a-gpu",
    ),
    Claim(
        "related-10-percent",
        "Related works",
        '"SE (GCB) still counts for 10% (25%) of the model size"; SE again below Table 3',
        attention.attention_share,
        "tbc table 3",
        "tutorials/06-lighten-attention-64-times.md#table-3-se-resnet-50-exactly",
    ),
    Claim(
        "related-attention",
        "Related works",
        '"2.53M vs 0.04M for SE and 10M vs 2.5M for GCB"',
        attention.attention_pair,
        "tbc table 3",
        "tutorials/06-lighten-attention-64-times.md#where-64-comes-from",
    ),
)
"""The claims, in the order of the paper."""
