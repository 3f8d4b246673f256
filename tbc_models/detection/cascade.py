"""Cascade R-CNN (Cai & Vasconcelos 2018): each stage refines the boxes of the one before.

A stage is a box head that is trained on boxes which overlap an object by at least its own IoU, so
the later ones learn from better boxes. The regression is class-agnostic: one box for all classes.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    fastrcnn_loss,
    maskrcnn_inference,
    maskrcnn_loss,
)
from torchvision.ops import clip_boxes_to_image

IOUS = (0.5, 0.6, 0.7)
BOX_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
LOSS_WEIGHTS = (1.0, 0.5, 0.25)


class Stage(nn.Module):
    """One stage: scores classes and refines boxes.

    Args:
        box_head: maps the pooled features of boxes to vectors.
        in_features: length of these vectors.
        num_classes: number of classes, the background included.
        iou: least overlap with an object for a box to be labelled with its class.
        box_weights: weights of x, y, width and height in the regression.

    Example:
        >>> stage = Stage(nn.Flatten(), 8, 3, iou=0.5, box_weights=(10, 10, 5, 5))
        >>> [tuple(y.shape) for y in stage(torch.zeros(7, 2, 2, 2))]
        [(7, 3), (7, 4)]
    """

    def __init__(
        self,
        box_head: nn.Module,
        in_features: int,
        num_classes: int,
        *,
        iou: float,
        box_weights: tuple[float, float, float, float],
    ) -> None:
        super().__init__()
        self.box_head = box_head
        self.box_predictor = FastRCNNPredictor(in_features, num_classes)
        self.box_predictor.bbox_pred = nn.Linear(in_features, 4)
        self.matcher = Matcher(iou, iou, allow_low_quality_matches=False)
        self.box_coder = BoxCoder(box_weights)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (n, classes) and box deltas (n, 4) of n boxes."""
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas


class CascadeRoIHeads(RoIHeads):  # type: ignore[misc] # torchvision has no types
    """Box heads in a row, and a mask head on the boxes of the last one.

    Args:
        single: the heads of a Faster or Mask R-CNN. Its box head is copied for each stage, its
            mask head is kept, and so are its limits for sampling and for detections.
        ious: least overlap of each stage.
        box_weights: weights of each stage's regression.
        loss_weights: weight of each stage's losses.

    Example:
        >>> from tbc_models.detection import faster_rcnn
        >>> heads = CascadeRoIHeads(faster_rcnn("tied_resnet14_s", 11, small=True).roi_heads)
        >>> len(heads.stages)
        3
    """

    def __init__(
        self,
        single: RoIHeads,
        ious: Sequence[float] = IOUS,
        box_weights: Sequence[tuple[float, float, float, float]] = BOX_WEIGHTS,
        loss_weights: Sequence[float] = LOSS_WEIGHTS,
    ) -> None:
        nn.Module.__init__(self)
        self.box_roi_pool = single.box_roi_pool
        self.mask_roi_pool = single.mask_roi_pool
        self.mask_head, self.mask_predictor = single.mask_head, single.mask_predictor
        self.keypoint_roi_pool = self.keypoint_head = self.keypoint_predictor = None
        self.fg_bg_sampler, self.score_thresh = single.fg_bg_sampler, single.score_thresh
        self.nms_thresh, self.detections_per_img = single.nms_thresh, single.detections_per_img
        in_features = single.box_predictor.cls_score.in_features
        self.num_classes: int = single.box_predictor.cls_score.out_features
        self.loss_weights = tuple(loss_weights)
        self.box_coder = BoxCoder(box_weights[-1])
        self.stages = nn.ModuleList()
        for iou, weights in zip(ious, box_weights, strict=True):
            head = copy.deepcopy(single.box_head)
            for layer in head.modules():  # each stage begins with its own random weights
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()
            self.stages.append(
                Stage(head, in_features, self.num_classes, iou=iou, box_weights=weights)
            )

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Refine proposals stage by stage: to losses in training, else to detections."""
        if not self.training:
            return self._detect(features, proposals, image_shapes), {}
        if targets is None:
            raise ValueError("`targets` (=None) must be a list of dicts in training")
        self.check_targets(targets)
        return [], self._losses(features, proposals, image_shapes, targets)

    def _losses(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        refined = self.add_gt_proposals(boxes, [t["boxes"] for t in targets])
        for number, (stage, weight) in enumerate(zip(self.stages, self.loss_weights, strict=True)):
            # The boxes that the first stage samples go through the others, too.
            boxes, matched, labels, goals = self._label(stage, refined, targets, sample=not number)
            logits, deltas = stage(self.box_roi_pool(features, boxes, shapes))
            of_class, of_box = fastrcnn_loss(
                logits, deltas.repeat(1, self.num_classes), labels, goals
            )
            losses[f"loss_classifier_{number + 1}"] = weight * of_class
            losses[f"loss_box_reg_{number + 1}"] = weight * of_box
            refined = _refine(stage, deltas, boxes, shapes)
        if self.has_mask():
            objects = [torch.where(own > 0)[0] for own in labels]
            boxes = [own[kept] for own, kept in zip(boxes, objects, strict=True)]
            losses["loss_mask"] = maskrcnn_loss(
                self._mask_logits(features, boxes, shapes),
                boxes,
                [t["masks"] for t in targets],
                [t["labels"] for t in targets],
                [own[kept] for own, kept in zip(matched, objects, strict=True)],
            )
        return losses

    def _detect(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        probabilities = []
        refined = boxes
        for stage in self.stages:
            boxes = refined
            logits, deltas = stage(self.box_roi_pool(features, boxes, shapes))
            probabilities.append(logits.softmax(1))
            refined = _refine(stage, deltas, boxes, shapes)
        # `postprocess_detections` decodes the deltas of the last stage, and takes the softmax of
        # logits: for the logarithm of the mean probabilities, that is their mean.
        mean = torch.stack(probabilities).mean(0).log()
        found = self.postprocess_detections(mean, deltas.repeat(1, self.num_classes), boxes, shapes)
        results = [
            {"boxes": own, "scores": scores, "labels": names}
            for own, scores, names in zip(*found, strict=True)
        ]
        if self.has_mask():
            logits = self._mask_logits(features, [r["boxes"] for r in results], shapes)
            masks = maskrcnn_inference(logits, [r["labels"] for r in results])
            for result, mask in zip(results, masks, strict=True):
                result["masks"] = mask
        return results

    def _label(
        self, stage: Any, proposals: list[Tensor], targets: list[dict[str, Tensor]], *, sample: bool
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Match boxes with objects: boxes, index of the object, its class, and the regression."""
        boxes = [t["boxes"] for t in targets]
        self.proposal_matcher = stage.matcher
        matched, labels = self.assign_targets_to_proposals(
            proposals, boxes, [t["labels"] for t in targets]
        )
        if sample:
            kept = self.subsample(labels)
            proposals, matched, labels = (
                [value[own] for value, own in zip(values, kept, strict=True)]
                for values in (proposals, matched, labels)
            )
        nothing = [own if len(own) else own.new_zeros(1, 4) for own in boxes]
        goals = [own[indices] for own, indices in zip(nothing, matched, strict=True)]
        return proposals, matched, labels, stage.box_coder.encode(goals, proposals)

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, shapes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled))
        return logits


def _refine(
    stage: Any, deltas: Tensor, proposals: list[Tensor], shapes: list[tuple[int, int]]
) -> list[Tensor]:
    """Move boxes by their deltas; no gradient flows from one stage to the one before."""
    refined = stage.box_coder.decode(deltas.detach(), proposals).squeeze(1)
    each = refined.split([len(own) for own in proposals])
    return [clip_boxes_to_image(own, shape) for own, shape in zip(each, shapes, strict=True)]
