"""Options of `tbc detect`, and the pictures that it draws."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from tbc_models.cli import app
from tbc_models.detection.plots import draw_objects, show_boxes
from tests.detection import scenes_as_coco
from tests.runs import refused, tbc


def test_options_reach_the_settings_and_bad_annotations_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scenes_as_coco(tmp_path / "scenes", train=2)
    file = folder / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    seen: list[Any] = []

    def caught(*run: Any, **_: Any) -> dict[str, float]:
        seen.append(run)
        return {"test/box AP": 0.0}

    monkeypatch.setattr("tbc_models.detection.run.train_detector", caught)
    asked = ["detect", "train", "--data", f"coco:{folder}", "--detector", "faster-rcnn"]
    asked += ["--recipe", "small", "--set", "base_width=32", "--min-size", "64"]
    assert "which has no area" in (told := refused(*asked))
    assert told.endswith("or skip it with --skip-bad")
    told = tbc(*asked, "--skip-bad")
    assert "Skipped bad annotations and images: 1\n" in told
    assert "annotation 1 has the bbox" in told
    tbc(*asked, "--skip-bad", "--no-mirror", "--max-size", "64", "--workers", "3")
    (first, data, *_), (second, _, _, machine) = seen
    assert len(data.train) == 2
    assert first.options == second.options == {"base_width": 32}
    assert (first.mirror, second.mirror) == (True, False)
    assert (first.min_size, first.max_size, second.max_size) == (64, 107, 64)
    assert machine.workers == 3
    told = refused(*asked, "--skip-bad", "--max-size", "63")
    assert told.endswith("choose others with --max-size or --min-size")
    told = refused(*asked, "--skip-bad", "--pretrained")
    assert "timm has no trained weights of tied_resnet14_s" in told
    assert len(seen) == 2


def test_a_picture_replaces_no_image_and_no_other_picture(tmp_path: Path) -> None:
    one, other, checkpoint = (tmp_path / name for name in ("a/1.png", "b/1.jpg", "last.ckpt"))
    for file in (one, other):
        file.parent.mkdir()
        Image.new("RGB", (96, 96)).save(file)
    checkpoint.touch()
    for images, out in (([one], one.parent), ([one, other], tmp_path / "c")):
        arguments = map(str, ("detect", "predict", checkpoint, *images, "--out", out))
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "1000"})
        assert result.exit_code == 2
        assert "would replace" in result.output


def test_labels_grow_with_their_image() -> None:
    heights = []
    for side in (100, 2000):
        image, box = (
            torch.zeros(3, side, side, dtype=torch.uint8),
            torch.tensor([[0, 0, side, side]]),
        )
        labelled, bare = (np.asarray(draw_objects(image, box, [x])) for x in ("cat", ""))
        heights.append(np.ptp(np.flatnonzero((labelled != bare).any((1, 2)))))
    assert 5 < heights[0] < 15
    assert heights[1] > 30


def test_boxes_are_outlined_in_the_pixels_of_their_image() -> None:
    boxes = torch.tensor([[10.0, 5, 50, 25], [0, 0, 60, 40]])
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    axes = Figure().subplots()
    show_boxes(axes, image, boxes, ["cat", "dog"], colours=["red", "white"], lw=3)
    assert axes.get_xlim() == (0, 60)
    assert axes.get_ylim() == (40, 0)
    outlines: list[Any] = list(axes.patches)
    corners = [outline.get_bbox().get_points().ravel().tolist() for outline in outlines]
    assert corners == boxes.tolist()
    assert [patch.get_edgecolor()[1] for patch in axes.patches] == [0, 1]
    assert {patch.get_linewidth() for patch in axes.patches} == {3}
    assert [text.get_position() for text in axes.texts] == [(10, 5), (60, 0)]
    bare = show_boxes(Figure().subplots(), None, boxes[:1])
    assert (len(bare.images), len(bare.patches), len(bare.texts)) == (0, 1, 0)
