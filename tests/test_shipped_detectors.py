"""The trained detectors that ship with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from tbc_models.data import Scenes
from tbc_models.detection.run import read_detector, save_detector
from tbc_models.detection.shipped import find_detector, shipped_detectors
from tbc_models.exporting import round_to_half
from tests.runs import tbc

TIED, PLAIN = "mask-rcnn-tied_resnet14_s-scenes", "mask-rcnn-plain_resnet14-scenes"
SCENE = Path(__file__).parent.parent / "docs" / "_static" / "scene.png"


@pytest.mark.parametrize("name", [TIED, PLAIN])
def test_it_is_small_and_says_what_it_was_trained_on(name: str) -> None:
    assert shipped_detectors()[name].stat().st_size < 5e6
    settings, detector = read_detector(name)
    detector_name, backbone, data = name.rsplit("-", 2)
    assert (settings.detector, settings.backbone, settings.data) == (detector_name, backbone, data)
    assert (settings.recipe, settings.epochs, settings.seed) == ("small", 4, 0)
    assert settings.classes == [str(digit) for digit in range(10)]
    assert all(p.dtype == torch.float32 for p in detector.parameters())
    assert not detector.training


@pytest.mark.parametrize("name", [TIED, PLAIN])
def test_it_finds_and_draws_the_digits_of_a_crowded_scene(name: str, tmp_path: Path) -> None:
    tbc("detect", "predict", name, SCENE, "--out", tmp_path, "--json", tmp_path / "found.json")
    (image,) = json.loads((tmp_path / "found.json").read_text())["images"]
    _, target = Scenes("test", 11, objects=4, occlusion=(0.2, 0.35))[10]  # as in docs/figures.py
    places = torch.tensor([one["box"] for one in image["objects"]])
    ious = box_iou(places / 5, target["boxes"])  # the picture is enlarged five times
    right = {
        one["class"]
        for one, row in zip(image["objects"], ious, strict=True)
        if row.max() > 0.5 and str(int(target["labels"][row.argmax()]) - 1) == one["class"]
    }
    assert len(right) >= 3
    drawn, scene = (
        np.asarray(Image.open(f).convert("RGB")) for f in (tmp_path / SCENE.name, SCENE)
    )
    changed = (drawn != scene).any(2)
    x1, y1, x2, y2 = (int(x) for x in image["objects"][0]["box"])
    assert changed[y1:y2, x1:x2].mean() > 0.2
    assert not changed[:60].any()  # nothing is there


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    trained = read_detector(TIED)
    save_detector(tmp_path / "False.safetensors", trained)
    round_to_half(tmp_path / "False.safetensors", tmp_path / "True.safetensors")
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.02)
    # They were rounded when they were made, so nothing is lost here.
    for half in (False, True):
        again = read_detector(tmp_path / f"{half}.safetensors").detector.state_dict()
        torch.testing.assert_close(again, trained.detector.state_dict(), rtol=0, atol=0)


def test_a_file_is_preferred_to_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_detector(TIED) == shipped_detectors()[TIED]
    Path(TIED).touch()
    assert find_detector(TIED) == Path(TIED)
