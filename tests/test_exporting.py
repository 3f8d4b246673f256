"""`tbc tie` and `tbc export`: a network that exists, tied, stored, and run by another runtime."""

import builtins
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import tbc_gpu
from tbc_models import count, exporting
from tbc_models.cli import app
from tbc_models.networks import registry

runner = CliRunner()


def run(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    if code:
        assert isinstance(result.exception, SystemExit)
        return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
    assert result.stderr == ""
    return result.stdout


def test_tie_shows_before_and_after(tmp_path: Path) -> None:
    report = tmp_path / "tied.json"
    text = run("tie", "resnet18", "--blocks", 2, "--size", 64, "--json", report)
    assert "resnet18 with random weights, B = 2: 20 layers tied, 1 left." in text
    tied = tbc_gpu.tie(registry.build("resnet18"), blocks=2)
    before, after = (count.measure(n, 64) for n in (registry.build("resnet18"), tied.model))
    for b, a, unit in (
        (before.parameters, after.parameters, 1e6),
        (before.macs, after.macs, 1e9),
    ):
        assert re.search(rf"{b / unit:.3f} +{a / unit:.3f} +{100 * a / b:.1f} ", text)
    # Of random weights a share of 1 − 1/B² is lost, to about a percent.
    assert re.search(r"layer4\.1\.conv2 +SC→TBC +2,359,296 +589,824 +0\.86[567]", text)
    assert re.search(r"fc +FC→TFC +513,000 +128,500", text)
    assert re.search(r"3 input channels are not divisible by groups·blocks \(1·2\) +1 ", text)
    assert max(map(len, text.splitlines())) <= 80
    stored = json.loads(report.read_text())
    assert (stored["before"]["macs"], stored["after"]["macs"]) == (before.macs, after.macs)
    assert [layer["name"] for layer in stored["tied"]] == [layer.name for layer in tied.tied]
    assert stored["left"] == [layer._asdict() for layer in tied.left]
    assert stored["options"]["blocks"] == 2


def test_tie_lists_the_largest_layers_or_all() -> None:
    text = run("tie", "test_resnet", "--blocks", 2, "--where", "layer*")
    assert "--all" not in text
    text = run("tie", "mobilenetv3_small_050", "--blocks", 2, "--weights", "random")
    assert len(re.findall("→T", text)) == 30
    number = int(re.findall(r"(\d+) layers tied", text)[0])
    assert f"The 30 largest of {number}; --all lists every one." in text
    assert re.search(r"depthwise: .* +11 ", text)
    text = run("tie", "mobilenetv3_small_050", "--blocks", 2, "--all")
    assert len(re.findall("→T", text)) == number > 30
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "blocks", "where"), [("test_resnet", 2, "*"), ("test_vit", 4, "*mlp*")]
)
def test_a_tied_network_goes_through_files_to_onnxruntime(
    name: str, blocks: int, where: str, tmp_path: Path
) -> None:
    weights, file = tmp_path / "tied.safetensors", tmp_path / "tied.onnx"
    run("tie", name, "--blocks", blocks, "--where", where, "--out", weights)
    with safe_open(weights, framework="pt") as opened:
        how = opened.metadata()
    said = {"network": name, "blocks": str(blocks), "where": where, "weights": "nearest"}
    assert how.items() >= said.items()
    text = run("export", name, file, "--weights", weights)
    assert "differs from PyTorch" in text
    assert "pass" in text
    assert sorted(f.name for f in tmp_path.iterdir()) == ["tied.onnx", "tied.safetensors"]
    network = exporting.load(name, weights)
    tied = [m for m in network.modules() if getattr(m, "blocks", 0) == blocks]
    assert tied
    x = torch.randn(5, 3, 160, 160)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        y = network(x).numpy()
    np.testing.assert_allclose(result, y, rtol=0, atol=1e-4 * abs(y).max())


def test_our_networks_are_exported_as_group_convolutions(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    text = run("export", "tied_resnet14_s", file)
    assert "with random weights, for images of 32² pixels and any batch size" in text
    import onnx

    nodes = onnx.load(file).graph.node
    groups = {a.i for node in nodes for a in node.attribute if a.name == "group"}
    assert {1, 2, 4, 8} <= groups
    # Its own weights, of a file that says nothing of tying.
    weights = tmp_path / "own.safetensors"
    network = timm.create_model("tied_resnet14_s")
    save_file(network.state_dict(), weights)
    loaded = exporting.load("tied_resnet14_s", weights)
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_outputs_that_differ_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(b"an earlier network that works")
    monkeypatch.setattr(exporting, "TOLERANCE", 0)
    text = run("export", "test_resnet", file, code=1)
    assert "FAIL" in text
    assert "network.onnx was not written" in text
    assert [f.read_bytes() for f in tmp_path.iterdir()] == [b"an earlier network that works"]
    with pytest.raises(exporting.MismatchError, match=r"by .* of the largest output, more than 0"):
        exporting.to_onnx(registry.create("test_resnet"), file, 160)


@pytest.mark.parametrize("finished", [True, False])
def test_a_checkpoint_is_refused_and_the_weights_are_named(tmp_path: Path, finished: bool) -> None:
    checkpoint, file = tmp_path / "last.ckpt", tmp_path / "network.onnx"
    weights = tmp_path / "weights.safetensors"
    torch.save({"state_dict": {}}, checkpoint)
    if finished:
        exporting.save(weights, registry.create("test_resnet"), name="test_resnet")
    text = run("export", "test_resnet", file, "--weights", checkpoint, code=2)
    text = text.replace(" ", "")  # the box breaks long paths anywhere
    assert "last.ckptisaPyTorchcheckpoint,notasafetensorsfile" in text
    advice = "weights.safetensors beside it" if finished else "when its run has finished"
    assert advice.replace(" ", "") in text
    assert not file.exists()
    if finished:
        assert "pass" in run("export", "test_resnet", file, "--weights", weights)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return really(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    text = run("export", "test_resnet", tmp_path / "network.onnx", code=2)
    assert "onnxscript is not installed: run pip install '.[export]' in a clone" in text


def test_trained_weights_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(timm, "create_model", offline)
    text = run("tie", "resnet18", "--blocks", 2, "--pretrained", code=2)
    said = "the trained weights of resnet18 cannot be loaded (ConnectionError): no route to host"
    assert said in text
    assert "more" not in text


def test_a_network_that_reads_weights_itself_is_reported() -> None:
    name = "swinv2_tiny_window8_256"
    assert "the tied network does not run" in run("tie", name, "--blocks", 2, code=2)
    assert "24 layers tied" in run("tie", name, "--blocks", 2, "--where", "*mlp.fc*")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["tie", "resnt18", "--blocks", 2], "did you mean resnet18"),
        (["tie", "resnet18"], "Missing option '--blocks'"),
        (["tie", "resnet18", "--blocks", 1], "Invalid value for '--blocks'"),
        (["tie", "resnet18", "--blocks", 2, "--where", "layer5*"], "the nearest names are"),
        (["tie", "resnet18", "--blocks", 7], "no layer can be tied; "),
        (["tie", "resnet18", "--blocks", 2, "--out", "/no/such/folder/file"], "cannot be written"),
        (["tie", "tied_resnet14_s", "--blocks", 2, "--pretrained"], "cannot be loaded"),
        (["tie", "vit_tiny_patch16_224", "--blocks", 2, "--size", 20], "network does not run"),
        (["export", "resnt18", "x.onnx"], "did you mean resnet18"),
        (["export", "resnet18", "/no/such/folder/file"], "cannot be written"),
        (["export", "resnet18", "x.onnx", "--weights", "/no/such/file"], "does not exist"),
        (["export", "resnet18", "x.onnx", "--weights", __file__], "is not a safetensors file"),
        (
            ["export", "tied_resnet14_s", "x.onnx", "--size", 8],
            "--size: tied_resnet14_s does not run",
        ),
    ],
)
def test_bad_arguments_end_with_one_clear_line(
    arguments: list[Any], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in run(*arguments, code=2)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    network = timm.create_model("test_resnet")
    exporting.save(weights, network, name="test_resnet", blocks=2)
    with pytest.raises(ValueError, match="has the weights of test_resnet, not of resnet18"):
        exporting.load("resnet18", weights)
    with pytest.raises(ValueError, match=r"does not fit test_resnet: .*"):
        exporting.load("test_resnet", weights)  # it is not tied, though it says so
    save_file({"a": torch.ones(1)}, weights)
    with pytest.raises(ValueError, match=r"does not fit test_resnet: .*"):
        exporting.load("test_resnet", weights)
    missing = tmp_path / "folder" / "file"
    with pytest.raises(OSError, match="folder"):
        exporting.save(missing, network, name="test_resnet", blocks=2)


def test_help_has_examples() -> None:
    for command in ("tie", "export"):
        assert "Examples" in run(command, "--help")
