"""Training, testing and using detectors: by their settings, and by the command."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from tbc_models import exporting
from tbc_models.data import InstanceData, Scenes
from tbc_models.detection.fpn import backbone_with_fpn
from tbc_models.detection.learner import DetectorLearner, SeededSampler
from tbc_models.detection.loading import DetectionImages, TrainingImages
from tbc_models.detection.recipes import DETECTION_RECIPES
from tbc_models.detection.run import read_detector, train_detector
from tbc_models.detection.settings import DetectionSettings, prepare_detection
from tbc_models.detection.testing import evaluate_detector
from tbc_models.networks.registry import create
from tbc_models.training.classifier import DivergedError
from tbc_models.training.launching import StoppedError
from tbc_models.training.settings import RunError
from tests.detection import chosen, few_scenes, go, scenes_as_coco
from tests.instances import make_cityscapes, make_coco, make_voc
from tests.runs import assert_equal, launched, refused, tbc


def test_a_batch_is_a_function_of_seed_and_epoch() -> None:
    images = TrainingImages(Scenes("train", 8), mirror=True, masks=True, seed=3)
    for key in ((0, 5), (1, 5)):
        assert_equal(list(images[key]), list(images[key]))
    flipped = [torch.equal(images[e, 5][0].flip(-1), images[0, 5][0]) for e in range(9)]
    same = [torch.equal(images[e, 5][0], images[0, 5][0]) for e in range(9)]
    assert any(flipped)
    assert [a or b for a, b in zip(flipped, same, strict=True)] == [True] * 9


def test_boxes_and_masks_are_mirrored_with_their_image() -> None:
    scenes = Scenes("train", 4)
    mirrored = TrainingImages(scenes, mirror=True, masks=True, seed=0)
    image, target = next(
        mirrored[e, 1] for e in range(20) if not torch.equal(mirrored[e, 1][0], mirrored[0, 1][0])
    )
    other_image, other = mirrored[0, 1]
    assert torch.equal(image, other_image.flip(-1))
    assert torch.equal(target["masks"], other["masks"].flip(-1))
    x1, y1, x2, y2 = other["boxes"].unbind(1)
    assert torch.equal(target["boxes"], torch.stack([96 - x2, y1, 96 - x1, y2], 1))
    assert type(target["boxes"]) is type(image) is torch.Tensor


def test_crowds_are_not_learned() -> None:
    class Crowded:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int, /) -> Any:
            image, target = Scenes("train", 1, objects=3)[index]
            return image, target | {"iscrowd": torch.tensor([0, 1, 0])}

    _, target = TrainingImages(Crowded(), mirror=False, masks=True, seed=0)[0, 0]
    whole = Scenes("train", 1, objects=3)[0][1]
    assert torch.equal(target["boxes"], whole["boxes"][[0, 2]])
    assert torch.equal(target["masks"], whole["masks"][[0, 2]])


def test_all_test_images_are_tested_once() -> None:
    loaders = DetectionImages(few_scenes(8, 5), 2, masks=True, mirror=False, seed=0)
    ids = [t["image_id"] for _, targets in loaders.val_dataloader() for t in targets]
    assert ids == [0, 1, 2, 3, 4]


def test_a_sample_depends_on_the_seed_of_its_image_alone() -> None:
    sampler = SeededSampler(BalancedPositiveNegativeSampler(8, 0.5))
    labels = [torch.tensor([1.0] * 20 + [0.0] * 20), torch.tensor([1.0] * 3 + [0.0] * 40)]
    before = torch.random.get_rng_state()
    sampler.seeds = [5, 6]
    positive, negative = sampler(labels)
    assert sampler.drawn == 16
    assert [int(mask.sum()) for mask in positive] == [4, 3]
    assert torch.equal(torch.random.get_rng_state(), before)
    sampler.seeds = [6]
    (alone,), (others,) = sampler(labels[1:])
    assert torch.equal(alone, positive[1])
    assert torch.equal(others, negative[1])
    sampler.seeds = [7]
    assert not torch.equal(sampler(labels[1:])[1][0], negative[1])


@pytest.mark.parametrize(("name", "drops"), [("1x", (8, 11)), ("2x", (16, 22))])
def test_recipes_are_those_of_the_papers_framework(name: str, drops: tuple[int, int]) -> None:
    recipe = DETECTION_RECIPES[name]
    assert (recipe.lr, recipe.batch_size, recipe.warmup) == (0.02, 16, 500)
    assert (recipe.min_size, recipe.max_size) == (800, 1333)
    rates = [recipe.rate(epoch * 1000, 1000) for epoch in range(recipe.epochs)]
    first, second = drops
    expected = [1.0] * first + [0.1] * (second - first) + [0.01] * (recipe.epochs - second)
    assert rates[1:] == expected[1:]
    assert recipe.rate(0, 1000) == pytest.approx(1 / 500)
    assert recipe.rate(249, 1000) == pytest.approx(0.5)


def test_the_warm_up_ends_with_the_first_epoch() -> None:
    recipe = DETECTION_RECIPES["1x"]
    assert [recipe.rate(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize("detector", ["retinanet", "cascade-mask-rcnn"])
def test_boxes_are_not_rounded_to_sixteen_bits(detector: str) -> None:
    settings = chosen(detector)
    built: Any = settings.build()
    DetectorLearner(built, settings.whole_recipe(), steps=2, seed=0, masks=settings.masks)
    built.eval()
    seen: list[torch.dtype] = []
    built.backbone.body.conv1.register_forward_hook(lambda *a: seen.append(a[-1].dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps = built.backbone(torch.zeros(1, 3, 96, 96))
        (found,) = built([Scenes("test", 1)[0][0] / 255])
    assert seen[0] == torch.bfloat16  # most of the work
    assert {x.dtype for x in maps.values()} == {torch.float32}  # the dtype of anchors
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def test_test_images_without_objects_still_have_a_best_epoch(tmp_path: Path) -> None:
    data = replace(few_scenes(), test=Scenes("test", 2, objects=0))
    settings = chosen("retinanet", epochs=1)
    row = train_detector(settings, data, tmp_path / "run", say=lambda _: None)
    assert row["test/box AP"] == -1
    assert (tmp_path / "run" / "best.ckpt").exists()


def test_the_rate_is_scaled_to_the_batch() -> None:
    data = few_scenes(32)
    assert prepare_detection("mask-rcnn", "resnet18", data, "1x", batch_size=4).lr == 0.005
    assert prepare_detection("retinanet", "resnet18", data, "1x").lr == 0.01
    assert prepare_detection("retinanet", "resnet18", data, "1x", lr=0.3).lr == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "yolo"}, r"`detector` \(='yolo'\) must be one of retinanet, faster-rcnn"),
        ({"backbone": "resnt18"}, "did you mean"),
        ({"backbone": "vit_tiny_patch16_224"}, "cannot be built on vit_tiny_patch16_224"),
        (
            {"data": replace(few_scenes(), masks=False)},
            "mask-rcnn learns masks, but scenes has none",
        ),
        (
            {"backbone": "tied_resnet14_s", "weights": "pretrained"},
            "timm has no trained weights of tied_resnet14_s",
        ),
        ({"max_size": 64}, r"`max_size` \(=64\) must be at least `min_size` \(=96\)"),
    ],
)
def test_settings_refuse(options: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"detector": "mask-rcnn", "backbone": "resnet18", "data": few_scenes()}
    asked |= options
    with pytest.raises(RunError, match=message):
        prepare_detection(**asked, recipe="small")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectionSettings, Path]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    settings = chosen()
    go(settings, out)
    return settings, out


def states(out: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    read = torch.load(out / "last.ckpt", weights_only=True)
    rows = read["callbacks"]["History"]["rows"]
    for row in rows:
        del row["images/s"]
    del read["loops"]
    return read, rows


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_bits(
    step: int,
    undisturbed: tuple[DetectionSettings, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, whole = undisturbed
    taken = 0
    sampled = SeededSampler.__call__

    def stop(self: SeededSampler, matched: list[torch.Tensor]) -> Any:
        nonlocal taken
        taken += 1
        if taken > 2 * step:  # the proposals and the heads each sample once a step
            raise KeyboardInterrupt
        return sampled(self, matched)

    monkeypatch.setattr(SeededSampler, "__call__", stop)
    with pytest.raises(StoppedError, match=f"stopped after step {step}; the last good checkpoint"):
        go(settings, tmp_path / "run")
    monkeypatch.undo()
    go(settings, tmp_path / "run", resume=True)
    assert_equal(list(states(tmp_path / "run")), list(states(whole)))
    one, other = (read_detector(out / "weights.safetensors") for out in (tmp_path / "run", whole))
    assert_equal(one.detector.state_dict(), other.detector.state_dict())


def test_what_a_run_reports_is_what_its_checkpoint_scores(
    undisturbed: tuple[DetectionSettings, Path],
) -> None:
    _, out = undisturbed
    _, rows = states(out)
    for file in ("last.ckpt", "weights.safetensors"):
        scores = evaluate_detector(read_detector(out / file), few_scenes())
        assert scores.mask is not None
        for kind, found in (("box", scores.box), ("mask", scores.mask)):
            for name, value in found.items():
                assert rows[-1][f"test/{kind} {name}"] == pytest.approx(value, abs=1e-6)


def test_another_run_in_the_folder_is_refused(undisturbed: tuple[DetectionSettings, Path]) -> None:
    settings, out = undisturbed
    with pytest.raises(RunError, match="already holds a run"):
        go(settings, out)
    with pytest.raises(RunError, match="started with detector 'mask-rcnn', not 'faster-rcnn'"):
        go(chosen("faster-rcnn"), out, resume=True)


def test_other_classes_are_refused(undisturbed: tuple[DetectionSettings, Path]) -> None:
    trained = read_detector(undisturbed[1] / "last.ckpt")
    others: InstanceData = replace(few_scenes(), classes=("cat", "dog"))
    with pytest.raises(RunError, match=r"has 2 classes \(cat, dog\), but the detector knows 10"):
        evaluate_detector(trained, others)
    with pytest.raises(RunError, match="mask-rcnn predicts masks, but scenes has none to compare"):
        evaluate_detector(trained, replace(few_scenes(), masks=False))


def test_a_checkpoint_of_another_kind_is_refused(
    undisturbed: tuple[DetectionSettings, Path], tmp_path: Path
) -> None:
    torch.save({"hyper_parameters": {"model": "resnet18"}}, tmp_path / "last.ckpt")
    assert "is not a checkpoint of `tbc detect train`" in refused(
        "detect", "evaluate", tmp_path / "last.ckpt", "--data", "scenes"
    )
    assert "is not a checkpoint of `tbc train`" in refused(
        "evaluate", undisturbed[1] / "last.ckpt", "--data", "digits"
    )


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"not finite after|loss is (nan|inf) at"):
        go(replace(chosen("retinanet"), lr=1e20, epochs=3), tmp_path / "run")


def test_weights_of_a_classifier_begin_a_backbone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = create("tied_resnet14_s", num_classes=3)
    file = tmp_path / "weights.safetensors"
    exporting.save(file, network, name="tied_resnet14_s", options={"num_classes": 3})
    settings = chosen(weights=file)
    body: Any = settings.build(file).backbone.body  # type: ignore[union-attr]
    kept = network.state_dict()
    for name, value in body.state_dict().items():
        assert torch.equal(value, kept[name]), name
    # The stem and the first stage are frozen, and so is batch normalisation in every stage.
    learning = [name for name, p in body.named_parameters() if p.requires_grad]
    assert learning
    assert not any(name.startswith(("conv1", "layer1")) or ".bn" in name for name in learning)
    assert settings.weights != chosen().weights == ""


def test_weights_of_another_network_are_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    file, out = tmp_path / "weights.safetensors", tmp_path / "run"
    exporting.save(file, create("resnet18"), name="resnet18")
    with pytest.raises(ValueError, match="has the weights of resnet18, not of tied_resnet14_s"):
        train_detector(chosen(weights=file), few_scenes(), out, weights=file)
    assert not out.exists()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    # With frozen batch normalisation: otherwise each process has statistics of its own.
    folder = scenes_as_coco(tmp_path / "scenes")
    weights = tmp_path / "weights.safetensors"
    exporting.save(weights, create("tied_resnet14_s"), name="tied_resnet14_s")
    moments = []
    for devices in (1, 2):
        out = tmp_path / f"on {devices}"
        arguments = ["--data", f"coco:{folder}", "--recipe", "small", "--weights", str(weights)]
        arguments += ["--batch-size", "8", "--epochs", "1", "--workers", "0"]
        arguments += ["--devices", str(devices), "--out", str(out)]
        launched("tbc_models", "detect", "train", *arguments)
        states = torch.load(out / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
        moments.append([state["exp_avg"] for state in states.values()])
    assert len(moments[0]) > 50
    for one, two in zip(*moments, strict=True):
        # Float32 sums in another order, through the whole detector: seen, 1.4e-4. With the mean of
        # both processes' losses, instead of that over all boxes, it is some per cent.
        assert (one - two).abs().max() <= 1e-3 * one.abs().max()


def test_the_command_trains_evaluates_and_predicts(tmp_path: Path) -> None:
    folder = scenes_as_coco(tmp_path / "scenes", train=4)
    out = tmp_path / "run"
    asked = ("--data", f"coco:{folder}", "--recipe", "small", "--detector", "cascade-mask-rcnn")
    told = tbc("detect", "train", *asked, "--epochs", 1, "--batch-size", 2, "--out", out)
    assert "cascade-mask-rcnn on tied_resnet14_s" in told
    assert "Trained: AP of boxes 0.0" in told
    assert {"last.ckpt", "best.ckpt", "metrics.csv", "curves.png", "weights.safetensors"} <= {
        file.name for file in out.iterdir()
    }
    report, curve = tmp_path / "ap.json", tmp_path / "curve.svg"
    told = tbc("detect", "evaluate", out / "last.ckpt", "--json", report, "--plot", curve)
    assert "2 test images" in told
    found = json.loads(report.read_text())
    assert set(found["box"]) == set(found["mask"]) == {"AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L"}
    assert curve.read_text().startswith("<?xml")
    # The folder may move.
    moved = folder.rename(tmp_path / "moved")
    assert "name it with --data" in refused("detect", "evaluate", out / "last.ckpt")
    tbc("detect", "evaluate", out / "last.ckpt", "--data", f"coco:{moved}")
    assert "Resuming" in tbc(
        *("detect", "train", *asked[2:], "--data", f"coco:{moved}", "--epochs", 1),
        *("--batch-size", 2, "--out", out, "--resume"),
    )

    grey, four = tmp_path / "grey.jpg", tmp_path / "four.jpg"
    Image.new("L", (70, 40), 128).save(grey)
    Image.new("CMYK", (96, 96)).save(four)
    (tmp_path / "bad.jpg").write_text("no image")
    objects = tmp_path / "objects.json"
    drawn = tmp_path / "drawn"
    arguments = ("detect", "predict", out / "weights.safetensors", grey, four)
    told = tbc(*arguments, "--score", 0, "--out", drawn, "--json", objects)
    assert f"Pictures are in {drawn}" in told
    for name, size in (("grey", (70, 40)), ("four", (96, 96))):
        with Image.open(drawn / f"{name}.png") as picture:
            assert picture.size == size
    for row in json.loads(objects.read_text())["images"]:
        for one in row["objects"]:
            assert one["class"] in "0123456789"
            assert one["mask"]["size"] == row["size"]
    assert "bad.jpg" in refused(*arguments, tmp_path / "bad.jpg", "--out", drawn)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "make", "detector", "own"),
    [
        ("coco", make_coco, "mask-rcnn", "masks"),
        ("voc", make_voc, "faster-rcnn", "VOC2010, area: AP50"),
        ("cityscapes", make_cityscapes, "cascade-mask-rcnn", "Cityscapes: AP"),
    ],
)
def test_a_tied_resnet50_learns_from_folders_in_every_format(
    kind: str, make: Callable[[Path], None], detector: str, own: str, tmp_path: Path
) -> None:
    make(tmp_path / "images")
    out = tmp_path / "run"
    asked = ("--data", f"{kind}:{tmp_path / 'images'}", "--detector", detector, "--epochs", 1)
    sizes = ("--min-size", 64, "--batch-size", 1, "--lr", 1e-4, "--workers", 0)
    tbc("detect", "train", *asked, "--backbone", "tied_resnet50_s", *sizes, "--out", out)
    assert own in tbc("detect", "evaluate", out / "last.ckpt", "--workers", 0)


def test_the_command_lists_detectors(tmp_path: Path) -> None:
    report = tmp_path / "costs.json"
    told = tbc("detect", "models", "--backbone", "resnet50", "--json", report)
    assert "44.45" in told
    rows = json.loads(report.read_text())["rows"]
    assert [row["detector"] for row in rows] == [
        *("retinanet", "faster-rcnn", "mask-rcnn", "cascade-rcnn", "cascade-mask-rcnn")
    ]
    assert (
        sum(rows[0][f"{part} parameters"] for part in ("backbone", "neck", "heads")) == 34_068_119
    )


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    exporting.save(file, create("tied_resnet14_s"), name="tied_resnet14_s")
    with pytest.raises(ValueError, match="has other shapes than tied_resnet14_s with these"):
        backbone_with_fpn("tied_resnet14_s", weights=file, strides=(4, 8), base_width=32)


def test_settings_are_what_a_checkpoint_can_hold() -> None:
    settings = chosen()
    assert DetectionSettings(**json.loads(json.dumps(asdict(settings)))) == settings
