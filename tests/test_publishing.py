"""`tbc publish`: rounded weights, their accuracy, and a model card that repeats the run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import timm
from safetensors.torch import load_file

from tbc_models import exporting, files
from tbc_models.data import open_data
from tbc_models.networks.pretrained import shipped_networks
from tbc_models.training.model_card import SOURCES
from tbc_models.training.run import evaluate
from tbc_models.training.settings import Machine, prepare
from tbc_models.training.trained import describe_training, open_trained

from .runs import TRAIN, refused, tbc

OPTIONS = ["--recipe", "strong", "--epochs", 1, "--lr", 0.05, "--no-mirror", "--seed", 3]
RUN = ["train", "--model", "resnet20", "--data", "digits", "--size", 16, *OPTIONS]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an epoch."""
    out: Path = tmp_path_factory.mktemp("runs") / "digits"
    tbc(*RUN, "--channels-last", "--out", out)
    return out


@pytest.fixture(scope="module")
def published(run: Path) -> Path:
    """Its weights, published."""
    folder = run.parent / "published"
    tbc("publish", run, "--tag", "digits", "--out", folder)
    return folder


FRONT = """license: {licence}
library_name: timm
pipeline_tag: image-classification
tags:
- timm
- image-classification
"""


def front_matter(card: Path) -> str:
    _, front, _ = card.read_text().split("---\n", 2)
    return front


def test_published_weights_are_rounded_and_tell_their_accuracy(
    run: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", published)
    (network,) = shipped_networks()
    rounded, whole = load_file(network.file), load_file(run / "weights.safetensors")
    assert rounded["fc.weight"].equal(whole["fc.weight"].half())
    digits = open_data("digits")
    _, confusion, settings = evaluate("resnet20.digits", digits)
    facts = network.facts
    assert (facts.correct, facts.images) == (int(confusion.trace()), 359)
    built = timm.create_model("resnet20", in_chans=1)
    assert facts.parameters == sum(p.numel() for p in built.parameters())
    assert settings == open_trained(run / "weights.safetensors").settings
    told = tbc("evaluate", "resnet20.digits")
    assert f"top-1 {facts.correct / 359:.2%}" in told
    card = (published / "resnet20.digits.md").read_text()
    assert f"**{facts.correct / 359:.2%}** ({facts.correct} right)" in card


def test_the_card_tells_everything_but_the_machine(published: Path) -> None:
    card = (published / "resnet20.digits.md").read_text()
    assert front_matter(published / "resnet20.digits.md") == FRONT.format(licence="mit")
    for text in (
        "scikit-learn",
        "CC BY 4.0",
        "269,434",
        "last epoch | 1 of 1",
        "seed | 3",
        "No epoch was chosen",
        "label smoothing of 0.1",
        "a decay of 0.9999",
    ):
        assert text in card, text
    assert str(Path.home()) not in card
    assert str(published.parent) not in card


def test_the_command_of_the_card_gives_the_same_files(published: Path, tmp_path: Path) -> None:
    card = (published / "resnet20.digits.md").read_text()
    (command,) = re.findall(r"^tbc (train .*)$", card, re.MULTILINE)
    tbc(*shlex.split(command), "--out", tmp_path / "run")
    tbc("publish", tmp_path / "run" / "weights.safetensors", "--tag", "digits", "--out", tmp_path)
    for name in ("resnet20.digits.safetensors", "resnet20.digits.md"):
        assert (tmp_path / name).read_bytes() == (published / name).read_bytes()


def test_a_card_names_data_and_licence_as_the_hub_does(run: Path, tmp_path: Path) -> None:
    tbc("publish", run, "--tag", "v2", "--licence", "Apache-2.0", "--out", tmp_path)
    assert front_matter(tmp_path / "resnet20.v2.md") == FRONT.format(licence="apache-2.0")
    mnist = open_data("mnist")
    settings = prepare("resnet20", mnist, "small", epochs=1)
    weights = tmp_path / "weights.safetensors"
    metadata = describe_training(settings, Machine())
    exporting.save(weights, settings.network(), name="resnet20", metadata=metadata)
    tbc("publish", weights, "--tag", "mnist", "--out", tmp_path)
    with_data = FRONT.format(licence="mit") + "datasets:\n- ylecun/mnist\n"
    assert front_matter(tmp_path / "resnet20.mnist.md") == with_data


def test_cards_say_who_states_a_licence_of_the_images() -> None:
    """CIFAR's authors state none; the shipped cards say the same as those that are written now."""
    assert SOURCES["fashion-mnist"].licence == "MIT, © 2017 Zalando SE"
    for name in ("cifar10", "cifar100"):
        assert SOURCES[name].licence.startswith("not stated by its authors, who ask users to cite")
    for network in shipped_networks():
        source = SOURCES[network.facts.data]
        card = network.file.with_suffix(".md").read_text()
        assert f"({source.url}). Licence of the images: {source.licence}.\n" in card
    readme = (Path(__file__).parent / "images" / "README.md").read_text()
    assert "| not stated by its authors, who ask users to cite the report of 2009 |" in readme
    assert f"| {SOURCES['fashion-mnist'].licence} |" in readme


def test_what_cannot_be_published_is_refused(run: Path, tmp_path: Path) -> None:
    out = ["--tag", "digits", "--out", tmp_path / "out"]
    assert "gone does not exist" in refused("publish", tmp_path / "gone", *out)
    assert "name the folder of a completed run instead" in refused(
        "publish", run / "last.ckpt", *out
    )
    (tmp_path / "killed").mkdir()
    shutil.copy(run / "last.ckpt", tmp_path / "killed")
    assert "has no weights.safetensors, which is written when a run is complete" in refused(
        "publish", tmp_path / "killed", *out
    )
    assert "`tag` (='../digits') must consist of letters" in refused(
        "publish", run, "--tag", "../digits", "--out", tmp_path
    )
    assert "trained on digits, not on mnist; name the data of the run with --data" in refused(
        "publish", run, *out, "--data", "mnist"
    )
    small = [*TRAIN, "--data", "digits", "--size", 16, "--epochs", 1, "--out", tmp_path / "small"]
    tbc(*small)
    message = refused("publish", tmp_path / "small", *out)
    assert "trained with channels=[16, 16, 16, 16], base_width=32: weights are" in message
    other = tmp_path / "weights.safetensors"
    settings, _ = open_trained(run / "weights.safetensors")
    metadata = describe_training(settings, Machine())
    del metadata["machine"]
    exporting.save(other, settings.network(), name="resnet20", metadata=metadata)
    assert "repeat the command of its run with --resume" in refused("publish", other, *out)
    assert not (tmp_path / "out").exists()


def test_networks_that_ship_are_listed(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", published)
    shown = tbc("models", "--pretrained").split()
    (network,) = shipped_networks()
    for text in ("resnet20.digits", "digits", "269,434", f"{network.facts.correct / 359:.2%}"):
        assert text in shown
    monkeypatch.setattr(files, "WEIGHTS_OF_NETWORKS", published / "nothing")
    assert tbc("models", "--pretrained") == "No trained networks ship with this version.\n"
