"""The ledger: rows are complete, commands and pages exist, and numbers are those of the files."""

import json
import re
import shlex
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import typer
from rich.cells import cell_len
from safetensors import safe_open
from typer.testing import CliRunner

from tbc_models import results
from tbc_models.cli import app
from tbc_models.networks.pretrained import shipped_networks
from tbc_models.networks.registry import build
from tbc_models.paper import ledger as made
from tbc_models.paper.claims import MEANINGS, Claim, LedgerRow, Status
from tbc_models.paper.claims.checked import checked, modules
from tbc_models.paper.reported import TABLES
from tests.runs import refused, tbc

ROOT = Path(__file__).parent.parent
CLAIMS = {claim.id: claim for claim in made.claims()}


@cache
def row(name: str) -> LedgerRow:
    return CLAIMS[name].check()


def report(name: str) -> dict[str, Any]:
    """Read a committed report by hand."""
    return json.loads((ROOT / "docs" / "_results" / f"{name}.json").read_text())  # type: ignore[no-any-return]


def numbers(text: str) -> list[str]:
    """The numbers in a text, with a hyphen for the minus."""
    return re.findall(r"[+-]?\d[\d,]*(?:\.\d+)?", text.replace("−", "-"))


# What is there


def test_there_are_many_rows_and_each_has_its_own_id() -> None:
    claims = made.claims()
    assert len(claims) >= 80
    assert [name for name, n in Counter(claim.id for claim in claims).items() if n > 1] == []
    for claim in claims:
        assert re.fullmatch(r"[A-Za-z0-9-]+", claim.id), claim.id
        assert all([claim.says, claim.where, claim.command, claim.page]), claim.id
    says = Counter((claim.where, claim.says) for claim in claims)
    assert [text for text, n in says.items() if n > 1] == []


def test_every_row_of_every_table_is_there_once_with_all_its_numbers() -> None:
    places = Counter(claim.where for claim in CLAIMS.values())
    for number, table in TABLES.items():
        for name in table.rows:
            where = f"Table {number}, {name}"
            assert places[where] == 1
            (claim,) = (c for c in CLAIMS.values() if c.where == where)
            printed = [n.printed for n in table if n.row == name]
            values = [part.split() for part in claim.says.split(", ")]
            assert [next(w for w in words if w in printed) for words in values] == printed
        assert f"table-{number}-accuracies" in CLAIMS
    rows = sum(len(table.rows) for table in TABLES.values())
    assert rows == 40  # taken from the paper by hand: 19, 3, 8, 4, 4 and 2
    assert sum(claim.where.startswith("Table ") for claim in CLAIMS.values()) == rows + len(TABLES)


def test_every_figure_and_equation_is_there() -> None:
    for kind, last in (("Fig. ", 9), ("Eq. (", 5)):
        found = {
            int(digits[0])
            for c in CLAIMS.values()
            if (digits := re.findall(r"\d", c.where.removeprefix(kind))) and kind in c.where
        }
        assert found == set(range(1, last + 1))


def test_what_the_paper_gets_wrong_is_there_with_both_numbers() -> None:
    both = {
        "imagenet-gains": ("1.5", "1.4"),
        "imagenet-10-percent": ("10", "14", "12"),
        "imagenet-59-percent": ("59", "60"),
        "abstract-6-percent": ("6", "5.9"),
        "attention-gcb-gains": ("1.8", "1.4", "16", "4"),
        "table-1-ResNeXt101-32x4d": ("88.8", "44.18"),
        "table-4-TiedGCB-B-4": ("1.3", "13", "0.65"),
        "equation-4-shapes": ("16", "8"),
        "imagenet-s-beats": ("76.2", "0.0"),
        "ablation-2-splits": ("0.4", "0.34", "0.40"),
        "attention-better": ("77.1", "0.0"),
        "bottleneck-1-percent": ("0.5", "1.4"),
        "ablation-best-top-5": ("93.62", "93.66"),
    }
    for name, wanted in both.items():
        found = row(name)
        assert found.status is Status.contradicts, name
        for number in wanted:
            assert number in numbers(f"{found.says} {found.ours}"), (name, number)


def test_every_section_is_known_and_every_status_explained() -> None:
    assert {made.section(claim.where) for claim in CLAIMS.values()} == set(made.SECTIONS)
    assert list(MEANINGS) == list(Status)
    assert [made.SECTIONS.index(made.section(c.where)) for c in CLAIMS.values()] == sorted(
        made.SECTIONS.index(made.section(c.where)) for c in CLAIMS.values()
    )


# Commands and pages


def parsed(command: str) -> None:
    """Raise an error if a command line is none: its command, its options and their values."""
    words = shlex.split(command)
    if words[:2] == ["python", "-m"]:
        assert find_spec(words[2]), command
        return
    assert words[0] == "tbc", command
    found: Any = typer.main.get_command(app)
    context = found.make_context("tbc", words[1:])
    while hasattr(found, "commands"):
        rest = [*context._protected_args, *context.args]
        name, found, rest = found.resolve_command(context, rest)
        context = found.make_context(name, rest, parent=context)
    values = context.params
    if name == "summary":
        assert timm.is_model(values["name"]), command
    if name == "table":
        assert values["number"] in map(str, TABLES), command
    if name == "ledger":
        made.claims(values["where"])


@pytest.mark.parametrize("name", CLAIMS)
def test_the_command_of_a_claim_exists(name: str) -> None:
    parsed(CLAIMS[name].command)


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "_results").glob("*.json")), ids=str)
def test_the_command_of_a_report_exists(file: Path) -> None:
    parsed(json.loads(file.read_text())["command"])


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("tbc tables 1", "No such command"),
        ("tbc check --operators SC", "No such option"),
        ("tbc check --operator XYZ", "'XYZ' is not one of"),
        ("tbc summary nope", "nope"),
        ("tbc table 9", "9"),
        ("tbc ledger --where 'Fig. 99'", "must be part of a place"),
        ("tbc detect train", "Missing parameter"),
        ("tcb check", "tcb check"),
        ("python -m tests.conformances", "tests.conformances"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str, error: str) -> None:
    with pytest.raises(Exception, match=error):
        parsed(command)


def anchors(page: Path) -> set[str]:
    """The targets of a page: its headings as MyST names them, and targets of their own."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set(re.findall(r"^\((.+)\)=$", text, re.MULTILINE))
    for heading in re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("name", CLAIMS)
def test_the_page_of_a_claim_exists_with_its_anchor(name: str) -> None:
    file, _, anchor = CLAIMS[name].page.partition("#")
    page = ROOT / file if file.startswith("tutorials/") else ROOT / "docs" / file
    assert page.is_file(), file
    assert not anchor or anchor in anchors(page), f"{page} has no #{anchor}"


# Numbers, computed here in another way


def test_counts_are_those_of_the_networks() -> None:
    def count(name: str, part: str = "", **options: Any) -> int:
        own = build(name, **options).named_parameters()
        return sum(p.numel() for n, p in own if part in n)

    assert f"{count('tied_resnet50_s') / 1e6:.2f} M" in row("table-2-TiedResNet50-S").ours
    fitted = count("tied_resnet50_s", design="fitted") / 1e6
    assert f"fitted: params {fitted:.2f} M ({fitted - 13.9:+.2f})" in row(
        "table-2-TiedResNet50-S"
    ).ours.replace("−", "-")
    for name in ("seresnet50", "tied_seresnet50"):
        assert f"{count(name, '.se.'):,}" in row("abstract-64-times").ours
    vgg, paper = count("vgg16"), row("related-12-times")
    assert f"VGG-16 {vgg / 1e6:.1f} M" in paper.ours
    assert vgg > 61.1e6  # AlexNet
    assert paper.status is Status.otherwise
    se = 2_530_992 / count("seresnet50")  # as worked out by hand: tests/test_tables.py
    assert f"SE {100 * se:.1f} % of SE-ResNet-50" in row("related-10-percent").ours
    # A thin filter of 16 from 16 channels, once; and a full one of 64 from 64, over 16.
    assert row("figure-2").ours.startswith("layer1.0.conv1 of ResNet-20: 2,304 parameters, tied")
    assert "9,216" in row("tbc-gc-parameters").ours
    assert row("figure-3-macs").ours.startswith(f"{2048 * 32 * 9 * 56**2 / 1e9:.2f} G MACs")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("table-3-SEResNet-50-TiedSE-B-8", Status.exact),
        ("table-3-EfficientNet-B0-SE", Status.otherwise),  # 0.637 M for 0.65
        ("table-4-GCB", Status.exact),
        ("table-4-Mask-R-CNN", Status.unmeasurable),
        ("table-2-TiedResNet50", Status.fits),
        ("table-5-2sx48w", Status.otherwise),
        ("table-5-8sx18w", Status.otherwise),  # 23.85 M fits 23.8, 4.52 G MACs do not fit 4.4
        ("table-1-TiedSENet101", Status.otherwise),  # 41.82 M fits 41.8, 8.62 G MACs not 9.1
        ("table-1-TiedResNet101", Status.fits),
        ("table-1-GhostNet-50-s-2", Status.untried),
        ("table-6-accuracies", Status.unmeasurable),
    ],
)
def test_the_status_of_a_table_row_follows_from_its_counts(name: str, status: Status) -> None:
    assert row(name).status is status


def test_numbers_of_checks_are_those_of_the_file() -> None:
    own = [r for r in report("check")["rows"] if r["operator"] == "TBC"]
    suites = report("conformance")["suites"]
    compared = sum(
        s["comparisons"].get(f"{p}, TBC", 0) for s in suites for p in ("tbc_ref", "tbc_gpu")
    )
    ours = row("equation-3").ours
    assert f"{sum(r['cases'] for r in own):,} random cases of TBC" in ours
    assert f"{compared} comparisons" in ours
    assert row("equation-3").status is Status.exact
    assert row("equation-3").command == report("check")["command"]


def test_numbers_of_occlusion_are_those_of_the_file() -> None:
    differences = report("occlusion-scenes")["differences"]
    (change,) = (d for d in differences if d["what"] == "box AP" and d["bin"] is None)
    last = [d for d in differences if d["what"] == "box AP" and d["bin"] is not None][-1]
    found = numbers(row("occlusion-gain-grows").ours)
    for key in ("value", "low", "high", "seeds_low", "seeds_high"):
        assert f"{100 * change[key]:+.1f}" in found
        assert f"{100 * last[key]:+.1f}" in numbers(row("figure-7a").ours)
    grows = change["low"] > 0 and change["seeds_low"] > 0
    ahead = last["low"] > 0 and last["seeds_low"] > 0
    assert (row("occlusion-gain-grows").status is Status.small) == (grows and ahead)
    assert (row("figure-7a").status is Status.small) == ahead
    counts = [r["from 0.8"] for r in report("occlusion-coco")["rows"]]
    assert f"{min(counts)} to {max(counts)} have r" in row("equation-5").ours


def test_numbers_of_times_and_trainings_are_those_of_the_files() -> None:
    times = [r["times"] for r in report("blocks-cpu")["rows"] if r["operator"] == "GC"]
    ratios = sorted(t["32"][0] / t["1"][0] for t in times)
    assert f"GC takes {ratios[0]:.2f} to {ratios[-1]:.2f} times" in row("figure-3").ours
    split = {s["network"]: s for s in report("ablation-splits")["statistics"]}
    mean = 100 * split["2s48w"]["difference"]["mean"]
    assert f"is {mean:+.2f} [" in row("ablation-2-splits-in-small").ours
    runs = report("compare-mnist")["runs"]
    pair = {
        name: [r["top1"] for r in runs if r["network"] == name]
        for name in ("TBC B=4, 32-60-120-120", "GC G=4, 16-32-64-64")
    }
    tied, group = (sum(top1) / len(top1) for top1 in pair.values())
    assert f"mnist B = 4 {100 * (tied - group):+.2f} [" in row("abstract-better-than-gc").ours
    mixer = {n["name"]: n for n in report("ablation-mixer")["networks"]}
    more = mixer["concatenate"]["parameters"] - mixer["sum"]["parameters"]
    assert f"with +{more / 1000:.1f} k parameters" in row("bottleneck-sum").ours
    steps = [
        r["ms"]["tied_block_conv2d"][0] / r["ms"]["SC"][0]
        for r in report("layers-cpu")["rows"]
        if r["case"]["training"] and r["case"]["layout"] == "channels_last"
        if (r["case"]["kernel_size"], r["case"]["blocks"]) == (3, 4)
    ]
    if not (ROOT / "docs" / "_results" / "layers-cuda.json").exists():
        mean = sum(steps) / len(steps)
        assert f"{mean:.2f} at B = 4" in row("introduction-memory-access").ours
    found = [
        s["difference"]["mean"] * (s["p_holm"] < 0.05)
        for name in ("compare-mnist", "compare-digits")
        for s in report(name)["statistics"]
        if s["network"].startswith("TBC ") and s["panel"] == "macs" and "difference" in s
    ]
    better, worse = sum(n > 0 for n in found), sum(n < 0 for n in found)
    assert f"of {len(found)} comparisons with SC at equal MACs" in row("summary-consistent").ours
    assert f"TBC is better in {better} and worse in {worse};" in row("summary-consistent").ours
    (file,) = (one.file for one in shipped_networks() if one.name == "resnet20.cifar10")
    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
    top1 = 100 * facts["correct"] / facts["images"]
    assert f"{top1:.1f} % top-1; tied" in row("introduction-frameworks").ours
    tying = report("tying-cifar10")["rows"][0]
    assert f"{100 * tying['at_once']:.1f} % top-1" in row("introduction-reuse").ours


def test_a_check_whose_report_does_not_have_it_is_not_tried() -> None:
    for find in (checked("XYZ"), modules("Nope", Status.exact)):
        assert (find().status, find().ours) == (Status.untried, "not measured yet")


def test_catching_up_is_not_a_lead_that_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = report("occlusion-scenes")
    for last, status in ((-0.01, Status.otherwise), (0.02, Status.small)):
        for difference in scenes["differences"]:
            value = 0.2 if difference["bin"] is None else last
            difference |= dict.fromkeys(("value", "low", "high"), value)
            difference |= dict.fromkeys(("seeds_low", "seeds_high"), value)
        swap(monkeypatch, tmp_path, occlusion_scenes=scenes)
        assert CLAIMS["figure-7b-grows"].check().status is status


def test_times_on_a_cpu_say_nothing_about_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap(monkeypatch, tmp_path, blocks_cpu=report("blocks-cpu"), layers_cpu=report("layers-cpu"))
    for name in ("figure-3", "tbc-gc-fragmentation", "introduction-memory-access"):
        found = CLAIMS[name].check()
        assert found.status is Status.untried
        assert found.ours.startswith("on a CPU")
        assert found.ours.endswith("not measured on a GPU yet")


@pytest.mark.parametrize(
    ("high", "more", "status"),
    [(0.003, 1, Status.small), (0.005, 1, Status.otherwise), (0.003, 0, Status.otherwise)],
)
def test_a_trade_off_weighs_parameters(
    high: float, more: int, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = report("ablation-mixer")
    for network in mixer["networks"]:
        network["parameters"] = 1000 + more * (network["name"] != "sum")
    for one in mixer["statistics"][1:]:
        one["difference"] = {"mean": 0.0, "low": -0.003, "high": high}
    mixer["statistics"][2]["difference"]["high"] = 0.1  # without a mixer: no rival here
    swap(monkeypatch, tmp_path, ablation_mixer=mixer)
    assert CLAIMS["bottleneck-sum"].check().status is status


def swap(monkeypatch: pytest.MonkeyPatch, folder: Path, **changed: dict[str, Any]) -> None:
    """Put other reports in place of the committed ones; the rest is gone."""
    for name, content in changed.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content))
    monkeypatch.setattr(results, "COMMITTED", folder)


def test_another_report_changes_number_status_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, blocks = report("occlusion-scenes"), report("blocks-cpu")
    for difference in scenes["differences"]:
        if difference["what"] == "box AP" and difference["bin"] is not None:
            difference |= {"value": 0.123, "low": 0.1, "high": 0.15}
            difference |= {"seeds_low": 0.11, "seeds_high": 0.14}
    for one in blocks["rows"]:
        factor = 16 if one["operator"] == "GC" else 1
        one["times"] = {n: [1 + factor * (int(n) - 1) / 32] * 3 for n in one["times"]}
        if one["operator"] == "TBC":
            one["times"]["32"] = [1.1] * 3
    scenes["command"] = "tbc detect occlusion other.ckpt"
    blocks["machine"]["gpu"] = "a GPU"
    swap(monkeypatch, tmp_path, occlusion_scenes=scenes, blocks_cuda=blocks)
    found = CLAIMS["figure-7a"].check()
    assert found.status is Status.small
    assert "+12.3 [+10.0, +15.0]" in found.ours
    assert found.command == "tbc detect occlusion other.ckpt"
    assert CLAIMS["figure-3"].check().status is Status.small
    assert "TBC takes 1.10 times" in CLAIMS["figure-3"].check().ours


def test_without_reports_claims_are_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap(monkeypatch, tmp_path)
    for name in (
        *("equation-1", "equation-5", "figure-3", "figure-7a", "figure-7c-masks", "figure-1a"),
        *("figure-8", "figure-9", "figure-5b", "abstract-significantly-better"),
        *("ablation-splits", "bottleneck-mixer", "introduction-reuse", "occlusion-ap75-drops"),
        *("detection-always", "occlusion-gain-grows", "tbc-gc-fragmentation"),
    ):
        found = CLAIMS[name].check()
        assert (found.status, found.ours) == (Status.untried, "not measured yet"), name
        assert found.command == CLAIMS[name].command
    assert CLAIMS["figure-2"].check().status is Status.exact  # counted, not read


def similarity(plain: list[float], tied: list[float]) -> dict[str, Any]:
    rows = []
    for network, means in (("resnet20", plain), ("tbc_resnet20", tied)):
        for weights in ("trained", "untrained"):
            for depth, mean in enumerate(means):
                about = {"network": network, "weights": weights, "seed": 0, "layer": f"conv{depth}"}
                rows.append(about | {"depth": depth, "mean": mean})
    return {"command": "tbc similarity a b", "method": "text", "rows": rows}


@pytest.mark.parametrize(
    ("plain", "tied", "depth", "less"),
    [
        ([0.1, 0.4], [0.05, 0.3], Status.small, Status.small),
        ([0.4, 0.1], [0.3, 0.3], Status.otherwise, Status.otherwise),
        ([0.1, 0.4], [0.05, 0.5], Status.small, Status.otherwise),
    ],
)
def test_similarity_is_read_from_its_reports(
    plain: list[float],
    tied: list[float],
    depth: Status,
    less: Status,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swap(monkeypatch, tmp_path, similarity_cifar=similarity(plain, tied))
    first, ninth = CLAIMS["figure-1a"].check(), CLAIMS["figure-9"].check()
    assert (first.status, ninth.status) == (depth, less)
    assert f"{plain[0]:.2f} to {plain[1]:.2f} trained" in first.ours
    assert f"{plain[0]:.2f} to {plain[1]:.2f} untrained" in first.ours
    mean = sum(ours - theirs for ours, theirs in zip(tied, plain, strict=True)) / 2
    assert f"{mean:+.3f}" in ninth.ours.replace("−", "-")
    assert ninth.command == "tbc similarity a b"


def test_similarity_by_other_methods_is_told_but_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falls = similarity([0.4, 0.1], [0.5, 0.2]) | {"gradient": "ordinary"}
    swap(monkeypatch, tmp_path, similarity_ordinary=falls)
    assert CLAIMS["figure-1a"].check().status is Status.untried
    swap(monkeypatch, tmp_path, similarity_cifar=similarity([0.1, 0.4], [0.05, 0.3]))
    for name in ("figure-1a", "figure-9"):
        found = CLAIMS[name].check()
        assert found.status is Status.small
        assert "(ordinary gradients)" in found.ours


def test_similarity_is_paired_by_seed_and_by_the_names_of_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(network: str, means: dict[tuple[str, int], float]) -> list[dict[str, Any]]:
        return [
            {"network": network, "weights": "trained", "layer": layer, "seed": seed}
            | {"depth": depth, "mean": mean}
            for depth, ((layer, seed), mean) in enumerate(means.items())
        ]

    def found(tied: str, ours: dict[tuple[str, int], float]) -> str:
        theirs = {("a", 1): 0.5, ("a", 0): 0.1, ("b", 0): 0.3}
        made = {"command": "tbc similarity a b", "method": "text"}
        made["rows"] = rows("untied_net", theirs) + rows(tied, ours)  # type: ignore[assignment]
        swap(monkeypatch, tmp_path, similarity_mixed=made)
        return CLAIMS["figure-9"].check().ours.replace("−", "-")

    # Seeds in another order, one of them without a partner: 0.3 - 0.5, and nothing for seed 7.
    assert "1 of 1 layers, on average -0.200" in found("tbc_x", {("a", 7): 0.0, ("a", 1): 0.3})
    # Other names and as many of them: by rank, and over the seed that all layers have.
    assert "2 of 2 layers, on average -0.050" in found("tied_x", {("c", 0): 0.05, ("d", 0): 0.25})
    # Other names and more of them: only the shared one.
    more = {("c", 0): 0.0, ("b", 0): 0.2, ("d", 0): 0.0}
    assert "1 of 1 layers, on average -0.100" in found("net_tied_x", more)


@pytest.mark.parametrize(("low", "status"), [(0.01, Status.small), (-0.01, Status.otherwise)])
def test_focus_is_read_from_its_reports(
    low: float, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"network": "tbc_resnet20", "part": "all", "what": "energy", "high": 0.09}
    rows = [about | {"minus": minus, "value": 0.05, "low": low} for minus in ("plain", "untrained")]
    found = {"command": "tbc focus a b", "networks": [{"name": "plain"}], "differences": rows}
    found["data"] = "scenes"
    swap(monkeypatch, tmp_path, focus_scenes=found)
    eighth = CLAIMS["figure-8"].check()
    assert eighth.status is status
    assert eighth.ours.count("+0.050") == 2
    assert eighth.command == "tbc focus a b"


# The command and the page


def test_the_command_prints_what_it_writes(tmp_path: Path) -> None:
    file = tmp_path / "ledger.json"
    told = tbc("ledger", "--where", "Eq. (")
    tbc("ledger", "--where", "equations", "--json", file)
    written = json.loads(file.read_text())
    assert written["command"].startswith("tbc")
    assert len(written["rows"]) == sum(claim.where.startswith("Eq. (") for claim in CLAIMS.values())
    words = " ".join(told.split())
    for one in written["rows"]:
        assert one["status"] in set(Status)
        for key in ("id", "says", "ours", "command"):
            assert " ".join(one[key].split()) in words
    counts = Counter(one["status"] for one in written["rows"])
    assert written["summary"] == {status: counts[status] for status in Status if counts[status]}
    assert f"{len(written['rows'])} rows: {counts['exact']} exact" in words
    assert max(cell_len(line) for line in told.splitlines()) <= 80


def test_rows_can_be_chosen_by_status() -> None:
    printed = tbc("ledger", "--where", "eq.", "--status", "contra", "--json", "-")
    written = json.loads(printed[printed.index("{") :])
    assert {one["status"] for one in written["rows"]} == {"contradicts itself"}
    assert "equation-4-shapes" in {one["id"] for one in written["rows"]}
    assert "0 rows: none has this status." in tbc(
        "ledger", "--where", "Fig. 2", "--status", "not t"
    )


def test_what_cannot_be_chosen_is_refused(tmp_path: Path) -> None:
    told = refused("ledger", "--where", "Fig. 99")
    assert "`where` (='Fig. 99') must be part of a place in the paper: Abstract, " in told
    result = CliRunner().invoke(app, ["ledger", "--status", "not"], env={"COLUMNS": "1000"})
    assert result.exit_code == 2
    assert (
        "not must be one of: not measurable without ImageNet or COCO; not tried." in result.output
    )
    result = CliRunner().invoke(app, ["ledger", "--json", str(tmp_path / "no" / "file.json")])
    assert result.exit_code == 2


def test_outside_a_clone_the_ledger_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "COMMITTED", tmp_path / "nothing")
    told = refused("ledger", "--where", "Eq. (1)")
    assert "the project's own results are part of its repository" in told


def test_the_page_has_every_row_and_escapes_what_markdown_would_read() -> None:
    found = Claim("a", "Abstract", "X * W [1]", CLAIMS["figure-2"].find, "tbc check", "install.md")
    text = made.as_markdown([found.check(), row("figure-2")])
    assert r": X \* W \[1\]" in text
    assert ": Fig. 2: For two maps" in text
    assert "{#a}" in text
    assert "{#figure-2}" in text
    assert "(#figure-2)" in text
    for status, meaning in MEANINGS.items():
        assert f"`{status}` **{2 if status is Status.exact else 0}**: {meaning}" in text


@pytest.mark.slow
def test_every_claim_can_be_checked() -> None:
    done: list[tuple[int, int]] = []
    rows = made.ledger(progress=lambda i, n: done.append((i, n)))
    assert done[-1] == (len(CLAIMS), len(CLAIMS))
    assert [one.id for one in rows] == list(CLAIMS)
    assert set(made.summary(rows)) == set(Status)
    assert sum(made.summary(rows).values()) == len(rows)
    (resnext,) = (one for one in rows if one.id == "table-1-TiedResNeXt101-S")
    assert resnext.status is Status.contradicts
    for number in ("65", "72", "78", "88"):
        assert number in numbers(resnext.ours)
    for one in rows:
        assert one.ours
        assert "nan" not in one.ours
        assert not re.search(r"(docs|runs|tmp|home)/\S+ (?!--)", one.ours)
        parsed(one.command)
