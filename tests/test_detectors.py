"""The detectors: their parts, their sizes, and a step of each on each backbone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.ops import box_iou

from tbc_models.data import Scenes
from tbc_models.detection import (
    backbone_with_fpn,
    cascade_mask_rcnn,
    cascade_rcnn,
    faster_rcnn,
    mask_rcnn,
    retinanet,
)
from tbc_models.detection.cascade import CascadeRoIHeads
from tbc_models.detection.cost import detector_cost
from tbc_models.detection.detectors import DETECTORS, MASKED
from tbc_models.detection.masks import paste_masks
from tbc_models.detection.run import TrainedDetector, read_detector, save_detector
from tbc_models.detection.settings import prepare_detection
from tests.detection import few_scenes

BACKBONES = ("resnet50", "tied_resnet50", "tied_resnet50_s", "tied_gc_resnet50")


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("build", "extra", "strides", "trainable", "frozen"),
    [
        # torchvision's published counts are those with frozen batch normalisation.
        (retinanet, "p6p7", (8, 16, 32), 34_068_119, 34_014_999),
        (faster_rcnn, "pool", (4, 8, 16, 32), 41_808_406, 41_755_286),
        (mask_rcnn, "pool", (4, 8, 16, 32), 44_454_513, 44_401_393),
    ],
)
def test_on_resnet50_they_have_torchvisions_counts(
    build: Any, extra: str, strides: tuple[int, ...], trainable: int, frozen: int
) -> None:
    with torch.device("meta"):
        assert parameters(build("resnet50", 91)) == trainable
        body = backbone_with_fpn("resnet50", extra=extra, strides=strides, frozen_norm=True)
        assert parameters(build(body, 91)) == frozen


def test_a_cascade_has_the_count_of_the_papers_framework() -> None:
    # mmdetection lists Cascade R-CNN on ResNet-50 with 69.17 M trained parameters: with 81 classes,
    # and without its frozen stem and first stage.
    with torch.device("meta"):
        body = backbone_with_fpn("resnet50", extra="pool", frozen_stages=2)
        detector = cascade_rcnn(body, 81)
    trained = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    assert round(trained / 1e6, 2) == 69.17


def test_the_maps_of_a_pyramid_are_torchvisions() -> None:
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).backbone.eval()
    ours = backbone_with_fpn("resnet50", extra="pool").eval()
    # Both call the layers of a ResNet and of a pyramid by the same names.
    assert not ours.body.load_state_dict(theirs.body.state_dict()).missing_keys
    ours.fpn.load_state_dict(theirs.fpn.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(ours(image).values(), theirs(image).values(), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["tied_efficientnet_b0", "tied_resnest50_s", "tied_resnext50_s"])
def test_any_backbone_becomes_a_pyramid(name: str) -> None:
    pyramid = backbone_with_fpn(name, out_channels=8).eval()
    with torch.no_grad():
        maps = pyramid(torch.randn(1, 3, 64, 64))
    assert [tuple(x.shape) for x in maps.values()] == [
        (1, 8, 64 // s, 64 // s) for s in (4, 8, 16, 32)
    ]


def test_stages_are_frozen_from_the_images_on() -> None:
    body = backbone_with_fpn("tied_resnet50_s", frozen_stages=2).body
    frozen = {name.partition(".")[0] for name, p in body.named_parameters() if not p.requires_grad}
    learning = {name.partition(".")[0] for name, p in body.named_parameters() if p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert learning == {"layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "tied_resnt50"}, "did you mean"),
        ({"strides": (4, 64)}, r"`strides` \(=\(4, 64\)\) must be strides of features of"),
        ({"extra": "p6"}, r"`extra` \(='p6'\) must be"),
        ({"frozen_stages": 9}, r"`frozen_stages` \(=9\) must be from 0 to 5"),
        ({"name": "hrnet_w18", "frozen_stages": 1}, r"`frozen_stages` \(=1\) must be 0"),
        ({"weights": Path("/no/such/file")}, "No such file"),
    ],
)
def test_a_pyramid_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        backbone_with_fpn(**{"name": "tied_resnet50_s"} | options)


def test_a_detector_needs_a_class() -> None:
    for build in DETECTORS.values():
        with pytest.raises(ValueError, match=r"`num_classes` \(=1\) must be at least 2"):
            build("tied_resnet14_s", 1)


def pictures(sizes: list[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def objects(*boxes: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, Tensor]:
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(1, len(boxes) + 1),
        "masks": masks,
    }


FEW = {"rpn_post_nms_top_n_train": 50, "box_batch_size_per_image": 16}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_learns_detects_and_is_saved(
    detector: str, backbone: str, tmp_path: Path
) -> None:
    settings = prepare_detection(
        detector, backbone, few_scenes(), "1x", batch_size=2, min_size=96, max_size=128
    )
    built = settings.build()
    sizes = [(96, 96), (64, 96)]
    targets = [
        objects((8, 8, 60, 70), (50, 20, 90, 80), size=sizes[0]),
        objects(size=sizes[1]),  # an image without objects
    ]
    losses = built(pictures(sizes), targets)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    built.eval()
    save_detector(tmp_path / "weights.safetensors", TrainedDetector(settings, built))
    again = read_detector(tmp_path / "weights.safetensors")
    assert again.settings == settings
    with torch.no_grad():
        found, restored = built(pictures(sizes)), again.detector(pictures(sizes))
    for image, other, size in zip(found, restored, sizes, strict=True):
        for key, value in image.items():
            torch.testing.assert_close(value, other[key], rtol=0, atol=0)
        n = len(image["scores"])
        assert image["boxes"].shape == (n, 4)
        if detector in MASKED:
            assert image["masks"].shape == (n, 1, *size)


def test_a_cascade_of_one_stage_is_torchvisions_faster_rcnn() -> None:
    torch.manual_seed(0)
    theirs = faster_rcnn("tied_resnet14_s", 5, small=True, box_score_thresh=0.0)
    body = theirs.backbone
    ours: FasterRCNN = cascade_rcnn(
        body,
        5,
        small=True,
        box_score_thresh=0.0,
        ious=(0.5,),
        box_weights=((10.0, 10.0, 5.0, 5.0),),
        loss_weights=(1.0,),
    )
    ours.rpn.load_state_dict(theirs.rpn.state_dict())
    (stage,) = ours.roi_heads.stages
    stage.box_head.load_state_dict(theirs.roi_heads.box_head.state_dict())
    stage.box_predictor.cls_score.load_state_dict(
        theirs.roi_heads.box_predictor.cls_score.state_dict()
    )
    # The same box for every class is what class-agnostic means.
    regression = theirs.roi_heads.box_predictor.bbox_pred
    with torch.no_grad():
        regression.weight.copy_(stage.box_predictor.bbox_pred.weight.repeat(5, 1))
        regression.bias.copy_(stage.box_predictor.bbox_pred.bias.repeat(5))
    sizes = [(96, 96), (96, 96)]
    images = pictures(sizes)
    targets = [objects((8, 8, 60, 70), (50, 20, 90, 80), size=sizes[0]), objects(size=sizes[1])]
    losses = []
    for detector in (theirs.eval(), ours.eval()):
        detector.rpn.train()  # batch normalisation stays as it is, and each samples alike
        detector.roi_heads.train()
        detector.training = True
        torch.manual_seed(1)
        losses.append(detector(images, targets))
        detector.eval()
    for name in ("loss_objectness", "loss_rpn_box_reg"):
        torch.testing.assert_close(losses[0][name], losses[1][name])
    for name in ("loss_classifier", "loss_box_reg"):
        torch.testing.assert_close(losses[0][name], losses[1][f"{name}_1"])
    with torch.no_grad():
        found = [detector(images) for detector in (theirs, ours)]
    assert len(found[0][0]["scores"]) == 100
    for one, other in zip(*found, strict=True):
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-5)


def test_each_stage_of_a_cascade_is_stricter_and_starts_from_the_boxes_before() -> None:
    torch.manual_seed(0)
    detector = cascade_mask_rcnn("tied_resnet14_s", 5, small=True)
    heads: CascadeRoIHeads = detector.roi_heads
    seen: list[list[Tensor]] = []
    pool = heads.box_roi_pool.forward

    def pooled(x: Any, boxes: list[Tensor], shapes: Any) -> Any:
        seen.append(boxes)
        return pool(x, boxes, shapes)

    heads.box_roi_pool.forward = pooled
    (image,) = pictures([(96, 96)])
    losses = detector([image], [objects((8, 8, 60, 70), (50, 20, 90, 80), size=(96, 96))])
    stages: Any = heads.stages
    assert [stage.matcher.high_threshold for stage in stages] == [0.5, 0.6, 0.7]
    assert len(seen) == 3
    assert not torch.equal(seen[0][0], seen[1][0])
    assert all(not own.requires_grad for boxes in seen for own in boxes)
    assert set(losses) == {
        *("loss_objectness", "loss_rpn_box_reg", "loss_mask"),
        *(f"loss_{part}_{n}" for part in ("classifier", "box_reg") for n in (1, 2, 3)),
    }
    # At first every class is as likely as any other: the losses show the weights of the stages.
    first, second, third = (float(losses[f"loss_classifier_{n}"].detach()) for n in (1, 2, 3))
    assert first == pytest.approx(math.log(5), rel=0.2)
    assert second / first == pytest.approx(0.5, rel=0.2)
    assert third / first == pytest.approx(0.25, rel=0.2)


def test_a_cascade_averages_the_probabilities_of_its_stages() -> None:
    torch.manual_seed(0)
    detector = cascade_rcnn("tied_resnet14_s", 3, small=True).eval()
    logits = torch.tensor([[0.0, 1, 2], [2, 0, 1], [1, 3, 0]])
    stages: Any = detector.roi_heads.stages
    with torch.no_grad():
        for stage, same in zip(stages, logits, strict=True):  # for every box
            stage.box_predictor.cls_score.weight.zero_()
            stage.box_predictor.cls_score.bias.copy_(same)
        (found,) = detector(pictures([(96, 96)]))
    expected = logits.softmax(1).mean(0)
    assert set(found["labels"].tolist()) == {1, 2}
    torch.testing.assert_close(found["scores"], expected[found["labels"]])


def test_images_without_objects_and_boxes_of_one_pixel_give_finite_losses() -> None:
    torch.manual_seed(0)
    size = (96, 96)
    for name, build in DETECTORS.items():
        detector = build("tied_resnet14_s", 3, small=True)
        for targets in ([objects(size=size)], [objects((40, 40, 41, 41), size=size)]):
            losses = detector(pictures([size]), targets)
            assert all(bool(value.isfinite()) for value in losses.values()), name


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_parts_of_a_cost_are_the_whole(detector: str) -> None:
    cost = detector_cost(detector, "tied_resnet50_s")
    with torch.device("meta"):
        whole = DETECTORS[detector]("tied_resnet50_s", 91)
    assert sum(part.parameters for part in cost) == parameters(whole)


def test_the_macs_of_a_retinanet_head_follow_from_its_maps() -> None:
    # Two branches of four 3x3 convolutions of 256 channels; one more to 91 and to 4 numbers of 9
    # anchors.
    positions = sum(math.ceil(800 / s) * math.ceil(1344 / s) for s in (8, 16, 32, 64, 128))
    macs = positions * 9 * 256 * (8 * 256 + 9 * (91 + 4))
    assert detector_cost("retinanet", "resnet50").heads.macs == macs


def test_a_cost_refuses_another_detector() -> None:
    with pytest.raises(ValueError, match=r"`detector` \(='yolo'\) must be one of retinanet,"):
        detector_cost("yolo", "resnet50")


@pytest.mark.slow
def test_each_stage_of_a_cascade_improves_the_boxes_and_its_losses_fall() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    scenes = Scenes("train", 16)
    images = [scenes[i][0] / 255 for i in range(len(scenes))]
    targets = [scenes[i][1] for i in range(len(scenes))]
    detector = cascade_rcnn("tied_resnet14_s", 11, small=True)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    history: list[dict[str, float]] = []
    for step in range(160):
        chosen = [(8 * step + i) % 16 for i in range(8)]
        losses = detector([images[i] for i in chosen], [targets[i] for i in chosen])
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    for name in history[0]:
        if name.startswith("loss_classifier"):
            before, after = (sum(h[name] for h in part) for part in (history[5:15], history[-10:]))
            assert after < 0.7 * before, name

    # The proposals that overlap an object, and the boxes that the stages make of them.
    entered: list[list[Tensor]] = []
    heads: Any = detector.roi_heads
    pool = heads.box_roi_pool.forward

    def pooled(x: Any, boxes: list[Tensor], shapes: Any) -> Any:
        entered.append(boxes)
        return pool(x, boxes, shapes)

    heads.box_roi_pool.forward = pooled
    refined: list[list[Tensor]] = []
    detector.eval()
    with torch.no_grad():
        for image, target in zip(images, targets, strict=True):
            entered.clear()
            decoded: list[Tensor] = []
            last = heads.stages[-1]
            decode = last.box_coder.decode
            last.box_coder.decode = lambda *a, d=decode, to=decoded: to.append(d(*a)) or to[-1]
            detector([image])
            last.box_coder.decode = decode
            boxes = [*(own[0] for own in entered), decoded[0][:, 0]]
            overlaps = [box_iou(own, target["boxes"]) for own in boxes]
            near, which = overlaps[0].max(1)
            refined.append(
                [own[near > 0.5].gather(1, which[near > 0.5, None])[:, 0] for own in overlaps]
            )
    proposals, *stages = (float(torch.cat(own).mean()) for own in zip(*refined, strict=True))
    assert proposals < stages[0]
    assert stages[0] <= stages[1] + 0.002  # each at least as good as the one before
    assert stages[1] <= stages[2] + 0.002


@pytest.mark.parametrize("scale", [1, 2])
def test_masks_are_pasted_where_they_were_cut(scale: int) -> None:
    # The true masks, cut as a mask head learns them, come back to their places.
    scenes = Scenes("test", 20)
    overlaps: dict[str, list[Tensor]] = {"ours": [], "torchvision's": []}
    for _, target in (scenes[i] for i in range(len(scenes))):
        masks, boxes = target["masks"], target["boxes"]
        large = masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        cut = project_masks_on_boxes(large, boxes * scale, torch.arange(len(boxes)), 28)[:, None]
        for name, pasted in (
            ("ours", paste_masks(cut, boxes, (96, 96), (scale, scale))),
            ("torchvision's", paste_masks_in_image(cut, boxes, (96, 96))),
        ):
            found, true = pasted[:, 0] > 0.5, masks.bool()
            both, either = (m.flatten(1).sum(1) for m in (found & true, found | true))
            overlaps[name].append(both / either)
    ours, theirs = (torch.cat(values) for values in overlaps.values())
    assert ours.mean() > 0.98
    assert ours.min() > 0.9
    assert theirs.mean() < 0.9


def test_a_mask_beyond_the_image_is_cut_off() -> None:
    boxes = torch.tensor([[-4.0, -4, 4, 4], [6, 2, 30, 5], [20, 20, 30, 30], [3, 3, 3.2, 3.2]])
    pasted = paste_masks(torch.ones(4, 1, 28, 28), boxes, (8, 10))
    assert pasted.shape == (4, 1, 8, 10)
    assert pasted.flatten(1).sum(1).tolist() == [16, 12, 0, 0]
