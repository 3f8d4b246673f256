"""`tbc similarity`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tbc_models.analysis.similarity_tables import similarity_conclusions
from tbc_models.cli import app
from tbc_models.cli.opened import open_network
from tests.runs import go, refused, settings, tbc, write_weights

PLAIN, TIED = "resnet20.cifar10", "tbc_resnet20.cifar10"
QUICK = ("--count", "2", "--channels", "3", "--layers", "conv1,layer2.0.conv1")


def misused(*arguments: str) -> str:
    """What is said of options that no command can have."""
    result = CliRunner().invoke(app, ["similarity", *arguments], env={"COLUMNS": "1000"})
    assert result.exit_code == 2, result.output
    return result.output


def test_it_prints_plots_and_writes_what_it_measured(tmp_path: Path) -> None:
    json_file, plot = tmp_path / "s.json", tmp_path / "s.png"
    told = tbc(
        *("similarity", PLAIN, TIED, *QUICK, "--control", "2"),
        *("--json", str(json_file), "--plot", str(plot)),
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    report = json.loads(json_file.read_text())
    assert report["command"].startswith("tbc")
    assert (report["data"], report["images"], report["method"]) == ("embedded", 2, "text")
    assert [one["network"] for one in report["networks"]] == [PLAIN, TIED]
    kinds = [(row["network"], row["weights"], row["seed"]) for row in report["rows"][::2]]
    assert kinds == [
        (name, weights, seed)
        for name in (PLAIN, TIED)
        for weights, seed in (("trained", None), ("untrained", 0), ("untrained", 1))
    ]
    assert all(sum(row["histogram"]) == 3 for row in report["rows"])  # pairs of three filters
    sentences = similarity_conclusions(report)
    assert len(sentences) == 6
    for sentence in sentences:
        assert sentence in told
    assert "Untrained: two networks with random weights, no interval." in told
    assert "±" not in told


def test_the_tables_fit_eighty_columns() -> None:
    options = [*("--count", "1", "--channels", "8"), *QUICK[-2:]]
    result = CliRunner().invoke(app, ["similarity", TIED, *options], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    for layer in ("conv1", "layer2.0.conv1"):  # neither the name nor a number is broken
        (line,) = (line for line in lines if line[:1] == [layer] and line[1].isdigit())
        assert len(line) == 7  # the control has a mean and two ends
    assert sum(line[:1] == ["layer2.0.conv1"] for line in lines) == 3  # and two by block


def test_the_control_can_be_left_out_by_name_only() -> None:
    told = tbc("similarity", PLAIN, *QUICK, "--control", "none", "--method", "code")
    assert "untrained:" not in told.lower()
    assert "|correlation| of patterns" in told
    for wrong in ("0", "-1", "no"):
        assert "must be a number of seeds, from 1, or none" in misused(PLAIN, f"--control={wrong}")


def test_runs_that_differ_in_their_seed_are_averaged(tmp_path: Path) -> None:
    files = [tmp_path / f"run-{seed}.safetensors" for seed in (1, 2)]
    for seed, file in enumerate(files, 1):
        write_weights(file, settings(epochs=1, seed=seed))
    out = tmp_path / "s.json"
    told = tbc(
        *("similarity", *files, "--images", "digits", "--count", "4", "--layers", "layer1.0.conv1"),
        *("--control", "1", "--json", str(out)),
    )
    report = json.loads(out.read_text())
    assert {row["network"] for row in report["rows"]} == {"run-1"}
    seeds = {(row["weights"], row["seed"]) for row in report["rows"]}
    assert seeds == {("trained", 1), ("trained", 2), ("untrained", 0)}
    assert "Untrained: one network with random weights, no interval." in told
    assert "In brackets: the lowest and the highest network." in told


def test_networks_with_the_same_name_get_their_weights_as_a_name(tmp_path: Path) -> None:
    files = [tmp_path / name / "weights.safetensors" for name in ("a/net", "b/net")]
    for epochs, file in enumerate(files, 1):
        file.parent.mkdir(parents=True)
        write_weights(file, settings(epochs=epochs, seed=epochs))
    told = tbc(
        *("similarity", *files, "--images", "digits", "--count", "2", "--control", "none"),
        *("--layers", "layer1.0.conv1,layer1.0.conv1", "--json", str(tmp_path / "s.json")),
    )
    assert f"net ({open_network(str(files[1])).weights[:6]})," in told
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert len(rows) == 2  # one for each network, although the layer is named twice


def test_a_network_that_is_there_twice_is_no_second_seed(tmp_path: Path) -> None:
    told = refused("similarity", PLAIN, TIED, PLAIN, *QUICK)
    assert told.endswith(f"{PLAIN} and {PLAIN} have the same weights: name one of them")
    go(settings(epochs=1, seed=1), tmp_path / "run")
    start = tmp_path / "start.safetensors"  # other weights of the same settings and seed
    write_weights(start, settings(epochs=1, seed=1))
    told = refused("similarity", tmp_path / "run/last.ckpt", start, "--images", "digits")
    assert "are from runs with the same settings and seed: name one of them" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnt20"], "resnt20 is neither a file nor a network; did you mean"),
        ([PLAIN, "--layers", "layer2.conv1"], "is not a layer of the network; did you mean layer"),
        ([PLAIN, "--layers", "conv1", "--channels", "64"], "`channels` (=64) must be at most 16"),
        ([PLAIN, "--filters", "stored", "--layers", "layer1"], "it has responses, but no stored"),
        ([PLAIN, "--images", "nothing"], "'nothing' is not a data set"),
        ([PLAIN, "--images", "mnist"], "takes images of 3 channels, not of 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    assert said in refused("similarity", *arguments, "--count", "1")


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    told = refused("similarity", PLAIN, "--images", tmp_path)
    assert "bad.jpg is truncated or not an image" in told
    assert told.endswith("repair it, or remove it from the folder")


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    assert "must end in .png, .svg or .pdf" in misused("resnt20", "--plot", "plot.txt")
    assert "cannot be written" in misused("resnt20", "--json", str(tmp_path))
