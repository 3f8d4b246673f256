"""tbc bench: what it measures, learns and writes. Times themselves are no test's business."""

import io
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import timm
import torch
from rich.console import Console
from typer.testing import CliRunner

from tbc_gpu.algorithms import ALGORITHMS
from tbc_gpu.dispatch import Condition, Kind, Rule, Table, read_table, table_file
from tbc_models import results
from tbc_models.bench import blocks, calls, layers, plots, reference, timing, tune
from tbc_models.cli import app, bench_tables
from tbc_models.results import as_json, committed

TINY = ["--seconds", "0.001"]


@pytest.fixture(autouse=True)
def _stay_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in timing.ALLOCATOR.items():
        monkeypatch.setenv(name, value)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


def time(milliseconds: float) -> timing.Time:
    return timing.Time(milliseconds, milliseconds, milliseconds)


def test_candidates_take_turns_and_nobody_starts_cold() -> None:
    calls: list[str] = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = timing.interleaved(functions, seconds=1)
    assert set(times) == {"a", "b"}
    assert calls.count("a") == calls.count("b")
    turns = 1 + sum(x != y for x, y in pairwise(calls))
    assert timing.ROUNDS < turns <= 2 * timing.ROUNDS + 2  # a warm-up, then rounds in any order
    assert times["a"].low <= times["a"].median <= times["a"].high


def test_a_call_that_takes_longer_has_a_larger_time() -> None:
    functions = {"few": lambda: sum(range(10)), "many": lambda: sum(range(100_000))}
    times = timing.interleaved(functions, seconds=0.05)
    assert times["many"].median > 10 * times["few"].median


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_case_times_every_algorithm_and_baseline(
    layout: str, training: bool, kernel: int
) -> None:
    case = layers.LayerCase(16, 32, kernel, 2, 6, 2, 1, layout, training=training)
    row = layers.time_layer(case, seconds=0.001)
    algorithms = set(layers.algorithms(case))
    assert algorithms <= set(ALGORITHMS)
    baselines = {layers.AUTHORS, layers.CHOSEN, layers.STANDARD}
    if layout == "channels_last":
        baselines.add(layers.BACK)
    assert set(row.times) == algorithms | baselines
    assert plots.layer_rows({"rows": [json.loads(json.dumps(row.record()))]}) == [row]


def test_the_grid_has_every_convolution_of_resnet50_once() -> None:
    with torch.device("meta"):
        network = timm.create_model("resnet50")
    seen = set()

    def note(conv: Any, arguments: Any, _: Any) -> None:
        size = arguments[0].shape[-1]
        seen.add((conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], size))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.in_channels > 3:
            module.register_forward_hook(note)
    network.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    assert set(layers.RESNET50) == seen
    assert len(layers.RESNET50) == len(seen)


def test_layers_prints_means_and_verdicts_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "RESNET50", [(16, 16, 3, 1, 6), (16, 16, 1, 2, 6)])
    file = tmp_path / "layers.json"
    output = run("layers", *TINY, "--blocks", "2", "--all", "--json", str(file))
    assert "3x3 s1" in output
    assert "16→16 1x1 s2 6² NCHW" in output
    assert "contiguous, both ways, 2 cases: " in output
    assert "MALLOC_MMAP_MAX_=0" in output
    written = json.loads(file.read_text())
    assert len(written["rows"]) == 2 * 2 * 2
    assert written["machine"]["torch"] == torch.__version__
    plt.close(plots.layers(written)[0].figure)  # type: ignore[arg-type]


def test_blocks_keeps_macs_fixed_and_writes_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CHANNELS", 64)
    monkeypatch.setattr(blocks, "SIZE", 4)
    file = tmp_path / "blocks.json"
    output = run("blocks", *TINY, "--json", str(file), "--layout", "contiguous")
    assert "B = 32" in output
    tbc, gc = json.loads(file.read_text())["rows"]
    assert (tbc["operator"], gc["operator"]) == ("TBC", "GC")
    assert list(tbc["times"]) == ["1", "2", "4", "8", "16", "32"]
    plt.close(plots.blocks({"rows": [tbc, gc]})[0].figure)  # type: ignore[arg-type]


@pytest.mark.slow
def test_networks_times_both_modes(tmp_path: Path) -> None:
    file = tmp_path / "networks.json"
    names = ["tied_resnet14_s", "resnet18"]
    output = run(
        "networks", *names, *TINY, "--size", "32", "--batch-size", "2", "--json", str(file)
    )
    assert "training step" in output
    rows = json.loads(file.read_text())["rows"]
    assert [row["network"] for row in rows] == names * 2
    assert all(row["ratio"] == 1 for row in rows[::2])
    # Weights, gradients and activations take at least twice what the weights do.
    stored = 4 * sum(p.numel() for p in timm.create_model("resnet18").parameters()) / 1e6
    assert rows[1]["peak_mb"] >= stored
    assert rows[3]["peak_mb"] >= 2 * stored
    for axes in (plots.networks({"rows": rows}), *plots.parts({"rows": rows})):
        plt.close(axes.figure)  # type: ignore[arg-type]
    assert all(row["parts"]["convolution"] > 0 for row in rows)


def test_reference_compares_peers_that_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "SHAPES", [((1, 4, 6, 6), 2)])
    monkeypatch.setattr(reference, "SMALL", ((1, 4, 5, 5), 2))
    file = tmp_path / "reference.json"
    assert "scipy correlate" in run("reference", *TINY, "--json", str(file))
    rows = json.loads(file.read_text())["rows"]
    assert [row["computed"] for row in rows] == ["forward", "both ways"] * 2
    plt.close(plots.reference({"rows": rows}).figure)  # type: ignore[arg-type]


def test_learned_rules_find_a_planted_threshold() -> None:
    rows = [
        layers.LayerRow(
            layers.LayerCase(8 * B, 8 * B, 3, 2, size, B),
            {"dilated": time(1.0), "conv3d": time(0.5 if B > 2 and size > 14 else 2.0)},
        )
        for B in (2, 4, 8)
        for size in (7, 14, 28, 56)
    ]
    (rules,) = tune.learn(rows).values()
    planted = (Condition("blocks", True, 2), Condition("pixels", True, 14 * 14))
    assert rules == (Rule(planted, "conv3d"), Rule((), "dilated"))
    assert tune.regrets(rows, tune.learn(rows)) == [1.0] * 12


def test_learned_rules_would_rather_not_lose_to_the_fold() -> None:
    rows = [
        layers.LayerRow(
            layers.LayerCase(64, 64, 1, 1, size, 2, layout="contiguous"),
            {"fold": time(1.0), "gemm": time(1.1 if size == 7 else 0.9)},
        )
        for size in (7, 8, 9)
    ]
    (rules,) = tune.learn(rows).values()
    assert rules == (Rule((Condition("pixels", True, 49),), "gemm"), Rule((), "fold"))


def test_a_table_survives_writing_and_reading() -> None:
    kind = Kind("float32", "channels_last", "larger", True, False)
    conditions = (Condition("blocks", True, 2), Condition("batch", False, 8))
    table: Table = {kind: (Rule(conditions, "conv3d"), Rule((), "dilated"))}
    assert read_table(as_json({"classes": tune.entries(table, {kind})})) == table
    assert len(tune.complete(table, "cuda")) == 32
    assert tune.complete(table, "cuda")[kind] == table[kind]


def test_tune_writes_a_table_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [layers.LayerCase(16, 16, 3, 1, size, blocks=2, batch=1) for size in (5, 6, 7)]
    monkeypatch.setattr(tune, "cases", lambda *_: sizes)
    file = tmp_path / "table.json"
    before = table_file("cpu").read_bytes()
    output = run("tune", *TINY, "--out", str(file), "--dtype", "float32", "--batch-size", "1")
    assert "times the time of the fastest one on average" in output
    table = read_table(file.read_text())
    assert len(table) == 32
    assert len(table[tune.kind_of(sizes[0])]) == 1
    measured = [c["kind"] for c in json.loads(file.read_text())["classes"] if c["measured"]]
    assert measured == [tune.kind_of(sizes[0])._asdict()]
    assert table_file("cpu").read_bytes() == before


@pytest.fixture
def _one_quick_case(monkeypatch: pytest.MonkeyPatch) -> None:
    case = layers.LayerCase(16, 16, 3, 1, 5, blocks=2, batch=1)
    monkeypatch.setattr(tune, "cases", lambda *_: [case])


@pytest.mark.usefixtures("_one_quick_case")
def test_tune_prints_its_rules_and_leaves_the_table_in_use_alone() -> None:
    before = table_file("cpu").read_bytes()
    output = run("tune", *TINY, "--dtype", "float32")
    (rule,) = (line.split() for line in output.splitlines() if "NHWC" in line)
    assert rule[:5] == ["NHWC", "larger", "s1", "float32", "forward"]
    assert rule[5] in ALGORITHMS
    assert "The table was not saved: --out FILE writes it" in output
    assert table_file("cpu").read_bytes() == before


def test_printed_rules_say_when_they_hold() -> None:
    kind = Kind("float32", "contiguous", "1x1", True, False)
    conditions = (Condition("blocks", True, 2), Condition("batch", False, 8))
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(bench_tables.rules({kind: (Rule(conditions, "conv3d"), Rule((), "dilated"))}))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines() if line.strip()]
    assert lines[-2:] == [
        "NCHW 1x1 s>1 float32 forward conv3d blocks > 2 and batch <= 8",
        "dilated",
    ]


@pytest.mark.parametrize("read_only", ["folder", "file"])
def test_tune_refuses_to_install_where_it_cannot_before_it_measures(
    read_only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "cpu.json"
    installed.write_bytes(table_file("cpu").read_bytes())
    denied = tmp_path if read_only == "folder" else installed
    monkeypatch.setattr("tbc_gpu.dispatch.table_file", lambda _: installed)
    # Permissions would not stop root, who may run the tests.
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != denied)
    monkeypatch.setattr(layers, "time_layer", lambda *_, **__: pytest.fail("it measures"))
    said = refused("tune", *TINY, "--install").replace(" ", "")  # a long path is broken anywhere
    assert "cpu.jsoncannotbewritten" in said


@pytest.mark.usefixtures("_one_quick_case")
def test_tune_installs_a_table_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "cpu.json"
    installed.write_bytes(table_file("cpu").read_bytes())
    monkeypatch.setattr("tbc_gpu.dispatch.table_file", lambda _: installed)
    before = installed.read_bytes()
    output = run("tune", *TINY, "--dtype", "float32", "--install")
    assert "cpu.json" in output
    assert installed.read_bytes() != before
    assert len(read_table(installed.read_text())) == 32


@pytest.fixture
def _pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90000)
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("_pretended_gpu")
def test_results_of_cuda_say_where_float32_is_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [layers.LayerCase(16, 16, 3, 1, 5, blocks=2)]
    names = (*ALGORITHMS, layers.AUTHORS, layers.CHOSEN)
    row = layers.LayerRow(cases[0], {name: time(1.0) for name in names})
    monkeypatch.setattr(layers, "grid", lambda **_: cases)
    monkeypatch.setattr(layers, "time_layer", lambda *_, **__: row)
    file = tmp_path / "layers.json"
    output = run("layers", "--device", "cuda", "--json", str(file))
    said = "TF32 in convolutions, TF32 in matrix products"
    assert f"float32 as {said}" in " ".join(output.split())
    assert json.loads(file.read_text())["machine"]["float32"] == said


@pytest.mark.usefixtures("_pretended_gpu")
@pytest.mark.parametrize(
    ("tf32", "precision", "said"),
    [
        (True, "highest", "TF32 in convolutions, float32 in matrix products"),
        (False, "high", "float32 in convolutions, TF32 in matrix products"),
        (False, "highest", "float32 in convolutions, float32 in matrix products"),
    ],
)
def test_the_machine_says_what_float32_is(tf32: bool, precision: str, said: str) -> None:
    torch.set_float32_matmul_precision(precision)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
        assert timing.conditions("cuda")["float32"] == said
    assert "float32" not in timing.conditions("cpu")


def test_calls_compares_one_call_with_a_grouped_convolution(tmp_path: Path) -> None:
    file = tmp_path / "calls.json"
    output = run("calls", *TINY, "--json", str(file))
    assert "Microseconds of one call, 1x16x4x4, B = G = 4" in output
    rows = json.loads(file.read_text())["rows"]
    kinds = {(row["kernel_size"], row["layout"]) for row in rows}
    assert kinds == {(k, layout) for k in (3, 1) for layout in layers.LAYOUTS}
    for row in rows:
        tied, grouped = (row["microseconds"][name][0] for name in (calls.TIED, calls.GROUPED))
        assert row["ratio"] == pytest.approx(tied / grouped, abs=0.001)


def test_the_projects_own_results_are_part_of_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "COMMITTED", tmp_path)
    assert results.committed("layers-cpu") is None  # not measured yet
    monkeypatch.setattr(results, "COMMITTED", tmp_path / "docs")  # as where a wheel is installed
    with pytest.raises(FileNotFoundError, match="own results are part of its repository"):
        results.committed("layers-cpu")


def test_committed_tables_say_where_they_come_from() -> None:
    cpu = json.loads(table_file("cpu").read_text())
    assert all(entry["measured"] for entry in cpu["classes"])
    cuda = json.loads(table_file("cuda").read_text())
    assert any(entry["measured"] for entry in cuda["classes"]) == ("machine" in cuda)
    assert cpu["command"].startswith("tbc bench tune")
    times = committed("tune-cpu")
    assert times is not None
    if cpu["command"] != times["command"]:
        pytest.skip("the table was measured anew, without its times")
    learned = tune.learn(plots.layer_rows(times))
    assert learned == read_table(table_file("cpu").read_text())  # that file's, and no other's


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["layers", "--json", "/nowhere/file.json"], "/nowhere/file.json cannot be written"),
        (["blocks", "--kernel-size", "2"], "2 is not odd"),
        (["networks", "resnet5"], "did you mean resnet50"),
        (["tune", "--out", "/nowhere/table.json"], "/nowhere/table.json cannot be written"),
        (["calls", "--json", "/nowhere/file.json"], "/nowhere/file.json cannot be written"),
        (["layers", "--device", "tpu"], "'tpu' is not one of"),
    ],
)
def test_bad_input(arguments: list[str], text: str) -> None:
    assert text in refused(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device() -> None:
    assert "PyTorch finds no CUDA device here." in refused("layers", "--device", "cuda")
