"""Errors of detections against TIDE's own implementation."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import tidecv
import torch
from torch import Tensor

from tbc_models.detection.errors import ERRORS, count_errors

Image = dict[str, Tensor]
TIDE_ERRORS = {
    "class": tidecv.ClassError,
    "location": tidecv.BoxError,
    "both": tidecv.OtherError,
    "duplicate": tidecv.DuplicateError,
    "background": tidecv.BackgroundError,
    "missed": tidecv.MissedError,
}


def image(*rows: tuple[int, ...], crowds: int = 0) -> Image:
    """Boxes from rows of x1, y1, x2, y2, label; the last ones are crowds."""
    table = torch.tensor(rows).reshape(-1, 5)
    crowd = torch.arange(len(table)) >= len(table) - crowds
    return {"boxes": table[:, :4].float(), "labels": table[:, 4], "iscrowd": crowd.long()}


def scored(detections: Image, *scores: float) -> Image:
    """Detections with scores, which descend from 1 where they are not given."""
    count = len(detections["labels"])
    return detections | {"scores": torch.tensor(scores or torch.linspace(1, 0.5, count).tolist())}


def boxes(random: np.random.Generator, count: int) -> Tensor:
    """Boxes on a grid so small that IoUs of exactly 0.1 and 0.5, and equal ones, are common.

    Intersections and unions are then exact, so both implementations divide the same numbers and
    compare the same quotients with the thresholds.
    """
    corners = random.integers(0, 8, (count, 2))
    return torch.tensor(np.hstack([corners, corners + random.integers(1, 8, (count, 2))])).float()


def crowded(random: np.random.Generator) -> tuple[Image, Image]:
    """Detections and objects of three classes that overlap; half of the detections copy objects."""
    objects, detections = int(random.integers(0, 9)), int(random.integers(0, 13))
    target = {
        "boxes": boxes(random, objects),
        "labels": torch.tensor(random.integers(1, 4, objects)),
        "iscrowd": torch.tensor(random.random(objects) < 0.2).long(),
    }
    prediction = {
        "boxes": boxes(random, detections),
        "labels": torch.tensor(random.integers(1, 4, detections)),
        "scores": torch.tensor(random.integers(0, 11, detections) / 10).float(),  # many are equal
    }
    for i in range(0, detections if objects else 0, 2):
        k = random.integers(objects)
        prediction["boxes"][i] = target["boxes"][k]
        prediction["boxes"][i, 2:] += torch.tensor(random.integers(0, 2, 2))
        if random.random() < 0.6:
            prediction["labels"][i] = target["labels"][k]
    return prediction, target


def tide(
    predictions: Sequence[Image], targets: Sequence[Image]
) -> tuple[list[Counter[str]], list[Tensor]]:
    """TIDE's counts of each image, and which of its detections TIDE does not ignore."""
    objects, detections = tidecv.Data("objects"), tidecv.Data("detections")

    def xywh(box: Tensor) -> list[float]:
        x1, y1, x2, y2 = box.tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        objects.add_image(i, str(i))
        rows = zip(*(target[key] for key in ("boxes", "labels", "iscrowd")), strict=True)
        for box, label, crowd in rows:
            add = objects.add_ignore_region if crowd else objects.add_ground_truth
            add(i, label.item(), box=xywh(box))
        rows = zip(*(prediction[key] for key in ("boxes", "labels", "scores")), strict=True)
        for box, label, score in rows:
            detections.add_detection(i, label.item(), score.item(), box=xywh(box))
    run = tidecv.TIDE().evaluate(objects, detections, mode=tidecv.TIDE.BOX)
    counts = [Counter(dict.fromkeys(("found", *ERRORS), 0)) for _ in targets]
    for name, error in TIDE_ERRORS.items():
        for one in run.error_dict[error]:
            counts[(one.gt if name == "missed" else one.pred)["image"]][name] += 1
    counted: list[list[bool]] = [[] for _ in targets]
    for one in detections.annotations:
        counts[one["image"]]["found"] += one["used"] is True
        counted[one["image"]].append(one["used"] is not None)
    return counts, [torch.tensor(flags, dtype=torch.bool) for flags in counted]


def chosen(prediction: Image, flags: Tensor) -> Image:
    return {key: value[flags] for key, value in prediction.items()}


@pytest.mark.parametrize("least_score", [0, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_tide_s(seed: int, least_score: float) -> None:
    random = np.random.default_rng(seed)
    predictions, targets = zip(*(crowded(random) for _ in range(400)), strict=True)
    kept = [chosen(one, one["scores"] >= least_score) for one in predictions]
    # What TIDE ignores is not in its average precision, but it is still in its lists of errors,
    # mostly as background. In a number of false positives that would be wrong, so TIDE runs a
    # second time, without these.
    _, counted = tide(kept, targets)
    kept = list(map(chosen, kept, counted))
    expected, _ = tide(kept, targets)
    total: Counter[str] = Counter()
    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        ours = count_errors(prediction, target, least_score=least_score)
        assert ours == expected[i]
        assert sum(ours.values()) - ours["missed"] == len(kept[i]["labels"])
        assert ours["found"] + ours["missed"] <= int((target["iscrowd"] == 0).sum())
        total.update(ours, ignored=int((~counted[i]).sum()))
    assert min(total[name] for name in ("found", *ERRORS, "ignored")) > 10  # all of them occur


OBJECT = image((0, 0, 10, 10, 1))
FAR = (50, 50, 60, 60, 1)


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        (image((0, 0, 10, 10, 1)), {"found": 1}),
        (image((0, 0, 10, 5, 1)), {"found": 1}),  # an IoU of 0.5 is enough
        (image((0, 0, 10, 10, 2)), {"class": 1}),
        (image((0, 0, 10, 5, 2)), {"class": 1}),
        (image((0, 0, 10, 4, 1)), {"location": 1}),
        (image((0, 0, 10, 1, 1)), {"location": 1}),  # an IoU of 0.1
        (image((0, 0, 10, 4, 2)), {"both": 1, "missed": 1}),
        (image((0, 0, 10, 1, 2)), {"background": 1, "missed": 1}),
        (image((0, 0, 10, 10, 1), (0, 0, 10, 9, 1)), {"found": 1, "duplicate": 1}),
        (image((0, 0, 10, 10, 1), (0, 0, 10, 5, 1)), {"found": 1, "location": 1}),
        (image((0, 0, 10, 10, 1), (0, 0, 10, 10, 2)), {"found": 1, "class": 1}),
        (image(FAR), {"background": 1, "missed": 1}),
        (image(), {"missed": 1}),
        # One object is missed at most once and near many errors.
        (image((0, 0, 10, 4, 1), (0, 0, 10, 10, 2)), {"location": 1, "class": 1}),
    ],
)
def test_each_error(detections: Image, expected: dict[str, int]) -> None:
    prediction = scored(detections)
    counts = count_errors(prediction, OBJECT)
    assert [*counts] == ["found", *ERRORS]
    assert counts == dict.fromkeys(counts, 0) | expected
    assert [counts] == tide([prediction], [OBJECT])[0]


def test_location_comes_before_class() -> None:
    target = image((0, 0, 10, 10, 1), (0, 6, 10, 16, 2))
    counts = count_errors(scored(image((0, 6, 10, 16, 1))), target)
    assert (counts["location"], counts["class"]) == (1, 0)
    assert counts["missed"] == 1  # of class 2, which no error is about


def test_the_error_is_about_the_nearest_object_even_if_that_is_found() -> None:
    target = image((0, 0, 10, 10, 1), (0, 14, 10, 24, 1))
    prediction = scored(image((0, 0, 10, 10, 1), (0, 6, 10, 17, 1)))
    counts = count_errors(prediction, target)  # the IoUs of the second are 4/17 and 3/18
    assert (counts["found"], counts["location"], counts["missed"]) == (1, 1, 1)


def test_a_detection_takes_its_second_choice_if_its_first_is_found() -> None:
    target = image((0, 0, 10, 10, 1), (0, 2, 10, 12, 1))
    counts = count_errors(scored(image((0, 0, 10, 10, 1), (0, 0, 10, 11, 1))), target)
    assert counts["found"] == 2


def test_the_higher_score_chooses_and_of_equal_ones_the_first() -> None:
    target = image((0, 0, 10, 10, 1), (0, 4, 10, 14, 1))
    detections = image((0, 2, 10, 12, 1), (0, 0, 10, 10, 1))  # the first is as near to both
    assert count_errors(scored(detections, 0.8, 0.9), target)["found"] == 2
    for scores in [(0.9, 0.8), (0.9, 0.9)]:
        counts = count_errors(scored(detections, *scores), target)
        assert (counts["found"], counts["location"] + counts["duplicate"]) == (1, 1)


def test_what_lies_in_a_crowd_of_its_class_is_ignored() -> None:
    crowd = image((0, 0, 10, 10, 1), (20, 0, 60, 40, 1), crowds=1)
    inside, half = (20, 0, 24, 4, 1), (18, 0, 22, 4, 1)
    found = image((0, 0, 10, 10, 1), inside, half, (20, 0, 24, 4, 2), (20, 0, 60, 40, 1))
    counts = count_errors(scored(found), crowd)
    assert counts == dict.fromkeys(counts, 0) | {"found": 1, "background": 2}
    # A detection inside a crowd can find an object, but no error of it excuses one.
    target = image((20, 0, 30, 10, 1), (20, 0, 60, 40, 1), crowds=1)
    assert count_errors(scored(image((20, 0, 30, 10, 1))), target)["found"] == 1
    assert count_errors(scored(image((20, 0, 30, 4, 1))), target)["missed"] == 1


def test_images_without_objects_or_detections() -> None:
    nothing, crowd = image(), image((0, 0, 10, 10, 1), crowds=1)
    far, two = scored(image(FAR, FAR)), image(FAR, (0, 0, 9, 9, 2))
    none = dict.fromkeys(("found", *ERRORS), 0)
    assert count_errors(scored(nothing), nothing) == none
    assert count_errors(scored(nothing), two) == none | {"missed": 2}
    assert count_errors(far, nothing) == none | {"background": 2}
    assert count_errors(far, crowd) == none | {"background": 2}
    assert count_errors(scored(image((0, 0, 9, 9, 1))), crowd) == none


def test_boxes_without_area_meet_nothing() -> None:
    point = image((5, 5, 5, 5, 1))
    counts = count_errors(scored(point), point)
    assert (counts["background"], counts["missed"]) == (1, 1)


def test_the_least_score_is_included_and_rounded_as_the_scores_are() -> None:
    detections = image((0, 0, 10, 10, 1), FAR)
    for least in (0.5, 0.7):  # 0.7 in float32 is less than in float64
        counts = count_errors(scored(detections, least, 0.4), OBJECT, least_score=least)
        assert counts == dict.fromkeys(counts, 0) | {"found": 1}
    assert count_errors(scored(detections, 0.5, 0.49), OBJECT)["background"] == 0
    assert count_errors(scored(detections, 0.7, 0.0), OBJECT, least_score=0)["background"] == 1


def test_iscrowd_may_be_absent_and_the_arguments_stay_as_they_are() -> None:
    target = {key: OBJECT[key] for key in ("boxes", "labels")}
    prediction = scored(image(FAR, (0, 0, 10, 10, 1)), 0.6, 0.9)
    before = {key: value.clone() for key, value in prediction.items()}
    assert count_errors(prediction, target)["found"] == 1
    assert all(torch.equal(prediction[key], before[key]) for key in before)


def test_bad_input_is_refused() -> None:
    good = scored(OBJECT)
    with pytest.raises(ValueError, match="`prediction` must have boxes, labels, scores; it lacks"):
        count_errors(OBJECT, OBJECT)
    with pytest.raises(ValueError, match="`target` must have boxes, labels; it lacks labels"):
        count_errors(good, {"boxes": OBJECT["boxes"]})
    with pytest.raises(ValueError, match=r"`prediction\['scores'\]` has 2 rows, but `labels` has"):
        count_errors(OBJECT | {"scores": torch.ones(2)}, OBJECT)
    with pytest.raises(ValueError, match=r"`target\['boxes'\]` must have the shape \(1, 4\), not"):
        count_errors(good, OBJECT | {"boxes": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match=r"`prediction\['scores'\]` must be finite"):
        count_errors(scored(OBJECT, float("nan")), OBJECT)
    for score in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"`least_score` \(={score}\) must be from 0 to 1"):
            count_errors(good, OBJECT, least_score=score)
