"""`tbc gradcam` and `tbc focus`."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_allclose
from PIL import Image
from typer.testing import CliRunner

from tbc_models.analysis.controls import weights_digest
from tbc_models.analysis.focus_plots import focus_conclusions
from tbc_models.analysis.gradcam import grad_cam
from tbc_models.cli import app
from tbc_models.cli.opened import open_network
from tbc_models.results import committed
from tests.runs import DIGITS, refused, tbc

PLAIN, TIED = "resnet20.cifar10", "tbc_resnet20.cifar10"
IMAGES = Path(__file__).parent / "images"
HORSE, SHIP = IMAGES / "cifar10-horse.png", IMAGES / "cifar10-ship.png"


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where gradcam.png is written


def misused(*arguments: object) -> str:
    command = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "1000"})
    assert result.exit_code == 2, result.output
    return result.output


def boxes_file(folder: Path, **boxes: list[float]) -> Path:
    """Boxes of the horse and the ship; a class can have one."""
    names = [HORSE.name, SHIP.name]
    content = {
        "images": [
            {"id": i, "file_name": f"val/{name}", "width": 32, "height": 32}
            for i, name in enumerate(names)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(boxes)],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": i, "bbox": box}
            for i, box in enumerate(boxes.values())
        ],
    }
    file = folder / "boxes.json"
    file.write_text(json.dumps(content))
    return file


def test_it_draws_prints_and_writes_what_grad_cam_gives(tmp_path: Path) -> None:
    told = tbc("gradcam", PLAIN, TIED, HORSE, SHIP, "--json", tmp_path / "maps.json")
    assert (tmp_path / "gradcam.png").read_bytes().startswith(b"\x89PNG")
    assert told.splitlines()[-1] == "The maps are in gradcam.png."
    report = json.loads((tmp_path / "maps.json").read_text())
    assert [(row["network"], row["class"]) for row in report["rows"]] == [
        (PLAIN, "horse"),
        (PLAIN, "ship"),
        (TIED, "horse"),
        (TIED, "ship"),
    ]
    assert {one["layer"] for one in report["networks"]} == {"layer4"}
    opened = open_network(TIED)
    prepared = opened.preprocessing.prepared(Image.open(SHIP))
    expected = float(grad_cam(opened.network, prepared).probabilities[0])
    assert_allclose(
        report["rows"][3]["probability"], expected, rtol=1e-5
    )  # batches round otherwise
    assert f"{expected:.1%}" in told


def test_a_class_is_named_or_numbered_and_a_layer_chosen(tmp_path: Path) -> None:
    for target in ("Cat", "3"):
        options = ("--target", target, "--layer", "layer3", "--json", tmp_path / "maps.json")
        assert "cat" in tbc("gradcam", PLAIN, HORSE, *options, "--plot", "cat.svg")
        report = json.loads((tmp_path / "maps.json").read_text())
        assert report["rows"][0]["index"] == 3
        assert report["networks"][0]["layer"] == "layer3"
    assert (tmp_path / "cat.svg").exists()
    told = refused("gradcam", PLAIN, HORSE, "--target", "10")
    assert "`target` (=10) must be from 0 to 9" in told
    assert "did you mean horse?" in misused("gradcam", PLAIN, HORSE, "--target", "hrse")
    assert "'--5' must be the name of a class" in misused("gradcam", PLAIN, HORSE, "--target=--5")
    told = refused("gradcam", PLAIN, HORSE, "--layer", "layr3")
    assert "`layer` (='layr3') is not a layer of the network; did you mean layer3" in told


def test_a_name_of_two_classes_is_refused() -> None:
    """ImageNet has two cranes."""
    torch.save(timm.create_model("mobilenetv2_035").state_dict(), "weights.pth")
    told = misused("gradcam", "mobilenetv2_035=weights.pth", HORSE, "--target", "crane")
    assert "'crane' is the name of 2 classes: give the index (134, crane: large long-nec" in told
    assert "; 517, crane: lifts and moves heavy objects" in told


def test_boxes_give_energy_and_pointing(tmp_path: Path) -> None:
    """A box that is the whole image holds everything, and one of another class does not count."""
    file = boxes_file(tmp_path, horse=[0, 0, 32, 32], ship=[0, 0, 4, 4])
    told = tbc("gradcam", PLAIN, HORSE, SHIP, "--boxes", file, "--json", "maps.json")
    horse, ship = json.loads((tmp_path / "maps.json").read_text())["rows"]
    assert (horse["energy"], horse["share"], horse["pointing"]) == (1, 1, 1)
    assert "energy" not in ship
    assert "–" in next(line for line in told.splitlines() if "ship" in line)
    file = boxes_file(tmp_path, horse=[0, 0, 16, 32])
    tbc("gradcam", PLAIN, HORSE, "--boxes", file, "--json", "maps.json")
    (half,) = json.loads((tmp_path / "maps.json").read_text())["rows"]
    opened = open_network(PLAIN)
    heat = grad_cam(opened.network, opened.preprocessing.prepared(Image.open(HORSE))).maps[0]
    assert_allclose(half["energy"], float(heat[:, :16].sum() / heat.sum()), rtol=1e-5)
    assert half["share"] == 0.5


def test_folders_and_image_files_are_images_and_the_rest_networks(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for file in (HORSE, SHIP):
        (folder / file.name).write_bytes(file.read_bytes())
    Image.open(HORSE).save(tmp_path / "horse", format="png")  # without a suffix
    told = tbc("gradcam", folder, PLAIN, tmp_path / "horse")
    assert told.count(PLAIN) == 3
    assert "name at least one network" in refused("gradcam", HORSE)
    assert f"name at least one image: {PLAIN}, {TIED} were taken" in refused("gradcam", PLAIN, TIED)
    assert "name resnet20.cifar10 once" in refused("gradcam", PLAIN, PLAIN, HORSE)
    assert "nothing.png cannot be read" in refused("gradcam", PLAIN, "nothing.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert "broken.jpg is truncated or not an image" in refused("gradcam", PLAIN, "broken.jpg")
    (tmp_path / "run").mkdir()
    assert "run has no images" in refused("gradcam", PLAIN, tmp_path / "run")
    assert "resnet21.cifar10" in refused("gradcam", "resnet21.cifar10", HORSE)
    assert "name at most 24 images, not 25" in refused("gradcam", PLAIN, *[HORSE] * 25)


def test_boxes_of_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    file = boxes_file(tmp_path, horse=[0, 0, 16, 32])
    content = json.loads(file.read_text())
    for image, folder in zip(content["images"], "ab", strict=True):
        image["file_name"] = f"{folder}/x.png"
    file.write_text(json.dumps(content))
    for folder in "abc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(HORSE.read_bytes())
    tbc("gradcam", PLAIN, "a/x.png", "b/x.png", "--boxes", file, "--json", "maps.json")
    first, second = json.loads((tmp_path / "maps.json").read_text())["rows"]
    assert first["share"] == 0.5
    assert "share" not in second
    told = refused("gradcam", PLAIN, "c/x.png", "--boxes", file)
    assert "c/x.png may be a/x.png or b/x.png" in told
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "x.png", "y.png"
    file.write_text(json.dumps(content))
    told = refused("gradcam", PLAIN, "b/x.png", "c/x.png", "--boxes", file)
    assert "x.png may be b/x.png or c/x.png" in told


def test_boxes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = boxes_file(tmp_path, horse=[0, 0, 40, 32])
    assert "must lie within the image of 32×32" in refused("gradcam", PLAIN, HORSE, "--boxes", file)
    other = IMAGES / "cifar10-airplane.png"
    file = boxes_file(tmp_path, horse=[0, 0, 32, 32])
    told = misused("gradcam", PLAIN, other, "--boxes", file)
    assert "has no image named cifar10-airplane.png" in told
    file.write_text("{}")
    assert "is not in COCO's format" in refused("gradcam", PLAIN, HORSE, "--boxes", file)
    assert "nothing.json cannot be read" in refused(
        "gradcam", PLAIN, HORSE, "--boxes", "nothing.json"
    )
    assert "must end in .png" in misused("gradcam", PLAIN, HORSE, "--plot", "maps.txt")


def photographs(folder: Path, number: int = 6) -> str:
    """Photographs of noise with a ship in each, as COCO has them."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    annotations = []
    for i in range(number):
        picture = random.integers(0, 255, (96, 128, 3), np.uint8)
        x, y = (int(place) for place in random.integers(0, 60, 2))
        ship = Image.open(SHIP).convert("RGB").resize((36, 36))
        picture[y : y + 36, x : x + 36] = np.asarray(ship)
        Image.fromarray(picture).save(folder / "images" / f"{i}.png")
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": [x, y, 36, 36]})
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 128, "height": 96} for i in range(number)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "boat"}],
    }
    for split in ("train", "val"):
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    return f"coco:{folder}"


def test_focus_measures_photographs(tmp_path: Path) -> None:
    data = photographs(tmp_path / "boats")
    options = ("--controls", "2", "--resamples", "100", "--json", "f.json", "--plot", "f.png")
    told = tbc("focus", PLAIN, TIED, "--data", data, *options)
    report = json.loads((tmp_path / "f.json").read_text())
    assert report["data"] == "coco:boats"
    assert report["ids"] == {"train": list(range(6)), "test": list(range(6))}
    assert str(tmp_path) not in json.dumps({**report, "command": ""})
    assert [part["name"] for part in report["parts"]] == ["all", "ship", "recognised"]
    assert report["parts"][0]["objects"] == 12
    sentences = focus_conclusions(report)
    assert len(sentences) == 14  # of two networks, three controls each, and of their difference
    for sentence in sentences:
        assert sentence in told
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_focus_refuses_networks_that_do_not_fit(tmp_path: Path) -> None:
    told = refused("focus", PLAIN, "--data", "scenes")
    assert "does not know the classes of scenes, the digits 0 to 9" in told
    data = photographs(tmp_path / "boats", 1)
    tbc(*DIGITS, "--epochs", "1", "--out", tmp_path / "run")
    trained = tmp_path / "run" / "last.ckpt"
    told = refused("focus", PLAIN, trained, "--data", data)
    assert "must know the same classes and see images of the same size" in told
    (tmp_path / "other" / "run").mkdir(parents=True)
    same = tmp_path / "other" / "run" / "last.ckpt"
    tbc(*DIGITS, "--epochs", "1", "--lr", "0.05", "--out", same.parent)
    told = refused("focus", trained, same, "--data", data)
    assert "two networks are called run and differ in more than their seed" in told
    tbc("gradcam", trained, same, HORSE, "--json", "maps.json")
    rows = json.loads((tmp_path / "maps.json").read_text())["rows"]
    assert [row["network"] for row in rows] == [str(trained), str(same)]
    controls = [open_network(str(trained)).untrained(seed) for seed in (0, 1, 0)]
    digests = [weights_digest(control) for control in controls]
    assert digests[0] == digests[2] != digests[1]
    assert "no box of coco:" in refused("focus", trained, "--data", data)
    assert f"{PLAIN} is named twice" in refused("focus", PLAIN, PLAIN, "--data", data)
    assert "is for --data scenes" in misused("focus", PLAIN, "--data", data, "--scenes", "9")
    assert "choose one of scenes" in refused("focus", PLAIN, "--data", "photos")


def test_the_committed_results_are_of_the_networks_that_ship() -> None:
    report = committed("focus-photographs")
    assert report is not None
    for network in report["networks"]:
        opened = open_network(network["name"])
        assert network["parameters"] == sum(p.numel() for p in opened.network.parameters())
