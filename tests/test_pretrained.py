"""Trained weights: those that ship, and those that others keep in files, at URLs and on hubs."""

import json
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models import generate_default_cfgs, register_model
from torch import nn

from tbc_models import exporting, files
from tbc_models.networks import cifar, pretrained
from tbc_models.networks.registry import create

from .networks import images, make

CIFAR10: dict[str, Any] = {
    "input_size": [3, 32, 32],
    "num_classes": 10,
    "label_names": [f"class {i}" for i in range(10)],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.3, 0.2, 0.1],
}
FASHION = CIFAR10 | {"input_size": [1, 28, 28], "mean": [0.3], "std": [0.4]}


def ship(folder: Path, tag: str, trained_with: dict[str, Any]) -> nn.Module:
    """Write weights of `tied_resnet20` as they would ship, and return the network."""
    name, channels = "tied_resnet20", trained_with["input_size"][0]
    network = make(name, in_chans=channels).eval()
    network(images(name).mean(1, keepdim=True).expand(-1, channels, -1, -1))
    options = {"in_chans": channels, "num_classes": 10, "pretrained_cfg_overlay": trained_with}
    weights = folder / "weights.safetensors"
    exporting.save(weights, network, name=name, options=options)
    exporting.round_to_half(weights, folder / f"{name}.{tag}.safetensors")
    weights.unlink()
    return network


def register() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Overwriting tied_resnet20")
        register_model(cifar.tied_resnet20)


Register = Callable[[], None]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Register the networks anew, with what ships in a folder of this test."""
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", tmp_path)

    def again() -> None:
        cfgs = generate_default_cfgs(pretrained.with_shipped(cifar.CONFIGURATIONS))
        monkeypatch.setattr(cifar, "default_cfgs", cfgs)
        register()

    yield again
    monkeypatch.undo()
    register()


def rounded(network: nn.Module) -> nn.Module:
    network.load_state_dict(
        {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    )
    return network


def offline(*_: Any, **__: Any) -> None:
    raise OSError("no network")


def test_weights_that_ship_load_offline(
    shipped: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = rounded(ship(tmp_path, "cifar10", CIFAR10))
    shipped()
    monkeypatch.setattr(socket.socket, "connect", offline)
    x = images("tied_resnet20")
    for load in (timm.create_model, create):
        network: Any = load("tied_resnet20.cifar10", pretrained=True).eval()
        assert torch.equal(network(x), original(x))
        assert network.conv1.weight.dtype == torch.float32
    kept = network.pretrained_cfg
    for key, value in CIFAR10.items():
        assert kept[key] == (tuple(value) if isinstance(value, list) else value)
    assert (kept["architecture"], kept["tag"]) == ("tied_resnet20", "cifar10")
    assert kept["crop_pct"] == 1
    # The file is one of weights as any other, too.
    again = exporting.load("tied_resnet20", tmp_path / "tied_resnet20.cifar10.safetensors")
    assert torch.equal(again(x), original(x))


def test_the_first_tag_is_the_networks_default(shipped: Register, tmp_path: Path) -> None:
    pattern = "tied_resnet20*"
    shipped()
    assert timm.list_models(pattern, pretrained=True) == []
    fashion = rounded(ship(tmp_path, "fashion_mnist", FASHION))
    of_cifar = rounded(ship(tmp_path, "cifar10", CIFAR10))
    shipped()
    tags = ["tied_resnet20.cifar10", "tied_resnet20.fashion_mnist"]
    assert timm.list_models(pattern, pretrained=True) == tags
    assert timm.list_models(pattern) == ["tied_resnet20"]
    x = images("tied_resnet20")
    default = timm.create_model("tied_resnet20", pretrained=True).eval()
    assert torch.equal(default(x), of_cifar(x))
    other: Any = timm.create_model(tags[1], pretrained=True).eval()
    assert other.conv1.in_channels == 1
    assert torch.equal(other(x[:, :1]), fashion(x[:, :1]))


def test_weights_that_ship_fit_other_images_and_classes(shipped: Register, tmp_path: Path) -> None:
    original: Any = rounded(ship(tmp_path, "cifar10", CIFAR10))
    shipped()
    x = images("tied_resnet20")
    features = original.forward_intermediates(x, intermediates_only=True)
    options: dict[str, Any] = {"pretrained": True, "num_classes": 3}
    three: Any = timm.create_model("tied_resnet20.cifar10", **options).eval()
    assert three(x).shape == (2, 3)
    assert torch.equal(three.forward_features(x), features[-1])
    pyramid = timm.create_model("tied_resnet20.cifar10", pretrained=True, features_only=True)
    torch.testing.assert_close(pyramid.eval()(x), features)
    grey: Any = timm.create_model("tied_resnet20.cifar10", pretrained=True, in_chans=1).eval()
    expected = original(x[:, :1].expand(-1, 3, -1, -1))
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(grey(x[:, :1]), expected, rtol=0, atol=1e-4 * scale)


def test_only_weights_that_are_there_are_registered() -> None:
    found = list(files.shipped_weights())
    registered = timm.list_models(list(cifar.CONFIGURATIONS), pretrained=True)
    assert sorted(registered) == found
    for name in found:
        network = timm.create_model(name, pretrained=True).eval()
        assert all(value.isfinite().all() for value in network.state_dict().values())


def test_weights_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    network: Any = create("tied_resnet20")
    network.bn1.running_var.fill_(1e6)
    weights, file = tmp_path / "weights.safetensors", tmp_path / "half.safetensors"
    exporting.save(weights, network, name="tied_resnet20")
    with pytest.raises(ValueError, match=r"bn1.running_var of .* that float16 does not have"):
        exporting.round_to_half(weights, file)
    assert not file.exists()
    network.bn1.running_var.fill_(2)
    exporting.save(weights, network, name="tied_resnet20")
    exporting.round_to_half(weights, file)
    assert load_file(file)["bn1.running_var"].dtype == torch.float16
    assert load_file(file)["bn1.num_batches_tracked"].dtype == torch.int64
    assert file.stat().st_size < 0.6 * weights.stat().st_size


# What others publish, of any of our networks: timm's ways to load it.

NAME = "tied_resnet50"
SMALL: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 16)}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A folder with the weights of a network in the formats that people publish."""
    folder: Path = tmp_path_factory.mktemp("published")
    network = make(NAME, **SMALL, num_classes=12).eval()
    exporting.save(folder / "weights.safetensors", network, name=NAME)
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder, network


@pytest.mark.parametrize("source", ["weights.safetensors", "weights.pth", "url", "hub"])
def test_timms_ways_to_load_weights_load_ours(
    source: str,
    published: tuple[Path, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, network = published
    overlay: dict[str, Any] = {"file": str(folder / source)}
    if source == "url":
        overlay = {"url": (folder / "weights.pth").as_uri()}
    if source == "hub":
        overlay = {"hf_hub_id": "ada/tied_resnet50.in1k"}
        asked = []

        def download(*, repo_id: str, filename: str, **_: Any) -> Path:
            asked.append((repo_id, filename))
            return folder / "weights.safetensors"

        monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    loaded = timm.create_model(
        NAME,
        pretrained=True,
        pretrained_cfg_overlay=overlay | {"num_classes": 12},
        cache_dir=tmp_path,
        **SMALL,
    ).eval()
    x = images(NAME)
    assert torch.equal(loaded(x), network(x))
    if source == "hub":
        assert asked == [("ada/tied_resnet50.in1k", "model.safetensors")]


def test_a_folder_as_a_hub_holds_it_remembers_options_and_data(tmp_path: Path) -> None:
    options = SMALL | {"design": "fitted", "num_classes": 10}
    network: Any = make(NAME, **options).eval()
    weights = tmp_path / "weights.safetensors"
    overlay = CIFAR10 | {"input_size": [3, 64, 64]}
    exporting.save(
        weights, network, name=NAME, options=options | {"pretrained_cfg_overlay": overlay}
    )
    hub = tmp_path / "hub"
    timm.models.save_for_hf(exporting.load(NAME, weights), str(hub), model_args=options)
    assert json.loads((hub / "config.json").read_text())["architecture"] == NAME
    again: Any = timm.create_model(f"local-dir:{hub}", pretrained=True).eval()
    x = images(NAME)
    assert torch.equal(again(x), network(x))
    assert again.layer1[0].design == "fitted"
    assert list(again.pretrained_cfg["label_names"]) == CIFAR10["label_names"]
    assert list(again.pretrained_cfg["mean"]) == CIFAR10["mean"]
