"""`tbc detect occlusion`."""

import json
from pathlib import Path

import pytest
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from tbc_models.cli import app
from tbc_models.data.scenes import open_scenes_in_bins
from tbc_models.detection.occlusion import BINS, measure_occlusion
from tbc_models.detection.occlusion_plots import MAIN, TITLES, occlusion_conclusions
from tbc_models.detection.run import read_detector
from tbc_models.results import committed
from tests.detection import scenes_as_coco
from tests.runs import refused, tbc

TIED, PLAIN = "mask-rcnn-tied_resnet14_s-scenes", "mask-rcnn-plain_resnet14-scenes"


def misused(*arguments: str) -> str:
    """What is said of options that no command can have, as one line."""
    command = ["detect", "occlusion", *arguments]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "1000"})
    assert result.exit_code == 2, result.output
    return result.output


def test_it_prints_plots_and_writes_what_it_measured(tmp_path: Path) -> None:
    json_file, plot = tmp_path / "r.json", tmp_path / "r.png"
    told = tbc(
        *("detect", "occlusion", PLAIN, TIED, "--scenes", "10", "--bins", "0,0.1,0.5"),
        *("--resamples", "100", "--json", str(json_file), "--plot", str(plot)),
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    report = json.loads(json_file.read_text())
    assert report["images"] == 20
    assert report["command"].startswith("tbc")
    assert report["machine"]["torch"]
    for what in MAIN:
        assert TITLES[what] in told
    sentences = occlusion_conclusions(report)
    assert len(sentences) == 4
    for sentence in sentences:
        assert sentence in told


def test_images_without_objects_or_in_no_bin_are_counted(tmp_path: Path) -> None:
    folder = scenes_as_coco(tmp_path / "scenes", train=2, test=4)
    file = folder / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] > 1]
    file.write_text(json.dumps(content))
    told = tbc("detect", "occlusion", TIED, "--data", f"coco:{folder}", "--bins", "0,0.000001")
    left_out = next(line for line in told.splitlines() if "left out" in line)
    assert 1 <= int(left_out.split()[0]) <= 3
    assert "1 images have no objects: their r is 0." in told


def test_without_a_detector_it_shows_the_readings(tmp_path: Path) -> None:
    folder = scenes_as_coco(tmp_path / "scenes", train=2)
    told = tbc("detect", "occlusion", "--data", f"coco:{folder}")
    assert "boxes, pairs / sum" in told
    assert "masks, covered / union" in told
    assert "Over all 4 images" in told


def test_it_refuses_what_it_cannot_do_before_any_work(tmp_path: Path) -> None:
    assert "give a detector, or images with --data" in misused()
    for bins in ("0.3,0.1", "0.2", "-1,1"):
        told = refused("detect", "occlusion", PLAIN, f"--bins={bins}")
        assert "must be two or more ascending numbers from 0" in told
    assert "'0,x' must be numbers with commas" in misused(PLAIN, "--bins", "0,x")
    told = refused("detect", "occlusion", PLAIN, "--bins", "0,1.2,2")
    assert "cannot be reached with 3 digits" in told
    assert told.endswith("choose other edges with --bins")
    assert "never overlap: choose boxes" in misused(PLAIN, "--of", "masks")
    folder = str(scenes_as_coco(tmp_path / "scenes"))
    assert "is for --data scenes" in misused(PLAIN, "--data", f"coco:{folder}", "--scenes", "9")
    for option in ("--bins=0,1", "--of=masks", "--total=union", "--score=0.1"):
        assert "it needs a detector" in misused("--data", f"coco:{folder}", option)


def test_what_is_no_detector_is_refused_by_name(tmp_path: Path) -> None:
    told = refused("detect", "occlusion", "nothing.ckpt")
    assert f"nothing.ckpt does not exist; the detectors that ship are {PLAIN} and {TIED}" in told
    assert f"{tmp_path} is a folder: name a file in it" in refused("detect", "occlusion", tmp_path)


def test_the_help_names_the_bins() -> None:
    told = CliRunner().invoke(app, ["detect", "occlusion", "--help"], env={"COLUMNS": "1000"})
    assert f"[default: {','.join(f'{edge:g}' for edge in BINS)}]" in told.output


@pytest.mark.slow
def test_the_shipped_detectors_give_the_committed_curve() -> None:
    stored = committed("occlusion-shipped")
    assert stored is not None
    detectors = [read_detector(PLAIN), read_detector(TIED)]
    found = measure_occlusion(detectors, open_scenes_in_bins(BINS, 250))
    keys = ("detector", "bin", "what")
    for ours, theirs in zip(found["rows"], stored["rows"], strict=True):
        assert [ours[key] for key in keys] == [theirs[key] for key in keys]
        # Another processor rounds otherwise, and a detection near a threshold can change sides.
        assert_allclose(ours["value"], theirs["value"], atol=0.01)
