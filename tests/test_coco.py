"""Images with instances in COCO's format, good and bad."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tbc_models.data.errors import DataError
from tbc_models.data.instances import InstanceData, open_instances

from .instances import TRAIN, VAL, edited, make_coco, photograph, refusal


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    make_coco(tmp_path / "coco")
    return tmp_path / "coco"


def by_id(data: InstanceData) -> dict[int, Any]:
    return {t["image_id"]: (image, t) for image, t in map(data.train.__getitem__, range(4))}


def test_coco_agrees_with_pycocotools(coco: Path) -> None:
    from pycocotools.coco import COCO

    data = open_instances(f"coco:{coco}", masks=True)
    assert data.masks
    assert data.mirror
    assert data.metric == "coco"
    assert data.name == f"coco:{coco}"
    assert data.classes == ("cat", "kite", "dog")  # in the order of the ids, not of the file
    assert data.skipped == ()
    for split, file in ((data.train, TRAIN), (data.test, VAL)):
        theirs = COCO(coco / file)
        assert len(split) == len(theirs.getImgIds())
        objects = 0
        for i in range(len(split)):
            image, target = split[i]
            own = theirs.loadAnns(sorted(theirs.getAnnIds(target["image_id"])))
            info = theirs.loadImgs(target["image_id"])[0]
            assert isinstance(image, Image.Image)
            assert (image.mode, image.size) == ("RGB", (info["width"], info["height"]))
            expected = np.array([a["bbox"] for a in own]).reshape(-1, 4)
            expected[:, 2:] += expected[:, :2]
            np.testing.assert_allclose(target["boxes"], expected, rtol=1e-6)
            names = [theirs.loadCats(a["category_id"])[0]["name"] for a in own]
            assert [data.classes[label - 1] for label in target["labels"]] == names
            assert target["iscrowd"].tolist() == [a["iscrowd"] for a in own]
            np.testing.assert_allclose(target["area"], [a["area"] for a in own], rtol=1e-6)
            assert target["masks"].shape == (len(own), info["height"], info["width"])
            for mask, annotation in zip(target["masks"], own, strict=True):
                np.testing.assert_array_equal(mask, theirs.annToMask(annotation))
                assert mask.any()
            objects += len(own)
        assert objects == len(theirs.getAnnIds())


def test_coco_without_masks_has_boxes_only(tmp_path: Path) -> None:
    make_coco(tmp_path, masks=False)
    data = open_instances(f"coco:{tmp_path}")
    assert not data.masks
    assert "masks" not in data.train[0][1]
    error = refusal(f"coco:{tmp_path}", masks=True)
    assert "has no masks: each annotation needs a segmentation" in str(error)
    assert error.option is None


def test_one_object_without_a_mask_is_refused_only_where_masks_are_needed(coco: Path) -> None:
    with edited(coco / TRAIN) as content:
        del content["annotations"][0]["segmentation"]
    assert not open_instances(f"coco:{coco}").masks
    error = refusal(f"coco:{coco}", masks=True)
    assert "annotation 21 has a segmentation that is empty or missing" in str(error)
    assert error.option == "skip_bad"
    data = open_instances(f"coco:{coco}", masks=True, skip_bad=True)
    assert data.masks
    assert by_id(data)[9][1]["labels"].tolist() == [1, 1]  # without the kite


def test_a_crowd_without_a_mask_covers_its_box(coco: Path) -> None:
    with edited(coco / TRAIN) as content:
        content["annotations"][2]["segmentation"] = []
    data = open_instances(f"coco:{coco}", masks=True)
    target = by_id(data)[9][1]
    crowd = int(target["iscrowd"].argmax())
    expected = torch.zeros(48, 64, dtype=torch.uint8)
    expected[30:40, 5:60] = 1
    torch.testing.assert_close(target["masks"][crowd], expected)


def test_an_area_that_is_not_given_is_that_of_the_mask_or_else_of_the_box(coco: Path) -> None:
    for file in (TRAIN, VAL):
        with edited(coco / file) as content:
            for annotation in content["annotations"]:
                del annotation["area"]
    data = open_instances(f"coco:{coco}", masks=True)
    for _, target in by_id(data).values():
        torch.testing.assert_close(target["area"], target["masks"].flatten(1).sum(1).float())
    with edited(coco / TRAIN) as content:
        del content["annotations"][0]["segmentation"]
    data = open_instances(f"coco:{coco}")
    area = by_id(data)[9][1]["area"].tolist()
    assert area == [10 * 28, 1, 35 * 15]  # crowd, pixel, and the box of two polygons


def test_a_box_within_a_pixel_of_the_image_is_clipped(coco: Path) -> None:
    with edited(coco / TRAIN) as content:
        content["annotations"][0]["bbox"] = [-1, -0.5, 65.5, 49]
    target = by_id(open_instances(f"coco:{coco}"))[9][1]
    assert [0, 0, 64, 48] in target["boxes"].tolist()


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_{}2014.json", "{}2014"),
        ("annotations/instances_{}2014.json", "images/{}2014"),
        ("annotations/instances_{}2017.json", "images/{}2017"),
        ("annotations/instances_{}.json", "images"),
        ("annotations/{}.json", "images/{}"),
        ("instances_{}.json", "{}"),
        ("{}.json", "images"),
        ("{}/_annotations.coco.json", "{}"),
    ],
)
@pytest.mark.parametrize("test", ["val", "valid", "test"])
def test_coco_is_found_in_many_layouts(
    coco: Path, tmp_path: Path, annotations: str, images: str, test: str
) -> None:
    other = tmp_path / "other"
    for split, name, file in (("train", "train", TRAIN), ("val", test, VAL)):
        shutil.copytree(coco / f"{split}2017", other / images.format(name), dirs_exist_ok=True)
        place = other / annotations.format(name)
        place.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(coco / file, place)
    data = open_instances(f"coco:{other}")
    assert (len(data.train), len(data.test)) == (4, 2)
    for i in range(4):
        assert data.train[i][1]["image_id"] in (2, 4, 9, 30)


def test_images_in_folders_of_their_own_are_found(coco: Path) -> None:
    (coco / "train2017/more").mkdir()
    (coco / "train2017/rgb.jpg").rename(coco / "train2017/more/rgb.jpg")
    with edited(coco / TRAIN) as content:
        content["images"][0]["file_name"] = "more/rgb.jpg"
    assert len(open_instances(f"coco:{coco}").train) == 4


Edit = Callable[[Any], object]


def annotation(key: str, value: Any) -> Edit:
    """Change the first annotation, whose id is 21."""
    return lambda content: content["annotations"][0].update({key: value})


def image(key: str, value: Any) -> Edit:
    """Change the first image, whose id is 9."""
    return lambda content: content["images"][0].update({key: value})


HUGE = 10**400
BAD_ANNOTATIONS: dict[str, Edit] = {
    "annotation 21 has the bbox [60, 3, 12, 4], which must lie within the image of 64×48 pixels": (
        annotation("bbox", [60, 3, 12, 4])
    ),
    "annotation 21 has the bbox [-3, 3, 12, 4], which must lie within": (
        annotation("bbox", [-3, 3, 12, 4])
    ),
    "annotation 21 has the bbox [64.2, 3, 0.5, 4], which lies outside the image of 64×48": (
        annotation("bbox", [64.2, 3, 0.5, 4])
    ),
    "annotation 21 has the bbox [6, 3, 0, 4], which has no area: width and height must be": (
        annotation("bbox", [6, 3, 0, 4])
    ),
    "annotation 21 has the bbox [6, 3, 2, -4], which has no area": (
        annotation("bbox", [6, 3, 2, -4])
    ),
    "annotation 21 has the bbox [6, 3, nan, 4], which must be four finite numbers": (
        annotation("bbox", [6, 3, float("nan"), 4])
    ),
    "annotation 21 has the bbox [6, 3, inf, 4], which must be four finite": (
        annotation("bbox", [6, 3, float("inf"), 4])
    ),
    "annotation 21 has the bbox [6, 3, 10000": annotation("bbox", [6, 3, HUGE, 4]),
    "annotation 21 has the bbox [6, 3, 4], which must be four": annotation("bbox", [6, 3, 4]),
    "annotation 21 has the bbox '6 3 4 4', which": annotation("bbox", "6 3 4 4"),
    "annotation 21 has the bbox [6, '3', 4, 4], which": annotation("bbox", [6, "3", 4, 4]),
    "annotation 21 has the image_id 77, which no image has": annotation("image_id", 77),
    "annotation 21 has the image_id [9], which no image": annotation("image_id", [9]),
    "annotation 21 has the category_id 1, which no category": annotation("category_id", 1),
    "annotation 21 has iscrowd 2, which must be 0 or 1": annotation("iscrowd", 2),
    "annotation 21 has the area -1, which must be a number of pixels": annotation("area", -1),
    "annotation 21 has the area '8', which": annotation("area", "8"),
    "annotation number 1 has the id 'a': ids must be integers": annotation("id", "a"),
    "annotation number 2 has the id 20 of an earlier one: ids must differ": annotation("id", 20),
    "annotation 21 has no category_id, bbox: add what is missing": (
        lambda content: [content["annotations"][0].pop(k) for k in ("bbox", "category_id")]
    ),
    "annotation number 1 has no id, bbox: add what is missing": (
        lambda content: [content["annotations"][0].pop(k) for k in ("bbox", "id")]
    ),
    "annotation number 1 must be an object with id, image_id": (
        lambda content: content["annotations"].insert(0, [5])
    ),
}
BAD_MASKS = {
    "a segmentation with 5, which must be numbers x, y, x, y …": [5, 5, 25, 5, 25, 20],
    "a segmentation with [5, 5, 25, '5', 25, 20], which": [[5, 5, 25, "5", 25, 20]],
    "a segmentation with a polygon of 4 numbers: an even number from 6 is right": [[5, 5, 9, 9]],
    "a segmentation with a polygon of 7 numbers": [[5, 5, 9, 9, 3, 3, 3]],
    "a segmentation with the polygon [5, 5, 9, 900, 3, 3], which must lie": [[5, 5, 9, 900, 3, 3]],
    "a segmentation with the polygon [5, 5, nan, 9, 3, 3], which must lie": (
        [[5, 5, float("nan"), 9, 3, 3]]
    ),
    "a segmentation that is empty or missing": "polygon",
    "a segmentation of size [64, 48], which must be [48, 64], as its image": (
        {"size": [64, 48], "counts": [0, 64 * 48]}
    ),
    "a segmentation whose counts describe 3071 pixels: they must describe 3072": (
        {"size": [48, 64], "counts": [0, 64 * 48 - 1]}
    ),
    "a segmentation whose counts [-1, 3073] do not decode": (
        {"size": [48, 64], "counts": [-1, 64 * 48 + 1]}
    ),
    "a segmentation whose counts 'S' do not decode": {"size": [48, 64], "counts": "S"},
    "a segmentation whose counts '€' do not decode": {"size": [48, 64], "counts": "€"},
    "a segmentation whose counts describe 35 pixels": {"size": [48, 64], "counts": "01R1"},
    "a segmentation whose counts None do not decode": {"size": [48, 64]},
}
BAD_IMAGES: dict[str, Edit] = {
    "image 9 has the file_name 'absent.jpg', which is not in": image("file_name", "absent.jpg"),
    "image 9 has the file_name 'no/rgb.jpg', which is not in": image("file_name", "no/rgb.jpg"),
    "image 9 has the file_name '/etc/hosts', which is not in": image("file_name", "/etc/hosts"),
    "image 9 has the file_name 3, which is not in": image("file_name", 3),
    "image 9 has the width 0, which must be a positive integer": image("width", 0),
    "image 9 has the height '48', which must be a positive integer": image("height", "48"),
    "image 9 has no width: add what is missing": (
        lambda content: content["images"][0].pop("width")
    ),
    "image number 5 has the id 9 of an earlier one": (
        lambda content: content["images"].append(dict(content["images"][0]))
    ),
}


@pytest.mark.parametrize("message", BAD_ANNOTATIONS)
def test_a_bad_annotation_is_named_and_can_be_skipped(coco: Path, message: str) -> None:
    with edited(coco / TRAIN) as content:
        BAD_ANNOTATIONS[message](content)
    error = refusal(f"coco:{coco}")
    assert str(error).startswith(f"{coco / TRAIN}: {message}")
    assert len(str(error)) < 300
    assert error.option == "skip_bad"
    data = open_instances(f"coco:{coco}", skip_bad=True)
    assert data.skipped == (str(error),)
    assert len(data.train) == 4
    added = "must be an object" in message
    assert len(by_id(data)[9][1]["labels"]) == (3 if added else 2)


@pytest.mark.parametrize("message", BAD_MASKS)
def test_a_bad_mask_is_named_and_can_be_skipped(coco: Path, message: str) -> None:
    with edited(coco / TRAIN) as content:
        annotation("segmentation", BAD_MASKS[message])(content)
    error = refusal(f"coco:{coco}", masks=True)
    assert str(error).startswith(f"{coco / TRAIN}: annotation 21 has {message}")
    assert error.option == "skip_bad"
    data = open_instances(f"coco:{coco}", masks=True, skip_bad=True)
    assert data.skipped == (str(error),)
    assert by_id(data)[9][1]["masks"].shape == (2, 48, 64)
    assert not open_instances(f"coco:{coco}").masks  # boxes alone are good


@pytest.mark.parametrize("message", BAD_IMAGES)
def test_a_bad_image_is_named_and_can_be_skipped(coco: Path, message: str) -> None:
    with edited(coco / TRAIN) as content:
        BAD_IMAGES[message](content)
    error = refusal(f"coco:{coco}")
    assert str(error).startswith(f"{coco / TRAIN}: {message}")
    assert error.option == "skip_bad"
    data = open_instances(f"coco:{coco}", skip_bad=True)
    assert len(data.train) == (4 if "earlier" in message else 3)
    assert data.skipped == (str(error),)  # without a line for each of its annotations


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [,]}', "is not JSON: Expecting value (line 1, column 13)"),
        ("", "is not JSON: Expecting value (line 1, column 1)"),
        ("[" * 100_000, "is not JSON: "),
        ("[]", "must be an object with the lists images, annotations, categories"),
        ('{"images": [], "annotations": []}', ": categories is missing; COCO's format has lists"),
        ('{"images": {}, "annotations": [], "categories": []}', ": images must be a list"),
    ],
)
def test_files_that_are_not_coco_are_refused(coco: Path, text: str, message: str) -> None:
    (coco / TRAIN).write_text(text)
    assert str(refusal(f"coco:{coco}", skip_bad=True)).startswith(f"{coco / TRAIN}")
    assert message in str(refusal(f"coco:{coco}"))
    (coco / TRAIN).write_bytes(b"\xff\xfe\xfa{}")
    assert "is not JSON" in str(refusal(f"coco:{coco}"))


def test_a_data_set_that_is_incomplete_is_refused(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    told = str(refusal(f"coco:{tmp_path / 'nothing'}"))
    assert "has no annotations in COCO's format: add one of annotations/instances_train2017" in told
    with edited(coco / TRAIN) as content:
        content["categories"][0]["name"] = "hat"
    told = str(refusal(f"coco:{coco}"))
    assert "must have the same categories: id 7 is hat in one and kite in the other" in told
    for split in (TRAIN, VAL):
        with edited(coco / split) as content:
            content["categories"] = []
    assert "has no categories: it needs at least one" in str(refusal(f"coco:{coco}"))
    (coco / VAL).unlink()
    assert "instances_val2017.json (or test): add it" in str(refusal(f"coco:{coco}"))


def test_empty_splits_are_refused(coco: Path) -> None:
    with edited(coco / VAL) as content:
        before = dict(content)
        content.update(images=[], annotations=[])
    assert f"{coco / VAL} has no images: add some" in str(refusal(f"coco:{coco}"))
    (coco / VAL).write_text(json.dumps(before))
    with edited(coco / TRAIN) as content:
        content["annotations"] = [a for a in content["annotations"] if a["iscrowd"]]
    assert "has no image with an object: training needs some" in str(refusal(f"coco:{coco}"))
    shutil.rmtree(coco / "train2017")
    told = str(refusal(f"coco:{coco}"))
    assert f"put them into {coco / 'train2017'} or {coco / 'images/train2017'}" in told


def test_a_bad_image_file_is_named_when_it_is_read(coco: Path) -> None:
    data = open_instances(f"coco:{coco}")
    file = coco / "train2017/cmyk.jpg"
    for width, height in ((48, 50), (96, 96)):
        photograph(file, width, height)
        told = f"{file} has {width}×{height} pixels and its annotations are for 48×48: annotate"
        with pytest.raises(DataError, match=re.escape(told)):
            data.train[0]
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match="is truncated or not an image: replace the file") as caught:
        data.train[0]
    assert caught.value.option is None


def test_a_rotation_in_the_exif_data_is_named(coco: Path) -> None:
    data = open_instances(f"coco:{coco}")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = coco / "train2017/grey.jpg"
    photograph(file, 40, 56, exif=exif)
    told = f"{file} has 56×40 pixels and its annotations are for 40×56: its EXIF data rotate it"
    with pytest.raises(DataError, match=re.escape(told)):
        data.train[1]
    photograph(file, 56, 40, exif=exif)  # annotated upright
    assert isinstance(image := data.train[1][0], Image.Image)
    assert image.size == (40, 56)


def test_the_fingerprint_is_that_of_the_content(coco: Path, tmp_path: Path) -> None:
    first = open_instances(f"coco:{coco}").fingerprint
    assert re.fullmatch("[0-9a-f]{64}", first)
    shutil.copytree(coco, tmp_path / "moved")
    with edited(tmp_path / "moved" / TRAIN) as content:  # another order, and nothing else
        for key in ("images", "annotations", "categories"):
            content[key].reverse()
    assert open_instances(f"coco:{tmp_path / 'moved'}").fingerprint == first
    assert open_instances(f"coco:{coco}", masks=True).fingerprint == first
    prints = {first}
    edits: list[Edit] = [
        annotation("bbox", [5, 5, 20, 13.5]),
        annotation("segmentation", [[5, 5, 25.5, 5, 25.5, 20.5]]),
        annotation("segmentation", [[5, 5, 25.5, 5, 25.5, 20]]),
        annotation("category_id", 18),
        annotation("area", 17),
        image("width", 63),
        lambda content: content["annotations"].pop(),
    ]
    for edit in edits:
        with edited(coco / TRAIN) as content:
            edit(content)
        prints.add(open_instances(f"coco:{coco}").fingerprint)
    assert len(prints) == 1 + len(edits)
