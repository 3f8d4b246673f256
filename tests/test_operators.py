"""The names of operators: which one a layer is, wherever the project says so."""

from typing import Any

import pytest
import timm
from torch import nn

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear, operator_name, operator_of, tie
from tbc_models.count import layers

LAYERS = [
    (nn.Conv2d(8, 8, 3), "SC"),
    (nn.Conv2d(8, 8, 3, groups=2), "GC"),
    (nn.Conv2d(8, 8, 3, groups=8), "DW"),
    (nn.Conv2d(8, 16, 3, groups=8), "DW"),
    (nn.Conv2d(1, 8, 3), "SC"),  # one channel in one group: nothing is separated
    (timm.layers.Conv2dSame(8, 8, 3), "SC"),
    (TiedBlockConv2d(8, 8, 3, blocks=1), "SC"),
    (TiedBlockConv2d(8, 8, 3, groups=2, blocks=1), "GC"),
    (TiedBlockConv2d(8, 8, 3, blocks=2), "TBC"),
    (TiedBlockConv2d(8, 8, 3, groups=2, blocks=2), "TGC"),
    (nn.Linear(8, 8), "FC"),
    (TiedBlockLinear(8, 8, blocks=1), "FC"),
    (TiedBlockLinear(8, 8, blocks=2), "TFC"),
]


@pytest.mark.parametrize(("layer", "name"), LAYERS, ids=[repr(layer) for layer, _ in LAYERS])
def test_a_layer_has_the_name_of_its_operator(layer: nn.Module, name: str) -> None:
    assert operator_of(layer) == name


@pytest.mark.parametrize("layer", [nn.Conv1d(8, 8, 3), nn.ConvTranspose2d(8, 8, 3), nn.ReLU()])
def test_other_layers_have_none(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match=rf"`layer` \(a {type(layer).__name__}\) must be an nn.Con"):
        operator_of(layer)


def test_counts_of_a_convolution_name_its_operator() -> None:
    counts = ((1, 1), (2, 1), (1, 2), (2, 2))
    assert [operator_name(*count) for count in counts] == ["SC", "GC", "TBC", "TGC"]
    with pytest.raises(ValueError, match=r"`groups` \(=0\) must be at least 1"):
        operator_name(0, 1)
    with pytest.raises(TypeError, match=r"`blocks` \(=2.0\) must be an int"):
        operator_name(1, 2.0)  # type: ignore[arg-type]


def test_the_layers_of_a_network_have_the_same_names() -> None:
    network: Any = timm.create_model("tied_efficientnet_b0")
    named = {layer.name: layer.operator for layer in layers(network, size=64)}
    assert named["conv_stem"] == "SC"
    assert named["blocks.0.0.conv_dw"] == "DW"
    assert named["blocks.0.0.se.fc1"] == "TFC"
    assert named["classifier"] == "FC"
    tying = tie(network, blocks=2)
    assert {layer.name: layer.before for layer in tying.tied} == {
        layer.name: named[layer.name] for layer in tying.tied
    }
