"""What the tests of detectors share: a few scenes, also in COCO's format, and small runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from torchvision.transforms.v2.functional import to_pil_image

from tbc_models.data import InstanceData, Scenes, open_instances
from tbc_models.detection.run import train_detector
from tbc_models.detection.settings import DetectionSettings, prepare_detection


def few_scenes(train: int = 8, test: int = 4) -> InstanceData:
    return replace(
        open_instances("scenes"), train=Scenes("train", train), test=Scenes("test", test)
    )


def scenes_as_coco(folder: Path, train: int = 8, test: int = 2) -> Path:
    """Write scenes as a folder that `coco:` opens."""
    data = few_scenes(train, test)
    for split, images in (("train", data.train), ("val", data.test)):
        (folder / split).mkdir(parents=True)
        listed: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(images)):
            pixels, target = images[index]
            to_pil_image(pixels).save(folder / split / f"{index}.png")
            listed.append({"id": index + 1, "file_name": f"{index}.png", "width": 96, "height": 96})
            rows = zip(
                target["boxes"].tolist(), target["labels"].tolist(), target["masks"], strict=True
            )
            for (x1, y1, x2, y2), label, mask in rows:
                encoded = rle.encode(np.asfortranarray(mask.numpy()))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index + 1,
                        "category_id": label,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": {"size": [96, 96], "counts": encoded["counts"].decode()},
                    }
                )
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(data.classes)]
        content = {"images": listed, "annotations": annotations, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def chosen(detector: str = "mask-rcnn", **options: Any) -> DetectionSettings:
    asked = {"epochs": 2, "batch_size": 4} | options
    return prepare_detection(detector, "tied_resnet14_s", few_scenes(), "small", **asked)


def go(
    settings: DetectionSettings, out: Path, *, resume: bool = False, save_every: int = 1
) -> dict[str, float]:
    return train_detector(
        settings, few_scenes(), out, resume=resume, save_every=save_every, say=lambda _: None
    )
