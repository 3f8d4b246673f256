"""The trained networks that ship: whatever is in the package is loaded, used and tested."""

import json
import socket
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import Subset

from tbc_models import files
from tbc_models.data import Data, DataError, open_data
from tbc_models.files import shipped_weights
from tbc_models.networks.pretrained import shipped_networks
from tbc_models.training.run import evaluate
from tbc_models.training.trained import open_trained

from .runs import tbc

IMAGES = Path(__file__).parent / "images"
NONE = pytest.param("", marks=pytest.mark.skip(reason="no trained networks ship"))
every_network = pytest.mark.parametrize("name", list(shipped_weights()) or [NONE])
# Mean and standard deviation of the training images, as everybody rounds them.
PIXELS = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "fashion-mnist": ([0.2860], [0.3530]),
}


@cache
def tenth(data: str) -> Data:
    """Every tenth test image."""
    opened = open_data(data)
    images: Any = opened.test
    return replace(opened, test=Subset(images, range(0, len(images), 10)))


def correct_of_tenth(name: str) -> int:
    return int(evaluate(name, tenth(open_trained(name).settings.data)).confusion.trace())


def stored_images(data: str) -> dict[str, Path]:
    """Files by their classes, in lower case with hyphens."""
    return {file.stem.removeprefix(f"{data}-"): file for file in IMAGES.glob(f"{data}-*.png")}


def hyphened(name: str) -> str:
    return name.lower().replace(" ", "-").replace("/", "-")


@every_network
def test_a_tenth_of_the_test_images_is_classified_as_published(name: str) -> None:
    (shipped,) = (one for one in shipped_networks() if one.name == name)
    try:
        tenth(shipped.facts.data)
    except DataError as error:
        pytest.skip(f"only stored images are tested: {error}")
    assert correct_of_tenth(name) == shipped.facts.correct_of_tenth


@every_network
def test_stored_images_are_classified_offline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", offline)
    settings = open_trained(name).settings
    stored = stored_images(settings.data)
    assert len(stored) == 4
    tbc("predict", "--model", name, *stored.values(), "--json", tmp_path / "found.json")
    predictions = json.loads((tmp_path / "found.json").read_text())["predictions"]
    assert [hyphened(one["classes"][0]) for one in predictions] == list(stored)
    # timm's name has the same network, and pixels are prepared as the data set needs it.
    network = timm.create_model(name, pretrained=True).eval()
    mean, std = PIXELS[settings.data]
    assert settings.mean == pytest.approx(mean, abs=1e-4)
    assert settings.std == pytest.approx(std, abs=1e-4)
    for file, one in zip(stored.values(), predictions, strict=True):
        pixels = np.atleast_3d(np.asarray(Image.open(file))) / 255
        x = torch.tensor((pixels - settings.mean) / settings.std, dtype=torch.float32)
        with torch.no_grad():
            expected = network(x.permute(2, 0, 1)[None]).softmax(1).max()
        assert one["probabilities"][0] == pytest.approx(float(expected), abs=1e-4)


@every_network
def test_it_is_small_and_has_a_card(name: str) -> None:
    (shipped,) = (one for one in shipped_networks() if one.name == name)
    assert shipped.file.stat().st_size < 1.5e6
    facts, card = shipped.facts, shipped.file.with_suffix(".md").read_text()
    assert f"{facts.correct / facts.images:.2%}** ({facts.correct:,} right)" in card
    assert f"{facts.parameters:,}" in card
    network = timm.create_model(name)
    assert sum(p.numel() for p in network.parameters()) == facts.parameters
    assert name in tbc("models", "--pretrained")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published weights that know some digits."""
    folder: Path = tmp_path_factory.mktemp("published")
    training = ["--size", 16, "--epochs", 3, "--out", folder / "run"]
    tbc("train", "--model", "resnet20", "--data", "digits", *training)
    tbc("publish", folder / "run", "--tag", "digits", "--out", folder)
    return folder / "resnet20.digits.safetensors"


@pytest.mark.parametrize("change", ["nothing", "weights", "preprocessing"])
def test_a_tenth_of_the_test_images_shows_damage(
    change: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", tmp_path)
    with safe_open(published, framework="pt") as opened:
        metadata = opened.metadata()
    weights = load_file(published)
    if change == "weights":
        weights["layer2.0.conv1.weight"].zero_()
    if change == "preprocessing":
        metadata["settings"] = metadata["settings"].replace('"mean": [0.3', '"mean": [0.9')
    save_file(weights, tmp_path / published.name, metadata)
    (shipped,) = shipped_networks()
    unchanged = correct_of_tenth(shipped.name) == shipped.facts.correct_of_tenth
    assert unchanged == (change == "nothing")
