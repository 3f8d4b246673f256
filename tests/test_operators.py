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


def test_every_layer_of_a_network_is_named_by_its_operator() -> None:
    """EfficientNet-B0 as its paper and timm's notation describe it, with TiedSE."""
    network: Any = timm.create_model("tied_efficientnet_b0")
    expected = {"conv_stem": "SC", "conv_head": "SC", "classifier": "FC"}
    for stage, repeats in enumerate((1, 2, 2, 3, 3, 4, 1)):
        for block in range(repeats):
            name = f"blocks.{stage}.{block}"
            expected |= {f"{name}.conv_dw": "DW", f"{name}.conv_pw": "SC"}
            expected |= {f"{name}.se.fc1": "TFC", f"{name}.se.fc2": "TFC"}
            if stage > 0:  # the first stage does not expand
                expected[f"{name}.conv_pwl"] = "SC"
    named = {layer.name: layer.operator for layer in layers(network, size=64)}
    assert {name: o for name, o in named.items() if not o.startswith("BatchNorm")} == expected
    tying = tie(network, blocks=2)
    assert tying.tied
    for layer in tying.tied:
        assert layer.before == expected[layer.name]
        assert layer.after == {"SC": "TBC", "FC": "TFC"}[layer.before]
