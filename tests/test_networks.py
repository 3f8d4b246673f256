"""Every registered network keeps the contract of a network of timm."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath

from tbc_models.networks.registry import input_size

from .networks import DEVICES, NAMES, REGISTERED, images, make


def test_every_network_of_the_paper_is_registered() -> None:
    expected = """tied_resnet50 tied_resnet50_s tied_resnet101 tied_resnet101_s tied_resnext50
        tied_resnext50_s tied_resnext101 tied_resnext101_s tied_senet101 tied_senet101_s
        tied_seresnet50 tied_gc_resnet50 gc_resnet50 tied_resnest50_s tied_efficientnet_b0
        tied_resnet14_s"""
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
        size = input_size(network) // (1 if "14" in name else 4)
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
        assert len(features) == 5
        for feature, channels, stride in zip(
            features, info.channels(), info.reduction(), strict=True
        ):
            assert feature.shape == (2, channels, 64 // stride, 64 // stride)
        if "14" not in name and "efficient" not in name:
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
        options: dict[str, Any] = {"num_classes": 5, "in_chans": 1, "output_stride": 8}
        network: Any = make(name, device, **options, drop_rate=0.1, drop_path_rate=0.1)
        assert network(x).shape == (2, 5)
        assert network.forward_features(x).shape[2:] == (8, 8)  # 64 pixels at stride 8
        assert sum(isinstance(m, DropPath) for m in network.modules()) >= 3
        network.reset_classifier(2, "max")
        assert network.to(device)(x).shape == (2, 2)
        without = make(name, device, num_classes=0, global_pool="").eval()
        stride = 16 if "14" in name else 32
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
        stride = 16 if "14" in name else 32
        for features_only in (False, True):
            network = make(name, device, features_only=features_only).eval()
            with pytest.raises(ValueError, match=rf"must be at least {stride}x{stride} pixels"):
                network(torch.zeros(1, 3, stride, stride - 1, device=device))
        with pytest.raises(RuntimeError, match="pretrained"):
            make(name, device, pretrained=True)


@pytest.mark.parametrize("kind", ["list", "dict", "getter", "fx", "hook"])
@pytest.mark.parametrize(
    "name", ["tied_resnet14_s, fitted", "tied_gc_resnet50", "tied_resnest50_s"]
)
def test_every_way_of_timm_to_take_features_takes_the_same(name: str, kind: str) -> None:
    x = images(name, 64)
    features = make(name, features_only=True).eval()(x)
    options: dict[str, Any] = {"out_indices": (1, 3), "feature_cls": kind}
    two = make(name, features_only=True, **options).eval()(x)
    some = list(two.values()) if kind == "dict" else list(two)
    torch.testing.assert_close(some, [features[1], features[3]])
