"""The trained detectors that ship with the package."""

import json
from pathlib import Path

import pytest
import torch

from tbc_models.detection.run import read_detector, save_detector
from tbc_models.detection.shipped import find_detector, shipped_detectors
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
def test_it_draws_a_crowded_scene(name: str, tmp_path: Path) -> None:
    """The picture shows 0, 2, 3 and 9, of which the 0 is half hidden."""
    told = tbc(
        *("detect", "predict", name, SCENE, "--out", tmp_path, "--json", tmp_path / "found.json")
    )
    assert (tmp_path / "scene.png").read_bytes() != SCENE.read_bytes()
    (image,) = json.loads((tmp_path / "found.json").read_text())["images"]
    found = {one["class"] for one in image["objects"]}
    assert len(found & {"0", "2", "3", "9"}) >= 2
    assert all(digit in told for digit in found)


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    trained = read_detector(TIED)
    for half in (False, True):
        save_detector(tmp_path / f"{half}.safetensors", trained, half=half)
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
