"""What a detector costs: parameters and MACs of its backbone, neck and heads (Fig. 6)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tbc_models.detection.detectors import DETECTORS

PROPOSALS, DETECTIONS = 1000, 100
"""Boxes of an image that the box head scores, and those that the mask head segments, at most."""


class PartCost(NamedTuple):
    """Cost of a part of a detector for one image.

    Attributes:
        parameters: number of parameters.
        macs: multiply-accumulates of convolutions and linear layers.
    """

    parameters: int
    macs: int


class DetectorCost(NamedTuple):
    """Cost of a detector for one image.

    Attributes:
        backbone: the network without its classifier.
        neck: the feature pyramid.
        heads: everything on top of the pyramid.
    """

    backbone: PartCost
    neck: PartCost
    heads: PartCost


def detector_cost(
    detector: str,
    backbone: str,
    *,
    num_classes: int = 91,
    size: tuple[int, int] = (800, 1344),
    small: bool = False,
) -> DetectorCost:
    """Count the parameters and MACs of a detector for one image.

    Heads that work on boxes are counted for 1,000 proposals and 100 detections, or what the small
    variant is limited to. A Cascade R-CNN runs one box head a stage on its proposals.

    Args:
        detector: name of a detector, such as "mask-rcnn".
        backbone: name of a network of timm.
        num_classes: number of classes, the background included.
        size: height and width of the image in pixels, as padded to multiples of 32.
        small: whether it is the small variant.

    Returns:
        The cost of its backbone, its neck and its heads.

    Raises:
        ValueError: if there is no such detector or network.

    Example:
        >>> cost = detector_cost("retinanet", "resnet50")
        >>> sum(part.parameters for part in cost)
        34068119
    """
    if detector not in DETECTORS:
        raise ValueError(f"`detector` (={detector!r}) must be one of {', '.join(DETECTORS)}")
    with torch.device("meta"):
        built: Any = DETECTORS[detector](backbone, num_classes, small=small).eval()
        image = torch.zeros(1, 3, *size)
    body, fpn = built.backbone.body, built.backbone.fpn
    with torch.no_grad():
        features = {str(i): x for i, x in enumerate(body(image))}
        maps: list[Tensor] = list(fpn(features).values())
        costs = [
            PartCost(_parameters(body), _macs(lambda: body(image))),
            PartCost(_parameters(fpn), _macs(lambda: fpn(features))),
            PartCost(
                _parameters(built) - _parameters(built.backbone), _macs(lambda: _heads(built, maps))
            ),
        ]
    return DetectorCost(*costs)


def _heads(detector: Any, maps: list[Tensor]) -> None:
    """Run everything on top of the pyramid, on as many boxes as there may be."""
    if not hasattr(detector, "rpn"):
        detector.head(maps)
        return
    detector.rpn.head(maps)
    heads = detector.roi_heads
    proposals = min(PROPOSALS, detector.rpn.post_nms_top_n())
    pooled = _pooled(maps, heads.box_roi_pool, proposals)
    for stage in getattr(heads, "stages", [heads]):
        stage.box_predictor(stage.box_head(pooled))
    if heads.has_mask():
        pooled = _pooled(maps, heads.mask_roi_pool, min(DETECTIONS, heads.detections_per_img))
        heads.mask_predictor(heads.mask_head(pooled))


def _pooled(maps: list[Tensor], pool: Any, boxes: int) -> Tensor:
    return maps[0].new_zeros(boxes, maps[0].shape[1], *pool.output_size)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _macs(run: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() // 2  # two for each MAC
