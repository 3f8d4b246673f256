"""The networks in the shape of ResNet-20, and where they differ from timm's other ResNets."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tbc_gpu import TiedBlockConv2d, tie
from tbc_models import TiedBottleneck
from tbc_models.count import measure
from tbc_models.networks.cifar import PaddedShortcut, ThreeStageResNet

from .networks import images, make

ALL = ("resnet20", "tied_resnet20", "tbc_resnet20")


def test_resnet20_has_the_size_that_he_et_al_report() -> None:
    network: Any = timm.create_model("resnet20")
    counted = measure(network.eval(), 32)
    # By the formula: 9 · k² · c_in · c_out, two for each batch normalisation, and the classifier.
    stages = [(16, 16, 32 * 32), (16, 32, 16 * 16), (32, 64, 8 * 8)]
    convolutions = [(3, 16, 32 * 32)]
    for before, width, positions in stages:
        convolutions += [(before, width, positions), *[(width, width, positions)] * 5]
    assert counted.parameters == sum(9 * i * o + 2 * o for i, o, _ in convolutions) + 65 * 10
    assert counted.macs == sum(9 * i * o * n for i, o, n in convolutions) + 64 * 10
    assert counted.parameters == 269_722  # "0.27M"
    assert len(convolutions) + 1 == 20


@pytest.mark.parametrize("name", ALL)
def test_each_has_twenty_layers_on_its_longest_way(name: str) -> None:
    network: Any = timm.create_model(name)
    blocks = [block for stage in (1, 2, 3) for block in getattr(network, f"layer{stage}")]
    assert 2 + sum(3 if isinstance(block, TiedBottleneck) else 2 for block in blocks) == 20
    assert network.num_classes == 10


def test_the_splits_of_tied_resnet20_have_the_papers_blocks() -> None:
    network: Any = timm.create_model("tied_resnet20")
    bottlenecks: list[Any] = [m for m in network.modules() if isinstance(m, TiedBottleneck)]
    assert [block.conv2[0].in_channels for block in bottlenecks] == [8, 8, 16, 16, 32, 32]
    for block in bottlenecks:
        assert (block.design, block.mixes, block.conv1.blocks) == ("literal", "sum", 2)
        assert [getattr(conv, "blocks", 1) for conv in block.conv2] == [1, 2, 4, 8]


def test_tbc_resnet20_is_resnet20_tied_by_tie() -> None:
    ours = make("tbc_resnet20").eval()
    tied = tie(timm.create_model("resnet20").eval(), blocks=2, where="layer*").model
    tied.load_state_dict(ours.state_dict())
    x = images("resnet20")
    torch.testing.assert_close(tied(x), ours(x))
    convolutions = [m for m in ours.modules() if isinstance(m, TiedBlockConv2d)]
    assert len(convolutions) == 18
    assert {conv.blocks for conv in convolutions} == {2}
    four: Any = timm.create_model("tbc_resnet20", blocks=4)
    assert four.layer1[0].conv1.weight.shape == (4, 4, 3, 3)


def test_tied_filters_start_as_plain_ones_of_their_size() -> None:
    network: Any = timm.create_model("tbc_resnet20")
    for block in network.layer3:
        for weight in (block.conv1.weight, block.conv2.weight):
            assert weight.detach().var().item() == pytest.approx(2 / (9 * 32), rel=0.1)


def test_the_shortcut_of_resnet20_takes_every_second_pixel_and_pads_channels() -> None:
    x = torch.randn(2, 3, 5, 7)
    y = PaddedShortcut(3, 6, stride=2)(x)
    expected = np.zeros((2, 6, 3, 4), np.float32)
    expected[:, 1:4] = x.numpy()[:, :, ::2, ::2]
    np.testing.assert_array_equal(y, expected)
    assert str(PaddedShortcut(3, 6, stride=2)) == "PaddedShortcut(before=1, after=2, stride=2)"
    shortcuts = [m for m in make("resnet20").modules() if isinstance(m, PaddedShortcut)]
    assert [(s.before, s.after, s.stride) for s in shortcuts] == [(8, 8, 2), (16, 16, 2)]


def test_features_end_where_they_are_asked_to() -> None:
    network: Any = make("tied_resnet20").eval()
    x = images("tied_resnet20")
    last, features = network.forward_intermediates(x)
    assert [f.shape[1] for f in features] == [16, 64, 128, 256]
    assert torch.equal(last, features[-1])
    for indices, taken in (([0, 2], (0, 2)), (1, (3,)), (2, (2, 3))):
        some = network.forward_intermediates(x, indices, intermediates_only=True)
        torch.testing.assert_close(some, [features[i] for i in taken])
    assert network.prune_intermediate_layers([1, 3], prune_head=False) == [1, 3]
    assert network(x).shape == (2, 10)
    assert network.prune_intermediate_layers([1]) == [1]
    assert torch.equal(network(x), features[1])
    assert [len(getattr(network, f"layer{stage}")) for stage in (1, 2, 3)] == [2, 0, 0]


def test_fashion_mnist_fits() -> None:
    for name in ALL:
        network = make(name, in_chans=1)
        assert network(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"output_stride": 8}, r"`output_stride` \(=8\) must be 2 or 4"),
        ({"layers": (1, 1, 1, 1)}, r"`layers` \(=\(1, 1, 1, 1\)\) must have 3 numbers"),
        ({"channels": (16, 32)}, r"`channels` \(=\(16, 32\)\) must have 3 numbers"),
        ({"stem_type": "deep"}, r"`stem_type` \(='deep'\) cannot be set: the stem is fixed"),
        ({"stem_width": 8}, r"`stem_width` \(=8\) cannot be set"),
        ({"replace_stem_pool": True}, r"`replace_stem_pool` \(=True\) cannot be set"),
        (
            {"channels": (32, 16, 64)},
            r"`out_channels` \(=16\) must be at least `in_channels` \(=32",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        timm.create_model("resnet20", **options)


def test_the_stem_follows_dtype_device_and_width() -> None:
    network: Any = timm.create_model("resnet20", channels=(24, 48, 96), dtype=torch.float64)
    assert isinstance(network.conv1, nn.Conv2d)
    assert (network.conv1.weight.shape, network.conv1.weight.dtype) == (
        (24, 3, 3, 3),
        torch.float64,
    )
    assert network(torch.zeros(2, 3, 4, 4, dtype=torch.float64)).shape == (2, 10)
    with torch.device("meta"):
        assert ThreeStageResNet(TiedBottleneck, (1, 1, 1)).conv1.weight.is_meta
