"""Every registered network keeps the contract of a network of timm."""

import copy
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import BlurPool2d, DropPath, SEModule, get_notrace_functions, set_scriptable
from timm.models import get_notrace_modules
from timm.models.resnet import ResNet
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from tbc_gpu import TiedBlockConv2d, tie
from tbc_models import TiedBottleneck
from tbc_models.count import measure
from tbc_models.networks.registry import input_size

from .networks import DEVICES, NAMES, REGISTERED, images, make, stride_of


def test_every_network_of_the_paper_is_registered() -> None:
    expected = """tied_resnet50 tied_resnet50_s tied_resnet101 tied_resnet101_s tied_resnext50
        tied_resnext50_s tied_resnext101 tied_resnext101_s tied_senet101 tied_senet101_s
        tied_seresnet50 tied_gc_resnet50 gc_resnet50 tied_resnest50_s tied_efficientnet_b0
        tied_resnet14_s plain_resnet14 resnet20 tied_resnet20 tbc_resnet20"""
    assert sorted(REGISTERED) == sorted(expected.split())


TIED = [name for name in REGISTERED if name.startswith(("tied_resnet", "tied_resnext", "tied_sen"))]
DESIGNED = [(name, "") for name in REGISTERED]
DESIGNED += [(name, design) for name in TIED for design in ("fitted", "fitted-tbc")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "design"), DESIGNED)
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(
    name: str, design: str, device: str
) -> None:
    network = make(f"{name}, {design}", device)
    # A fitted design has biases before its normalisations: while training they have no effect.
    network.train(design != "fitted")
    network(images(name, device=device)).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # A softmax is blind to a shift of all its logits.
        if not parameter_name.endswith("se.mask.bias"):
            assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
class TestEveryNetwork:
    def test_forward_at_two_resolutions(self, name: str, device: str) -> None:
        network = make(name, device, num_classes=7).eval()
        size = input_size(network) // (4 if stride_of(name) == 32 else 1)
        with torch.no_grad():
            for pixels in (size, size + 33):  # the second is odd
                y = network(images(name, pixels, device=device))
                assert y.shape == (2, 7)
                assert y.isfinite().all()

    def test_features_are_what_they_are_said_to_be(self, name: str, device: str) -> None:
        network = make(name, device, features_only=True).eval()
        x = images(name, 64, device=device)
        features = network(x)
        info: Any = network.feature_info
        assert len(features) == (4 if "resnet20" in name else 5)
        for feature, channels, stride in zip(
            features, info.channels(), info.reduction(), strict=True
        ):
            assert feature.shape == (2, channels, 64 // stride, 64 // stride)
        if stride_of(name) == 32 and "efficient" not in name:
            assert info.channels() == [64, 256, 512, 1024, 2048]
            assert info.reduction() == [2, 4, 8, 16, 32]

    def test_state_dict_makes_the_round_trip(self, name: str, device: str, tmp_path: Path) -> None:
        network = make(name, device, num_classes=3).eval()
        x = images(name, device=device)
        with torch.no_grad():
            y = network(x)
            torch.save(network.state_dict(), tmp_path / "weights.pt")
            state = torch.load(tmp_path / "weights.pt", weights_only=True)
            with torch.device("meta"):
                empty = make(name, "meta", num_classes=3).eval()
            empty.load_state_dict(state, assign=True)
            assert torch.equal(empty(x), y)
            assert torch.equal(copy.deepcopy(network)(x), y)
        pointers = [p.data_ptr() for p in network.parameters()]
        assert len(set(pointers)) == len(pointers)  # each filter is stored once

    def test_channels_last_gives_what_nchw_gives(self, name: str, device: str) -> None:
        network = make(name, device).eval()
        x = images(name, device=device)
        with torch.no_grad():
            y = network(x)
            network = network.to(memory_format=torch.channels_last)
            last = network(x.to(memory_format=torch.channels_last))
        # Other kernels sum in another order, through a hundred layers.
        scale = float(y.abs().max())
        torch.testing.assert_close(last, y, rtol=0, atol=1e-4 * scale)

    def test_runs_under_bfloat16_autocast(self, name: str, device: str) -> None:
        network = make(name, device)
        with torch.autocast(device, torch.bfloat16):
            y = network(images(name, device=device))
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    @pytest.mark.slow
    def test_can_be_exported(self, name: str, device: str) -> None:
        network = make(name, device).eval()
        x = images(name, device=device)
        with torch.no_grad():
            y = network(x)
            exported = torch.export.export(network, (x,)).module()
            torch.testing.assert_close(exported(x), y)

    def test_takes_the_options_of_timm(self, name: str, device: str) -> None:
        x = torch.randn(2, 1, 64, 64, device=device)
        stride = stride_of(name)
        less = min(8, stride // 2)
        options: dict[str, Any] = {"num_classes": 5, "in_chans": 1, "output_stride": less}
        network: Any = make(name, device, **options, drop_rate=0.1, drop_path_rate=0.1)
        assert network(x).shape == (2, 5)
        assert network.forward_features(x).shape[2:] == (64 // less, 64 // less)
        assert sum(isinstance(m, DropPath) for m in network.modules()) >= 3
        network.reset_classifier(2, "max")
        assert network.to(device)(x).shape == (2, 2)
        without = make(name, device, num_classes=0, global_pool="").eval()
        assert without(images(name, 64, device=device)).shape[2:] == (64 // stride, 64 // stride)

    def test_checkpointing_saves_memory_and_changes_no_gradient(
        self, name: str, device: str
    ) -> None:
        network: Any = make(name, device).eval()
        x = images(name, device=device)
        saved: list[int] = []
        gradients = []
        for checkpointing in (False, True):
            network.set_grad_checkpointing(checkpointing)
            count = 0

            def pack(tensor: torch.Tensor) -> torch.Tensor:
                nonlocal count
                count += tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                y = network(x)
            saved.append(count)
            gradients.append(torch.autograd.grad(y.square().sum(), list(network.parameters())))
        assert saved[1] < saved[0] / 2
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))

    def test_refuses_images_smaller_than_its_stride(self, name: str, device: str) -> None:
        stride = stride_of(name)
        for features_only in (False, True):
            network = make(name, device, features_only=features_only).eval()
            with pytest.raises(ValueError, match=rf"must be at least {stride}x{stride} pixels"):
                network(torch.zeros(1, 3, stride, stride - 1, device=device))
        if not timm.models.is_model_pretrained(name):
            with pytest.raises(RuntimeError, match="pretrained"):
                make(name, device, pretrained=True)


@pytest.mark.parametrize("kind", ["list", "dict", "getter", "fx", "hook"])
@pytest.mark.parametrize(
    "name", ["tied_resnet14_s, fitted", "tied_resnet20", "tied_gc_resnet50", "tied_resnest50_s"]
)
def test_every_way_of_timm_to_take_features_takes_the_same(name: str, kind: str) -> None:
    x = images(name, 64)
    features = make(name, features_only=True).eval()(x)
    options: dict[str, Any] = {"out_indices": (1, 3), "feature_cls": kind}
    two = make(name, features_only=True, **options).eval()(x)
    some = list(two.values()) if kind == "dict" else list(two)
    torch.testing.assert_close(some, [features[1], features[3]])


KINDS = ["list", "dict", "getter", "fx", "hook"]
SOME = ("tied_resnet14_s", "resnet20", "tied_resnest50_s")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in SOME for kind in KINDS]
    # timm itself has no lists and dicts of the stages of an EfficientNet.
    + [("tied_efficientnet_b0", kind) for kind in ("getter", "fx", "hook")],
)
def test_every_way_to_take_features_refuses_small_images(name: str, kind: str) -> None:
    total = stride_of(name)
    for indices, stride in ((None, total), ((0, 1), {32: 4, 16: 2, 4: 1}[total])):
        if kind == "hook" and indices:
            continue  # timm runs the whole network, whichever features are taken
        options: dict[str, Any] = {"out_indices": indices} if indices else {}
        network = make(name, features_only=True, feature_cls=kind, **options).eval()
        network(torch.zeros(1, 3, stride, stride))
        for shape in ((stride - 1, stride), (stride, stride - 1)):
            with pytest.raises(ValueError, match=rf"must be at least {stride}x{stride} pixels"):
                network(torch.zeros(1, 3, *shape))


@pytest.mark.parametrize("name", ["tied_resnet14_s", "tied_resnest50_s", "tied_efficientnet_b0"])
def test_the_stem_can_be_tied_and_small_images_are_still_refused(name: str) -> None:
    tying = tie(make(name, in_chans=4), blocks=2)
    stem = timm.get_pretrained_cfg(name).first_conv  # type: ignore[union-attr]
    assert (tying.tied[0].name, tying.tied[0].after) == (stem, "TBC")
    assert not any("hooks" in layer.reason for layer in tying.left)
    network: Any = tying.model.eval()
    pixels = input_size(network)
    assert network(torch.zeros(1, 4, pixels, pixels)).isfinite().all()
    for method in (network, network.forward_features, network.forward_intermediates):
        with pytest.raises(ValueError, match=r"`input` \(shape \(1, 4, 8, 8\)\) must be at least"):
            method(torch.zeros(1, 4, 8, 8))


def test_small_images_are_refused_by_an_export() -> None:
    with pytest.raises(ValueError, match="must be at least 16x16 pixels"):
        torch.export.export(make("tied_resnet14_s").eval(), (torch.zeros(2, 3, 8, 8),))


def test_the_check_of_the_size_stores_nothing() -> None:
    ours = make("tied_resnet50", "meta", block=timm.models.resnet.Bottleneck, base_width=64)
    theirs = timm.create_model("resnet50")
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("kind", [None, "getter", "fx", "hook"])
def test_without_its_attention_the_efficientnet_is_timms(kind: str | None) -> None:
    options: dict[str, Any] = {"features_only": True, "feature_cls": kind} if kind else {}
    x = images("efficientnet", 64)
    for more in (options, {"features_only": True, "out_indices": (1, 3)}):
        more = {"se_layer": SEModule, "act_layer": "relu", **more}
        ours: Any = make("tied_efficientnet_b0", **more)
        theirs: Any = timm.create_model("efficientnet_b0", **more).eval()
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours.eval()(x), theirs(x))
        for key in ("num_classes", "classifier", "pool_size"):
            assert ours.pretrained_cfg.get(key) == theirs.pretrained_cfg.get(key), key


# How timm's own tests script its networks: the traced network, not the network as it is written.
# It takes seconds for each: the first, with every kind of split, stands for them in `make test`.
@pytest.mark.parametrize(
    "name",
    [
        name if name == "tied_resnet14_s" else pytest.param(name, marks=pytest.mark.slow)
        for name in REGISTERED
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_traced_networks_can_be_scripted(name: str) -> None:
    with set_scriptable(True):
        network = make(name).eval()
    tracer = {
        "leaf_modules": get_notrace_modules(),
        "autowrap_functions": get_notrace_functions(),
        "param_shapes_constant": True,
    }
    train, evaluation = (nodes[-1:] for nodes in get_graph_node_names(network, tracer))
    traced = create_feature_extractor(
        network, train_return_nodes=train, eval_return_nodes=evaluation, tracer_kwargs=tracer
    )
    x = images(name)
    with torch.no_grad():
        (y,) = torch.jit.script(traced)(x).values()
        assert y.isfinite().all()
        expected = network(x)
    # Tied convolutions run by another algorithm there, which sums in another order.
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


# A value other than the default for every option of timm's ResNet.
OPTIONS_OF_RESNET: dict[str, Any] = {
    "block": TiedBottleneck,
    "layers": (1, 2, 1, 1),
    "num_classes": 7,
    "in_chans": 5,
    "output_stride": 16,
    "global_pool": "max",
    "cardinality": 1,  # its name here is `groups`
    "base_width": 16,
    "stem_width": 32,
    "stem_type": "deep",
    "replace_stem_pool": True,
    "block_reduce_first": 2,
    "down_kernel_size": 3,
    "avg_down": True,
    "channels": (32, 64, 128, 256),
    "act_layer": nn.SiLU,
    "norm_layer": partial(nn.BatchNorm2d, eps=1e-3),
    "aa_layer": BlurPool2d,
    "drop_rate": 0.1,
    "drop_path_rate": 0.1,
    "drop_block_rate": 0.1,
    "zero_init_last": False,
    "block_args": {"mixer": "concatenate"},
    "device": "cpu",
    "dtype": torch.float64,
}
OWN: dict[str, Any] = {"splits": 2, "blocks": (1, 2), "design": "fitted", "groups": 2}


def test_a_network_takes_every_option_of_timms_resnet_and_its_own() -> None:
    assert set(inspect.signature(ResNet).parameters) == set(OPTIONS_OF_RESNET)
    shallow: dict[str, Any] = {"layers": (1, 1, 1, 1)}
    for option, value in OPTIONS_OF_RESNET.items():
        network: Any = timm.create_model("tied_resnet50", **shallow | {option: value}).eval()
        x = torch.zeros(1, value if option == "in_chans" else 3, 64, 64)
        x = x.double() if option == "dtype" else x
        assert network(x).shape == (1, 7 if option == "num_classes" else 1000), option
    together = shallow | OPTIONS_OF_RESNET | OWN | {"mixer": "sum", "block_args": {}}
    network = timm.create_model("tied_resnet50", **together).eval()
    y = network(torch.zeros(1, 5, 64, 64, dtype=torch.float64))
    assert y.shape == (1, 7)
    block = network.layer2[1]
    assert (block.splits, block.design, block.mixes) == (2, "fitted", "sum")
    assert [(c.groups, getattr(c, "blocks", 1)) for c in block.conv2] == [(2, 1), (2, 2)]


def test_the_control_of_tied_resnet14_s_has_its_budget_and_nothing_tied() -> None:
    tied, plain = (
        timm.create_model(name, num_classes=0) for name in ("tied_resnet14_s", "plain_resnet14")
    )
    ours, theirs = (measure(network.eval(), size=96) for network in (tied, plain))
    assert ours.parameters == pytest.approx(theirs.parameters, rel=0.03)
    assert ours.macs == pytest.approx(theirs.macs, rel=0.03)
    assert not any(isinstance(module, TiedBlockConv2d) for module in plain.modules())
