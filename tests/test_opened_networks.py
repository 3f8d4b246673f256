"""Networks for the analysis, opened by name, file and function."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tbc_gpu import TiedBlockConv2d, tie
from tbc_models import exporting
from tbc_models.analysis.controls import weights_digest
from tbc_models.cli.opened import Preprocessing, open_network
from tbc_models.cli.opened_images import open_images
from tbc_models.data import DataError
from tbc_models.networks import registry
from tbc_models.training.settings import RunError
from tests.runs import go, settings, write_weights


def test_a_network_that_ships() -> None:
    opened = open_network("tbc_resnet20.cifar10")
    assert opened.label == "tbc_resnet20.cifar10"
    assert opened.preprocessing.size == 32
    assert opened.classes is not None
    assert opened.classes[3] == "cat"
    assert not opened.network.training
    assert not any(p.requires_grad for p in opened.network.parameters())
    one, same, other = (opened.untrained(seed) for seed in (0, 0, 1))
    weight = [made.get_parameter("layer1.0.conv1.weight") for made in (one, same, other)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])
    assert isinstance(one.get_submodule("layer1.0.conv1"), TiedBlockConv2d)


def test_a_checkpoint_knows_its_seed_and_run(tmp_path: Path) -> None:
    go(settings(epochs=1, seed=1), tmp_path / "run-1")
    (tmp_path / "run-2").mkdir()
    write_weights(tmp_path / "run-2" / "weights.safetensors", settings(epochs=1, seed=2))
    files = ("run-1/last.ckpt", "run-1/weights.safetensors", "run-2/weights.safetensors")
    opened = [open_network(str(tmp_path / file)) for file in files]
    assert [one.label for one in opened] == ["run-1", "run-1", "run-2"]
    assert [one.seed for one in opened] == [1, 1, 2]
    assert len({one.run for one in opened}) == 1
    assert opened[0].weights == opened[1].weights != opened[2].weights
    assert opened[0].preprocessing.channels == 1
    assert opened[0].preprocessing.size == 16
    for seed in (0, 1):  # also that of its training
        states = [one.untrained(seed).state_dict() for one in opened]
        for state in states[1:]:
            assert all(torch.equal(states[0][name], state[name]) for name in state)
    digests = {weights_digest(opened[0].untrained(seed)) for seed in (0, 1)}
    assert len(digests) == 2


def test_a_tied_network_is_tied_without_training_too(tmp_path: Path) -> None:
    file = tmp_path / "tied.safetensors"
    tied = tie(registry.create("resnet20"), blocks=2, where="layer2*").model
    exporting.save(file, tied, name="resnet20", blocks=2, where="layer2*")
    opened = open_network(str(file))
    assert opened.label == "tied"
    control = opened.untrained(0)
    for name, shape in ((n, p.shape) for n, p in opened.network.named_parameters()):
        assert control.get_parameter(name).shape == shape


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_function_with_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(5)
    state = torchvision.models.squeezenet1_1().state_dict()
    file = tmp_path / f"squeeze=net.{suffix}"
    if suffix == "pth":
        torch.save(state, file)
    else:
        save_file(state, file)
    opened = open_network(f"torchvision.models:squeezenet1_1={file}")
    assert opened.label == "squeezenet1_1"
    assert opened.preprocessing == Preprocessing()
    assert opened.classes is None
    assert torch.equal(
        opened.network.get_parameter("features.0.weight"), state["features.0.weight"]
    )
    assert not torch.equal(
        opened.untrained(6).get_parameter("features.3.squeeze.weight"),
        opened.network.get_parameter("features.3.squeeze.weight"),
    )
    with pytest.raises(RunError, match=r"does not fit resnet18: Missing key"):
        open_network(f"resnet18={file}")


def test_a_name_with_weights_from_a_file_keeps_its_classes_and_sizes(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), file)
    opened = open_network(f"resnet18={file}")
    assert opened.label == "resnet18"
    assert opened.preprocessing.size == 224
    assert opened.classes is not None
    assert opened.classes[967] == "espresso"
    assert len(opened.classes) == 1000


def test_a_function_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def one():\n"
        "    network = nn.Conv2d(3, 4, 3)\n"
        "    network.load_state_dict(torch.load('one.pth'))\n"
        "    return network\n"
        "def random(): return nn.Conv2d(3, 4, 3)\n"
        "def text(): return 'no network'\n"
        "def fails(): raise KeyError('x')\n"
        "def needs(width, *, depth): return nn.Conv2d(3, width, depth)\n"
    )
    monkeypatch.chdir(tmp_path)
    state = nn.Conv2d(3, 4, 3).state_dict()
    torch.save(state, "one.pth")
    opened = open_network("my_networks:one")
    assert isinstance(opened.network, nn.Conv2d)
    assert torch.equal(opened.network.weight, state["weight"])
    assert not torch.equal(opened.untrained(0).get_parameter("weight"), state["weight"])
    assert open_network("my_networks:random=one.pth").weights == opened.weights
    for spec, said in {
        "my_networks:random": "random weights: give trained ones, my_networks:random=FILE",
        "my_networks:two": "my_networks has no function 'two'",
        "my_networks:text": "my_networks:text returned a str, not a torch.nn.Module",
        "my_networks:fails": r"my_networks:fails cannot be built \(KeyError\): 'x'",
        "my_networks:needs": r"needs arguments \(width, depth\): name a function that takes none",
        "no_networks:one": r"no_networks cannot be imported \(ModuleNotFoundError\): No module",
    }.items():
        with pytest.raises(RunError, match=said):
            open_network(spec)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"nothing")
    for spec, said in {
        "resnt20": "resnt20 is neither a file nor a network; did you mean",
        "resnt20=x": "resnt20 is not a network; did you mean",
        "resnet18=": "'resnet18=' names no file after =: write resnet18=FILE",
        f"resnet18={tmp_path / 'none.pth'}": "none.pth does not exist",
        f"resnet18={tmp_path}": "is a folder",
        f"resnet18={bad}": "the weights of .*bad.pth cannot be read",
        "resnet18.no_such_tag": "no_such_tag",
    }.items():
        with pytest.raises(RunError, match=said):
            open_network(spec)


def test_images_are_resized_and_cut_to_their_centre() -> None:
    image = Image.new("RGB", (64, 32))
    image.paste((255, 0, 0), (24, 0, 40, 32))
    made = Preprocessing(size=8, crop=0.5, mean=(0.5, 0, 0), std=(0.5, 1, 1))
    assert made.cropped(image).shape == (3, 8, 8)
    assert made.cropped(image)[:, 4, 4].tolist() == [1, 0, 0]
    assert made.prepared(image)[:, 4, 4].tolist() == [1, 0, 0]
    assert Preprocessing(1, 8, (0.0,), (1.0,)).cropped(image).shape == (1, 8, 8)
    with pytest.raises(ValueError, match="takes images of 3 channels, not of 1"):
        made.cropped(torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_images_of_a_folder_a_data_set_and_packages(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for i in range(5):
        Image.new("RGB", (9, 9), (50 * i, 0, 0)).save(tmp_path / "inner" / f"{i}.png")
    plain = Preprocessing(size=4, crop=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    shown = open_images(str(tmp_path), 3, [plain])
    assert shown.name == tmp_path.name
    assert shown.files == ["0.png", "1.png", "3.png"]  # spread over the folder
    assert (shown.batches[0][:, 0, 0, 0] * 255).round().tolist() == [0, 50, 150]
    assert open_images(str(tmp_path), 100, [plain]).batches[0].shape == (5, 3, 4, 4)
    shown = open_images("embedded", 2, [plain, Preprocessing(size=16)])
    assert shown.name == "embedded"
    assert [batch.shape for batch in shown.batches] == [(2, 3, 4, 4), (2, 3, 16, 16)]
    grey = Preprocessing(1, 28, (0.1,), (0.3,), 1.0)
    assert open_images("embedded", 7, [grey]).name == "mnist"
    assert open_images("digits", 7, [grey]).batches[0].shape == (7, 1, 28, 28)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bad\.png is truncated or not an image"):
        open_images(str(tmp_path), 100, [plain])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no images \(\.jpg"):
        open_images(str(tmp_path / "empty"), 100, [plain])
    with pytest.raises(DataError, match="'no-such' is not a data set"):
        open_images("no-such", 100, [plain])
