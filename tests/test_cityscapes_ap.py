"""Average precision against the official script of Cityscapes."""

import io
from types import SimpleNamespace
from typing import Any

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as script  # noqa: N813
import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.instance import Instance
from cityscapesscripts.helpers.labels import id2label, labels
from numpy.testing import assert_allclose
from PIL import Image
from torch import Tensor

from tbc_models.detection.cityscapes_ap import cityscapes_average_precision

Images = list[dict[str, Tensor]]
CLASSES = [label for label in labels if label.hasInstances and not label.ignoreInEval]
VOID = [label.id for label in labels if label.ignoreInEval]


def streets(seed: int) -> tuple[Images, Images, list[np.ndarray[Any, Any]]]:
    """Detections, objects, and the instance image of Cityscapes that shows the same objects."""
    random = np.random.default_rng(seed)
    predictions, targets, pictures = [], [], []
    for objects, detections in [(5, 8), (8, 12), (12, 9), (0, 3), (3, 0), (0, 0)]:
        picture = random.choice([7, 11, VOID[1]], (4, 4)).repeat(16, 0).repeat(16, 1)
        for k in range(objects):
            y, x = random.integers(0, 52, 2)
            height, width = random.integers(6, 25, 2)
            of = CLASSES[random.integers(3)].id
            crowd = random.random() < 0.25
            picture[y : y + height, x : x + width] = of if crowd else of * 1000 + k
        ids = [i for i in np.unique(picture).tolist() if id2label[i // 1000 or i] in CLASSES]
        of = [CLASSES.index(id2label[i // 1000 or i]) + 1 for i in ids]
        masks = torch.tensor(np.array([picture == i for i in ids]).reshape(-1, 64, 64))
        chosen = random.integers(0, len(ids), detections - 3 if ids and detections else 0)
        moved = [masks[k].roll(random.integers(-2, 3, 2).tolist(), (0, 1)) for k in chosen]
        spread = torch.zeros(3 if detections else 0, 64, 64, dtype=torch.bool)
        for mask in spread[:2]:  # the last one stays empty
            y, x = random.integers(0, 50, 2)
            mask[y : y + 16, x : x + 16] = True
        found = torch.cat([*(mask[None] for mask in moved), spread])
        predicted = [*(of[k] for k in chosen), *random.integers(1, 5, len(spread))]
        predictions.append(
            {
                "masks": found[:, None] * 0.8,
                "labels": torch.tensor(predicted).long(),
                "scores": torch.tensor(random.integers(1, 10, len(found)) / 10),
            }
        )
        targets.append(
            {
                "masks": masks.to(torch.uint8),
                "labels": torch.tensor(of).long(),
                "iscrowd": torch.tensor([i < 1000 for i in ids]).long(),
                "void": torch.tensor(np.isin(picture, VOID)).to(torch.uint8),
            }
        )
        pictures.append(picture)
    return predictions, targets, pictures


def cityscapes(predictions: Images, pictures: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """The official script, given its files as streams."""
    args = SimpleNamespace(**vars(script.args))
    script.setInstanceLabels(args)
    matches = {}
    for i, (prediction, picture) in enumerate(zip(predictions, pictures, strict=True)):
        instances: dict[str, list[Any]] = {label.name: [] for label in labels}
        for k in np.unique(picture):
            instance = Instance(picture, k)
            instances[id2label[instance.labelID].name].append(instance.toDict())
        files = {}
        for mask, label, score in zip(
            *(prediction[key] for key in ("masks", "labels", "scores")), strict=True
        ):
            file = io.BytesIO()
            Image.fromarray((mask[0] > 0.5).numpy()).save(file, "png")
            files[file] = {"labelID": CLASSES[int(label) - 1].id, "conf": score.item()}
        found = script.assignGt2Preds(
            script.filterGtInstances(instances, args), picture, files, args
        )
        matches[i] = dict(zip(("groundTruth", "prediction"), found, strict=True))
    averages: dict[str, Any] = script.computeAverages(script.evaluateMatches(matches, args), args)
    return averages


@pytest.mark.parametrize("seed", range(12))
def test_it_is_cityscapes_s(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # the script's name for it
    predictions, targets, pictures = streets(seed)
    averages = cityscapes(predictions, pictures)
    expected = {"AP": averages["allAp"], "AP50": averages["allAp50%"]}
    for i, label in enumerate(CLASSES, 1):
        ap = averages["classes"][label.name]
        if not np.isnan(ap["ap"]):
            expected |= {f"AP/{i}": ap["ap"], f"AP50/{i}": ap["ap50%"]}
    ours = cityscapes_average_precision(predictions, targets)
    assert [*ours] == [*expected]
    assert_allclose([*ours.values()], [*expected.values()], atol=1e-12)
    assert expected["AP"] > 0


def test_ious_must_exceed_the_threshold_and_objects_have_100_pixels() -> None:
    masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    masks[0, :10, :10], masks[1, :10], masks[2, :9, :11] = True, True, True
    square, double, small = ({"masks": mask[None], "labels": torch.tensor([1])} for mask in masks)
    found = square | {"scores": torch.tensor([0.9])}
    assert cityscapes_average_precision([found], [square])["AP"] == 1
    assert cityscapes_average_precision([found], [double])["AP50"] == 0  # the IoU is 0.5
    assert cityscapes_average_precision([found], [small])["AP"] == -1
