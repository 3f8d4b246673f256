"""The networks of tbc compare: equal budgets, counted right."""

from typing import Any

import pytest
import torch
from torch import nn

from tbc_gpu import TiedBlockConv2d
from tbc_models import count
from tbc_models.comparing import networks as compare
from tbc_models.comparing.networks import (
    FAMILIES,
    MOST,
    WIDTHS,
    ImageShape,
    SmallTrunk,
    families,
    trunk_cost,
)

from .comparisons import DIGITS, MNIST


@pytest.mark.parametrize("images", [MNIST, DIGITS, ImageShape(3, 32, 100)])
@pytest.mark.parametrize("budget", ["parameters", "macs"])
@pytest.mark.parametrize("scale", ["small", "large"])
def test_budgets_are_equal_and_counted_right(budget: Any, images: ImageShape, scale: Any) -> None:
    networks = families([budget], images, scale)
    assert len(networks) == len(FAMILIES)
    for network in networks:
        of_sc = getattr(network, budget) / getattr(networks[0], budget)
        assert 1 / MOST <= of_sc <= MOST
        measured = count.measure(compare.build_candidate(network, images), images.size)
        assert (measured.parameters, measured.macs) == (network.parameters, network.macs)


def test_the_large_trunk_has_sixteen_times_the_weights() -> None:
    for images in (MNIST, ImageShape(3, 32, 10)):
        small, large = (trunk_cost(widths, images=images)[0] for widths in WIDTHS.values())
        assert 14_000 < small < 17_000
        assert 150_000 < large < 300_000


def test_a_time_is_not_counted() -> None:
    with pytest.raises(
        ValueError, match=r"`budget` \(='training'\) must be 'parameters' or 'macs'"
    ):
        families(["training"], MNIST)  # type: ignore[list-item, unused-ignore]


def test_a_trunk_is_counted_as_by_hand() -> None:
    stem, layers = (
        9 * 16,
        (32 // 4) * (16 // 4) * 9 + (64 // 4) * (32 // 4) * 9 + (64 // 4) ** 2 * 9,
    )
    scales, classifier = 2 * (16 + 32 + 64 + 64), 64 * 10 + 10
    macs = 9 * 16 * 14**2 + 64 * 10
    macs += 4 * 9 * (8 * 4 * 7**2 + 16 * 8 * 7**2 + 16 * 16 * 4**2)
    expected = (stem + layers + scales + classifier, macs)
    assert trunk_cost((16, 32, 64, 64), blocks=4, images=MNIST) == expected


def test_at_one_block_a_family_is_the_plain_one() -> None:
    for groups in (1, 2):
        assert trunk_cost((8, 16, 32, 32), groups=groups, blocks=1, images=MNIST) == trunk_cost(
            (8, 16, 32, 32), groups=groups, images=MNIST
        )
    torch.manual_seed(0)
    trunk = SmallTrunk((8, 16, 32, 32), images=DIGITS)
    torch.manual_seed(0)
    drawn: list[nn.Module] = []
    for layer in trunk:
        if isinstance(layer, nn.Conv2d):
            options: Any = {"stride": layer.stride, "padding": 1, "bias": False, "blocks": 1}
            drawn.append(TiedBlockConv2d(layer.in_channels, layer.out_channels, 3, **options))
        elif isinstance(layer, nn.Linear):
            drawn.append(nn.Linear(32, 10))
        else:
            drawn.append(layer)
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(nn.Sequential(*drawn)(x), trunk(x))


def test_widths_must_fit() -> None:
    with pytest.raises(ValueError, match=r"`widths` \(=\(8, 16, 12, 32\)\) must be 4 multiples"):
        SmallTrunk((8, 16, 12, 32), groups=2, blocks=4, images=MNIST)
    with pytest.raises(ValueError, match="must be 4 multiples"):
        SmallTrunk((8, 16, 32), images=MNIST)


def test_ablations_have_the_papers_rows() -> None:
    networks = compare.ablation("splits", MNIST)
    assert [n.name for n in networks] == ["4s32w", "2s48w", "6s24w", "8s18w"]
    for network in networks + compare.ablation("mixer", MNIST):
        measured = count.measure(compare.build_candidate(network, MNIST), MNIST.size)
        assert (measured.parameters, measured.macs) == (network.parameters, network.macs)
    by_sum, by_concatenation, without = compare.ablation("mixer", MNIST)
    assert by_concatenation.parameters > by_sum.parameters > without.parameters
    assert by_sum.parameters == networks[0].parameters
