"""Detectors on tied backbones: torchvision's RetinaNet, Faster and Mask R-CNN, and our Cascade.

Each function takes a backbone and the number of classes, the background included. The detectors
follow torchvision's conventions: in training they map a list of images (3, H, W) with values from
0 to 1 and a list of targets to a dict of losses; in evaluation they map images to a list of dicts
with `boxes` (n, 4), `labels` (n), `scores` (n) and, if they segment, `masks` (n, 1, H, W).
"""

from collections.abc import Callable
from typing import Any

from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from tbc_models.detection.cascade import CascadeRoIHeads
from tbc_models.detection.fpn import BackboneWithFPN, backbone_with_fpn
from tbc_models.detection.masks import with_exact_masks

Backbone = str | BackboneWithFPN


def retinanet(
    backbone: Backbone, num_classes: int, *, small: bool = False, **options: Any
) -> RetinaNet:
    """Build a RetinaNet (Lin et al. 2017), the single-stage detector of Fig. 6.

    Args:
        backbone: name of a network of timm, or what `backbone_with_fpn` returns.
        num_classes: number of classes, the background included.
        small: whether it is for images of about 100 pixels.
        options: options of torchvision's RetinaNet.

    Returns:
        The detector, with random weights unless the backbone has trained ones.

    Raises:
        ValueError: if there is no such network, or `num_classes` is less than 2.

    Example:
        >>> sum(p.numel() for p in retinanet("resnet50", 91).parameters())
        34068119
    """
    _check_classes(num_classes)
    if small:
        anchors = AnchorGenerator(((8, 11, 16), (16, 23, 32), (32, 45, 64)), (_SMALL_RATIOS,) * 3)
        options = _SMALL_IMAGES | {"anchor_generator": anchors} | options
    return RetinaNet(_built("retinanet", backbone, small), num_classes, **options)


def faster_rcnn(
    backbone: Backbone, num_classes: int, *, small: bool = False, **options: Any
) -> FasterRCNN:
    """Build a Faster R-CNN (Ren et al. 2015): proposals of boxes, then a head that refines them.

    Args:
        backbone: name of a network of timm, or what `backbone_with_fpn` returns.
        num_classes: number of classes, the background included.
        small: whether it is for images of about 100 pixels.
        options: options of torchvision's FasterRCNN.

    Returns:
        The detector, with random weights unless the backbone has trained ones.

    Raises:
        ValueError: if there is no such network, or `num_classes` is less than 2.

    Example:
        >>> sum(p.numel() for p in faster_rcnn("resnet50", 91).parameters())
        41808406
    """
    _check_classes(num_classes)
    body = _built("faster-rcnn", backbone, small)
    if small:
        return FasterRCNN(body, **_small_boxes(body, num_classes) | options)
    return FasterRCNN(body, num_classes, **options)


def mask_rcnn(
    backbone: Backbone, num_classes: int, *, small: bool = False, **options: Any
) -> MaskRCNN:
    """Build a Mask R-CNN (He et al. 2017), the detector of Tables 2 and 4 and of Fig. 7.

    Args:
        backbone: name of a network of timm, or what `backbone_with_fpn` returns.
        num_classes: number of classes, the background included.
        small: whether it is for images of about 100 pixels.
        options: options of torchvision's MaskRCNN.

    Returns:
        The detector, with random weights unless the backbone has trained ones.

    Raises:
        ValueError: if there is no such network, or `num_classes` is less than 2.

    Example:
        >>> sum(p.numel() for p in mask_rcnn("resnet50", 91).parameters())
        44454513
    """
    _check_classes(num_classes)
    body = _built("mask-rcnn", backbone, small)
    if small:
        heads = _small_boxes(body, num_classes) | _small_masks(body, num_classes)
        return with_exact_masks(MaskRCNN(body, **heads | options))
    return with_exact_masks(MaskRCNN(body, num_classes, **options))


def cascade_rcnn(
    backbone: Backbone, num_classes: int, *, small: bool = False, **options: Any
) -> FasterRCNN:
    """Build a Cascade R-CNN (Cai & Vasconcelos 2018): a Faster R-CNN that refines boxes thrice.

    Args:
        backbone: name of a network of timm, or what `backbone_with_fpn` returns.
        num_classes: number of classes, the background included.
        small: whether it is for images of about 100 pixels.
        options: options of `CascadeRoIHeads` and of torchvision's FasterRCNN.

    Returns:
        The detector, with random weights unless the backbone has trained ones.

    Raises:
        ValueError: if there is no such network, or `num_classes` is less than 2.

    Example:
        >>> sum(p.numel() for p in cascade_rcnn("resnet50", 91).parameters())
        69425516
    """
    detector: FasterRCNN = _in_stages(faster_rcnn, backbone, num_classes, small, options)
    return detector


def cascade_mask_rcnn(
    backbone: Backbone, num_classes: int, *, small: bool = False, **options: Any
) -> MaskRCNN:
    """Build a Cascade R-CNN with a mask head on the boxes of its last stage.

    Args:
        backbone: name of a network of timm, or what `backbone_with_fpn` returns.
        num_classes: number of classes, the background included.
        small: whether it is for images of about 100 pixels.
        options: options of `CascadeRoIHeads` and of torchvision's MaskRCNN.

    Returns:
        The detector, with random weights unless the backbone has trained ones.

    Raises:
        ValueError: if there is no such network, or `num_classes` is less than 2.

    Example:
        >>> detector = cascade_mask_rcnn("tied_resnet14_s", 11, small=True)
        >>> detector.roi_heads.has_mask()
        True
    """
    detector: MaskRCNN = _in_stages(mask_rcnn, backbone, num_classes, small, options)
    return detector


def pyramid(
    detector: str, backbone: str, *, small: bool = False, **options: Any
) -> BackboneWithFPN:
    """Build a backbone with the feature pyramid that a detector needs.

    Args:
        detector: name of the detector, such as "mask-rcnn".
        backbone: name of a network of timm.
        small: whether it is for images of about 100 pixels.
        options: further options of `backbone_with_fpn`.

    Returns:
        The backbone.

    Raises:
        ValueError: if there is no such network, or it lacks features of the strides that are used.

    Example:
        >>> pyramid("mask-rcnn", "tied_resnet14_s", small=True).out_channels
        64
    """
    if small:
        return backbone_with_fpn(backbone, strides=_SMALL_STRIDES, out_channels=64, **options)
    if detector == "retinanet":
        return backbone_with_fpn(backbone, strides=(8, 16, 32), extra="p6p7", **options)
    return backbone_with_fpn(backbone, extra="pool", **options)


DETECTORS: dict[str, Callable[..., Any]] = {
    "retinanet": retinanet,
    "faster-rcnn": faster_rcnn,
    "mask-rcnn": mask_rcnn,
    "cascade-rcnn": cascade_rcnn,
    "cascade-mask-rcnn": cascade_mask_rcnn,
}
"""The detectors by the names that commands and checkpoints use."""

MASKED = frozenset({"mask-rcnn", "cascade-mask-rcnn"})
"""The detectors that predict masks, and are trained with them."""

_CASCADE_OPTIONS = {"ious", "box_weights", "loss_weights"}

_SMALL_STRIDES = (4, 8, 16)
_SMALL_RATIOS = (0.5, 1.0, 2.0, 4.0)  # height / width; a handwritten 1 is four times as high
_SMALL_IMAGES = {"min_size": 96, "max_size": 160}


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(
            f"`num_classes` (={num_classes}) must be at least 2: the background and one class"
        )


def _built(detector: str, backbone: Backbone, small: bool) -> BackboneWithFPN:
    return pyramid(detector, backbone, small=small) if isinstance(backbone, str) else backbone


def _in_stages(
    build: Callable[..., Any],
    backbone: Backbone,
    num_classes: int,
    small: bool,
    options: dict[str, Any],
) -> Any:
    """Build a detector and put a cascade in the place of its one box head."""
    own = {name: options.pop(name) for name in _CASCADE_OPTIONS & options.keys()}
    detector = build(backbone, num_classes, small=small, **options)
    detector.roi_heads = CascadeRoIHeads(detector.roi_heads, **own)
    return detector


def _small_boxes(backbone: BackboneWithFPN, num_classes: int) -> dict[str, Any]:
    """Choose anchors, limits and a box head for small images."""
    width = 128
    return _SMALL_IMAGES | {
        "rpn_anchor_generator": AnchorGenerator(((16,), (32,), (64,)), (_SMALL_RATIOS,) * 3),
        "rpn_pre_nms_top_n_train": 200,
        "rpn_pre_nms_top_n_test": 200,
        "rpn_post_nms_top_n_train": 100,
        "rpn_post_nms_top_n_test": 100,
        "rpn_batch_size_per_image": 64,
        "box_roi_pool": _small_pool(7),
        "box_head": TwoMLPHead(backbone.out_channels * 7**2, width),
        "box_predictor": FastRCNNPredictor(width, num_classes),
        "box_batch_size_per_image": 32,
        "box_positive_fraction": 0.5,
    }


def _small_masks(backbone: BackboneWithFPN, num_classes: int) -> dict[str, Any]:
    width = 64
    return {
        "mask_roi_pool": _small_pool(14),
        "mask_head": MaskRCNNHeads(backbone.out_channels, (width, width), 1),
        "mask_predictor": MaskRCNNPredictor(width, width, num_classes),
    }


def _small_pool(size: int) -> MultiScaleRoIAlign:
    maps = [str(i) for i in range(len(_SMALL_STRIDES))]
    return MultiScaleRoIAlign(maps, output_size=size, sampling_ratio=1)
