"""What occlusion does to detectors: average precision and errors in bins of r, with intervals."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from torch import Tensor, nn

from tbc_models.data import InstanceData, occlusion_ratio
from tbc_models.data.errors import DataError
from tbc_models.data.instances import Target
from tbc_models.data.occlusion import Reading, occlusion_distribution
from tbc_models.data.scenes import open_scenes_in_bins
from tbc_models.detection.errors import count_errors
from tbc_models.detection.occlusion import WRONG, measure_occlusion
from tbc_models.detection.occlusion_plots import (
    TITLES,
    changes_table,
    conclusions_table,
    distribution_figure,
    error_changes,
    interval_in_words,
    occlusion_conclusions,
    occlusion_figure,
    occlusion_table,
)
from tbc_models.detection.run import TrainedDetector
from tbc_models.training.settings import RunError
from tests.detection import chosen, few_scenes
from tests.precision import SIZE, coco, random_boxes

EDGES = (0.0, 0.1, 0.2, 0.8)


@dataclass
class Drawn:
    """Images of random boxes; the first pixels hold the index, so that `Stub` knows the image."""

    targets: list[Target]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]:
        image = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
        image[0, 0, 0] = index
        return image, self.targets[index]


def drawn(count: int, seed: int = 0) -> Drawn:
    random = np.random.default_rng(seed)
    targets = []
    for i in range(count):
        boxes = random_boxes(random, int(random.integers(1, 6)))
        n = len(boxes)
        labels = torch.tensor(random.integers(1, 4, n))
        masks = torch.zeros(n, SIZE, SIZE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        crowd, area = torch.zeros(n, dtype=torch.int64), (boxes[:, 2:] - boxes[:, :2]).prod(1)
        target = {"boxes": boxes, "labels": labels, "masks": masks, "iscrowd": crowd}
        targets.append(target | {"area": area, "image_id": i})
    return Drawn(targets)


class Stub(nn.Module):
    """A detector that finds most objects of `Drawn`, not quite exactly, and some that are none."""

    def __init__(self, images: Drawn, seed: int) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.body = nn.Linear(2, 3)
        self.found = []
        random = np.random.default_rng([seed, 1])
        for target in images.targets:
            kept = torch.tensor(random.random(len(target["boxes"])) < 0.8)
            boxes, labels = target["boxes"][kept], target["labels"][kept]
            boxes = boxes + torch.tensor(random.normal(0, 3, boxes.shape)).float()
            wrong = random_boxes(random, 3)
            both = torch.cat([boxes, wrong]).clamp(0, SIZE)
            both[:, 2:] = torch.maximum(both[:, 2:], both[:, :2] + 1)
            more = torch.tensor(random.integers(1, 4, len(wrong)))
            scores = torch.tensor(random.random(len(both))).float()
            masks = torch.zeros(len(both), 1, SIZE, SIZE)
            for mask, (x1, y1, x2, y2) in zip(masks, both.int().tolist(), strict=True):
                mask[0, y1:y2, x1:x2] = 1
            found = {"boxes": both, "labels": torch.cat([labels, more]), "scores": scores}
            self.found.append(found | {"masks": masks})

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.found[round(float(image[0, 0, 0]) * 255)] for image in images]


def data_of(images: Any) -> InstanceData:
    return replace(few_scenes(), test=images, classes=("a", "b", "c"))


def stub(images: Drawn, seed: int = 0, backbone: str = "plain", **changes: Any) -> TrainedDetector:
    settings = replace(
        chosen(), backbone=backbone, seed=seed, classes=["a", "b", "c"], batch_size=3, **changes
    )
    return TrainedDetector(settings, Stub(images, seed + 100 * len(backbone)))


def value(report: dict[str, Any], what: str, place: int | None, detector: str = "plain") -> Any:
    (row,) = (
        row
        for row in report["rows"]
        if (row["what"], row["bin"], row["detector"]) == (what, place, detector)
    )
    return row


def test_average_precision_in_a_bin_is_coco_s_on_its_images() -> None:
    images = drawn(150)
    detector = stub(images)
    report = measure_occlusion([detector], data_of(images), bins=EDGES, resamples=100)
    ratios = [occlusion_ratio(target["boxes"]) for target in images.targets]
    places = np.digitize(ratios, EDGES) - 1
    assert set(places) >= {0, 1, 2}
    for place in range(3):
        at = np.flatnonzero(places == place)
        found: Any = [detector.detector.found[i] for i in at]  # type: ignore[index]
        targets: Any = [images.targets[i] for i in at]
        about = report["bins"][place]
        assert about["images"] == len(at) >= 5
        assert about["objects"] == sum(len(target["boxes"]) for target in targets)
        assert_allclose(about["r"], np.mean([ratios[i] for i in at]))
        for kind, iou_type in (("box", "bbox"), ("mask", "segm")):
            expected = coco(found, targets, iou_type).stats
            # Reports are rounded to five digits.
            assert_allclose(value(report, f"{kind} AP", place)["value"], expected[0], atol=6e-6)
            assert_allclose(value(report, f"{kind} AP75", place)["value"], expected[2], atol=6e-6)
        errors = [count_errors(f, t) for f, t in zip(found, targets, strict=True)]
        for what in errors[0]:
            mean = np.mean([one[what] for one in errors])
            assert_allclose(value(report, what, place)["value"], mean, atol=6e-6)
        wrong = np.mean([sum(one[what] for what in WRONG) for one in errors])
        row = value(report, "false positives", place)
        assert_allclose(row["value"], wrong, atol=6e-6)
        assert 0 <= row["low"] < row["value"] < row["high"]
    assert report["images"] + report["left out"] == 150
    assert report["left out"] == (places > 2).sum()


def test_seeds_are_averaged_and_detectors_paired_by_image() -> None:
    images = drawn(150)
    detectors = [stub(images, seed, name) for name in ("tied_net", "plain") for seed in (2, 0, 1)]
    report = measure_occlusion(detectors, data_of(images), bins=EDGES, resamples=300)
    assert [one["name"] for one in report["detectors"]] == ["tied_net", "plain"]
    assert report["detectors"][0]["seeds"] == [0, 1, 2]
    for what in ("box AP", "mask AP75", "duplicate"):
        for place in range(3):
            row = next(r for r in report["differences"] if r["what"] == what and r["bin"] == place)
            ours, theirs = (value(report, what, place, name) for name in ("plain", "tied_net"))
            assert_allclose(ours["value"], np.mean(ours["seeds"]), atol=2e-5)
            seeds = np.subtract(ours["seeds"], theirs["seeds"])
            assert_allclose(row["seeds"], seeds, atol=2e-5)
            assert_allclose(row["value"], seeds.mean(), atol=2e-5)
            assert row["low"] <= row["value"] <= row["high"]
            if not seeds.any():
                continue
            low, high = stats.t.interval(0.95, 2, seeds.mean(), stats.sem(seeds))
            assert_allclose([row["seeds_low"], row["seeds_high"]], [low, high], atol=2e-4)
    alone = measure_occlusion([detectors[2]], data_of(images), bins=EDGES, resamples=100)
    for place in range(3):
        one = value(alone, "box AP", place, "tied_net")["value"]
        assert value(report, "box AP", place, "tied_net")["seeds"][1] == one
    (change,) = (r for r in report["differences"] if r["bin"] is None and r["what"] == "box AP")
    inside = [r for r in report["differences"] if r["what"] == "box AP" and r["bin"] is not None]
    assert_allclose(change["value"], inside[2]["value"] - inside[0]["value"], atol=2e-5)
    grown = value(report, "missed", None)
    first, last = (value(report, "missed", place) for place in (0, 2))
    assert_allclose(grown["value"], last["value"] - first["value"], atol=2e-5)
    assert_allclose(grown["seeds"], np.subtract(last["seeds"], first["seeds"]), atol=2e-5)
    assert len(error_changes(report)) == 2
    headers, lines = changes_table(report)
    (missed,) = (line for line in lines if line[0] == TITLES["missed"])
    assert interval_in_words(grown, "+") in missed[headers.index("plain")]
    headers, lines = occlusion_table(report, "box AP")
    assert headers[-2:] == ["plain − tied_net", "over seeds"]
    assert [len(line) for line in lines] == [len(headers)] * 4


def test_a_detector_does_not_differ_from_itself() -> None:
    """In every resample, since both detectors get the same images."""
    images = drawn(150)
    same = stub(images)
    other = TrainedDetector(replace(same.settings, epochs=7), same.detector)
    report = measure_occlusion([same, other], data_of(images), bins=EDGES, resamples=100)
    assert [one["name"] for one in report["detectors"]] == ["plain epochs=2", "plain epochs=7"]
    assert {row["value"] for row in report["differences"]} == {0.0}
    assert {row["low"] for row in report["differences"]} == {0.0}
    assert {row["high"] for row in report["differences"]} == {0.0}
    assert all("seeds_low" not in row for row in report["differences"])


def test_without_common_seeds_only_images_are_paired() -> None:
    images = drawn(20)
    detectors = [stub(images, 0), stub(images, 1), stub(images, 2, "other")]
    report = measure_occlusion(detectors, data_of(images), bins=EDGES, resamples=100)
    row = next(r for r in report["differences"] if r["what"] == "box AP" and r["bin"] == 0)
    assert "seeds_low" not in row
    ours, theirs = (value(report, "box AP", 0, name)["value"] for name in ("other", "plain"))
    assert_allclose(row["value"], ours - theirs, atol=2e-5)


@pytest.mark.parametrize("total", ["sum", "union"])
@pytest.mark.parametrize("overlap", ["pairs", "pairs-twice", "covered"])
@pytest.mark.parametrize("of", ["boxes", "masks"])
def test_each_reading_bins_by_its_own_ratio(of: Any, overlap: Any, total: Any) -> None:
    images = drawn(12)
    for target in images.targets:
        target["masks"][:, ::3] = 0  # so that masks are not the boxes
        target["iscrowd"][0] = 1
    report = measure_occlusion(
        [stub(images)],
        data_of(images),
        bins=(0, 100),
        reading=Reading(of, overlap, total),
        resamples=100,
    )
    ratios = [
        occlusion_ratio(target[of][1:], overlap=overlap, total=total) for target in images.targets
    ]
    assert_allclose(report["bins"][0]["r"], np.mean(ratios))
    assert report["without objects"] == sum(len(t["boxes"]) == 1 for t in images.targets)


def test_bins_without_images_or_objects_have_no_numbers() -> None:
    images = drawn(6)
    for target in images.targets[:5]:
        for name in ("boxes", "labels", "masks", "iscrowd", "area"):
            target[name] = target[name][:0]
    images.targets[5]["boxes"] = torch.tensor([[0.0, 0, 9, 9]]).repeat(3, 1)
    images.targets[5] |= {"labels": torch.tensor([1, 1, 1]), "iscrowd": torch.zeros(3).long()}
    images.targets[5] |= {"masks": torch.ones(3, SIZE, SIZE).byte(), "area": torch.ones(3) * 81}
    detectors = [stub(images, 0), stub(images, 0, "other")]
    report = measure_occlusion(detectors, data_of(images), bins=(0, 0.2, 0.5, 1), resamples=100)
    assert report["without objects"] == 5
    assert [about["images"] for about in report["bins"]] == [5, 0, 1]  # r = 1: the last edge
    for place, what, none in [
        *((0, "box AP", True), (0, "missed", False), (1, "box AP", True)),
        *((1, "missed", True), (2, "box AP", False), (2, "missed", False)),
    ]:
        assert (value(report, what, place)["value"] is None) == none, (place, what)
    assert not any(row["bin"] is None for row in report["differences"])
    assert "NaN" not in json.dumps(report)
    assert not any(row["bin"] is None for row in report["rows"])
    headers, lines = occlusion_table(report, "box AP")
    assert [line[2] for line in lines[:2]] == ["–", "–"]
    assert all(len(line) == len(headers) for line in lines)
    occlusion_figure(report)


def test_few_images_have_no_interval_and_show_no_difference() -> None:
    images = drawn(9)
    report = measure_occlusion(
        [stub(images), stub(images, 0, "other")], data_of(images), bins=(0, 100)
    )
    row = value(report, "box AP", 0)
    assert row["value"] is not None
    assert (row["low"], row["high"]) == (None, None)
    assert interval_in_words(row).endswith(" [–]")
    assert occlusion_conclusions(report) == []
    occlusion_figure(report)


def test_an_interval_need_not_hold_its_value_to_be_drawn() -> None:
    row = {"detector": "a", "bin": 0, "what": "box AP", "value": 0.5, "low": 0.6, "high": 0.7}
    report = {"detectors": [{"name": "a"}], "bins": [{"r": 0.1}], "rows": [row | {"seeds": [0.5]}]}
    axes = occlusion_figure(report, ["box AP"]).axes[0]
    bar: Any = axes.lines[1].get_ydata()
    assert list(bar) == [0.6, 0.7]


def test_each_quantity_is_drawn_in_a_row_beside_its_difference() -> None:
    images = drawn(20)
    detectors = [stub(images, 0), stub(images, 0, "other")]
    report = measure_occlusion(detectors, data_of(images), bins=EDGES, resamples=100)
    figure = occlusion_figure(report, ["box AP", "both"])
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    assert titles[::2] == [TITLES["box AP"], TITLES["both"]]
    assert titles[1::2] == ["difference from plain"] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "other"]
    values: Any = figure.axes[1].lines[0].get_ydata()
    rows = [r for r in report["differences"] if r["what"] == "box AP" and r["bin"] is not None]
    assert_allclose(values, [row["value"] for row in rows])


def test_where_the_data_lay_does_not_tell_detectors_apart() -> None:
    images = drawn(12)
    places = [f"coco:/home/{name}/photos" for name in ("ada", "bob")]
    detectors = [stub(images, seed, data=place) for seed, place in enumerate(places)]
    report = measure_occlusion(detectors, data_of(images), bins=(0, 100), resamples=100)
    (described,) = report["detectors"]
    assert described["seeds"] == [0, 1]
    assert described["trained on"] == "coco:photos"
    assert "/home" not in json.dumps(report)


def test_an_object_without_area_is_refused_with_its_image() -> None:
    images = drawn(5)
    images.targets[3]["masks"][0] = 0
    with pytest.raises(ValueError, match=r"image 3: .*\[0\].* has no pixel"):
        occlusion_distribution(data_of(images))
    with pytest.raises(ValueError, match=r"image 3: .* has no pixel"):
        measure_occlusion([stub(images)], data_of(images), reading=Reading("masks"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bins": (0.5,)}, "`bins` .* must be two or more"),
        ({"bins": (0.5, 0.2)}, "`bins` .* must be two or more"),
        ({"bins": (-1, 0.2)}, "`bins` .* must be two or more"),
        ({"bins": (50, 60)}, "no image of scenes has r from 50 to 60"),
        ({"bins": (0, float("nan"))}, "`bins` .* must be two or more"),
        ({"bins": (0, float("inf"))}, "`bins` .* must be two or more"),
        ({"resamples": 99}, "`resamples` .* must be at least 100"),
        ({"least_score": 1.5}, "`least_score`"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: Any, message: str) -> None:
    images = drawn(4)
    with pytest.raises(ValueError, match=message):
        measure_occlusion([stub(images)], data_of(images), **changes)


def test_detectors_and_data_that_do_not_fit_are_refused() -> None:
    images = drawn(4)
    data = data_of(images)
    other = stub(images, 1, "other")
    other = other._replace(settings=replace(other.settings, classes=["a", "b"]))
    with pytest.raises(RunError, match=r"on plain knows 3 classes.* on other 2 classes"):
        measure_occlusion([stub(images), other], data)
    with pytest.raises(RunError, match=r"has 3 classes .* but the detector knows 2 classes"):
        measure_occlusion([other], data)
    with pytest.raises(ValueError, match="`detectors` must hold at least one"):
        measure_occlusion([], data)
    with pytest.raises(RunError, match="has no test images"):
        measure_occlusion([stub(images)], data_of(drawn(0)))
    with pytest.raises(RunError, match="two detectors on plain have the seed 0"):
        measure_occlusion([stub(images), stub(images)], data)
    boxes = replace(stub(images).settings, detector="faster-rcnn")
    with pytest.raises(RunError, match="has no masks"):
        measure_occlusion(
            [TrainedDetector(boxes, stub(images).detector)],
            replace(data, masks=False),
            reading=Reading("masks"),
        )


def test_sentences_say_what_is_shown() -> None:
    row: dict[str, Any] = {"detector": "tied", "minus": "plain", "what": "box AP", "seeds": []}
    seeds = {"seeds_low": -1, "seeds_high": 1}
    rows = [
        row | {"bin": 0, "value": 0.02, "low": 0.01, "high": 0.03},
        row | {"bin": 1, "value": 0.02, "low": 0.01, "high": 0.03} | seeds,
        row | {"bin": 2, "value": -0.5, "low": -0.6, "high": -0.4} | seeds | {"seeds_high": -0.1},
        row | {"bin": None, "value": -0.52, "low": -0.6, "high": -0.4},
    ]
    (sentence,) = occlusion_conclusions({"differences": rows}, ["box AP"])
    assert sentence == (
        "AP of boxes: tied − plain is above 0 in 1 of 3 bins and below 0 in 1. From the first "
        "bin to the last, it falls: −52.0 [−60.0, −40.0]."
    )
    rows[3] |= seeds
    (sentence,) = occlusion_conclusions({"differences": rows}, ["box AP"])
    assert sentence.endswith(
        "no change is shown: −52.0 [−60.0, −40.0], over seeds [−100.0, +100.0]."
    )
    assert interval_in_words(rows[0] | {"what": "missed"}, "+") == "+0.02 [+0.01, +0.03]"
    headers, (line,) = conclusions_table({"differences": rows}, ["box AP"])
    assert headers[-1] == "over seeds"
    assert line[1:] == [
        "tied − plain",
        "1 of 3",
        "1 of 3",
        "−52.0 [−60.0, −40.0]",
        "[−100.0, +100.0]",
    ]
    del rows[3]["seeds_low"]
    assert (
        conclusions_table({"differences": rows}, ["box AP"])[1][0][4] == "**−52.0 [−60.0, −40.0]**"
    )


def test_scenes_lie_in_their_bins() -> None:
    data = open_scenes_in_bins([0, 0.1, 0.45, 0.8], 3)
    assert len(data.test) == 9
    for i in range(9):
        target = data.test[i][1]
        low, high = [(0, 0.1), (0.1, 0.45), (0.45, 0.8)][i // 3]
        assert low <= occlusion_ratio(target["boxes"]) <= high
        assert len(target["boxes"]) == 3
    images: list[Any] = [data.test[i][0] for i in range(9)]
    assert not any(torch.equal(images[i], images[j]) for i in range(9) for j in range(i))
    assert images[4] is data.test[4][0]  # kept, not made again
    spread = open_scenes_in_bins([0.2, 0.4], 10).test
    many = sorted(occlusion_ratio(spread[i][1]["boxes"]) for i in range(10))
    assert many[1] < 0.24 < 0.36 < many[-2]
    with pytest.raises(DataError, match="cannot be reached with 3 digits") as refusal:
        open_scenes_in_bins([0, 0.1, 3, 4], 5)
    assert refusal.value.option == "bins"


def test_the_distribution_of_r_is_that_of_all_images() -> None:
    images = drawn(11)
    data = replace(data_of(images), train=drawn(9, seed=1))
    report = occlusion_distribution(data)
    assert report["images"] == 20
    assert len(report["rows"]) == 12
    ratios = [
        occlusion_ratio(target["masks"], overlap="covered", total="union")
        for target in [*drawn(9, seed=1).targets, *images.targets]
    ]
    row = next(r for r in report["rows"] if r["reading"] == "masks, covered / union")
    assert_allclose(row["percentiles"], np.percentile(ratios, range(101)), atol=6e-6)
    assert len(distribution_figure(report).axes) == 2
