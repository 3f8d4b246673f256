"""Crowded scenes of digits, and the occlusion ratio of boxes and masks."""

import math
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from tbc_models.data.instances import open_instances
from tbc_models.data.occlusion import Overlap, Total, occlusion_ratio
from tbc_models.data.scenes import Scenes

SIDE = 12
whole_boxes = st.tuples(*[st.integers(0, SIDE - 1)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1)
)


def expected_ratio(pixels: list[set[tuple[int, int]]], overlap: str, total: str) -> float:
    """Count pixels one at a time."""
    everywhere = [pixel for one in pixels for pixel in one]
    covered = sum(everywhere.count(pixel) > 1 for pixel in set(everywhere))
    pairs = sum(len(one & other) for one, other in combinations(pixels, 2))
    hidden = {"pairs": pairs, "pairs-twice": 2 * pairs, "covered": covered}[overlap]
    whole = len(everywhere) if total == "sum" else len(set(everywhere))
    return hidden / whole if whole else 0.0


@given(
    st.lists(whole_boxes, max_size=6),
    st.sampled_from(get_args(Overlap)),
    st.sampled_from(get_args(Total)),
)
def test_boxes_and_masks_give_the_ratio_of_counted_pixels(
    boxes: list[tuple[int, int, int, int]], overlap: Any, total: Any
) -> None:
    masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    pixels = [{(x, y) for x in range(x1, x2) for y in range(y1, y2)} for x1, y1, x2, y2 in boxes]
    expected = expected_ratio(pixels, overlap, total)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    for instances in (corners, masks, masks.bool()):
        ratio = occlusion_ratio(instances, overlap=overlap, total=total)
        assert math.isclose(ratio, expected, abs_tol=1e-12)


def test_boxes_may_end_between_pixels() -> None:
    boxes = torch.tensor([[0.25, 0.5, 2.25, 2.5], [1.25, 1.5, 3.25, 3.5]])
    assert occlusion_ratio(boxes) == 1 / 8
    assert occlusion_ratio(boxes, total="union") == 1 / 7
    assert occlusion_ratio(boxes.half(), overlap="pairs-twice") == 2 / 8


def test_the_occlusion_ratio_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(ValueError, match=r"`instances` \(shape \(2, 5\)\) must be boxes \(n, 4\)"):
        occlusion_ratio(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"`instances` \(shape \(4,\)\) must be boxes"):
        occlusion_ratio(torch.zeros(4))
    with pytest.raises(ValueError, match=r"`overlap` \(='all'\) must be"):
        occlusion_ratio(torch.zeros(2, 4), overlap="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`total` \(='all'\) must be"):
        occlusion_ratio(torch.zeros(2, 4), total="all")  # type: ignore[arg-type]


@pytest.mark.parametrize("split", ["train", "test"])
def test_boxes_masks_and_areas_of_a_scene_agree(split: Any) -> None:
    scenes = Scenes(split, 20, objects=(2, 6))
    for i in range(len(scenes)):
        image, target = scenes[i]
        count = len(target["labels"])
        assert 2 <= count <= 6
        assert (image.shape, image.dtype) == ((3, 96, 96), torch.uint8)
        assert target["masks"].shape == target["full_masks"].shape == (count, 96, 96)
        assert target["masks"].dtype == torch.uint8
        visible, full = target["masks"].bool(), target["full_masks"].bool()
        assert (visible.sum(0) <= 1).all()  # a pixel shows one digit
        torch.testing.assert_close(visible.any(0), full.any(0))
        assert not (visible & ~full).any()
        for digit in range(count):  # later ones hide earlier ones
            later = full[digit + 1 :].any(0)
            torch.testing.assert_close(visible[digit], full[digit] & ~later)
        areas = visible.flatten(1).sum(1)
        assert (areas >= 0.25 * full.flatten(1).sum(1)).all()
        assert target["area"].tolist() == areas.tolist()
        corners = masks_to_boxes(visible)
        corners[:, 2:] += 1
        torch.testing.assert_close(target["boxes"], corners)
        assert ((target["labels"] >= 1) & (target["labels"] <= 10)).all()
        assert not target["iscrowd"].any()
        assert target["image_id"] == i


def test_a_digit_is_drawn_where_its_mask_is() -> None:
    """Inside a mask the colour of ink prevails, which is far from the ground outside of all."""
    scenes = Scenes("train", 10, objects=1)
    for i in range(len(scenes)):
        image, target = scenes[i]
        mask = target["masks"][0].bool()
        ink, ground = (image[:, where].float().mean(1) for where in (mask, ~mask))
        assert (ink - ground).norm() > 50


def test_scenes_are_determined_by_split_index_and_seed() -> None:
    first = Scenes("train", 5, seed=3)
    torch.testing.assert_close(first[4], Scenes("train", 9, seed=3)[4])
    again = first[4]
    assert torch.equal(first[4][0], again[0])
    for other in (Scenes("train", 5, seed=4), Scenes("test", 5, seed=3)):
        assert not torch.equal(first[4][0], other[4][0])
    assert not torch.equal(first[4][0], first[3][0])


@pytest.mark.parametrize("bounds", [(0.0, 0.05), (0.25, 0.35), (0.5, 0.6)])
def test_the_occlusion_ratio_of_scenes_can_be_chosen(bounds: tuple[float, float]) -> None:
    scenes = Scenes("test", 10, objects=4, occlusion=bounds)
    for i in range(len(scenes)):
        target = scenes[i][1]
        assert len(target["labels"]) == 4
        assert bounds[0] <= occlusion_ratio(target["boxes"]) <= bounds[1]


def test_scenes_without_objects_and_of_other_sizes() -> None:
    image, target = Scenes("test", 1, objects=0, size=48)[0]
    assert image.shape == (3, 48, 48)
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 48, 48)
    assert target["labels"].dtype == torch.int64
    assert Scenes("test", 1, size=200)[0][1]["masks"].shape[1:] == (200, 200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, r"`split` \(='val'\) must be \"train\" or \"test\""),
        ({"count": -1}, r"`count` \(=-1\) must not be negative"),
        ({"seed": -2}, r"`seed` \(=-2\) must not be negative"),
        ({"size": 47}, r"`size` \(=47\) must be at least 48 pixels"),
        ({"objects": (3, 2)}, r"`objects` \(=\(3, 2\)\) must be a number, or two in ascending"),
        ({"objects": -1}, r"`objects` \(=-1\) must be a number"),
        ({"occlusion": (0.4, 0.3)}, r"`occlusion` \(=\(0.4, 0.3\)\) must be two ratios"),
        ({"occlusion": (math.nan, 0.3)}, r"`occlusion` \(=\(nan, 0.3\)\) must be two ratios"),
    ],
)
def test_scenes_refuse_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scenes(**{"split": "train", "count": 1, **options})


def test_what_random_places_cannot_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbc_models.data.scenes._DRAWS", 1)
    with pytest.raises(
        ValueError, match=r"`objects` \(=\(40, 40\)\) are too many .* for 40 digits"
    ):
        Scenes("test", 1, objects=40)[0]
    with pytest.raises(ValueError, match=r"`occlusion` \(=\(2, 3\)\) cannot be reached with 1 dig"):
        Scenes("test", 1, objects=1, occlusion=(2, 3))[0]


def test_scenes_end_as_sequences_do() -> None:
    scenes = Scenes("test", 3)
    assert len(scenes) == len(list(scenes)) == 3  # type: ignore[call-overload]
    with pytest.raises(IndexError, match="there are 3 scenes, and none has the index 3"):
        scenes[3]


def test_digits_for_testing_do_not_occur_in_training() -> None:
    from tbc_models.data.scenes import _digits

    train, test = ({image.tobytes() for image in _digits(s)[0]} for s in ("train", "test"))
    assert len(train) > 3900
    assert len(test) > 900
    assert not train & test
    images, labels = _digits("test")
    assert (len(images), np.bincount(labels).tolist()) == (1000, [100] * 10)


def test_scenes_are_opened_by_their_name() -> None:
    data = open_instances("scenes", masks=True)
    assert data.name == "scenes"
    assert (len(data.train), len(data.test)) == (5000, 500)
    assert data.classes == tuple("0123456789")
    assert (data.masks, data.mirror, data.metric) == (True, False, "coco")
