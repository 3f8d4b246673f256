"""Guided backpropagation against captum, a NumPy derivation on `tbc_ref`, and by hand."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import NeuronGuidedBackprop
from numpy.testing import assert_allclose
from torch import Tensor, nn
from torchvision.models import vgg

import tbc_ref
from tbc_gpu import TiedBlockConv2d
from tbc_models.analysis.guided import gradient_patterns, guided_backprop
from tbc_models.training.starting import load_trained


def small(*activations: nn.Module, channels: int = 6) -> nn.Sequential:
    """Convolutions with an activation after each."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, activation in enumerate(activations):
        layers += [nn.Conv2d(channels if i else 3, channels, 3, padding=1), activation]
    return nn.Sequential(*layers).double()


def images(number: int = 2, size: int = 12, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 3, size, size, generator=generator, dtype=torch.float64)


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    """Of the sum of channel 1, as PyTorch has it."""
    start = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(network(start)[:, 1].sum(), start)
    return found


# Families with modules as rectifiers, which is what captum sees; and a layer deep inside.
FAMILIES: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "resnet18": (lambda: timm.create_model("resnet18"), "layer3.0.conv2", 48),
    "vgg11": (lambda: vgg.make_layers(vgg.cfgs["A"]), "16", 48),
    "squeezenet": (torchvision.models.squeezenet1_1, "features.7.expand3x3", 48),
    "densenet121": (lambda: timm.create_model("densenet121"), "features.denseblock2", 32),
    "regnet": (lambda: timm.create_model("regnetx_002"), "s3.b2.conv2", 48),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_equals_captum(family: str) -> None:
    build, layer, size = FAMILIES[family]
    torch.manual_seed(0)
    network: nn.Module = build().eval().double()
    for module in network.modules():  # captum cannot hook a rectifier that works in place
        if isinstance(module, nn.ReLU):
            module.inplace = False
    x, channels = images(2, size), [3, 0, 7]
    ours = guided_backprop(network, x, layer, channels)
    oracle = NeuronGuidedBackprop(network, network.get_submodule(layer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        for found, channel in zip(ours, channels, strict=True):
            theirs = oracle.attribute(
                x.clone().requires_grad_(),
                neuron_selector=lambda y, c=channel: y[:, c].flatten(1).sum(1),
            )
            assert theirs.abs().max() > 0
            # In float64 both round alike to 1e-12 of the largest number.
            assert_allclose(found, theirs.detach(), atol=1e-9 * float(theirs.abs().max()))


def test_it_equals_a_derivation_on_the_reference() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        TiedBlockConv2d(8, 8, 3, padding=1, stride=2, blocks=2),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
    ).double()
    x = images(2, 11)
    values = {name: value.numpy() for name, value in network.state_dict().items()}
    w0, b0, w2, b2, w4, b4 = (values[f"{i}.{k}"] for i in (0, 2, 4) for k in ("weight", "bias"))
    x0 = x.numpy()
    x1 = tbc_ref.standard_conv(x0, w0, b0, padding=1)
    x2 = np.maximum(x1, 0)
    x3 = tbc_ref.tied_block_conv(x2, w2, b2, padding=1, stride=2, blocks=2)
    x4 = np.maximum(x3, 0)
    y = tbc_ref.standard_conv(x4, w4, b4)
    ours = guided_backprop(network, x, "4", [2, 1])
    for found, channel in zip(ours, [2, 1], strict=True):
        dy = np.zeros_like(y)
        dy[:, channel] = 1
        d4 = tbc_ref.standard_conv_backward(dy, x4, w4).dx
        d3 = np.maximum(d4, 0) * (x3 > 0)  # the rule of guided backpropagation
        d2 = tbc_ref.tied_block_conv_backward(d3, x2, w2, padding=1, stride=2, blocks=2).dx
        d1 = np.maximum(d2, 0) * (x1 > 0)
        d0 = tbc_ref.standard_conv_backward(d1, x0, w0, padding=1).dx
        assert_allclose(found, d0, atol=1e-10)


class Guided(torch.autograd.Function):
    """The rule written out, for rectifiers from 0 to a ceiling."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < ceiling))
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (passes,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * passes, None


class Calls(nn.Module):
    """A rectifier that is a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


ONE = nn.ReLU()
RECTIFIERS: dict[str, tuple[nn.Module, float]] = {
    "F.relu": (Calls(F.relu), np.inf),
    "F.relu in place": (Calls(lambda x: F.relu(x, inplace=True)), np.inf),
    "torch.relu": (Calls(torch.relu), np.inf),
    "torch.relu_": (Calls(torch.relu_), np.inf),
    "a method": (Calls(lambda x: x.relu()), np.inf),
    "a method in place": (Calls(lambda x: x.relu_()), np.inf),
    "a module in place": (nn.ReLU(inplace=True), np.inf),
    "one module used twice": (ONE, np.inf),
    "ReLU6": (nn.ReLU6(), 6.0),
    "ReLU6 in place": (nn.ReLU6(inplace=True), 6.0),
    "F.relu6": (Calls(F.relu6), 6.0),
    "Hardtanh": (nn.Hardtanh(0, 6), 6.0),
    "clamp": (Calls(lambda x: x.clamp(0, 6)), 6.0),
    "clamp by name": (Calls(lambda x: torch.clamp(x, min=0)), np.inf),
    "clamp_min_": (Calls(lambda x: x.clamp_min_(0)), np.inf),
    "clamp by a tensor": (Calls(lambda x: x.clamp(torch.tensor(0.0))), np.inf),
    "F.hardtanh_": (Calls(lambda x: F.hardtanh_(x, 0.0, 6.0)), 6.0),
    "F.threshold": (Calls(lambda x: F.threshold(x, 0, 0)), np.inf),
    "threshold_": (Calls(lambda x: torch.threshold_(x, 0, 0)), np.inf),
    "Threshold in place": (nn.Threshold(0, 0, inplace=True), np.inf),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_every_way_to_call_a_rectifier_is_guided(name: str) -> None:
    rectifier, ceiling = RECTIFIERS[name]
    by_rule = Calls(lambda x: Guided.apply(x, ceiling))
    network = small(rectifier, rectifier, nn.Identity())
    x = 10 * images()  # some values are above 6
    theirs = gradient(small(by_rule, by_rule, nn.Identity()), x)
    assert_allclose(guided_backprop(network, x, "4", [1])[0], theirs, atol=1e-12)


def test_other_activations_keep_their_derivative() -> None:
    others = (
        *(nn.LeakyReLU(), nn.SiLU(), nn.Threshold(0, -1), nn.Threshold(0.1, 0)),
        *(Calls(lambda x: x.clamp(-1, 1)), Calls(lambda x: x.clamp(max=torch.tensor(0.0)))),
    )
    for function in others:
        network, x = small(function, nn.Identity(), nn.ReLU()), images()
        theirs = gradient(network[:3], x)
        assert_allclose(guided_backprop(network, x, "2", [1])[0], theirs, atol=1e-12)


def test_batches_and_layers_together_give_what_they_give_alone() -> None:
    network, x = small(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU()), images(5)
    whole = guided_backprop(network, x, "3", range(6), batch_size=5)
    assert whole.shape == (6, 5, 3, 12, 12)
    assert_allclose(guided_backprop(network, x, "3", range(6), batch_size=2), whole, atol=1e-12)
    wanted: dict[str, list[tuple[int, ...]]] = {
        "5": [(0,), (1, 2)],
        "2": [(4,)],
    }  # what follows layer 2 works in place
    found = dict(gradient_patterns(network, x, wanted))
    assert_allclose(found["2"], guided_backprop(network, x, "2", [4]), atol=1e-12)
    assert_allclose(found["5"][:1], guided_backprop(network, x, "5", [0]), atol=1e-12)
    assert found["5"].shape[0] == 2


def test_a_shipped_network_in_single_precision() -> None:
    network = load_trained("tbc_resnet20.cifar10")
    x = images(2, 32).float()
    found = guided_backprop(network, x, "layer2.0.conv2", [0, 9])
    exact = guided_backprop(copy.deepcopy(network).double(), x.double(), "layer2.0.conv2", [0, 9])
    # float32 through eight layers: 1e-5 of the largest.
    assert_allclose(found, exact, atol=1e-5 * float(exact.abs().max()))


def test_the_network_and_the_images_are_left_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout()).double()
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    x = images()
    before, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    needed = [p.requires_grad for p in network.parameters()]
    with torch.no_grad():
        first = guided_backprop(network, x, "2", [0])
    for wrong in ({"channels": [9]}, {"images": x[:, :2]}):
        with pytest.raises(ValueError, match="`"):
            guided_backprop(network, **({"images": x, "layer": "2", "channels": [0]} | wrong))  # type: ignore[arg-type]
    assert torch.equal(first, guided_backprop(network, x, "2", [0]))
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == needed
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in network.modules())
    assert not x.requires_grad
    assert torch.relu(images()).grad_fn is None  # the mode has ended


def test_what_follows_the_layer_is_not_computed() -> None:
    def never(_: Tensor) -> Tensor:
        raise AssertionError("it was computed")

    network = nn.Sequential(*small(nn.ReLU()), Calls(never))
    assert guided_backprop(network, images(), "1", [0]).shape == (1, 2, 3, 12, 12)


def test_progress_counts_backward_passes() -> None:
    told: list[tuple[int, int]] = []
    guided_backprop(
        small(nn.ReLU()),
        images(3),
        "1",
        [0, 1],
        batch_size=2,
        progress=lambda *numbers: told.append(numbers),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


class Wanders(nn.Module):
    """Has a layer that it does not use, and one that returns what has no channels."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.flat = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(2)
        self.pair = Calls(lambda x: (x, x))  # type: ignore[arg-type, return-value]
        self.constant = Calls(torch.ones_like)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(self.used(x))
        self.pair(y)
        self.constant(y)
        return self.flat(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("layer", r"'layer'\) is not a layer of the network; did you mean \w"),
        ("unused", r"'unused'\) is never reached by the images"),
        ("flat", r"'flat'\) is of shape \(2, 4, 100\), not \(N, C, H, W\) or \(N, C\)"),
        ("pair", r"'pair'\) is a tuple, not \(N, C, H, W\)"),
        ("constant", r"'constant'\) does not depend on the images"),
    ],
)
def test_a_layer_that_cannot_be_used_is_refused(layer: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        guided_backprop(Wanders().double(), images(), layer, [0])


def test_what_cannot_be_computed_is_refused() -> None:
    network, x = small(nn.ReLU()), images()
    for channel in (6, -1):
        with pytest.raises(ValueError, match=rf"\(={channel}\) must be from 0 to 5: '1' has 6"):
            guided_backprop(network, x, "1", [channel])
    with pytest.raises(ValueError, match=r"\(shape \(3, 12, 12\).*must be \(N, C, H, W\)"):
        guided_backprop(network, x[0], "1", [0])
    with pytest.raises(ValueError, match=r"does not take `images` \(shape \(2, 2, 12, 12\)\)"):
        guided_backprop(network, x[:, :2], "1", [0])
    with pytest.raises(ValueError, match=r"`batch_size` \(=0\) must be at least 1"):
        guided_backprop(network, x, "1", [0], batch_size=0)
    with pytest.raises(ValueError, match=r"'0'\) is not a layer .*, which contains no modules$"):
        guided_backprop(nn.ReLU(), x, "0", [0])
    with pytest.raises(ValueError, match=r"`gradient` \(='guide'\) must be 'guided' or 'ordinary'"):
        next(gradient_patterns(network, x, {"1": [(0,)]}, gradient="guide"))  # type: ignore[arg-type]
    resnet = timm.create_model("resnet18").double()
    with pytest.raises(ValueError, match="must be at least 32x32 pixels, the total stride"):
        guided_backprop(resnet, x, "conv1", [0])


def test_a_network_without_rectifiers_is_refused_with_its_activations() -> None:
    with pytest.raises(ValueError, match=r"has no rectifiers.*it has GELU, SiLU"):
        guided_backprop(small(nn.SiLU(), nn.GELU()), images(), "1", [0])
    with pytest.raises(ValueError, match="it has no activations"):
        guided_backprop(small(nn.Identity()), images(), "1", [0])
    # Before the first rectifier, the pattern is the gradient.
    assert guided_backprop(small(nn.ReLU()), images(), "0", [0]).abs().max() > 0


def test_ordinary_gradients_are_those_of_autograd_and_need_no_rectifier() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Conv2d(3, 4, 3)).double()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    (found,) = (p for _, p in gradient_patterns(network, x, {"2": [(1,)]}, gradient="ordinary"))
    x.requires_grad_()
    (expected,) = torch.autograd.grad(network(x)[:, 1].sum(), x)
    assert_allclose(found[0], expected, atol=1e-14)  # the same operations in the same order
