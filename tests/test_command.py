"""`tbc` answers before PyTorch is imported, and timm learns our names in any order of imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HEAVY = ("torch", "timm", "torchvision", "numpy", "scipy", "matplotlib", "lightning")


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(  # noqa: S603 (our own code)
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_help_and_wrong_arguments_import_nothing_large(tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.ckpt"
    torch.save({}, checkpoint)
    (tmp_path / "weights.safetensors").touch()
    train = ["train", "--model", "tied_resnet14_s", "--data"]
    lines = [
        (["--help"], "Commands", 0),
        (["--version"], "0.1", 0),
        (["bench", "--help"], "layers", 0),
        *(([name, "--help"], "Examples", 0) for name in ("check", "table", "summary", "tie")),
        *(([name, "--help"], "Examples", 0) for name in ("export", "train", "evaluate", "predict")),
        *(([name, "--help"], "Examples", 0) for name in ("publish", "compare")),
        (["chek"], "No such command", 2),
        (["check", "--cases", "0"], "--cases", 2),
        (["check", "--operator", "CONV"], "--operator", 2),
        (["check", "--minutes", "1", "--case", "1"], "only one of", 2),
        (["check", "--json", "/no/such/folder/file"], "cannot be written", 2),
        (["table", "7"], "7 is not 1 to 6", 2),
        (["tie", "resnet18", "--blocks", "1"], "--blocks", 2),
        (["summary", "resnet18", "--set", "depth"], "OPTION=VALUE", 2),
        (["train", "--model", "tied_resnet14_s"], "--data", 2),
        ([*train, "mnits"], "did you mean mnist", 1),
        ([*train, "imagefolder:/no/such/folder"], "/no/such/folder does not exist", 1),
        ([*train, "mnist", "--set", "splits"], "OPTION=VALUE", 2),
        ([*train, "mnist", "--batch-size", "127", "--devices", "2"], "multiple of the 2 proc", 2),
        ([*train, "mnist", "--nodes", "3"], "3 machines need SLURM or torchrun", 2),
        ([*train, "mnist", "--lr", "inf"], "inf is not a positive number", 2),
        (["evaluate", "gone.ckpt"], "gone.ckpt does not exist", 1),
        (["evaluate", __file__], "is not a checkpoint of `tbc train`", 1),
        (["evaluate", __file__, "--plot", "x.xyz"], "x.xyz must end in .png, .svg or .pdf", 2),
        (["predict", "gone.ckpt", "gone.jpg"], "gone.ckpt does not exist", 1),
        (["predict", str(checkpoint), "gone.jpg"], "gone.jpg does not exist", 1),
        (["predict", str(checkpoint)], "name at least one image after CHECKPOINT", 2),
        (["evaluate"], "give either CHECKPOINT or --model NAME", 2),
        (["evaluate", "--model", "resnet20.mnits"], "resnet20.mnits does not exist; of trained", 1),
        (["publish", "gone", "--tag", "cifar10", "--out", "x"], "gone does not exist", 1),
        (["models", "--pretrained", "--size", "32"], "takes no PATTERN and no --size", 2),
        (["export", "resnet18", "x.onnx", "--weights", str(checkpoint)], "use weights.safe", 2),
        (["export", "resnet18", "x.onnx", "--weights", __file__], "not a safetensors file", 2),
        (["compare", "--seeds", "0"], "--seeds", 2),
        (["compare", "--plot", "x.xyz"], "x.xyz must end in .png, .svg or .pdf", 2),
        (["compare", "--data", "mnits"], "did you mean mnist", 1),
        (["bench", "blocks", "--kernel-size", "2"], "2 is not odd", 2),
        (["bench", "layers", "--device", "tpu"], "--device", 2),
        (["bench", "tune", "--out", "/no/such/folder/file"], "cannot be written", 2),
    ]
    code = f"""
import json, sys
from typer.testing import CliRunner
from tbc_models.cli import app
answers = []
for line, _, _ in json.loads({json.dumps(json.dumps(lines))}):
    result = CliRunner().invoke(app, line)
    loaded = [name for name in {HEAVY} if name in sys.modules]
    answers.append([line, result.output, result.exit_code, loaded])
print(json.dumps(answers))
"""
    for (line, text, exit_code), (_, output, code_found, loaded) in zip(
        lines, json.loads(fresh(code)), strict=True
    ):
        assert (code_found, loaded) == (exit_code, []), (line, output)
        assert text in " ".join(output.replace("│", " ").split()), (line, output)


@pytest.mark.parametrize(
    "imports",
    [
        "import timm, tbc_models",
        "import tbc_models; from timm.models import create_model; import timm",
        "from tbc_models import TiedSE; import timm",
        "import tbc_models, importlib.util; importlib.util.find_spec('timm'); import timm",
    ],
)
def test_networks_are_registered_whatever_is_imported_first(imports: str) -> None:
    code = f"""{imports}
print(timm.is_model("tied_resnet50"), timm.is_model("gc_resnet50"))
print(timm.__spec__.loader is timm.__loader__, type(timm.__loader__).__name__)
"""
    assert fresh(code).splitlines() == ["True True", "True SourceFileLoader"]


def test_importing_the_package_alone_is_quick() -> None:
    loaded = f"print([name for name in {HEAVY} if name in sys.modules])"
    assert fresh(f"import sys, tbc_models, tbc_models.cli; {loaded}") == "[]"
    assert fresh("import tbc_models; print(hasattr(tbc_models, 'nothing'))") == "False"
