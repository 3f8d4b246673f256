"""`tbc check` finds what is wrong, says so, and passes what is right."""

import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tbc_ref
from tbc_gpu import tied_block_conv2d
from tbc_models.checking import cases as drawing
from tbc_models.checking import modules, names
from tbc_models.checking import operators as checking
from tbc_models.cli import app

from .oracles import loops

runner = CliRunner()


@pytest.mark.parametrize("dtype", names.DType)
@pytest.mark.parametrize("operator", names.Operator)
def test_both_implementations_agree(operator: str, dtype: str) -> None:
    *_, row = checking.check(operator, dtype, indices=range(120), device="cpu")
    assert (row.cases, row.failures) == (120, [])
    for quantity, error in row.errors.items():
        assert 0 < error <= checking.tolerances(dtype)[quantity]


@pytest.mark.parametrize("quantity", ["dx", "dw", "db"])
@pytest.mark.parametrize("operator", names.Operator)
def test_a_flipped_sign_in_any_one_backward_is_found(
    operator: str, quantity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{drawing.OPERATORS[operator][0]}_backward"
    right: Callable[..., tbc_ref.Gradients] = getattr(tbc_ref, name)

    def flipped(*arguments: Any, **options: Any) -> tbc_ref.Gradients:
        gradients = right(*arguments, **options)
        return gradients._replace(**{quantity: -getattr(gradients, quantity)})

    monkeypatch.setattr(tbc_ref, name, flipped)
    *_, row = checking.check(operator, "float64", indices=range(20), device="cpu")
    assert not row.passed
    assert row.errors[quantity] > 1e6  # type: ignore[index]


def test_a_nan_and_a_wrong_shape_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = tbc_ref.linear
    for broken in (lambda *a: right(*a) * np.nan, lambda *a: right(*a)[..., :-1]):
        monkeypatch.setattr(tbc_ref, "linear", broken)
        *_, row = checking.check("FC", "float64", indices=range(5), device="cpu")
        assert not row.passed
        assert not row.errors["y"] <= checking.TOLERANCE


def test_a_case_that_raises_is_reported_like_one_that_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(tbc_ref, "linear", crash)
    file = tmp_path / "result.json"
    arguments = ["check", "--operator", "fc", "--case", "3", "--json", str(file)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert "RuntimeError: no such kernel" in result.output
    assert json.loads(file.read_text())["rows"][0]["errors"]["y"] == "inf"


def test_one_case_alone_shows_what_it_is() -> None:
    result = runner.invoke(app, ["check", "--operator", "TGC", "--case", "17", "--device", "cpu"])
    assert result.exit_code == 0
    assert str(drawing.draw_case("TGC", 0, 17, "float64")) in result.output


def test_cases_vary_and_are_drawn_from_seed_and_index_alone() -> None:
    first, again = (drawing.draw_case("TGC", 3, 14, "float32") for _ in range(2))
    assert str(first) == str(again)
    np.testing.assert_array_equal(first.x, again.x)
    assert first.x.dtype == np.float32
    cases = [drawing.draw_case("TGC", 0, i, "float64") for i in range(500)]
    for option in ("stride", "dilation", "padding", "groups", "blocks"):
        assert len({str(case.options[option]) for case in cases}) >= 4
    assert {"same", "valid"} <= {case.options["padding"] for case in cases}
    assert 0 < sum(case.x.shape[0] == 0 for case in cases) < 30
    assert any(case.b is None for case in cases)
    for what in ("x", "w", "dy"):
        assert {case.layouts[what] for case in cases} == set(drawing.LAYOUTS)
    assert max(case.x.shape[1] for case in cases) > 50
    assert max(case.x.shape[3] for case in cases) > 35
    assert max(case.w.shape[2] for case in cases) == 11
    strides = [case.options["stride"] for case in cases]
    assert any(s[0] > case.w.shape[2] for s, case in zip(strides, cases, strict=True))
    assert any(case.x.shape[2] != case.x.shape[3] for case in cases)
    assert any(case.w.shape[2] != case.w.shape[3] for case in cases)


def test_reduction_lengths() -> None:
    """With all ones and no padding, each entry of y, dw and db is the number of its terms."""
    ones = {"x": np.ones((3, 8, 5, 4)), "w": np.ones((6, 2, 3, 2)), "b": np.ones(6)}
    options: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    y = loops(*ones.values(), groups=2, blocks=2)
    case = drawing.Case(
        "TGC", 0, 0, names.DType.float64, options | {"groups": 2, "blocks": 2}, {}, **ones,
        dy=np.ones_like(y),
    )  # fmt: skip
    _, dw, db = tbc_ref.tied_block_group_conv_backward(case.dy, case.x, case.w, groups=2, blocks=2)
    assert (y == case.terms["y"]).all()
    assert (dw == case.terms["dw"]).all()
    assert (db == case.terms["db"]).all()
    assert case.terms["dx"] == 3 * 3 * 2  # filters of a group times taps


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    result = runner.invoke(app, ["check", "--cases", "3", "--device", "cpu", "--json", str(file)])
    assert result.exit_code == 0, result.output
    for operator in names.Operator:
        assert f"\n {operator} " in result.output
    assert sum(line.endswith("pass") for line in map(str.rstrip, result.output.splitlines())) == 24
    report = json.loads(file.read_text())
    assert report["passed"] is True
    assert report["machine"]["torch"] == torch.__version__
    assert [row["operator"] for row in report["rows"][::4]] == list(names.Operator)
    assert {row["dtype"] for row in report["rows"]} == set(names.DType)


def test_a_failing_case_is_printed_so_that_it_can_be_run_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = tbc_ref.tied_block_conv
    monkeypatch.setattr(tbc_ref, "tied_block_conv", lambda *a, **o: -right(*a, **o))
    result = runner.invoke(app, ["check", "--operator", "TBC", "--cases", "4", "--seed", "5"])
    assert result.exit_code == 1
    assert "FAIL" in result.output
    command = result.output.partition("run it alone: tbc ")[2].splitlines()[0]
    alone = runner.invoke(app, command.split())
    assert alone.exit_code == 1
    assert "1 of 1 cases of TBC float64 failed" in alone.output
    assert "0 of 1 cases agree (seed 5)." in alone.output
    monkeypatch.undo()
    assert runner.invoke(app, command.split()).exit_code == 0


def test_a_failing_module_is_printed_so_that_it_can_be_run_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(modules, "MODULES", ("TiedSE",))
    monkeypatch.setattr(modules, "errors_of", lambda *_: {"y": 0.5, "dx": 0.0, "dparameters": 0.0})
    file = tmp_path / "result.json"
    options = ["--modules", "--operator", "FC", "--dtype", "float64", "--cases", "2", "--seed", "5"]
    result = runner.invoke(app, ["check", *options, "--json", str(file)])
    assert result.exit_code == 1
    assert "2 of 2 cases of TiedSE failed. The first: TiedSE x(" in result.output
    command = "tbc check --modules --case 0 --seed 5 --device cpu"
    assert f"errors: y 5.0e-01, dx 0.0e+00, dparameters 0.0e+00\n  run it alone: {command}\n" in (
        result.output
    )
    assert json.loads(file.read_text())["modules"][0]["failures"][0]["command"] == command
    assert "1 of 1 cases of TiedSE failed" in runner.invoke(app, command.split()[1:]).output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cases", "0"], "--cases"),
        (["--dtype", "float8"], "float8"),
        (["--minutes", "1", "--cases", "5"], "only one of --cases, --minutes and --case"),
        (["--minutes", "1", "--case", "5"], "only one of --cases, --minutes and --case"),
        (["--minutes", "0"], "--minutes"),
        (["--operator", "CONV"], "CONV"),
        (["--json", "/no/such/folder/file.json"], "cannot be written"),
        (["--json", "/"], "cannot be written"),
        (["--device", "cuda"], "no CUDA device"),
    ],
)
def test_bad_options_end_with_one_clear_line(
    arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = runner.invoke(app, ["check", *arguments])
    assert result.exit_code == 2
    assert text in result.output
    assert isinstance(result.exception, SystemExit)


def test_help_and_version() -> None:
    assert "Examples" in runner.invoke(app, ["check", "--help"]).output
    assert runner.invoke(app, ["--version"]).output.strip() == tbc_ref.__version__


def test_the_verdict_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right = tbc_ref.standard_conv  # the first operator
    monkeypatch.setattr(tbc_ref, "standard_conv", lambda *a, **o: -right(*a, **o))
    file = tmp_path / "result.json"
    arguments = ["check", "--cases", "2", "--device", "cpu", "--json", str(file)]
    assert runner.invoke(app, arguments).exit_code == 1
    assert json.loads(file.read_text())["passed"] is False


def test_layouts_reach_both_implementations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are not made contiguous on the way, but for negative strides, which torch lacks."""
    seen: dict[str, list[tuple[int, ...]]] = {"reference": [], "torch": []}
    reference = tbc_ref.tied_block_conv

    def noted(x: Any, *arguments: Any, **options: Any) -> Any:
        seen["reference"].append(tuple(stride // x.itemsize for stride in x.strides))
        return reference(x, *arguments, **options)

    def noted_torch(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        seen["torch"].append(x.stride())
        return tied_block_conv2d(x, *arguments, **options)

    monkeypatch.setattr(tbc_ref, "tied_block_conv", noted)
    monkeypatch.setattr(checking, "tied_block_conv2d", noted_torch)
    kinds = set()
    for i, dtype in itertools.product(range(60), ("float32", "bfloat16")):
        case = drawing.draw_case("TBC", 0, i, dtype)
        checking.run_reference(case)
        checking.run_torch(case, "cpu")
        strides = tuple(stride // case.x.itemsize for stride in case.x.strides)
        assert seen["reference"].pop() == strides
        if min(strides) >= 0:
            assert seen["torch"].pop() == strides
        kinds.add(case.layouts["x"])
    assert kinds == set(drawing.LAYOUTS)


@pytest.mark.parametrize("layout", drawing.LAYOUTS)
def test_another_layout_holds_the_same_numbers(layout: drawing.Layout) -> None:
    array = np.random.default_rng(0).standard_normal((3, 4, 5, 6))
    stored = drawing.laid_out(array, layout)
    expected = np.broadcast_to(array[:1], array.shape) if layout == "expanded" else array
    np.testing.assert_array_equal(stored, expected)
    assert (stored.strides == array.strides) == (layout == "contiguous")


def test_minutes_run_other_cases_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()  # that every look at the clock takes
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    file = tmp_path / "result.json"
    options = ["--minutes", "0.5", "--operator", "FC", "--device", "cpu"]
    seeds = []
    for _ in range(2):
        result = runner.invoke(app, ["check", *options, "--json", str(file)])
        assert result.exit_code == 0, result.output
        report = json.loads(file.read_text())
        cases = [row["cases"] for row in report["rows"]]
        # Two looks a burst of 50 cases, fifteen bursts, in turn for each of four dtypes.
        assert len(cases) == 4
        assert 10 <= sum(cases) / 50 <= 16
        assert max(cases) - min(cases) <= 50
        seeds.append(report["seed"])
        assert f"Seed {seeds[-1]}." in result.output
        assert f"{sum(cases):,} of {sum(cases):,} cases agree (seed {seeds[-1]})." in result.output
    assert seeds[0] != seeds[1]


def test_what_was_found_is_stored_before_the_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(step=50)
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    right, calls = tbc_ref.linear, itertools.count()

    def broken(*arguments: Any) -> Any:
        if next(calls) > 120:
            raise KeyboardInterrupt
        return -right(*arguments)

    monkeypatch.setattr(tbc_ref, "linear", broken)
    file = tmp_path / "result.json"
    options = ["--minutes", "99", "--operator", "FC", "--dtype", "float64", "--device", "cpu"]
    result = runner.invoke(app, ["check", *options, "--json", str(file)])
    assert result.exit_code != 0
    report = json.loads(file.read_text())
    assert report["passed"] is False
    assert report["rows"][0]["failures"][0]["command"].startswith("tbc check --operator FC")
    assert f"Seed {report['seed']}." in result.output


def test_a_case_that_fails_on_two_backends_is_one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Any = lambda case: {k: -v for k, v in checking.run_torch(case, "cpu").items()}  # noqa: E731
    monkeypatch.setattr(checking, "backends", lambda *_: {"one": wrong, "other": wrong})
    result = runner.invoke(
        app, ["check", "--operator", "TBC", "--dtype", "float64", "--cases", "9"]
    )
    assert "9 of 9 cases of TBC float64 failed" in result.output
    assert "0 of 9 cases agree" in result.output


def forget_a_tap(x: torch.Tensor, w: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
    w = w * (torch.arange(w.shape[3]) < max(1, w.shape[3] - 1))
    return tied_block_conv2d(x, w, *rest, **options)


def forget_the_bias(
    x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, **options: Any
) -> torch.Tensor:
    return tied_block_conv2d(x, w, None if b is None else 0 * b, **options)


def swap_blocks(x: torch.Tensor, *rest: Any, blocks: int, **options: Any) -> torch.Tensor:
    swapped = x.unflatten(1, (blocks, -1)).flip(1).flatten(1, 2)
    return tied_block_conv2d(swapped, *rest, blocks=blocks, **options)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("bug", [forget_a_tap, forget_the_bias, swap_blocks])
def test_bugs_are_found_in_16_bits_too(
    bug: Callable[..., torch.Tensor], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [drawing.draw_case("TBC", 0, i, dtype) for i in range(60)]
    affected = {
        "forget_a_tap": [c for c in cases if c.w.shape[3] > 1],
        "forget_the_bias": [c for c in cases if c.b is not None],
        "swap_blocks": [c for c in cases if c.options["blocks"] > 1],
    }[bug.__name__]
    affected = [c for c in affected if c.x.size]
    monkeypatch.setattr(checking, "tied_block_conv2d", bug)
    *_, row = checking.check("TBC", dtype, indices=[c.index for c in affected], device="cpu")
    # A tap or a border may read nothing but padding, and a bias be next to nothing.
    assert row.failed >= 0.7 * len(affected) > 10


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", names.DType)
@pytest.mark.parametrize("operator", names.Operator)
def test_cuda_takes_part(operator: str, dtype: str) -> None:
    *_, row = checking.check(operator, dtype, indices=range(50), device="cuda")
    assert "torch CUDA" in row.backends
    assert ("CuPy" in row.backends) == bool(importlib.util.find_spec("cupy"))
    assert row.failures == []
