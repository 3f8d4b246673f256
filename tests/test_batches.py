"""What a network is fed, and how fast it learns: batches, augmentation, recipes."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR
from torchvision.transforms import v2

from tbc_models.data import open_data
from tbc_models.training.classifier import Classifier, average
from tbc_models.training.loading import (
    Augmented,
    Batches,
    LabelledImages,
    ResumableLoader,
    seed_of,
)
from tbc_models.training.recipes import RECIPES, optimizer, to_evaluate, to_train
from tbc_models.training.settings import prepare

from .runs import DIGITS, tbc


@given(
    images=st.integers(1, 50),
    batch=st.integers(1, 50),
    ranks=st.integers(1, 4),
    epoch=st.integers(0, 3),
    first=st.integers(0, 60),
)
def test_batches_are_a_function_of_seed_and_epoch(
    images: int, batch: int, ranks: int, epoch: int, first: int
) -> None:
    def batches(rank: int = 0, ranks: int = 1, first: int = 0) -> list[list[tuple[int, int]]]:
        sampler = Batches(images, batch, seed=7, rank=rank, ranks=ranks)
        sampler.set_epoch(epoch)
        sampler.first = first
        return list(sampler)

    whole = batches()
    seen = [index for one in whole for _, index in one]
    assert len(whole) == images // batch
    assert len(set(seen)) == len(seen) == len(whole) * batch
    assert set(seen) <= set(range(images))
    parts = [batches(rank, ranks) for rank in range(ranks)]
    assert [sorted(chain.from_iterable(together)) for together in zip(*parts, strict=True)] == [
        sorted(one) for one in whole
    ]
    assert batches(first=first) == whole[first:]


def test_every_epoch_has_another_order_and_another_augmentation() -> None:
    data = open_data("digits")
    images = Augmented(data.train, to_train(RECIPES["small"], data, 16), seed=0)
    orders = []
    for epoch in (0, 1):
        batches = Batches(100, 100, seed=0)
        batches.set_epoch(epoch)
        orders.append([index for one in batches for _, index in one])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    same = [torch.equal(images[0, i][0], images[1, i][0]) for i in range(20)]
    assert sum(same) < 10
    assert all(torch.equal(images[3, i][0], images[3, i][0]) for i in range(20))


def test_an_augmentation_leaves_the_generator_as_it_was() -> None:
    data = open_data("digits")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    _ = Augmented(data.train, to_train(RECIPES["strong"], data, 16), seed=0)[0, 5]
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_another_stopped(workers: int) -> None:
    data = open_data("digits")

    def loader() -> ResumableLoader:
        images = LabelledImages(data, RECIPES["strong"], seed=1, size=16, workers=workers)
        return images.train_dataloader()

    one = loader()
    one.batch_sampler.set_epoch(4)
    through = iter(one)
    _ = next(through), next(through)
    state = one.state_dict()
    assert state == {"epoch": 4, "batch": 2}  # though workers hold more
    rest = list(through)
    other = loader()
    other.load_state_dict(state)
    again = list(other)
    assert len(again) == len(rest) == len(one.batch_sampler) - 2
    for (x, y), (x_again, y_again) in zip(rest, again, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)


def test_a_loader_has_a_state_before_its_first_batch() -> None:
    loader = LabelledImages(open_data("digits"), RECIPES["small"], seed=0).train_dataloader()
    assert loader.state_dict() == {"epoch": 0, "batch": 0}
    loader.load_state_dict({"epoch": 2, "batch": 5})
    assert loader.state_dict() == {"epoch": 2, "batch": 5}


def test_numbers_of_another_length_give_another_seed() -> None:
    numbers = [(0,), (0, 0), (0, 0, 0), (1, 0), (0, 1), (11,), (1, 1), (2**32,), (0, 2**32)]
    assert len({seed_of(*own) for own in numbers}) == len(numbers)
    assert all(0 <= seed_of(*own) < 2**63 for own in numbers)


def test_images_are_mirrored_only_if_the_settings_say_so() -> None:
    data = replace(open_data("digits"), mirror=True)
    settings = prepare("tied_resnet14_s", data, "small", size=16)
    assert settings.mirror
    assert not prepare("tied_resnet14_s", data, "small", size=16, mirror=False).mirror
    assert not prepare("tied_resnet14_s", open_data("digits"), "small", size=16).mirror
    for mirror in (True, False):
        transform: Any = to_train(RECIPES["small"], replace(settings, mirror=mirror), 16)
        flips = [t for t in transform.transforms if isinstance(t, v2.RandomHorizontalFlip)]
        assert len(flips) == mirror


def test_images_to_test_with_are_cut_as_usual() -> None:
    data = open_data("digits")
    whole, cut = (to_evaluate(RECIPES[name], data, 8) for name in ("small", "paper"))
    image: Any = data.test[0][0]
    normalised = (image / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(whole(image), normalised, rtol=0, atol=1e-6)
    assert tuple(cut(image).shape) == (1, 8, 8)  # of 9 x 9, enlarged
    assert not torch.equal(cut(image), whole(image))


def rates(recipe: Any, steps: int) -> list[float]:
    sgd, schedule = optimizer(nn.Linear(1, 1), recipe, steps)
    found = []
    for _ in range(recipe.epochs * steps):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    return found


def test_the_papers_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    sgd, _ = optimizer(nn.Linear(1, 1), paper, 2)
    group = sgd.param_groups[0]
    assert (paper.epochs, paper.batch_size, paper.lr) == (100, 256, 0.1)
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-4, False)
    torchs = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    steps = MultiStepLR(torchs, [30, 60, 90])
    expected = []
    for _ in range(100):
        expected += [torchs.param_groups[0]["lr"]] * 2
        torchs.step()
        steps.step()
    assert rates(paper, 2) == pytest.approx(expected)


def test_a_cosine_is_torchs_after_the_warm_up() -> None:
    recipe = replace(RECIPES["small"], epochs=10, warmup=0.2)
    found = rates(recipe, 5)
    assert found[:10] == pytest.approx([recipe.lr * step / 10 for step in range(10)])
    torchs = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=recipe.lr)
    cosine = CosineAnnealingLR(torchs, T_max=40)
    expected = []
    for _ in range(40):
        expected.append(torchs.param_groups[0]["lr"])
        torchs.step()
        cosine.step()
    assert found[10:] == pytest.approx(expected)


def test_the_rate_is_scaled_to_the_batch_and_said_so(tmp_path: Path) -> None:
    data = open_data("digits")
    assert prepare("tied_resnet14_s", data, "paper", size=16, batch_size=512).lr == 0.2
    assert prepare("tied_resnet14_s", data, "paper", size=16, batch_size=512, lr=0.3).lr == 0.3
    printed = tbc(*DIGITS, "--epochs", 1, "--batch-size", 512, "--out", tmp_path / "run")
    assert "learning rate 0.4 (0.1 × 512/128, for this batch size)" in printed


def test_a_step_is_torchs_own() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 1, 2, 2), torch.randint(0, 4, (8,))
    recipe = replace(RECIPES["paper"], label_smoothing=0.1)
    learner = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), recipe, classes=4, steps=1, seed=0
    )
    expected = F.cross_entropy(learner.network(x), y, label_smoothing=0.1)
    assert torch.equal(learner.loss(learner(x), y), expected)


def test_mixup_mixes_images_and_labels_alike() -> None:
    recipe = replace(RECIPES["strong"], batch_size=6)
    learner = Classifier(nn.Flatten(), recipe, classes=6, steps=1, seed=0)
    images = torch.eye(6).reshape(6, 1, 2, 3)
    torch.manual_seed(0)
    mixed, targets = learner.mix(images, torch.arange(6))
    assert torch.allclose(mixed.flatten(1), targets)  # image i was the unit vector of class i
    assert 0 < float(targets.max(1).values.min()) < 1


def test_the_average_forgets_its_start() -> None:
    learner = nn.Linear(2, 2, bias=False)
    callback: Any = average(0.9)
    averaged = torch.optim.swa_utils.AveragedModel(learner, **callback._kwargs)
    history = []
    for step in range(40):
        nn.init.constant_(learner.weight, step)
        history.append(float(step))
        averaged.update_parameters(learner)
    expected = history[0]
    for n, value in enumerate(history[1:], start=1):
        kept = min(0.9, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * value
    weights: Any = averaged.module
    assert weights.weight[0, 0].item() == pytest.approx(expected, rel=1e-5)
