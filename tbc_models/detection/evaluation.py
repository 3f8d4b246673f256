"""Average precision of detectors, as COCO defines it, and what its other definitions share with it.

All follow from one idea. Detections are sorted by score, and each finds an object or is a false
positive. So each score is a threshold that gives a precision and a recall, and average precision is
the mean of the precision over all recalls.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count, zip_longest
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_convert

from tbc_models.data.instances import Target

Prediction = dict[str, Tensor]
Record = TypeVar("Record")

COCO_NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")

NO_OBJECTS = -1.0
"""Average precision where there are no objects, as COCO gives it."""


class Evaluation(ABC, Generic[Record]):
    """Collects the little that an average precision needs of each image, then computes it.

    In a run of several processes, process r sees the images r, r + processes, …, and all of them
    call `compute` together and get the same result.

    Args:
        shapes: what is compared, "boxes" or "masks".
    """

    def __init__(self, shapes: Literal["boxes", "masks"]) -> None:
        self.shapes = shapes
        self.records: list[Record] = []

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images: one dict of detections and one of objects for each."""
        _check(predictions, targets, self.shapes)
        self.records += map(self.record, predictions, targets)

    def compute(self) -> dict[str, float]:
        """Compute the average precision of all images so far."""
        return self.summarize(_gathered(self.records))

    def reset(self) -> None:
        """Forget all images."""
        self.records = []

    @abstractmethod
    def record(self, prediction: Prediction, target: Target) -> Record:
        """Reduce an image to what is needed of it."""

    @abstractmethod
    def summarize(self, records: Sequence[Record]) -> dict[str, float]:
        """Compute the average precision of images."""


class COCOEvaluation(Evaluation[dict[str, Any]]):
    """COCO's average precision, batch by batch; `average_precision` explains it.

    Masks are kept as run lengths.

    Args:
        iou_type: what is compared, "bbox" or "segm".

    Example:
        >>> import torch
        >>> found = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1])}
        >>> evaluation = COCOEvaluation("bbox")
        >>> evaluation.update([found | {"scores": torch.tensor([0.9])}], [found])
        >>> evaluation.compute()["AP"], evaluation.precision_recall()["IoU 0.5"][:3]
        (1.0, [1.0, 1.0, 1.0])
    """

    def __init__(self, iou_type: Literal["bbox", "segm"]) -> None:
        if iou_type not in ("bbox", "segm"):
            raise ValueError(f"`iou_type` (={iou_type!r}) must be 'bbox' or 'segm'")
        super().__init__("boxes" if iou_type == "bbox" else "masks")
        self.iou_type = iou_type

    def precision_recall(self) -> dict[str, list[float]]:
        """Compute the mean precision over all classes at the recalls 0, 0.01, …, 1."""
        # (IoU, recall, class, area, limit of detections), -1 for classes without objects.
        precision = self._evaluated(_gathered(self.records)).eval["precision"][..., 0, -1]
        precision = precision[:, :, (precision > NO_OBJECTS).all((0, 1))]
        curves = {"IoU 0.5": precision[0], "IoU 0.75": precision[5]}
        return {name: p.mean(1).tolist() if p.size else [] for name, p in curves.items()}

    def record(self, prediction: Prediction, target: Target) -> dict[str, Any]:
        """Write an image's detections and objects as COCO's annotations."""
        shape = target["masks"].shape[-2:] if self.iou_type == "segm" else (0, 0)
        return {
            "size": {"height": shape[0], "width": shape[1]},
            "objects": self._annotations(
                target, area=target.get("area"), iscrowd=target.get("iscrowd")
            ),
            "detections": self._annotations(prediction, score=prediction["scores"]),
        }

    def _annotations(self, image: Target, **fields: Tensor | None) -> list[dict[str, Any]]:
        columns: dict[str, Any] = {"category_id": image["labels"].tolist()}
        if self.iou_type == "segm":
            from faster_coco_eval.core import mask as rle

            masks = binary(image["masks"]).view(np.uint8)
            columns["segmentation"] = [rle.encode(np.asfortranarray(mask)) for mask in masks]
            columns["area"] = [int(mask.sum()) for mask in masks]
        else:
            boxes = box_convert(image["boxes"].double(), "xyxy", "xywh")
            columns["bbox"], columns["area"] = boxes.tolist(), boxes[:, 2:].prod(1).tolist()
        columns |= {name: value.tolist() for name, value in fields.items() if value is not None}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def summarize(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Compute the six average precisions."""
        evaluated = self._evaluated(records)
        evaluated.summarize()
        return {name: float(ap) for name, ap in zip(COCO_NAMES, evaluated.stats, strict=False)}

    def _evaluated(self, records: Sequence[dict[str, Any]]) -> Any:
        # Imported here because detectors alone do not need this extra of the package.
        from faster_coco_eval import COCO, COCOeval_faster

        images = [{"id": i, **record["size"]} for i, record in enumerate(records)]

        def dataset(kind: str) -> COCO:
            ids = count(1)  # COCO takes 0 for no object
            annotations = [
                {"id": next(ids), "image_id": i, **annotation}
                for i, record in enumerate(records)
                for annotation in record[kind]
            ]
            return COCO({"images": images, "annotations": annotations, "categories": categories})

        labels = {a["category_id"] for record in records for a in record["objects"]}
        categories = [{"id": label} for label in sorted(labels)]
        evaluated = COCOeval_faster(dataset("objects"), dataset("detections"), self.iou_type)
        evaluated.evaluate()
        evaluated.accumulate()
        return evaluated


def coco_evaluations(masks: bool) -> dict[str, COCOEvaluation]:
    """Make COCO's evaluation of boxes, and that of masks if a detector predicts some."""
    boxes = {"box": COCOEvaluation("bbox")}
    return boxes | {"mask": COCOEvaluation("segm")} if masks else boxes


def average_precision(
    predictions: Sequence[Prediction],
    targets: Sequence[Target],
    *,
    iou_type: Literal["bbox", "segm"] = "bbox",
) -> dict[str, float]:
    """Compute COCO's average precision: the mean over classes and 10 IoUs from 0.5 to 0.95.

    In each image, the 100 detections of each class with the highest scores count. Crowds
    (`iscrowd`) are not to be found, and detections inside them are ignored.

    Args:
        predictions: detections of each image, as torchvision's detectors return them: `labels` (n),
            `scores` (n) and either `boxes` (n, 4) as x1, y1, x2, y2 or, for "segm", `masks`
            (n, 1, H, W) as probabilities or (n, H, W) as bool or uint8.
        targets: objects of each image, in the same format. Without `area` their sizes are those of
            their boxes for "bbox" and of their masks for "segm"; without `iscrowd` none is a crowd.
        iou_type: whether boxes ("bbox") or masks ("segm") are compared.

    Returns:
        Average precision "AP"; at an IoU of 0.5 and of 0.75, "AP50" and "AP75"; and that of small
        (up to 32² pixels), medium and large objects (from 96²), "AP_S", "AP_M" and "AP_L". It is -1
        where there are no such objects.

    Raises:
        ValueError: if an argument is not in this format. The message names the image.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
        >>> target = {"boxes": boxes, "labels": torch.tensor([1, 1])}
        >>> found = {"boxes": boxes[:1], "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
        >>> {name: round(ap, 3) for name, ap in average_precision([found], [target]).items()}
        {'AP': 0.505, 'AP50': 0.505, 'AP75': 0.505, 'AP_S': 0.505, 'AP_M': -1.0, 'AP_L': -1.0}
    """
    evaluation = COCOEvaluation(iou_type)
    evaluation.update(predictions, targets)
    return evaluation.compute()


def binary(masks: Tensor) -> NDArray[np.bool_]:
    """Return masks (n, H, W), or probabilities (n, 1, H, W) compared with 0.5, as bool arrays.

    Args:
        masks: masks of one image.
    """
    if masks.ndim == 4:
        masks = masks.squeeze(1)
    masks = masks > 0.5 if masks.is_floating_point() else masks.bool()
    return cast("NDArray[np.bool_]", masks.cpu().numpy())


def _gathered(records: list[Record]) -> list[Record]:
    """Collect the records of all processes, in the order of the images, which ties depend on."""
    if not (dist.is_available() and dist.is_initialized()):
        return records
    everyone: list[list[Record]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, records)
    turns = zip_longest(*everyone)  # processes can have different numbers of images
    return [record for turn in turns for record in turn if record is not None]


def _check(predictions: Sequence[Prediction], targets: Sequence[Target], shapes: str) -> None:
    if len(predictions) != len(targets):
        raise ValueError(
            f"`predictions` ({len(predictions)} images) and `targets` ({len(targets)}) must have"
            " one dict for each image"
        )
    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        check_image(f"predictions[{i}]", prediction, (shapes, "labels", "scores"))
        check_image(f"targets[{i}]", target, (shapes, "labels"))
        if shapes == "masks":
            found, true = (tuple(image["masks"].shape[-2:]) for image in (prediction, target))
            if found != true:
                raise ValueError(
                    f"`predictions[{i}]['masks']` must have the size of `targets[{i}]['masks']`,"
                    f" {true}, not {found}"
                )
            if "void" in target and tuple(target["void"].shape) != true:
                raise ValueError(
                    f"`targets[{i}]['void']` must have the shape {true}, not"
                    f" {tuple(target['void'].shape)}"
                )


def check_image(name: str, image: Target, keys: tuple[str, ...]) -> None:
    """Check the format of an image's detections or objects.

    Args:
        name: what to call it in a message.
        image: the detections or objects.
        keys: what it must have.

    Raises:
        ValueError: if something is missing or has another shape than it should.
    """
    if missing := [key for key in keys if key not in image]:
        raise ValueError(f"`{name}` must have {', '.join(keys)}; it lacks {', '.join(missing)}")
    objects = len(image["labels"])
    for key in ("boxes", "masks", "scores", "area", "iscrowd", "difficult"):
        if key in image and len(image[key]) != objects:
            raise ValueError(
                f"`{name}[{key!r}]` has {len(image[key])} rows, but `labels` has {objects}"
            )
    if "scores" in keys and not image["scores"].isfinite().all():
        raise ValueError(f"`{name}['scores']` must be finite")
    if "boxes" in keys and image["boxes"].shape != (objects, 4):
        raise ValueError(
            f"`{name}['boxes']` must have the shape ({objects}, 4), not"
            f" {tuple(image['boxes'].shape)}"
        )
    if "masks" in keys:
        shape = tuple(image["masks"].shape)
        if len(shape) != 3 and not (len(shape) == 4 and shape[1] == 1):
            raise ValueError(
                f"`{name}['masks']` must have the shape (n, H, W) or (n, 1, H, W), not {shape}"
            )
