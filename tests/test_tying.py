"""Runs that start from trained weights, plain or tied, or learn from a teacher; `tbc tie-study`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from typer.testing import CliRunner

from tbc_gpu import TiedBlockConv2d, tie, untie
from tbc_models import exporting
from tbc_models.cli import app
from tbc_models.comparing.tying_plots import tying_curves, tying_table
from tbc_models.data import open_data
from tbc_models.results import COMMITTED, committed
from tbc_models.training import run
from tbc_models.training.callbacks import read_checkpoint
from tbc_models.training.classifier import Teaching
from tbc_models.training.loading import LabelledImages
from tbc_models.training.run import evaluate
from tbc_models.training.settings import Settings, prepare
from tbc_models.training.starting import load_trained, recalibrate, start
from tbc_models.training.trained import Trained, open_trained

from .runs import refused, same, tbc

# ResNet-20 with one residual unit in each stage, eight channels in each.
SMALL = {"layers": (1, 1, 1), "channels": (8, 8, 8)}
SET = [f"--set={name}={value}" for name, value in SMALL.items()]
TRAIN = ["train", "--data", "digits", "--size", "16", "--epochs", "1", *SET]


def settings(model: str = "resnet20", **options: Any) -> Settings:
    chosen: dict[str, Any] = {"size": 16, "epochs": 1, "options": SMALL} | options
    return prepare(model, open_data("digits"), "small", **chosen)


def go(chosen: Settings, out: Path, **options: Any) -> run.Score:
    return run.train(chosen, open_data("digits"), out, say=lambda _: None, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the plain network."""
    out = tmp_path_factory.mktemp("trained") / "plain"
    go(settings(epochs=4), out)
    return out


def assert_state(network: nn.Module, expected: nn.Module) -> None:
    state = network.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(state[name], value), name


# What a run starts from


@pytest.mark.parametrize("file", ["last.ckpt", "weights.safetensors"])
def test_a_run_starts_from_the_weights_of_another(trained: Path, file: str) -> None:
    where = str(trained / file)
    assert_state(start(settings(weights=where)), open_trained(where).network())


def test_a_tied_run_starts_from_what_tie_makes_of_the_plain_network(trained: Path) -> None:
    where = str(trained / "last.ckpt")
    expected = tie(load_trained(where), blocks=2, where="layer*").model
    assert_state(start(settings("tbc_resnet20", tie_from=where)), expected)
    assert_state(start(settings(tie_from=where, blocks=2, where="layer*")), expected)


def test_the_classifier_starts_at_random_where_the_classes_differ(trained: Path) -> None:
    digits = open_data("digits")
    where = str(trained / "weights.safetensors")
    # Fewer classes, and as many of other names.
    for classes in (digits.classes[:5], tuple(f"the digit {c}" for c in digits.classes)):
        other = replace(digits, classes=classes)
        chosen = prepare("resnet20", other, "small", options=SMALL, size=16, weights=where)
        network, source, fresh = start(chosen), load_trained(where), chosen.network()
        assert_state(network.fc, fresh.fc)  # type: ignore[arg-type]
        assert_state(network.layer3, source.layer3)  # type: ignore[arg-type]


def test_filters_for_colours_are_summed_for_grey_images() -> None:
    """The trained network must see in a grey image what it sees in the same one in RGB."""
    grey = prepare("resnet20", open_data("digits"), "small", size=16, weights="resnet20.cifar10")
    network: Any = start(grey).eval()
    trained: Any = load_trained("resnet20.cifar10")
    images = torch.randn(2, 1, 16, 16)
    expected = trained.forward_features(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(network.forward_features(images), expected, rtol=1e-4, atol=1e-4)


def test_what_tbc_tie_wrote_is_a_start_too(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "tied.safetensors"
    plain = load_trained(str(trained / "last.ckpt"))
    tied = tie(plain, blocks=2, where="layer*").model
    options = {**SMALL, "in_chans": 1}
    exporting.save(file, tied, name="resnet20", options=options, blocks=2, where="layer*")
    assert_state(start(settings("tbc_resnet20", weights=str(file))), tied)


def test_a_resumed_run_does_not_need_what_it_started_from(trained: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes((trained / "weights.safetensors").read_bytes())
    command = [*TRAIN, "--model=resnet20", f"--weights={copied}", "--out", tmp_path / "run"]
    tbc(*command)
    copied.unlink()
    assert "after step 11" in tbc(*command, "--resume")


@pytest.mark.parametrize("option", ["weights", "tie-from", "teacher"])
def test_a_run_is_not_resumed_with_other_weights_in_the_same_file(
    option: str, trained: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "copied.safetensors", tmp_path / "run"
    file.write_bytes((trained / "weights.safetensors").read_bytes())
    model = "tbc_resnet20" if option == "tie-from" else "resnet20"
    command = [*TRAIN, f"--model={model}", f"--{option}", file, "--out", out]
    tbc(*command)
    before = (out / "last.ckpt").read_bytes()
    changed = load_trained(str(file))
    with torch.no_grad():
        changed.fc.bias[0] += 1  # type: ignore[index, operator, union-attr]
    options = {**SMALL, "in_chans": 1}
    exporting.save(file, changed, name="resnet20", options=options)
    line = refused(*command, "--resume")
    assert f"{file} does not hold the weights that the run in {out} started with; use the" in line
    assert (out / "last.ckpt").read_bytes() == before
    # A checkpoint from before this was checked.
    content = torch.load(out / "last.ckpt", weights_only=True)
    for name in ("start_fingerprint", "teacher_fingerprint"):
        del content["hyper_parameters"][name]
    torch.save(content, out / "last.ckpt")
    assert "after step 11" in tbc(*command, "--resume")


def test_what_does_not_fit_is_refused_before_a_folder_is_made(
    trained: Path, tmp_path: Path
) -> None:
    out, plain = tmp_path / "run", trained / "weights.safetensors"

    def error(model: str, *options: object) -> str:
        line = refused(*TRAIN, "--model", model, "--out", out, *options)
        assert not out.exists()
        return line

    line = error("tbc_resnet20", "--weights", plain)
    assert "do not fit tbc_resnet20: size mismatch for layer1.0.conv1.weight" in line
    assert line.endswith("a tied network starts from the weights of a plain one with --tie-from")
    line = error("resnet20", "--tie-from", plain)
    assert "resnet20 has no tied layer that is plain in" in line
    assert line.endswith("use --weights if both are tied, or both plain")
    assert "give one" in error("tbc_resnet20", "--tie-from", plain, "--weights", plain)
    other = tmp_path / "other.safetensors"
    exporting.save(other, timm.create_model("test_vit"), name="test_vit")
    assert "do not fit resnet20" in error("resnet20", "--weights", other)
    assert "is a folder: name a file in it" in error("resnet20", "--weights", tmp_path)
    assert "neither a file nor a network; did you mean" in error(
        "resnet20", "--weights", "resnet02"
    )
    (tmp_path / "text").write_text("no weights")
    assert "not a safetensors file" in error("resnet20", "--weights", tmp_path / "text")
    assert "must be positive" in error("resnet20", "--teacher", plain, "--temperature", 0)


def test_a_teacher_of_other_classes_or_images_is_refused(tmp_path: Path) -> None:
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("classes", {"in_chans": 1, "num_classes": 7}, "knows 7 classes, but digits has 10"),
        ("images", {"in_chans": 3, "num_classes": 10}, "does not take the images of digits"),
    )
    for name, options, text in cases:
        file = tmp_path / f"{name}.safetensors"
        exporting.save(file, timm.create_model("resnet20", **options), name="resnet20",
                       options=options)  # fmt: skip
        line = refused(*TRAIN, "--model=resnet20", "--teacher", file, "--out", tmp_path / "run")
        assert text in line
        assert "--teacher" in line
    line = refused(
        *TRAIN, "--model=resnet20", "--teacher=resnet20.cifar10", "--out", tmp_path / "r"
    )
    assert "does not take the images" in line
    assert not (tmp_path / "run").exists()


# The teacher


@pytest.mark.parametrize(
    "command", ["train --model=resnet20 --data=digits", "tie resnet20 --blocks=2"]
)
@pytest.mark.parametrize("option", ["--temperature=2", "--teacher-weight=0.5"])
def test_options_about_a_teacher_need_one(command: str, option: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), option])
    assert result.exit_code == 2
    told = " ".join(result.output.replace("│", " ").split())
    assert f"{option.split('=')[0]}: needs --teacher with a trained network." in told


def test_the_help_and_the_page_show_the_defaults_of_the_settings() -> None:
    defaults = settings(teacher="resnet20.cifar10")
    for command in ("train", "tie"):
        told = " ".join(tbc(command, "--help").replace("│", " ").split())
        assert f"alike. [default: {defaults.temperature:g}]" in told
        assert f"labels. [default: {defaults.teacher_weight:g}]" in told
    page = (Path(__file__).parent.parent / "docs" / "convert.md").read_text()
    assert f"sets $w$, {defaults.teacher_weight:g} by default" in page
    assert f"sets $T$, {defaults.temperature:g} by default" in page


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.3), (4.0, 0.9)])
def test_the_loss_with_a_teacher_is_that_of_hinton(temperature: float, weight: float) -> None:
    """Against its definition, term by term, in float64."""
    torch.manual_seed(0)
    images, logits = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    teacher = nn.Linear(8, 3).double()
    loss = torch.tensor(1.25, dtype=torch.float64)
    expected = (1 - weight) * loss
    for taught, own in zip(teacher(images), logits, strict=True):
        p = [torch.exp(z / temperature) for z in taught]
        q = [torch.exp(z / temperature) for z in own]
        for p_k, q_k in zip(p, q, strict=True):
            share = p_k / sum(p)
            divergence = share * torch.log(share / (q_k / sum(q)))
            expected += weight * temperature**2 * divergence / len(images)
    found = Teaching(teacher, temperature, weight).loss(loss, images, logits)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=0)  # float32 inside


def test_a_teacher_changes_the_run_and_not_itself(trained: Path, tmp_path: Path) -> None:
    where = str(trained / "last.ckpt")
    before = (trained / "last.ckpt").read_bytes()
    go(settings(), tmp_path / "alone")
    go(settings(teacher=where, teacher_weight=0.0), tmp_path / "ignored")
    go(settings(teacher=where), tmp_path / "taught")
    states = {
        name: open_trained(tmp_path / name / "last.ckpt").state
        for name in ("alone", "ignored", "taught")
    }
    for key, value in states["alone"].items():
        assert torch.equal(value, states["ignored"][key]), key
    assert not torch.equal(states["alone"]["fc.weight"], states["taught"]["fc.weight"])
    assert (trained / "last.ckpt").read_bytes() == before
    _, content = read_checkpoint(tmp_path / "taught" / "last.ckpt")
    names = [name.removeprefix("network.") for name in content["state_dict"]]
    assert set(states["alone"]) == set(names) & set(states["alone"])
    assert not [name for name in names if "teach" in name]


def test_a_tied_and_taught_run_resumes_to_the_same_bits(trained: Path, tmp_path: Path) -> None:
    where = str(trained / "last.ckpt")
    chosen = settings(tie_from=where, teacher=where, blocks=2, where="layer*", epochs=2)
    go(chosen, tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("epoch 1"):
            raise InterruptedError

    digits = open_data("digits")
    with pytest.raises(InterruptedError):
        run.train(chosen, digits, tmp_path / "stopped", save_every=3, say=stop)
    run.train(chosen, digits, tmp_path / "stopped", resume=True, say=lambda _: None)
    same(tmp_path / "whole", tmp_path / "stopped")
    # The file says how to build the tied network again.
    network = exporting.load("resnet20", tmp_path / "whole" / "weights.safetensors")
    assert sum(isinstance(layer, TiedBlockConv2d) for layer in network.modules()) == 6


# Batch normalisation


def test_recalibration_measures_what_the_layers_see(trained: Path) -> None:
    """The stem's normalisation sees the stem's outputs: their mean over all augmented images."""
    chosen, digits = settings(), open_data("digits")
    network: Any = load_trained(str(trained / "last.ckpt"))
    weights = {name: p.clone() for name, p in network.named_parameters()}
    recalibrate(network, digits, chosen, batches=3)
    loader = LabelledImages(digits, chosen.whole_recipe(), seed=0, size=16).train_dataloader()
    batches = [images for (images, _), _ in zip(loader, range(3), strict=False)]
    with torch.no_grad():
        outputs = [network.conv1(images) for images in batches]
    mean = torch.stack([y.mean((0, 2, 3)) for y in outputs]).mean(0)
    torch.testing.assert_close(network.bn1.running_mean, mean, rtol=1e-5, atol=1e-6)
    assert not network.training
    assert all(torch.equal(p, weights[name]) for name, p in network.named_parameters())


def test_recalibration_mirrors_only_as_the_training_does(trained: Path) -> None:
    data = replace(open_data("digits"), mirror=True)
    found = []
    for mirror in (True, False):
        network: Any = load_trained(str(trained / "last.ckpt"))
        chosen = prepare("resnet20", data, "small", options=SMALL, size=16, mirror=mirror)
        recalibrate(network, data, chosen, batches=1)
        found.append(network.layer1[0].bn2.running_mean)
    expected: Any = load_trained(str(trained / "last.ckpt"))
    recalibrate(expected, open_data("digits"), settings(), batches=1)
    assert torch.equal(found[1], expected.layer1[0].bn2.running_mean)
    assert not torch.equal(found[0], found[1])


# tbc tie --finetune, and the study


def test_tie_finetune_gives_the_row_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tbc("train", "--model=resnet20", "--data=digits", "--epochs=1", "--out=plain", *SET)
    file = "plain/weights.safetensors"
    shown = tbc(
        *("tie", file, "--blocks=2", "--where=layer3*", "--finetune=digits", "--epochs=1"),
        *("--teacher", file, "--out=tied.safetensors", "--json=one.json", "--run=run"),
    )
    one = json.loads(Path("one.json").read_text())
    study = ["tie-study", file, "--data=digits", "--where=layer3*", "--blocks=2", "--epochs=1"]
    tbc(*study, "--json=study.json")
    found = json.loads(Path("study.json").read_text())
    rows = {row["start"]: row for row in found["rows"]}
    assert list(rows) == ["nearest", "taught", "random"]
    assert {name: rows["taught"][name] for name in one["scores"]} == one["scores"]
    for score in one["scores"].values():
        assert f"{100 * score:.2f}" in shown
    assert rows["nearest"]["at_once"] == rows["taught"]["at_once"]
    assert rows["taught"]["parameters"] == one["after"]["parameters"]
    # What was saved is what was trained.
    digits: Any = open_data("digits")
    chosen = open_trained("run/last.ckpt").settings
    network = exporting.load("resnet20", Path("tied.safetensors"))
    score = evaluate(Trained(chosen, network.state_dict()), digits).score
    assert round(score.top1, 6) == one["scores"]["tuned"]
    assert untie(network)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    # The accuracy before and at once, without any code of the command.
    plain = load_trained(file)
    for stage, one_network in (
        ("untied", plain),
        ("at_once", tie(plain, blocks=2, where="layer3*").model),
    ):
        images = torch.stack([image for image, _ in digits.test])
        mean, std = (torch.tensor(x)[:, None, None] for x in (digits.mean, digits.std))
        with torch.no_grad():
            predicted = one_network((images / 255 - mean) / std).argmax(1)
        labels = torch.tensor([label for _, label in digits.test])
        assert one["scores"][stage] == pytest.approx(
            float((predicted == labels).double().mean()), abs=1e-6
        )
    # A study goes on where it was.
    less = found | {"rows": found["rows"][:2]}
    Path("study.json").write_text(json.dumps(less))
    Path("runs").rename("elsewhere")
    tbc(*study, "--json=study.json")
    assert json.loads(Path("study.json").read_text())["rows"] == found["rows"]
    assert [p.name for p in Path("runs/tie-study").iterdir()] == ["B2-layer3_-random-1"]
    assert "seed = 0, not 1" in refused(*study, "--json=study.json", "--seed=1")
    tbc("train", "--model=resnet20", "--data=digits", "--epochs=1", "--seed=1", "--out=other", *SET)
    study[1] = "other/weights.safetensors"
    assert "with weights = " in refused(*study, "--json=study.json")


def test_the_size_and_the_options_of_a_trained_network_are_kept(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was trained with images of 16 pixels, and with fewer channels than the default."""
    monkeypatch.chdir(tmp_path)
    score = evaluate(trained / "last.ckpt", open_data("digits")).score
    for file in ("last.ckpt", "weights.safetensors"):
        tie_it = ["tie", trained / file, "--blocks=2", "--where=layer3*", f"--run={file}"]
        tbc(*tie_it, "--finetune=digits", "--epochs=1", "--json=tie.json")
        found = json.loads(Path("tie.json").read_text())
        assert found["options"]["size"] == 16
        assert found["scores"]["untied"] == pytest.approx(score.top1, abs=1e-6)
    assert "already holds a run; resume it with --resume, or choose another folder with --run" in (
        refused(*tie_it, "--finetune=digits", "--epochs=1")
    )
    tbc("tie", trained / "last.ckpt", "--blocks=2", "--where=layer3*", "--out=tied.safetensors")
    expected = tie(load_trained(str(trained / "last.ckpt")), blocks=2, where="layer3*").model
    assert_state(load_trained("tied.safetensors"), expected)
    assert "is tied already" in refused("tie", "tied.safetensors", "--blocks=2")


def test_finetuning_needs_trained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["tie", "resnet20", "--blocks=2", "--finetune=digits"])
    assert result.exit_code == 2
    assert "--pretrained" in result.output
    for options, text in (
        (["--pretrained", "--finetune=digits", "--weights=random"], "omit --weights"),
        (["--epochs=3"], "need --finetune"),
        (["--pretrained", "--finetune=digits", "--lr=-1"], "not a positive number"),
    ):
        result = CliRunner().invoke(app, ["tie", "resnet20", "--blocks=2", *options])
        assert result.exit_code == 2
        assert text in " ".join(result.output.split())


@pytest.mark.parametrize("name", [file.stem for file in sorted(COMMITTED.glob("tying-*.json"))])
def test_a_committed_study_counts_what_it_tied_and_is_shown_whole(name: str) -> None:
    report: Any = committed(name)
    shown = tying_table(report)
    for row in report["rows"]:
        tied = tie(timm.create_model("resnet20"), blocks=row["blocks"], where=row["where"]).model
        assert row["parameters"] == sum(p.numel() for p in tied.parameters())
        assert f"{100 * row['tuned']:.2f}" in shown
    assert len(tying_curves(report).axes) == len(
        {(r["where"], r["blocks"]) for r in report["rows"]}
    )
    shipped = report["settings"]["source"] == "resnet20.cifar10"
    assert shipped == (name == "tying-cifar10")
