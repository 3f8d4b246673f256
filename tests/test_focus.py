"""Energy and pointing on maps that are known, and the study that averages them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torch import nn

from tbc_models.analysis.focus import box_mask, energy_of_others, measure_focus
from tbc_models.analysis.focus_photographs import (
    OTHER_NAMES,
    objects_in_photographs,
    square_around,
)
from tbc_models.analysis.focus_plots import (
    differences_table,
    focus_conclusions,
    focus_figure,
    focus_table,
)
from tbc_models.analysis.focus_scenes import objects_in_scenes, write_single_digits
from tbc_models.analysis.focus_study import Objects, Onlooker, study_focus
from tbc_models.cli.opened import open_network
from tbc_models.data.errors import DataError
from tbc_models.data.instances import open_instances
from tbc_models.data.scenes import Scenes
from tbc_models.data.voc import CLASSES as VOC


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.manual_seed(seed))


def test_all_inside_none_inside_and_half_inside() -> None:
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    inside, outside, half = torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4)
    inside[1, 1], outside[3, 3], half[0, 0], half[3, 0] = 5, 2, 1, 1
    found = measure_focus(torch.stack([inside, outside, half]), mask.expand(3, 4, 4))
    assert found.energy.tolist() == [1, 0, 0.5]
    assert found.pointing.tolist() == [1, 0, 0.5]  # two pixels share the maximum
    assert found.share.tolist() == [0.5] * 3


def test_a_uniform_map_has_the_share_of_the_mask() -> None:
    masks = torch.stack([box_mask([1, 2, 6.5, 7], 9, 8), box_mask([0, 0, 8, 9], 9, 8)])
    found = measure_focus(torch.full((2, 9, 8), 0.3), masks)
    expected = [5.5 * 5 / 72, 1]
    for values in (found.energy, found.pointing, found.share):
        assert_allclose(values, expected, rtol=1e-12)


def test_it_is_what_loops_compute_and_its_scale_does_not_matter() -> None:
    maps, masks = random(5, 6, 7), (random(5, 6, 7, seed=1) > 0.5).double()
    found = measure_focus(maps, masks)
    for i in range(5):
        pixels = [(y, x) for y in range(6) for x in range(7)]
        inside = sum(float(maps[i, y, x]) for y, x in pixels if masks[i, y, x])
        best = max(pixels, key=lambda place: float(maps[i, place[0], place[1]]))
        assert_allclose(found.energy[i], inside / sum(float(maps[i, y, x]) for y, x in pixels))
        assert found.pointing[i] == masks[i, best[0], best[1]]
    larger = measure_focus(1e6 * maps, masks)
    assert_allclose(larger.energy, found.energy, rtol=1e-12)


def test_maps_of_zeros_are_counted_and_left_out() -> None:
    maps, masks = random(4, 3, 3), torch.ones(4, 3, 3)
    maps[[0, 2]] = 0
    found = measure_focus(maps, masks)
    assert (found.empty, found.kept.tolist(), len(found.energy)) == (2, [1, 3], 2)
    nothing = measure_focus(torch.zeros(2, 3, 3), torch.ones(2, 3, 3))
    assert (nothing.empty, nothing.energy.size, nothing.pointing.size) == (2, 0, 0)


def test_other_images_are_all_but_ones_own() -> None:
    maps, masks = random(6, 4, 4), (random(6, 4, 4, seed=1) > 0.4).double()
    maps[4] = 0
    images = [7, 7, 3, 3, 5, 9]
    found = energy_of_others(maps, masks, images)
    for i in range(6):
        others = [j for j in range(6) if images[j] != images[i] and j != 4]
        energies = measure_focus(maps[others], masks[[i] * len(others)]).energy
        assert_allclose(found[i], energies.mean(), rtol=1e-12)
    with pytest.raises(ValueError, match="must name several images"):
        energy_of_others(maps, masks, [1] * 6)


def test_a_box_covers_parts_of_pixels() -> None:
    mask = box_mask([1.25, 0.5, 3, 2], 4, 5)
    assert mask[:, 1].tolist() == [0.375, 0.75, 0, 0]
    assert mask[:, 2].tolist() == [0.5, 1, 0, 0]
    assert float(mask.sum()) == 1.75 * 1.5
    assert float(box_mask([-5, -5, 50, 50], 3, 3).sum()) == 9
    assert float(box_mask([10, 10, 12, 12], 3, 3).sum()) == 0


def test_maps_and_masks_that_do_not_fit_are_refused() -> None:
    maps, masks = random(2, 3, 3), torch.ones(2, 3, 3)
    with pytest.raises(ValueError, match=r"`maps` \(shape \(2, 3, 3\)\) and `masks` \(shape \(2, "):
        measure_focus(maps, masks[..., :2])
    with pytest.raises(ValueError, match="finite and not negative"):
        measure_focus(-maps, masks)
    with pytest.raises(ValueError, match="finite and not negative"):
        measure_focus(maps * np.nan, masks)
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        measure_focus(maps, 2 * masks)
    with pytest.raises(ValueError, match=r"`masks\[1\]` is zero everywhere"):
        measure_focus(maps, torch.stack([masks[0], 0 * masks[1]]))
    with pytest.raises(ValueError, match="at least one map"):
        measure_focus(maps[:0], masks[:0])


class Bright(nn.Module):
    """Finds class 0 in bright pixels, with `strength`, and class 1 in dark ones."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1)
        nn.init.constant_(self.features.weight, 0)
        nn.init.constant_(self.features.weight[0], strength / 3)
        self.features.bias = nn.Parameter(torch.tensor([0.0, 0.5]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.features(images).mean((2, 3))
        return scores


def objects_of(number: int = 24) -> Objects:
    """Images with one bright square each, at random, on a ground of 0.2; two from each source."""
    random = np.random.default_rng(0)
    images, masks = torch.full((number, 3, 8, 8), 0.2), torch.zeros(number, 8, 8)
    for image, mask in zip(images, masks, strict=True):
        y, x = random.integers(0, 5, 2)
        image[:, y : y + 3, x : x + 3] = 1
        mask[y : y + 3, x : x + 3] = 1
    first = np.arange(number) < number // 2
    return Objects(
        images=images,
        masks=masks,
        targets=torch.zeros(number, dtype=torch.int64),
        present=np.tile([True, False], (number, 1)),
        sources=np.arange(number) // 2,
        parts={"all": np.ones(number, bool), "first": first},
    )


def onlooker(name: str, network: nn.Module, seed: int | None = None) -> Onlooker:
    """Untrained, it sees nothing if its seed is odd."""
    return Onlooker(
        name, network, lambda images: images, lambda control: Bright(-(control % 2)), seed
    )


def rows_of(report: dict[str, Any], kind: str = "rows", **wanted: str) -> list[dict[str, Any]]:
    return [row for row in report[kind] if all(row[key] == one for key, one in wanted.items())]


def test_the_study_averages_what_is_measured_and_its_controls() -> None:
    objects = objects_of()
    report = study_focus([onlooker("a", Bright())], objects, controls=2, resamples=200)
    every = rows_of(report, part="all", what="energy")
    values = {row["of"]: row["value"] for row in every}
    # Nine pixels of 1 and 55 of 0.2: the gradient of the mean is the same for all pixels.
    assert_allclose(values["trained"], 9 / (9 + 55 * 0.2), rtol=1e-6)  # float32
    assert_allclose(values["uniform"], 9 / 64, rtol=1e-12)
    maps = objects.images.mean(1)
    expected = energy_of_others(maps, objects.masks, objects.sources.tolist()).mean()
    assert_allclose(values["other images"], expected, rtol=1e-6)
    # Of the untrained networks, the first has weights of 0 and the second negative ones.
    assert values["untrained"] is None
    assert report["networks"][0]["empty maps, untrained"] == [24, 24]
    assert report["networks"][0]["empty maps"] == [0]
    pointing = rows_of(report, part="all", what="pointing", of="trained")[0]
    assert pointing["value"] == 1
    assert (pointing["low"], pointing["high"]) == (1, 1)
    uniform = rows_of(report, "differences", part="first", what="energy", minus="uniform")[0]
    assert_allclose(uniform["value"], values["trained"] - values["uniform"], rtol=1e-6)
    assert uniform["objects"] == 12
    assert uniform["low"] is None  # of six images
    json.dumps(report, allow_nan=False)


def test_networks_are_paired_by_object_and_by_seed() -> None:
    class Blurred(Bright):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images + 0.2)

    plain = [onlooker("plain", Bright(), seed) for seed in (0, 1)]
    tied = [onlooker("tied", Blurred(), seed) for seed in (1, 0)]
    report = study_focus(plain + tied, objects_of(), controls=1, resamples=200)
    found = rows_of(report, "differences", minus="plain", what="energy", part="all")
    (row,) = found
    expected = 9 * 1.2 / (9 * 1.2 + 55 * 0.4) - 9 / (9 + 55 * 0.2)
    assert_allclose([row["value"], *row["seeds"]], [expected] * 3, rtol=1e-6)
    # The difference is the same for all objects and seeds.
    ends = [row[key] for key in ("low", "high", "seeds_low", "seeds_high")]
    assert_allclose(ends, [expected] * 4, rtol=1e-6)
    assert [network["seeds"] for network in report["networks"]] == [[0, 1], [0, 1]]
    sentences = focus_conclusions(report)
    assert any(line.startswith("energy: tied minus plain: −0.12") for line in sentences)
    headers, lines = differences_table(report, "energy")
    assert headers == ["network", "a uniform map", "other images", "untrained", "plain"]
    assert [lines[0][0], lines[0][-1], lines[1][0]] == ["plain", "–", "tied"]
    text = f"{row['value']:+.3f}".replace("-", "−")
    assert lines[1][-1] == "\n".join([f"**{text}**", *[f"[{text}, {text}]"] * 2])
    assert focus_table(report, "energy")[1][0][-1] == ""
    assert len(focus_figure(report, "pointing").axes) == 2


def test_the_bootstrap_draws_images_and_not_objects() -> None:
    """Objects of one source are equal here, so intervals are those of half as many objects."""
    objects = objects_of(40)
    twice = replace(
        objects,
        sources=np.repeat(objects.sources[::2], 2),
        images=objects.images[::2].repeat_interleave(2, 0),
        masks=objects.masks[::2].repeat_interleave(2, 0),
        parts={"all": np.ones(40, bool)},
    )
    once = replace(
        twice,
        images=twice.images[::2],
        masks=twice.masks[::2],
        targets=twice.targets[::2],
        present=twice.present[::2],
        sources=twice.sources[::2],
        parts={"all": np.ones(20, bool)},
    )
    torch.manual_seed(1)
    convolution = nn.Conv2d(3, 2, 3, padding=1)
    nn.init.uniform_(convolution.weight)
    noisy = nn.Sequential(convolution, nn.ReLU(), Mean())
    both = [
        study_focus([onlooker("a", noisy)], one, controls=1, resamples=300) for one in (twice, once)
    ]
    two, one = (rows_of(r, part="all", what="energy", of="trained")[0] for r in both)
    assert two["objects"] == 2 * one["objects"]
    for key in ("value", "low", "high"):
        assert_allclose(two[key], one[key], rtol=1e-9)
    assert two["low"] < two["value"] < two["high"]


class Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


def test_recognised_objects_are_those_that_every_network_predicts() -> None:
    objects = objects_of()
    # Bright gives class 0 the mean of the image, 0.3125, and class 1 a constant 0.5.
    report = study_focus([onlooker("a", Bright())], objects, controls=1, resamples=100)
    assert report["networks"][0]["predicts the object"] == [0]
    assert report["networks"][0]["above absent classes"] == [0]
    parts = {part["name"]: part for part in report["parts"]}
    assert (parts["recognised"]["objects"], parts["recognised"]["share"]) == (0, None)
    strong = [onlooker("a", Bright(2.0))]
    report = study_focus(strong, objects, controls=1, resamples=100)
    assert report["networks"][0]["predicts what is present"] == [1]
    assert report["networks"][0]["present by chance"] == 0.5


@pytest.mark.gpu
def test_a_network_on_a_gpu_is_measured_alike() -> None:
    reports = [
        study_focus([onlooker("a", Bright().to(device))], objects_of(), controls=1, resamples=100)
        for device in ("cpu", "cuda")
    ]
    cpu, cuda = (
        rows_of(report, part="all", what="energy", of="trained")[0]["value"] for report in reports
    )
    assert_allclose(cuda, cpu, rtol=1e-3)  # TF32 in convolutions has 10 bits
    maps, masks = random(5, 6, 7), (random(5, 6, 7, seed=1) > 0.5).double()
    expected = measure_focus(maps, masks).energy
    assert_allclose(measure_focus(maps.cuda(), masks.cuda()).energy, expected, rtol=1e-12)


def test_the_study_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="at least one network"):
        study_focus([], objects_of())
    with pytest.raises(ValueError, match=r"`controls` \(=0\) must be at least 1"):
        study_focus([onlooker("a", Bright())], objects_of(), controls=0)
    with pytest.raises(ValueError, match=r"`resamples` \(=99\) must be at least 100"):
        study_focus([onlooker("a", Bright())], objects_of(), resamples=99)


def test_scenes_have_masks_of_what_is_visible() -> None:
    objects = objects_in_scenes(3, (0, 0.1, 0.4))
    assert list(objects.parts) == ["all", "r 0 to 0.1", "r 0.1 to 0.4"]
    assert set(objects.sources.tolist()) == set(range(6))
    for image, mask, target, present in zip(
        objects.images, objects.masks, objects.targets, objects.present, strict=True
    ):
        assert present[target]
        assert image[0][mask > 0].min() == 1  # what is visible of a digit is white
    for source in range(6):
        own = objects.sources == source
        assert objects.masks[own].sum(0).max() == 1  # masks never overlap
        assert torch.equal(objects.masks[own].sum(0), objects.images[own][0, 0])  # and miss nothing


def test_photographs_are_cropped_around_their_boxes(tmp_path: Path) -> None:
    """A car in the middle, one at the border, a small one, a crowd, a person, and one too long."""
    boxes = [(60, 50, 40, 20), (0, 80, 30, 40), (5, 5, 10, 10), (60, 50, 40, 20), (150, 1, 40, 40)]
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[50:70, 60:100] = 255
    annotations = [
        {"id": i, "image_id": 7, "category_id": 1 + (i == 4), "bbox": box, "iscrowd": int(i == 3)}
        for i, box in enumerate([*boxes, (0, 0, 130, 10)])
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 200, "height": 120}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}],
    }
    (tmp_path / "images").mkdir()
    Image.fromarray(picture).save(tmp_path / "images" / "a.png")
    for split in ("train", "val"):
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(content))
    data = open_instances(f"coco:{tmp_path}")
    objects, used = objects_in_photographs(data, ["cat", "automobile"], 40)
    assert used == {"train": [7], "test": [7]}
    assert objects.sources.tolist() == [0, 0, 1, 1]
    assert objects.targets.tolist() == [1] * 4
    assert {name: int(own.sum()) for name, own in objects.parts.items()} == {
        "all": 4,
        "automobile": 4,
    }
    # The first crop is 80 pixels wide from (40, 20): the box lies in its middle.
    middle = objects.masks[0]
    assert float(middle[15:25, 10:30].min()) == 1
    assert torch.equal((objects.images[0][0] > 0.5).float(), (middle > 0).float())
    assert square_around(boxes_of(boxes[1]), (120, 200)) == (0, 40, 80)
    assert square_around([0, 0, 110, 10], (120, 200)) == (0, 0, 120)
    # The car that is too long reaches into the crop around the person, and no person into others.
    objects, _ = objects_in_photographs(data, ["cat", "automobile", "person"], 40)
    assert objects.targets[:3].tolist() == [1, 1, 2]
    cars, both = [False, True, False], [False, True, True]
    assert objects.present[:3].tolist() == [cars, cars, both]
    with pytest.raises(DataError, match="its classes are car, person, and the network knows dog"):
        objects_in_photographs(data, ["dog"], 40)


def test_classes_of_cifar10_are_found_by_their_names_in_pascal_voc() -> None:
    """VOC has neither deer, frogs nor trucks."""
    cifar10 = open_network("resnet20.cifar10").classes
    known = {OTHER_NAMES.get(name, name) for name in VOC} & set(cifar10 or ())
    assert known == {"airplane", "automobile", "bird", "cat", "dog", "horse", "ship"}


def boxes_of(bbox: tuple[int, ...]) -> list[float]:
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


def test_single_digits_can_be_trained_on(tmp_path: Path) -> None:
    write_single_digits(tmp_path, train=30, test=4)
    files = sorted(tmp_path.glob("*/*/*.png"))
    assert len(files) == 34
    image = np.asarray(Image.open(files[0]))
    assert image.shape == (48, 48)
    assert set(np.unique(image)) == {0, 255}
    scenes = Scenes("train", 30, size=48, objects=1)
    for file in tmp_path.glob("train/*/*.png"):
        assert file.parent.name == str(int(scenes[int(file.stem)][1]["labels"][0]) - 1)
