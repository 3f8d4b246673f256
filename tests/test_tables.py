"""The paper's tables: what it reports, what we count, and the commands that show both."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from typer.testing import CliRunner

from tbc_models import count
from tbc_models.cli import app
from tbc_models.networks import registry
from tbc_models.paper import tables
from tbc_models.paper.reported import TABLES, Reported
from tbc_models.paper.rows import DESIGNS, ROWS, UNEXPLAINED, TableRow

runner = CliRunner()

# Parameters (M) and MACs (G) of each design, worked out before the networks were written.
EXPECTED = {
    (1, "TiedResNet50"): ((21.20, 3.98), (21.98, 4.26), (22.03, 4.39)),
    (1, "TiedResNet50-S"): ((13.05, 2.23), (13.91, 2.52), (12.51, 2.34)),
    (1, "TiedResNet101"): ((36.02, 7.58), (39.34, 8.35), (39.43, 8.62)),
    (1, "TiedResNet101-S"): ((20.52, 4.01), (23.98, 4.81), (21.34, 4.42)),
    (6, "concatenate"): ((25.92, None), (22.92, None), (24.15, None)),
    (5, "2s×48w"): ((22.73, 4.09), (23.27, 4.34), (25.31, 4.93)),
    (5, "6s×24w"): ((23.01, 4.32), (23.85, 4.62), (23.04, 4.55)),
    (5, "8s×18w"): ((22.98, 4.23), (23.85, 4.52), (22.44, 4.34)),
}
ATTENTION = {
    (3, "SEResNet-50, SE"): 2_530_992,
    (3, "SEResNet-50, TiedSE B=2"): 636_760,
    (3, "SEResNet-50, TiedSE B=4"): 161_196,
    (3, "SEResNet-50, TiedSE B=8"): 41_302,
    (3, "EfficientNet-B0, SE"): 636_540,
    (3, "EfficientNet-B0, TiedSE B=2"): 161_470,
    # 2·c·h + h + c summed, with h = max(2, ⌊squeeze/4⌋): 1, 1.5 and 2.5 become 2.
    (3, "EfficientNet-B0, TiedSE B=4"): 41_536,
    (4, "+GCB"): 10_000_909,
    (4, "+TiedGCB B=2"): 2_520_845,
    (4, "+TiedGCB B=4"): 648_589,
}


@pytest.mark.parametrize(("table", "row"), EXPECTED)
def test_every_design_has_the_counts_worked_out_for_it(table: int, row: str) -> None:
    found = {(c.column, c.design): c.ours for c in tables.compare(table) if c.row == row}
    for design, (parameters, macs) in zip(DESIGNS, EXPECTED[table, row], strict=True):
        assert found["params (M)", design] == pytest.approx(parameters, abs=0.006)
        if macs is not None:
            assert found["GFlops", design] == pytest.approx(macs, abs=0.006)


@pytest.mark.parametrize(("table", "row"), ATTENTION)
def test_attention_has_exactly_the_parameters_worked_out_for_it(table: int, row: str) -> None:
    (found,) = (c.ours for c in tables.compare(table) if c.row == row and c.column == "params (M)")
    assert found is not None
    assert round(found * 1e6) == ATTENTION[table, row]


def test_other_families_have_the_counts_worked_out_for_them() -> None:
    found = {(c.row, c.column, c.design): c.ours for c in tables.compare(1) if c.ours}
    close = {
        ("ResNet50", "GFlops", ""): 4.089,
        ("ResNeXt101-32×4d", "params (M)", ""): 88.79,
        ("ResNeXt101-32×4d", "GFlops", ""): 16.414,
        ("SENet101", "params (M)", ""): 49.33,
        ("ResNeSt-50-fast ‡", "params (M)", ""): 27.48,
        ("ResNeSt-50-fast ‡", "GFlops", ""): 4.33,
        ("TiedResNeSt50-S", "params (M)", ""): 15.75,
        ("TiedResNeSt50-S", "GFlops", ""): 2.94,
    }
    for key, right in close.items():
        assert found[key] == pytest.approx(right, abs=0.006), key
    for design, more in (("literal", 1.20), ("fitted", 2.39), ("fitted-tbc", 2.39)):
        tied = found["TiedResNet101", "params (M)", design]
        assert found["TiedSENet101", "params (M)", design] - tied == pytest.approx(more, abs=0.006)


@pytest.mark.parametrize("name", registry.names())
def test_formulas_and_the_built_network_agree_exactly(name: str) -> None:
    network = registry.build(name)
    size = registry.input_size(network)
    listed, counted = count.layers(network, size), count.measure(network, size)
    assert sum(layer.parameters for layer in listed) == counted.parameters
    assert sum(layer.macs for layer in listed) == counted.macs < counted.all_macs


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("mixer", ["sum", "concatenate", "none"])
def test_both_counts_agree_for_every_design_and_mixer(mixer: str, design: str) -> None:
    for name in ("tied_resnet50_s", "tied_resnext50"):
        network = registry.build(name, design=design, mixer=mixer)
        listed, counted = count.layers(network, 96), count.measure(network, 96)
        assert sum(layer.parameters for layer in listed) == counted.parameters
        assert sum(layer.macs for layer in listed) == counted.macs


def test_counts_do_not_depend_on_the_device_or_leave_a_trace() -> None:
    real = timm.create_model("tied_gc_resnet50", layers=(1, 1, 1, 1)).train()
    unreal = registry.build("tied_gc_resnet50", layers=(1, 1, 1, 1))
    before = {name: value.clone() for name, value in real.state_dict().items()}
    assert count.measure(real, 64) == count.measure(unreal, 64)
    assert count.layers(real, 64) == count.layers(unreal, 64)
    assert real.training
    assert all((before[name] == value).all() for name, value in real.state_dict().items())
    assert not any(module._forward_hooks for module in real.modules())


def test_elementwise_operations_are_counted_by_hand() -> None:
    listed = count.measure(registry.build("resnet50"))
    normalised = relu = 64 * 112**2  # stem
    sizes = ((64, 56, 3), (128, 28, 4), (256, 14, 6), (512, 7, 3))
    for i, (width, size, blocks) in enumerate(sizes):
        for block in range(blocks):
            # the first block of stages two to four enters at twice the size
            entry = size * 2 if block == 0 and i else size
            inner = width * entry**2 + width * size**2
            normalised += inner + 4 * width * size**2 * (2 if block == 0 else 1)
            relu += inner + 4 * width * size**2
    pooled = 9 * 64 * 56**2 + 2048 * 49
    assert listed.all_macs - listed.macs == normalised + relu + pooled


def test_a_layer_that_is_not_called_is_listed_last() -> None:
    network = registry.build("tied_resnet14_s")
    network.spare = torch.nn.Linear(3, 4, device="meta")
    listed = count.layers(network, 32)
    assert (listed[-1].name, listed[-1].parameters, listed[-1].macs) == ("spare", 16, 0)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "nf_regnet_b1", "repvit_m1"])
def test_other_networks_can_be_listed_too(name: str) -> None:
    """Linear layers on many tokens, convolutions with parameters of their own, several outputs."""
    network = registry.build(name)
    listed, counted = count.layers(network), count.measure(network)
    assert sum(layer.parameters for layer in listed) == counted.parameters
    assert sum(layer.macs for layer in listed) == counted.macs


def test_the_paper_is_kept_as_it_is_printed() -> None:
    numbers = {(n.table, n.row, n.column): n for t in TABLES.values() for n in t}
    # How many numbers each table has, and their sum, taken from the paper's text by a script.
    counts = {n: len(list(table)) for n, table in TABLES.items()}
    assert counts == {1: 91, 2: 6, 3: 34, 4: 22, 5: 16, 6: 6}
    sums = {n: sum(number.value for number in table) for n, table in TABLES.items()}
    expected = {1: 5130.7, 2: 159.1, 3: 1768.57, 4: 916.3, 5: 794.21, 6: 391.22}
    assert sums == pytest.approx(expected, abs=0.001)
    assert numbers[1, "TiedResNet101", "params (M)"].printed == "39.4"
    assert numbers[1, "TiedSENet101-S †", "top-1 (%)"].value == 80.9
    assert numbers[4, "+TiedGCB B=4", "params (M)"].value == 1.3
    assert (1, "ShuffleNet-50 †", "params (M)") not in numbers
    assert Reported(3, "", "", "0.04").rounding == pytest.approx(0.005)
    assert Reported(1, "", "", "54").rounding == 0.5


@pytest.mark.parametrize("table", TABLES)
def test_every_difference_beyond_rounding_has_a_reason(table: int) -> None:
    compared = tables.compare(table)
    assert {(c.row, c.column) for c in compared} >= {(n.row, n.column) for n in TABLES[table]}
    for c in compared:
        if c.column.startswith(("top", "AP")):
            assert (c.ours, c.difference, c.reason) == (None, None, "")
        elif c.ours is not None:
            assert c.difference == pytest.approx(c.ours - float(c.reported))
            exceeds = abs(c.ours - float(c.reported)) > Reported(0, "", "", c.reported).rounding
            assert bool(c.reason) == exceeds, c
        else:
            assert "timm" in c.reason


def test_percentages_are_of_our_own_baseline() -> None:
    found = {(c.row, c.column, c.design): c.ours for c in tables.compare(1)}
    ratio = found["TiedResNet50-S", "params (M)", "fitted"], found["ResNet50", "params (M)", ""]
    assert ratio[0] is not None
    assert ratio[1] is not None
    assert found["TiedResNet50-S", "params (%)", "fitted"] == pytest.approx(
        100 * ratio[0] / ratio[1]
    )


def test_a_row_without_a_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS[2], "ResNet50", TableRow("resnet18"))
    found = {c.row: c.reason for c in tables.compare(2) if c.column == "params (M)" and c.ours}
    assert found["ResNet50"] == UNEXPLAINED
    assert found["TiedResNet50"] != UNEXPLAINED


def test_every_reason_explains_a_number() -> None:
    stated = {
        text
        for rows in ROWS.values()
        for row in rows.values()
        for reason in row.reasons.values()
        for text in ([reason] if isinstance(reason, str) else reason.values())
    }
    assert stated <= {c.reason for number in TABLES for c in tables.compare(number)}


def test_reasons_after_the_26th_have_two_letters() -> None:
    compared = [
        tables.Comparison(1, f"row {i}", "params (M)", "1.0", "", 2.0, 1.0, f"reason {i}")
        for i in range(28)
    ]
    text = tables.as_markdown(compared)
    assert '| row 25 | 1.0 | 2.00 +1.00<sup><a href="#table-1-z">z</a></sup> |' in text
    assert '| row 27 | 1.0 | 2.00 +1.00<sup><a href="#table-1-ab">ab</a></sup> |' in text
    assert "z: reason 25\n" in text
    assert "aa: reason 26\n" in text
    assert "ab: reason 27\n" in text


@pytest.mark.parametrize("table", TABLES)
def test_letters_in_markdown_lead_to_the_reasons_below(table: int) -> None:
    compared = tables.compare(table)
    text = tables.as_markdown(compared, "here")
    reasons = tables.lay_out(compared).reasons
    anchors = dict(re.findall(r'^- <a id="(here-[a-z]+)"></a>[a-z]+: (.+)$', text, re.M))
    assert anchors == {f"here-{letter}": reason for letter, reason in reasons.items()}
    linked = re.findall(r'<sup><a href="#([\w-]+)">(\w+)</a></sup>', text)
    assert all(anchor == f"here-{letter}" for anchor, letter in linked)
    assert len(linked) == sum(bool(c.reason) for c in compared)
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_a_part_of_a_table_makes_a_shorter_one() -> None:
    text = tables.as_markdown([c for c in tables.compare(1) if c.column == "params (M)"][:4])
    lines = text.splitlines()
    assert lines[2] == "| params (M) | paper | ours | fitted | fitted-tbc |"
    assert lines[4] == "| ResNet50 | 25.6 | 25.56 −0.04 |  |  |"
    assert lines[5].startswith("| TiedResNet50-S | 13.9 | 13.05 −0.85<sup>")


def test_table_all_prints_six_tables() -> None:
    result = runner.invoke(app, ["table", "all"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    for number in TABLES:
        assert f"Table {number}." in result.output
    assert "13.05 −0.85" in result.output
    assert re.search(r"TiedResNet50-S\s+params \(M\)\s+13\.9 +13\.05 −0\.85", result.output)
    assert "13.05 −0.85 b" in result.output
    assert "\nb  with a tied shortcut, about 2.3·p² weights" in result.output
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_tables_come_in_four_formats(tmp_path: Path) -> None:
    records = json.loads(runner.invoke(app, ["table", "3", "--format", "json"]).stdout)
    rows = list(
        csv.DictReader(io.StringIO(runner.invoke(app, ["table", "3", "--format", "CSV"]).stdout))
    )
    assert len(records) == len(rows) == len(tables.compare(3))
    assert [r["reported"] for r in rows] == [r["reported"] for r in records]
    assert records[1]["ours"] == 2.530992
    for form in ("markdown", "terminal"):
        file = tmp_path / form
        result = runner.invoke(app, ["table", "3", "--format", form, "--output", str(file)])
        assert "Table 1" not in file.read_text()
        assert result.exit_code == 0
        assert result.stdout == ""
        text = file.read_text()
        assert "Table 3. TiedSE on ImageNet-1k" in text
        assert "0.041 +0.001" in text


def test_the_ending_of_the_file_tells_its_format(tmp_path: Path) -> None:
    for ending, start in ((".md", "### Table 2."), (".json", "[\n {"), (".csv", "table,row,")):
        link = tmp_path / f"link{ending}"
        link.symlink_to(tmp_path / f"table{ending}")
        assert runner.invoke(app, ["table", "2", "--output", str(link)]).exit_code == 0
        assert (tmp_path / f"table{ending}").read_text().startswith(start)
        assert link.is_symlink()


def test_a_network_that_cannot_be_counted_does_not_hide_the_others() -> None:
    result = runner.invoke(app, ["models", "tied_resnet*_s", "--size", "20"])
    assert result.exit_code == 0
    assert re.search(r"tied_resnet14_s +20²", result.output)
    assert "tied_resnet50_s could not be counted: `input`" in result.output
    assert runner.invoke(app, ["models", "tied_resnet50", "--size", "20"]).exit_code == 1


def test_a_network_that_cannot_be_built_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build = registry.build

    def fails(name: str, **options: Any) -> nn.Module:
        if name == "tied_resnet50_s":
            raise RuntimeError("this network needs another package")
        return build(name, **options)

    monkeypatch.setattr(registry, "build", fails)
    result = runner.invoke(app, ["models", "tied_resnet*_s"])
    assert result.exit_code == 0
    assert re.search(r"tied_resnet14_s +32²", result.output)
    assert "tied_resnet50_s could not be built: this network needs another" in result.output


def test_an_error_without_words_is_reported_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(count, "measure", bare)
    result = runner.invoke(app, ["models", "tied_resnet14_s"])
    assert "tied_resnet14_s could not be counted: AssertionError" in result.output
    assert "AssertionError" in runner.invoke(app, ["summary", "tied_resnet14_s"]).output


def test_models_lists_ours_and_others() -> None:
    result = runner.invoke(app, ["models", "resnet50_s"], env={"COLUMNS": "80"})
    assert re.search(r"tied_resnet50_s +224² +13\.050 +2\.228 +2\.252", result.output)
    assert "tied_resnet50 " not in result.output
    result = runner.invoke(app, ["models", "resnet5?", "--size", "64"])
    assert re.search(r"resnet50 +64² +25\.557", result.output)
    assert set(registry.names()) >= set(registry.BASELINES)


def test_summary_shows_every_layer() -> None:
    result = runner.invoke(app, ["summary", "tied_resnet14_s"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    for layer in count.layers(registry.build("tied_resnet14_s"), 32):
        assert re.search(rf"{re.escape(layer.name)} ", result.output)
    assert re.search(r"layer1\.0\.conv2\.3 +TBC +8×16×16 +8 +9 +0\.0 +0\.02 +0\.1", result.output)
    assert "18.63 M MACs: the same." in result.output
    fitted = runner.invoke(
        app, ["summary", "tied_resnet14_s", "--set", "design=fitted", "--set", "num_classes=10"]
    )
    assert "mixer.4" in fitted.output
    assert "10,250" in fitted.output  # 1024 features to 10 classes


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["table", "7"], "7 is not 1 to 6, or all"),
        (["table", "1", "--output", "/no/such/folder/file"], "cannot be written"),
        (["models", "tied_resnt"], "did you mean tied_resnet50"),
        (["summary", "tied_resnt50"], "did you mean tied_resnet50"),
        (["summary", "tied_resnet50", "--set", "design=fited"], "did you mean 'fitted'"),
        (["summary", "tied_resnet50", "--set", "design"], "'design' is not OPTION=VALUE"),
        (["summary", "tied_resnet50", "--set", "groups=0"], "`groups` (=0) must be at least 1"),
        (["summary", "tied_resnet50", "--set", "pretrained=True"], "pretrained"),
        (["summary", "tied_resnet50", "--set", "output_stride=3"], "AssertionError"),
        (["table", "1", "--output", "/proc/file"], "cannot be written"),
        (["summary", "tied_resnet50", "--size", "20"], "at least 32x32"),
        (["summary", "resnet50", "--set", "depth=3"], "unexpected keyword argument 'depth'"),
    ],
)
def test_bad_arguments_end_with_one_clear_line(arguments: list[str], text: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
    assert text in said
    assert isinstance(result.exception, SystemExit)


def test_help_has_examples() -> None:
    for command in ("table", "models", "summary"):
        assert "Examples" in runner.invoke(app, [command, "--help"]).output
