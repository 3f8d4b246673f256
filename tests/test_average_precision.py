"""Average precision against COCO's official implementation and the loop of Pascal VOC's."""

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.testing import assert_allclose
from torch import Tensor

from tbc_models.detection.cityscapes_ap import CityscapesEvaluation, cityscapes_average_precision
from tbc_models.detection.evaluation import COCOEvaluation, average_precision
from tbc_models.detection.voc_ap import VOCEvaluation, voc_average_precision
from tests.precision import SIZE, Images, coco, scenes

NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("many", [False, True], ids=["few", "more than 100 detections"])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_coco_s(seed: int, many: bool, iou_type: Any) -> None:
    predictions, targets = scenes(seed, many=many, masks=iou_type == "segm")
    expected = coco(predictions, targets, iou_type)
    ours = average_precision(predictions, targets, iou_type=iou_type)
    assert tuple(ours) == NAMES
    assert_allclose([*ours.values()], expected.stats[:6], atol=1e-9)
    # Precision at the recalls, of which the mean over classes is drawn.
    curves = COCOEvaluation(iou_type)
    curves.update(predictions, targets)
    for k, name in [(0, "IoU 0.5"), (5, "IoU 0.75")]:
        precision = expected.eval["precision"][k, :, :, 0, -1]
        classes = precision.max(0) > -1
        mean = precision[:, classes].mean(1)
        assert_allclose(curves.precision_recall()[name], mean, atol=1e-9)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_sizes_are_those_of_boxes_or_masks_where_none_are_given(iou_type: Any) -> None:
    predictions, targets = scenes(1, masks=True)
    for target in targets:
        del target["area"], target["iscrowd"]
    ours = average_precision(predictions, targets, iou_type=iou_type)
    expected = coco(predictions, targets, iou_type).stats[:6]
    assert_allclose([*ours.values()], expected, atol=1e-9)
    assert (expected[:5] > 0).all()


SQUARE = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
SQUARE[0, :10, :10] = 1
BOX, ONE, NONE = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([1]), torch.tensor([1])[:0]
OBJECT = {"boxes": BOX, "masks": SQUARE, "labels": ONE}
EMPTY = {"boxes": BOX[:0], "masks": SQUARE[:0], "labels": NONE}


def scored(image: dict[str, Tensor], score: float) -> dict[str, Tensor]:
    return image | {"scores": torch.full((len(image["labels"]),), score)}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_false_positives_count_on_images_without_objects(iou_type: Any) -> None:
    predictions = [scored(OBJECT, 0.9), scored(OBJECT, 0.5)]
    assert average_precision(predictions, [EMPTY, OBJECT], iou_type=iou_type)["AP"] == 0.5


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_it_is_0_if_nothing_is_found_and_minus_1_if_there_is_nothing(iou_type: Any) -> None:
    nothing = scored(EMPTY, 0.9)
    assert average_precision([nothing], [OBJECT], iou_type=iou_type)["AP"] == 0
    assert voc_average_precision([nothing], [OBJECT]) == {"AP50": 0, "AP50/1": 0}
    zeros = dict.fromkeys(("AP", "AP50", "AP/1", "AP50/1"), 0)
    assert cityscapes_average_precision([nothing], [OBJECT]) == zeros
    for predictions, targets in [([], []), ([nothing], [EMPTY]), ([scored(OBJECT, 1)], [EMPTY])]:
        ours = average_precision(predictions, targets, iou_type=iou_type)
        assert ours == dict.fromkeys(NAMES, -1)
        assert voc_average_precision(predictions, targets) == {"AP50": -1}
        assert cityscapes_average_precision(predictions, targets) == {"AP": -1, "AP50": -1}
    curves = COCOEvaluation(iou_type)
    curves.update([nothing], [EMPTY])
    assert curves.precision_recall() == {"IoU 0.5": [], "IoU 0.75": []}


def test_a_class_of_crowds_only_is_not_in_the_mean() -> None:
    crowd = {key: torch.cat([value, value]) for key, value in OBJECT.items()}
    crowd |= {"labels": torch.tensor([1, 2]), "iscrowd": torch.tensor([0, 1])}
    curves = COCOEvaluation("segm")
    curves.update([scored(OBJECT, 0.5)], [crowd])
    assert curves.compute()["AP"] == 1
    assert curves.precision_recall()["IoU 0.5"] == [1] * 101


def test_an_iou_that_equals_a_threshold_is_enough_for_coco() -> None:
    found = scored(OBJECT | {"boxes": torch.tensor([[0.0, 0, 10, 6]])}, 0.9)  # IoU 0.6
    assert average_precision([found], [OBJECT])["AP"] == pytest.approx(0.3)  # 0.5, 0.55, 0.6


def voc(predictions: Images, targets: Images, label: int, points: int | None) -> float:
    """VOCevaldet.m, line by line, with its pixels: they start at 1, and xmax is the last one."""
    gt = []
    npos = 0
    for target in targets:
        mine = target["labels"] == label
        corners = [[x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2 in target["boxes"][mine].tolist()]
        diff = target["difficult"][mine].tolist()
        gt.append(SimpleNamespace(BB=corners, diff=diff, det=[False] * len(corners)))
        npos += diff.count(0)
    detections = [
        (-score, i, (x1 + 1, y1 + 1, x2, y2))
        for i, image in enumerate(predictions)
        for score, of, (x1, y1, x2, y2) in zip(
            *(image[key].tolist() for key in ("scores", "labels", "boxes")), strict=True
        )
        if of == label
    ]
    tp, fp = [], []
    for _, i, bb in sorted(detections, key=lambda detection: detection[0]):
        ovmax, jmax = -np.inf, -1
        for j, bbgt in enumerate(gt[i].BB):
            iw = min(bb[2], bbgt[2]) - max(bb[0], bbgt[0]) + 1
            ih = min(bb[3], bbgt[3]) - max(bb[1], bbgt[1]) + 1
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                ua += (bbgt[2] - bbgt[0] + 1) * (bbgt[3] - bbgt[1] + 1) - iw * ih
                if iw * ih / ua > ovmax:
                    ovmax, jmax = iw * ih / ua, j
        tp.append(0)
        fp.append(0)
        if ovmax >= 0.5:
            if not gt[i].diff[jmax]:
                if not gt[i].det[jmax]:
                    tp[-1] = 1
                    gt[i].det[jmax] = True
                else:
                    fp[-1] = 1
        else:
            fp[-1] = 1
    rec = [sum(tp[: k + 1]) / npos for k in range(len(tp))]
    prec = [sum(tp[: k + 1]) / max(sum(tp[: k + 1]) + sum(fp[: k + 1]), 1) for k in range(len(tp))]
    if points:
        best = [
            max([p for p, r in zip(prec, rec, strict=True) if r >= k / 10], default=0)
            for k in range(11)
        ]
        return sum(best) / 11
    mrec, mpre = [0, *rec, 1], [0, *prec, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)))


@pytest.mark.parametrize("points", [None, 11])
@pytest.mark.parametrize("many", [False, True], ids=["few", "more than 100 detections"])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_pascal_voc_s(seed: int, many: bool, points: Any) -> None:
    predictions, targets = scenes(seed, many=many)
    for target in targets:
        target["difficult"] = target.pop("iscrowd")
    everything = torch.cat([t["labels"][t["difficult"] == 0] for t in targets]).unique().tolist()
    expected = {f"AP50/{k}": voc(predictions, targets, k, points) for k in everything}
    expected = {"AP50": float(np.mean([*expected.values()]))} | expected
    ours = voc_average_precision(predictions, targets, points=points)
    assert [*ours] == [*expected]
    assert_allclose([*ours.values()], [*expected.values()], atol=1e-12)


def test_an_object_of_pascal_voc_is_found_once_and_difficult_ones_do_not_count() -> None:
    both = {"boxes": torch.cat([BOX, BOX + 20]), "labels": torch.tensor([1, 1])}
    found = {"boxes": torch.cat([BOX, BOX, BOX + 20]), "labels": torch.tensor([1, 1, 1])}
    found["scores"] = torch.tensor([0.9, 0.8, 0.7])
    assert voc_average_precision([found], [both])["AP50"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    both["difficult"] = torch.tensor([1, 0])
    assert voc_average_precision([found], [both])["AP50"] == 1
    half = scored({"boxes": torch.tensor([[0.0, 0, 10, 5]]), "labels": ONE}, 0.9)  # IoU 0.5
    assert voc_average_precision([half], [OBJECT])["AP50"] == 1


@pytest.mark.parametrize(
    "make", [lambda: COCOEvaluation("bbox"), lambda: COCOEvaluation("segm"), VOCEvaluation,
             CityscapesEvaluation],
    ids=["COCO boxes", "COCO masks", "VOC", "Cityscapes"],
)  # fmt: skip
def test_batches_and_processes_make_no_difference(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Scores are tied, so the order of the images matters.
    targets = [OBJECT, EMPTY, OBJECT]
    predictions = [scored(OBJECT, 0.5)] * 3
    whole, *processes = (make() for _ in range(3))
    whole.update(predictions, targets)
    expected = whole.compute()
    for rank, process in enumerate(processes):  # of which the second has one image less
        for i in range(rank, 3, 2):
            process.update([predictions[i]], [targets[i]])

    def gather(everyone: list[Any], own: Any) -> None:
        assert own is processes[0].records
        everyone[:] = [process.records for process in processes]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    assert processes[0].compute() == expected
    monkeypatch.undo()
    whole.reset()
    assert whole.compute()["AP50"] == -1


def test_masks_are_kept_small() -> None:
    predictions, targets = scenes(3, masks=True)
    for evaluation in (COCOEvaluation("segm"), CityscapesEvaluation()):
        evaluation.update(predictions, targets)
        assert len(pickle.dumps(evaluation.records)) < 30_000  # as bytes they are 700,000


def changed(image: dict[str, Tensor], **values: Tensor | None) -> Images:
    """One image with other values; None leaves out a key."""
    return [{key: value for key, value in (image | values).items() if value is not None}]


@pytest.mark.parametrize(
    ("predictions", "targets", "options", "message"),
    [
        ([], [OBJECT], {}, r"`predictions` \(0 images\) and `targets` \(1\) must have one dict"),
        ([OBJECT], [OBJECT], {}, r"`predictions\[0\]` must have boxes, .*; it lacks scores"),
        ([scored(OBJECT, 1)], [{"boxes": BOX}], {}, r"`targets\[0\]` .* it lacks labels"),
        (
            [scored(changed(OBJECT, masks=None)[0], 1)],
            [OBJECT],
            {"iou_type": "segm"},
            r"`predictions\[0\]` must have masks, .*; it lacks masks",
        ),
        ([scored(OBJECT, 1)], [OBJECT], {"iou_type": "mask"}, r"`iou_type` \(='mask'\) must be"),
        (
            [scored(OBJECT | {"masks": SQUARE[:, 1:]}, 1)],
            [OBJECT],
            {"iou_type": "segm"},
            r"`predictions\[0\]\['masks'\]` must .* \(128, 128\), not \(127, 128\)",
        ),
        (
            [scored(OBJECT | {"masks": SQUARE[0, 1:]}, 1)],
            [OBJECT],
            {"iou_type": "segm"},
            r"`predictions\[0\]\['masks'\]` has 127 rows, but `labels` has 1",
        ),
        (
            [scored(OBJECT | {"masks": SQUARE[0, 1:2]}, 1)],
            [OBJECT],
            {"iou_type": "segm"},
            r"`predictions\[0\]\['masks'\]` must have the shape \(n, H, W\) or .*, not \(1, 128\)",
        ),
        (
            [scored(OBJECT, 1)] * 2,
            [OBJECT, OBJECT | {"boxes": BOX[0, :1]}],
            {},
            r"`targets\[1\]\['boxes'\]` must have the shape \(1, 4\), not \(1,\)",
        ),
        (
            [scored(OBJECT, 1)],
            [OBJECT | {"area": torch.ones(2)}],
            {},
            r"`targets\[0\]\['area'\]` has 2 rows, but `labels` has 1",
        ),
        ([scored(OBJECT, float("nan"))], [OBJECT], {}, r"\['scores'\]` must be finite"),
    ],
)
def test_bad_input_is_refused(
    predictions: Images, targets: Images, options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision(predictions, targets, **options)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`points` \(=10\) must be 11 or None"):
        voc_average_precision([], [], points=10)  # type: ignore[arg-type]
    void = OBJECT | {"void": SQUARE}
    with pytest.raises(ValueError, match=r"\['void'\]` must have the shape \(128, 128\), not"):
        cityscapes_average_precision([scored(OBJECT, 1)], [void])
