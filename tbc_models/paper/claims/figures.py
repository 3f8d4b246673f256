"""The paper's equations and figures, and what its authors published beside it, claim by claim."""

from tbc_models.paper.claims import Claim, Status, attention, counted, first_of, unmeasured
from tbc_models.paper.claims.checked import checked, modules, time_against_blocks
from tbc_models.paper.claims.commands import COCO, FOCUS, OCCLUSION, SCENES, SIMILARITY
from tbc_models.paper.claims.occlusion import gain_grows, occluded, readings
from tbc_models.paper.claims.seen import focus, less_alike, more_alike, narrower

_OPERATORS = "equations.md#the-operators"
_WRONG = "errata.md#the-shapes-below-eq-4"
_BOTTLENECK = (
    "tutorials/05-build-a-tied-bottleneck.md#three-designs-because-the-text-leaves-two-things-open"
)
_VGG = (
    "tbc similarity torchvision.models:vgg16=vgg16.pth --images photos "
    "--layers features.2,features.7,features.12"
)

EQUATIONS: tuple[Claim, ...] = (
    Claim(
        "equation-1",
        "Eq. (1)",
        "Standard convolution: X̃ = X * W",
        checked("SC"),
        "tbc check --operator SC",
        _OPERATORS,
    ),
    Claim(
        "equation-2",
        "Eq. (2)",
        "Group convolution: X̃ = X_1 * W_1 ⊕ … ⊕ X_G * W_G",
        checked("GC"),
        "tbc check --operator GC",
        _OPERATORS,
    ),
    Claim(
        "equation-3",
        "Eq. (3)",
        "Tied block convolution: X̃ = X_1 * W' ⊕ … ⊕ X_B * W'",
        checked("TBC"),
        "tbc check --operator TBC",
        _OPERATORS,
    ),
    Claim(
        "equation-4",
        "Eq. (4)",
        "Tied block group convolution: X̃ = (X_11 * W'_1 ⊕ … ⊕ X_1B * W'_1) ⊕ … ⊕ X_GB * W'_G",
        checked("TGC"),
        "tbc check --operator TGC",
        _OPERATORS,
    ),
    Claim(
        "equation-4-shapes",
        "Eq. (4)",
        "W'_g has c_o/B × c_i/B × k × k numbers, and X_gb has c_i/B channels",
        counted.group_shapes,
        "tbc ledger --where 'Eq. (4)'",
        _WRONG,
    ),
    Claim(
        "equation-5",
        "Eq. (5)",
        "r = total overlap area / total instance area; results are shown up to r = 0.8",
        readings,
        "tbc detect occlusion --data coco:/data/coco",
        "occlusion.md#six-readings-of-one-equation",
    ),
    Claim(
        "published-code-order",
        "Eq. (4), published code",
        "Not in the paper: the authors' published module computes TGC by folding the blocks into "
        "the batch first",
        counted.authors_order,
        "tbc ledger --where 'published code'",
        "equations.md#the-order-of-channels",
    ),
)
"""The equations."""

FIGURES: tuple[Claim, ...] = (
    Claim(
        "figure-1a",
        "Fig. 1a",
        '"As the layer goes deeper from 2 to 12, the pairwise similarity increases overall" (64 '
        "filters of VGG16 at each layer)",
        more_alike,
        _VGG,
        "similarity.md",
    ),
    Claim(
        "figure-1b",
        "Fig. 1b",
        '"the curve shifts right and becomes far narrower, i.e., more filters become similar"',
        narrower,
        _VGG,
        "similarity.md",
    ),
    Claim(
        "figure-1-layers",
        "Fig. 1",
        "VGG16's layers 2 to 12 have 64, 128 and 256 channels",
        counted.vgg_layers,
        "tbc summary vgg16",
        "networks.md#the-baselines",
    ),
    Claim(
        "figure-2",
        "Fig. 2",
        "For two maps SC needs two full-size filters, GC two half-size ones, TBC one half-size: "
        '"the number of parameters is reduced by 4×"',
        counted.tied_layer,
        "tbc summary tbc_resnet20",
        "tutorials/01-share-one-thin-filter.md",
    ),
    Claim(
        "figure-3",
        "Fig. 3",
        '"TBC has a flat (vs. GC\'s linear) compute with respect to the block number" (RTX 2080Ti)',
        time_against_blocks,
        "tbc bench blocks --device cuda",
        "speed.md#time-against-the-number-of-blocks",
    ),
    Claim(
        "figure-3-macs",
        "Fig. 3",
        '"the total FLOPs at these values were fixed by changing the total filter number"',
        counted.equal_macs,
        "tbc bench blocks",
        "tutorials/12-does-it-stay-flat.md#the-claim",
    ),
    Claim(
        "figure-4a",
        "Fig. 4a",
        "The bottleneck of TiedResNet with 4 splits",
        first_of(modules("bottleneck", Status.fits), counted.literal_design),
        "tbc check --modules",
        _BOTTLENECK,
    ),
    Claim(
        "figure-4b",
        "Fig. 4b",
        "The bottleneck of TiedResNeXt with 4 splits; its G is not given",
        counted.resnext_bottleneck,
        "tbc summary tied_resnext101_s",
        "networks.md#options-of-the-tied-bottleneck",
    ),
    Claim(
        "figure-4c",
        "Fig. 4c",
        "The bottleneck of TiedResNeSt, with its entry and its 3×3 tied at B = 2",
        counted.resnest_bottleneck,
        "tbc summary tied_resnest50_s",
        "networks.md",
    ),
    Claim(
        "figure-5a",
        "Fig. 5a",
        "TiedSE replaces the fully connected layers of SE by TFC",
        first_of(modules("TiedSE", Status.exact), attention.attention_64_times),
        "tbc check --modules",
        "tutorials/06-lighten-attention-64-times.md#where-64-comes-from",
    ),
    Claim(
        "figure-5b",
        "Fig. 5b",
        "TiedGCB replaces the convolutions of the global context block by TBC",
        modules("TiedGCB", Status.exact),
        "tbc check --modules",
        "tutorials/06-lighten-attention-64-times.md#global-context-attention-with-a-map",
    ),
    Claim(
        "figure-6",
        "Fig. 6",
        '"TiedResNet consistently outperforms ResNet, ResNeXt and HRNetV2 with much fewer '
        'parameters" in AP on COCO, with RetinaNet, Cascade R-CNN and Mask R-CNN',
        unmeasured("no detector was trained on COCO here"),
        COCO.format("retinanet", "tied_resnet50"),
        "detection.md#from-imagenet-to-coco-on-a-cluster",
    ),
    Claim(
        "figure-7a",
        "Fig. 7a",
        '"When r = 0.8, TiedResNet increases by … 5.9% at AP"',
        occluded("box AP"),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "figure-7b",
        "Fig. 7b",
        '"When r = 0.8, TiedResNet increases by 8.3% at AP75"',
        occluded("box AP75"),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "figure-7b-grows",
        "Fig. 7b",
        '"much more effective at handling highly overlapping instances": the lead grows with r',
        gain_grows("box AP75"),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "figure-7c-false-positives",
        "Fig. 7c",
        '"TiedResNet has much fewer false positive proposals"',
        occluded("false positives", better=-1),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "figure-7c-masks",
        "Fig. 7c",
        '"and has a significantly better instance segmentation quality"',
        occluded("mask AP"),
        OCCLUSION,
        SCENES,
    ),
    Claim(
        "figure-8",
        "Fig. 8",
        '"TiedResNet focusing on target objects more properly than ResNet and ResNeXt"',
        focus,
        FOCUS,
        "gradcam.md",
    ),
    Claim(
        "figure-9",
        "Fig. 9",
        '"Our TiedResNet learns less correlated filters than ResNet, with filter similarity '
        'histograms shifted left"',
        less_alike,
        SIMILARITY,
        "similarity.md",
    ),
)
"""The figures."""
