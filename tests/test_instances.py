"""Images with instances: what all formats share, Pascal VOC and Cityscapes."""

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

from tbc_models.data.errors import DataError
from tbc_models.data.instances import open_instances

from .instances import make_cityscapes, make_coco, make_voc, photograph, refusal


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    make_coco(tmp_path / "coco")
    return tmp_path / "coco"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    make_voc(tmp_path / "voc")
    return tmp_path / "voc"


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    make_cityscapes(tmp_path / "cityscapes")
    return tmp_path / "cityscapes"


def test_targets_have_torchvisions_types(coco: Path, voc: Path, cityscapes: Path) -> None:
    for spec in (f"coco:{coco}", f"voc:{voc}", f"cityscapes:{cityscapes}"):
        data = open_instances(spec)
        empty = 0
        for i in range(len(data.train)):
            _, target = data.train[i]
            count = len(target["labels"])
            empty += not count
            assert target["boxes"].shape == (count, 4)
            assert target["boxes"].dtype == target["area"].dtype == torch.float32
            assert target["labels"].dtype == target["iscrowd"].dtype == torch.int64
            assert ("masks" in target) is data.masks
            assert ("difficult" in target) is (data.metric == "voc")
            if data.masks:
                assert target["masks"].dtype == torch.uint8
                assert target["masks"].is_contiguous()
            assert isinstance(target["image_id"], int)
        assert empty == 1
        assert len({data.train[i][1]["image_id"] for i in range(len(data.train))}) == len(
            data.train
        )


def test_data_sets_can_be_sent_to_the_workers_of_a_loader(
    coco: Path, voc: Path, cityscapes: Path
) -> None:
    for spec in (f"coco:{coco}", f"voc:{voc}", f"cityscapes:{cityscapes}"):
        data = open_instances(spec)
        copy = pickle.loads(pickle.dumps(data))  # noqa: S301
        torch.testing.assert_close(copy.test[0][1], data.test[0][1])


def test_progress_ends_at_the_total(coco: Path, voc: Path, cityscapes: Path) -> None:
    for spec, total in ((f"coco:{coco}", 9), (f"voc:{voc}", 4), (f"cityscapes:{cityscapes}", 4)):
        calls: list[tuple[int, int]] = []
        open_instances(spec, progress=lambda *call, calls=calls: calls.append(call))
        assert calls == sorted(calls)
        assert calls[-1] == (total, total)


def test_other_specifications_are_refused(tmp_path: Path) -> None:
    assert "'coc' is not a data set with instances: choose one of scenes" in str(refusal("coc"))
    assert "coco needs the folder that holds it: write coco:PATH" in str(refusal("coco:"))
    assert "scenes is embedded and takes no path" in str(refusal("scenes:here"))
    for kind in ("coco", "voc", "cityscapes"):
        assert str(refusal(f"{kind}:{tmp_path}/no")) == f"{tmp_path}/no does not exist"
        told = str(refusal(f"{kind}:{tmp_path}"))
        assert told.startswith(str(tmp_path)), told


def corner_boxes(masks: torch.Tensor) -> torch.Tensor:
    boxes: torch.Tensor = masks_to_boxes(masks)
    boxes[:, 2:] += 1
    return boxes


# Pascal VOC


def test_voc_counts_pixels_from_one_and_includes_the_last(voc: Path) -> None:
    data = open_instances(f"voc:{voc}")
    assert (data.metric, data.masks, data.mirror) == ("voc", False, True)
    assert len(data.classes) == 20
    image, target = data.train[0]
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert target["boxes"].tolist() == [[3, 4, 20, 30], [59, 39, 60, 40]]
    assert [data.classes[label - 1] for label in target["labels"]] == ["dog", "person"]
    assert target["difficult"].tolist() == [0, 1]
    assert target["iscrowd"].tolist() == [0, 0]
    assert target["area"].tolist() == [17 * 26, 1]


def test_voc_has_masks_of_the_images_for_segmentation(voc: Path) -> None:
    data = open_instances(f"voc:{voc}", masks=True)
    assert data.masks
    assert (len(data.train), len(data.test)) == (2, 1)
    for split in (data.train, data.test):
        for i in range(len(split)):
            image, target = split[i]
            assert isinstance(image, Image.Image)
            assert target["masks"].shape[1:] == image.size[::-1]
            torch.testing.assert_close(target["area"], target["masks"].flatten(1).sum(1).float())
    boxes = corner_boxes(data.train[1][1]["masks"])
    torch.testing.assert_close(boxes, data.train[1][1]["boxes"])
    first, second = data.test[0][1]["masks"]
    assert not (first & second).any()
    assert first[5, 27] == 1
    assert second[20, 27] == 1
    assert not second[0].any()  # its border is none of its pixels


def test_voc_takes_your_own_classes(tmp_path: Path) -> None:
    make_voc(tmp_path, ("zebra", "person"))
    assert open_instances(f"voc:{tmp_path}").classes == ("person", "zebra")
    make_voc(tmp_path / "other")
    file = tmp_path / "other/Annotations/2007_04.xml"
    file.write_text(file.read_text().replace("dog", "zebra"))
    data = open_instances(f"voc:{tmp_path / 'other'}", skip_bad=True)
    assert data.classes == ("dog", "person")  # not twenty, since one name is not Pascal VOC's


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    make_voc(tmp_path, ("zebra", "person"))
    file = tmp_path / "Annotations/2007_04.xml"
    file.write_text(file.read_text().replace("zebra", "zerba"))
    error = refusal(f"voc:{tmp_path}")
    assert "object 2 has the name 'zerba', which no object for training has" in str(error)
    assert error.option == "skip_bad"
    data = open_instances(f"voc:{tmp_path}", skip_bad=True)
    assert data.test[0][1]["labels"].tolist() == [1]


@pytest.mark.parametrize("place", ["VOCdevkit/VOC2012", "VOC2012"])
def test_voc_is_found_below_its_folder(tmp_path: Path, place: str) -> None:
    make_voc(tmp_path / "data" / place)
    assert len(open_instances(f"voc:{tmp_path / 'data'}").train) == 3
    make_voc(tmp_path / "data" / place.replace("12", "07"))
    assert "holds several data sets: name one of them" in str(refusal(f"voc:{tmp_path / 'data'}"))
    assert len(open_instances(f"voc:{tmp_path / 'data' / place}").train) == 3


def test_voc_uses_the_test_set_where_it_is_annotated(voc: Path) -> None:
    sets = voc / "ImageSets/Main"
    (sets / "test.txt").write_text("2012_09\n")  # its annotations are held back
    assert len(open_instances(f"voc:{voc}").train) == 3
    shutil.copy(voc / "Annotations/2007_01.xml", voc / "Annotations/2012_09.xml")
    photograph(voc / "JPEGImages/2012_09.jpg", 60, 40)
    data = open_instances(f"voc:{voc}")
    assert (len(data.train), len(data.test)) == (4, 1)


BAD_OBJECTS = {
    "object 1 has the bndbox '4', '5', '90', '30', which must lie within the image of 60×40": (
        "<xmax>20<",
        "<xmax>90<",
    ),
    "object 1 has the bndbox '4', '5', '2', '30', which has no area": ("<xmax>20<", "<xmax>2<"),
    "object 1 has the bndbox '4', '5', 'nan', '30', which must be finite numbers": (
        "<xmax>20<",
        "<xmax>nan<",
    ),
    "object 1 has the bndbox '4', '5', '', '30': xmin, ymin, xmax, ymax must be numbers": (
        "<xmax>20</xmax>",
        "",
    ),
    "object 1 has no name: name its class": ("<name>dog</name>", ""),
}


@pytest.mark.parametrize("message", BAD_OBJECTS)
def test_a_bad_object_of_voc_is_named_and_can_be_skipped(voc: Path, message: str) -> None:
    file = voc / "Annotations/2007_01.xml"
    file.write_text(file.read_text().replace(*BAD_OBJECTS[message], 1))
    error = refusal(f"voc:{voc}")
    assert str(error).startswith(f"{file}: {message}")
    assert error.option == "skip_bad"
    for masks in (False, True):
        data = open_instances(f"voc:{voc}", skip_bad=True, masks=masks)
        assert data.skipped == (str(error),)
        _, target = data.train[0]
        assert target["boxes"].tolist() == [[59, 39, 60, 40]]
    assert target["masks"].sum() == 1  # the second object's and not the first's


def rewrite(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda voc: (voc / name).write_text((voc / name).read_text().replace(old, new))


BAD_VOC_IMAGES: dict[str, Callable[[Path], object]] = {
    "Annotations/2007_01.xml is not XML: mismatched tag: line 1": (
        rewrite("Annotations/2007_01.xml", "</size>", "</sise>")
    ),
    "Annotations/2007_01.xml cannot be read (No such file or directory)": (
        lambda voc: (voc / "Annotations/2007_01.xml").unlink()
    ),
    "Annotations/2007_01.xml has the width '0': size/width must be a positive integer": (
        rewrite("Annotations/2007_01.xml", "<width>60", "<width>0")
    ),
    "JPEGImages/2007_01.jpg does not exist: add it": (
        lambda voc: (voc / "JPEGImages/2007_01.jpg").unlink()
    ),
    "SegmentationObject/2007_01.png cannot be read (No such file": (
        lambda voc: (voc / "SegmentationObject/2007_01.png").unlink()
    ),
    "SegmentationObject/2007_01.png cannot be read (it is not an image)": (
        lambda voc: (voc / "SegmentationObject/2007_01.png").write_bytes(b"PNG")
    ),
    "SegmentationObject/2007_01.png must be a palette image": (
        lambda voc: photograph(voc / "SegmentationObject/2007_01.png", 60, 40)
    ),
    "SegmentationObject/2007_01.png has 60×41 pixels: it must have 60×40": (
        lambda voc: photograph(voc / "SegmentationObject/2007_01.png", 60, 41, "L")
    ),
    "SegmentationObject/2007_01.png shows an object 24": (
        lambda voc: photograph(voc / "SegmentationObject/2007_01.png", 60, 40, "L")
    ),
}


@pytest.mark.parametrize("message", BAD_VOC_IMAGES)
def test_a_bad_image_of_voc_is_named_and_can_be_skipped(voc: Path, message: str) -> None:
    BAD_VOC_IMAGES[message](voc)
    error = refusal(f"voc:{voc}", masks=True)
    assert str(error).startswith(f"{voc}/{message}")
    assert error.option == "skip_bad"
    data = open_instances(f"voc:{voc}", masks=True, skip_bad=True)
    assert data.skipped == (str(error),)
    assert len(data.train) == 1


def test_an_object_that_no_pixel_shows_is_refused(voc: Path) -> None:
    file = voc / "SegmentationObject/2007_01.png"
    with Image.open(file) as mask:
        numbers = np.asarray(mask).copy()
    numbers[numbers == 1] = 0
    Image.fromarray(numbers).save(file)
    told = f"{file} has no pixel of object 1 in 2007_01.xml: draw it"
    assert str(refusal(f"voc:{voc}", masks=True)) == told
    data = open_instances(f"voc:{voc}", masks=True, skip_bad=True)
    assert data.train[0][1]["boxes"].tolist() == [[59, 39, 60, 40]]


def test_voc_that_is_incomplete_is_refused(voc: Path) -> None:
    train = voc / "ImageSets/Main/train.txt"
    train.write_text("2007_01\n2007_01\n")
    assert f"{train}: line 2 lists 2007_01 again" in str(refusal(f"voc:{voc}"))
    train.write_text("\n")
    assert f"{train} has no images" in str(refusal(f"voc:{voc}"))
    train.write_text("2007_03\n")
    assert f"{train} has no image with an object" in str(refusal(f"voc:{voc}"))
    train.unlink()
    assert f"{train} does not exist: list the images in it" in str(refusal(f"voc:{voc}"))
    shutil.rmtree(voc / "SegmentationObject")
    assert "has no masks: it needs the folders" in str(refusal(f"voc:{voc}", masks=True))
    shutil.rmtree(voc / "JPEGImages")
    told = "is not in Pascal VOC's format: it needs the folders JPEGImages, Annotations, ImageSets"
    assert told in str(refusal(f"voc:{voc}"))


def test_an_image_of_voc_with_another_size_is_named(voc: Path) -> None:
    data = open_instances(f"voc:{voc}")
    photograph(voc / "JPEGImages/2007_01.jpg", 40, 60)
    told = f"{voc / 'JPEGImages/2007_01.jpg'} has 40×60 pixels and its annotations are for 60×40"
    with pytest.raises(DataError, match=re.escape(told)):
        data.train[0]


# Cityscapes


def test_cityscapes_agrees_with_its_own_scripts(cityscapes: Path) -> None:
    from cityscapesscripts.evaluation.instances2dict import instances2dict

    data = open_instances(f"cityscapes:{cityscapes}")
    assert (data.metric, data.masks, data.mirror) == ("cityscapes", True, True)
    files = sorted((cityscapes / "gtFine/train").glob("*/*.png"))
    theirs = instances2dict([str(file) for file in files], verbose=False)
    for i, file in enumerate(files):
        image, target = data.train[i]
        assert isinstance(image, Image.Image)
        assert image.size == (64, 32)
        own = [
            (data.classes[label - 1], int(crowd), int(area))
            for label, crowd, area in zip(
                *(target[key] for key in ("labels", "iscrowd", "area")), strict=True
            )
        ]
        expected = [
            (name, int(one["instID"] < 1000), one["pixelCount"])
            for name in data.classes
            for one in theirs[str(file.resolve())].get(name, [])
        ]
        assert sorted(own) == sorted(expected)
    torch.testing.assert_close(data.train[0][1]["boxes"], corner_boxes(data.train[0][1]["masks"]))


def test_cityscapes_boxes_end_behind_the_last_pixel(cityscapes: Path) -> None:
    data = open_instances(f"cityscapes:{cityscapes}")
    _, target = data.train[2]
    assert target["boxes"].tolist() == [[8, 2, 50, 30]]
    assert data.classes[int(target["labels"]) - 1] == "train"
    _, target = data.train[0]
    pixel = target["area"] == 1
    assert target["boxes"][pixel].tolist() == [[50, 8, 51, 9]]


def test_void_pixels_are_those_that_cityscapes_ignores(cityscapes: Path) -> None:
    from cityscapesscripts.helpers.labels import labels

    ignored = [label.id for label in labels if label.ignoreInEval and label.id >= 0]
    data = open_instances(f"cityscapes:{cityscapes}")
    for i, file in enumerate(sorted((cityscapes / "gtFine/train").glob("*/*.png"))):
        with Image.open(file) as numbers:
            expected = np.isin(np.asarray(numbers), ignored)
        assert torch.equal(data.train[i][1]["void"], torch.from_numpy(expected))
    assert int(data.train[0][1]["void"].sum()) == 20


def test_files_of_cityscapes_without_their_pair_are_refused(cityscapes: Path) -> None:
    image = cityscapes / "leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png"
    instances = cityscapes / "gtFine/train/bonn/bonn_000000_000019_gtFine_instanceIds.png"
    for missing, other in ((image, instances), (instances, image)):
        content = missing.read_bytes()
        missing.unlink()
        error = refusal(f"cityscapes:{cityscapes}")
        assert str(error) == f"{other} has no {missing}: add it"
        assert error.option == "skip_bad"
        data = open_instances(f"cityscapes:{cityscapes}", skip_bad=True)
        assert (len(data.train), data.skipped) == (2, (str(error),))
        missing.write_bytes(content)
    instances.write_bytes(b"no image")
    assert f"{instances} is not an image or cannot be read" in str(
        refusal(f"cityscapes:{cityscapes}")
    )
    photograph(instances, 64, 32)
    assert f"{instances} has the mode RGB: numbers of 16 bits" in str(
        refusal(f"cityscapes:{cityscapes}")
    )
    data = open_instances(f"cityscapes:{cityscapes}", skip_bad=True)
    assert len(data.train) == 2


def test_bad_files_of_cityscapes_are_named_when_they_are_read(cityscapes: Path) -> None:
    image = cityscapes / "leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png"
    instances = cityscapes / "gtFine/train/bonn/bonn_000000_000019_gtFine_instanceIds.png"
    instances.write_bytes(instances.read_bytes()[:60])
    data = open_instances(f"cityscapes:{cityscapes}")
    with pytest.raises(DataError, match=f"{instances} is truncated or cannot be read"):
        data.train[2]
    photograph(image, 32, 32)
    with pytest.raises(DataError, match=f"{image} has 32×32 pixels and .* are for 64×32"):
        data.train[2]


def test_cityscapes_that_is_incomplete_is_refused(cityscapes: Path) -> None:
    shutil.rmtree(cityscapes / "gtFine/val/ulm")
    shutil.rmtree(cityscapes / "leftImg8bit/val/ulm")
    folder = cityscapes / "leftImg8bit/val"
    assert f"{folder} has no images: add some" in str(refusal(f"cityscapes:{cityscapes}"))
    folder.rmdir()
    told = f"{folder} does not exist: Cityscapes has leftImg8bit/val/CITY/*_leftImg8bit.png and"
    assert told in str(refusal(f"cityscapes:{cityscapes}"))


@pytest.mark.parametrize("kind", ["voc", "cityscapes"])
def test_fingerprints_follow_the_content_and_not_the_place(
    kind: str, voc: Path, cityscapes: Path, tmp_path: Path
) -> None:
    folder = voc if kind == "voc" else cityscapes
    first = open_instances(f"{kind}:{folder}").fingerprint
    shutil.copytree(folder, tmp_path / "moved")
    assert open_instances(f"{kind}:{tmp_path / 'moved'}").fingerprint == first
    if kind == "voc":
        rewrite("Annotations/2007_01.xml", "<xmin>4<", "<xmin>5<")(folder)
    else:
        name = "gtFine/val/ulm/ulm_000000_000019_gtFine_instanceIds.png"
        Image.fromarray(np.full((32, 64), 26000, np.uint16)).save(folder / name)
    assert open_instances(f"{kind}:{folder}").fingerprint != first
