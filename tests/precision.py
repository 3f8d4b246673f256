"""Random detections and objects, and COCO's own evaluation of them."""

import contextlib
import io
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

Images = list[dict[str, Tensor]]
SIZE = 128


def random_boxes(random: np.random.Generator, n: int) -> Tensor:
    """Boxes of all sizes whose corners are on a grid, so that their IoU is a threshold at times."""
    corners = random.integers(0, SIZE // 4 - 1, (n, 2)) * 4
    sides = random.integers(1, SIZE // 4, (n, 2)) * 4
    return torch.tensor(np.hstack([corners, np.minimum(corners + sides, SIZE)])).float()


def near(random: np.random.Generator, boxes: Tensor) -> Tensor:
    moved = boxes + torch.tensor(random.integers(-2, 3, boxes.shape)) * 2
    lower, upper = moved[:, :2].clamp(0, SIZE - 2), moved[:, 2:].clamp(0, SIZE)
    return torch.cat([lower, torch.maximum(upper, lower + 2)], 1)


def filled(boxes: Tensor) -> Tensor:
    """Masks of boxes that lack their last quarter, so that they differ from the boxes."""
    y, x = torch.arange(SIZE)[:, None], torch.arange(SIZE)
    x1, y1, x2, y2 = boxes.long().T[..., None, None]
    inside: Tensor = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    quarter: Tensor = (x >= (x1 + x2) / 2) & (y >= (y1 + y2) / 2)
    return inside & ~quarter


def scenes(seed: int, *, many: bool = False, masks: bool = False) -> tuple[Images, Images]:
    """Random detections and objects; the last images lack objects, detections, or both."""
    random = np.random.default_rng(seed)
    predictions, targets = [], []
    for objects, detections in [(5, 4), (8, 9), (1, 3), (0, 4), (3, 0), (0, 0)]:
        labels = torch.tensor(random.integers(1, 4, objects))
        boxes = random_boxes(random, objects)
        target = {"boxes": boxes, "labels": labels}
        target["iscrowd"] = torch.tensor(random.random(objects) < 0.2).long()
        target["area"] = torch.tensor(random.choice([9, 500, 1024, 5000, 9216, 12000.0], objects))
        chosen = random.integers(0, objects, detections if objects else 0)
        spread = random_boxes(random, 150 if many else detections if not objects else 2)
        found = torch.cat([near(random, boxes[chosen]), spread]) if detections else spread[:0]
        predicted = torch.cat([labels[chosen], torch.tensor(random.integers(1, 5, len(spread)))])
        predictions.append(
            {
                "boxes": found,
                "labels": predicted[: len(found)].clamp(max=1 if many else 4),
                # Tenths, so that many are tied.
                "scores": torch.tensor(random.integers(1, 10, len(found)) / 10),
            }
        )
        targets.append(target)
    if masks:
        for image in predictions + targets:
            image["masks"] = filled(image["boxes"]).to(torch.uint8)
        for image in predictions:
            image["masks"] = image["masks"][:, None] * 0.9  # as detectors return them
    return predictions, targets


def coco(predictions: Images, targets: Images, iou_type: str) -> COCOeval:
    """The official evaluation, from COCO's two JSON files."""

    def shape(image: dict[str, Tensor], k: int) -> dict[str, Any]:
        if iou_type == "segm":
            mask = (image["masks"].reshape(-1, SIZE, SIZE)[k] > 0.5).numpy()
            return {"segmentation": rle.encode(np.asfortranarray(mask, dtype=np.uint8))}
        x1, y1, x2, y2 = image["boxes"][k].tolist()
        return {"bbox": [x1, y1, x2 - x1, y2 - y1]}

    def area(target: dict[str, Tensor], k: int) -> float:
        if "area" in target:
            return target["area"][k].item()
        x1, y1, x2, y2 = target["boxes"][k].tolist()
        masks = iou_type == "segm"
        return target["masks"][k].sum().item() if masks else (x2 - x1) * (y2 - y1)

    annotations = [
        {
            "image_id": i,
            "category_id": label,
            "area": area(target, k),
            "iscrowd": target["iscrowd"][k].item() if "iscrowd" in target else 0,
            **shape(target, k),
        }
        for i, target in enumerate(targets)
        for k, label in enumerate(target["labels"].tolist())
    ]
    results = [
        {"image_id": i, "category_id": label, "score": image["scores"][k].item(), **shape(image, k)}
        for i, image in enumerate(predictions)
        for k, label in enumerate(image["labels"].tolist())
    ]
    objects = COCO()
    objects.dataset = {
        "info": {},
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in range(len(targets))],
        "categories": [{"id": label} for label in range(1, 5)],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(results), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
