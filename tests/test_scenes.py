"""Crowded scenes of digits, with their boxes, masks and occlusion ratio."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from tbc_models.data.instances import open_instances
from tbc_models.data.occlusion import occlusion_ratio
from tbc_models.data.scenes import Scenes


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


@pytest.mark.parametrize(
    ("occlusion", "labels", "boxes"),
    [
        (
            None,
            [6, 9, 3, 10],
            [[45, 49, 68, 77], [8, 0, 21, 32], [63, 9, 75, 31], [10, 69, 25, 93]],
        ),
        (
            (0.5, 0.6),
            [6, 9, 3, 10],
            [[7, 52, 30, 80], [1, 42, 14, 74], [11, 50, 22, 72], [1, 58, 16, 82]],
        ),
    ],
)
def test_scenes_stay_what_they_were(
    occlusion: tuple[float, float] | None, labels: list[int], boxes: list[list[int]]
) -> None:
    """Results that were measured on scenes are only of use while the scenes stay the same."""
    target = Scenes("test", 1, objects=4, occlusion=occlusion)[0][1]
    assert target["labels"].tolist() == labels
    assert target["boxes"].tolist() == boxes


def test_a_place_where_one_digit_hides_another_wholly_is_not_taken() -> None:
    scenes = Scenes("test", 1, occlusion=(0.5, 2))
    digit = scenes._digit(np.random.default_rng(0))
    assert scenes._gather([digit, digit], np.zeros(2), np.zeros((2, 2))) is None


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
