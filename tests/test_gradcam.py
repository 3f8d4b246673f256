"""Grad-CAM against the same in plain PyTorch, captum, and cases known by hand."""

import builtins
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

import tbc_models  # noqa: F401 - registers the networks
from tbc_models.analysis.gradcam import grad_cam, last_spatial_layer

NETWORKS = {
    "resnet20": ("layer4", 32),
    "tied_resnet20": ("layer4", 32),
    "tied_resnet14_s": ("layer4", 64),
    "resnet18": ("layer4", 64),
    "mobilenetv2_035": ("bn2", 64),
    "regnetx_002": ("s4", 64),
}


def same(ours: Tensor, expected: Tensor) -> None:
    """Float64, and the same operations in another order."""
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-15)


def built(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, num_classes=10, **options)
    return network.double().eval()


def images(size: int, number: int = 2) -> Tensor:
    return torch.rand(number, 3, size, size, dtype=torch.float64, generator=torch.manual_seed(1))


def by_hand(network: nn.Module, pixels: Tensor, target: int, layer: str) -> Tensor:
    """Grad-CAM in plain PyTorch: the equations of the paper, one image at a time."""
    maps = []
    for image in pixels:
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(output)
            return output.clone()  # what follows may change it in place

        hook = network.get_submodule(layer).register_forward_hook(keep)
        score = network(image[None].requires_grad_())[0, target]
        hook.remove()
        (gradient,) = torch.autograd.grad(score, kept[0])
        weights = gradient.mean((2, 3), keepdim=True)
        coarse = (weights * kept[0]).sum(1, keepdim=True).clamp(min=0)
        maps.append(F.interpolate(coarse, image.shape[-2:], mode="bilinear")[0, 0].detach())
    return torch.stack(maps)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_what_pytorch_computes_and_what_captum_computes(name: str) -> None:
    layer, size = NETWORKS[name]
    network, pixels = built(name), images(size)
    found = grad_cam(network, pixels, target=3)
    assert found.layer == last_spatial_layer(network, pixels) == layer
    assert found.maps.shape == (2, size, size)
    assert found.maps.min() >= 0
    same(found.maps, by_hand(network, pixels, 3, layer))
    captum = LayerGradCam(network, network.get_submodule(layer)).attribute(pixels, 3)
    larger = LayerAttribution.interpolate(captum.clamp(min=0), (size, size), "bilinear")
    same(found.maps, larger[:, 0].detach())
    same(found.probabilities, network(pixels).softmax(1)[:, 3].detach())


@pytest.mark.parametrize("layer", ["bn1", "layer2.0.relu", "layer3.1.conv2"])
def test_layers_whose_output_is_changed_in_place_are_right_too(layer: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10).double().eval()
    pixels = images(64)
    found = grad_cam(network, pixels, target=3, layer=layer)
    if layer == "layer2.0.relu":  # runs twice: the last time counts, which the block returns
        layer = "layer2.0"
    same(found.maps, by_hand(network, pixels, 3, layer))
    assert last_spatial_layer(network, pixels) == "layer4"


def test_before_a_mean_and_a_linear_layer_it_is_the_class_activation_map() -> None:
    """Then α is the weight of the class over the number of pixels (Zhou et al. 2016)."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    linear = nn.Linear(4, 5)
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).double()
    pixels = images(8)
    found = grad_cam(network, pixels, target=torch.tensor([1, 4]))
    channels = convolution(pixels)
    weights = linear.weight[[1, 4]]
    expected = torch.einsum("nk,nkhw->nhw", weights, channels).clamp(min=0) / 64
    assert found.layer == "0"
    same(found.maps, expected.detach())


def test_a_known_map_is_enlarged() -> None:
    """One channel, positive where the image is: the map is the image's coarse version."""
    pool, flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    strided = nn.Conv2d(1, 1, 2, stride=2, bias=False)
    nn.init.ones_(strided.weight)
    head = nn.Linear(1, 2, bias=False)
    head.weight = nn.Parameter(torch.tensor([[4.0], [-4.0]]))
    network = nn.Sequential(strided, pool, flat, head)
    image = torch.zeros(1, 4, 4)
    image[0, :2, :2] = 1
    found = grad_cam(network, image)
    assert found.classes.tolist() == [0]
    # 4 · 4 ink / 4 pixels in the first of 2x2 cells, whose neighbours get 3/4 and 1/4 of it.
    row = torch.tensor([1.0, 0.75, 0.25, 0.0])
    same(found.maps[0], 4 * torch.outer(row, row))
    assert grad_cam(network, image, target=1).maps.count_nonzero() == 0


def test_the_predicted_class_is_explained_unless_another_is_named() -> None:
    network, pixels = built("resnet20"), images(32, 3)
    found = grad_cam(network, pixels)
    assert found.classes.tolist() == network(pixels).argmax(1).tolist()
    single = grad_cam(network, pixels[1], target=int(found.classes[1]))
    same(single.maps[0], found.maps[1])


def test_the_network_is_left_as_it_was() -> None:
    network, pixels = built("resnet20").train(), images(32)
    network.get_submodule("layer1").eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = grad_cam(network, pixels, target=0)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert not found.maps.requires_grad
    same(found.maps, by_hand(network.eval(), pixels, 0, "layer3"))


def test_frozen_networks_are_explained_too_and_without_gradients() -> None:
    network, pixels = built("tbc_resnet20"), images(32)
    expected = grad_cam(network, pixels, target=0).maps
    network.requires_grad_(False)
    with torch.no_grad():
        same(grad_cam(network, pixels, target=0).maps, expected)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_what_does_not_fit_is_refused() -> None:
    network, pixels = built("resnet20"), images(32)
    for target in (10, -1, torch.tensor([0, 10])):
        with pytest.raises(ValueError, match=r"`target` \(=.*\) must be from 0 to 9"):
            grad_cam(network, pixels, target=target)
    for target in (torch.tensor([0, 1, 2]), torch.tensor(0.5), torch.tensor([True, False])):
        with pytest.raises(ValueError, match="or one for each of 2 images"):
            grad_cam(network, pixels, target=target)
    with pytest.raises(ValueError, match=r"`layer` \(='layr3'\) .*did you mean layer"):
        grad_cam(network, pixels, layer="layr3")
    with pytest.raises(ValueError, match=r"`layer` \(='fc'\) must have an output \(N, C, H, W\)"):
        grad_cam(network, pixels, layer="fc")
    with pytest.raises(ValueError, match=r"take `images` \(shape \(2, 1, 32, 32\)\): .*3 channels"):
        grad_cam(network, pixels[:, :1])
    with pytest.raises(ValueError, match=r"must be at least 4x4 pixels, the total stride"):
        grad_cam(network, pixels[..., :3, :3])
    with pytest.raises(ValueError, match=r"shape \(2, 3, 32, 32\), torch.uint8.*floating point"):
        grad_cam(network, pixels.byte())
    with pytest.raises(ValueError, match="and not empty"):
        grad_cam(network, pixels[:0])


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (torchvision.models.squeezenet1_1, 8),  # RuntimeError: no pixels are left to pool
        (lambda: timm.create_model("vit_tiny_patch16_224"), 64),  # AssertionError
    ],
)
def test_whatever_a_network_raises_names_the_images(
    build: Callable[[], nn.Module], size: int
) -> None:
    pixels = torch.rand(1, 3, size, size)
    for call in (grad_cam, last_spatial_layer):
        with pytest.raises(ValueError, match=rf"take `images` \(shape \(1, 3, {size}, {size}\)\)"):
            call(build(), pixels)


def test_modules_may_be_registered_in_any_order() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4, 5, 1)
            self.stem = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            scores: Tensor = self.head(self.stem(images)).mean((2, 3))
            return scores

    assert grad_cam(HeadFirst().double(), images(8)).layer == "head"


def test_networks_without_maps_are_refused() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
    with pytest.raises(ValueError, match="for images of 4x4 pixels: Grad-CAM needs a convol"):
        grad_cam(linear, images(4))
    transformer = built("vit_tiny_patch16_224", img_size=32)
    with pytest.raises(ValueError, match=r"turns its features into tokens after patch_embed.proj"):
        grad_cam(transformer, images(32))
    detector = nn.Conv2d(3, 2, 1).double()
    with pytest.raises(ValueError, match=r"no layer has an output"):
        grad_cam(detector, images(4))
    unused = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    unused[0].register_module("spare", nn.ReLU())
    with pytest.raises(ValueError, match=r"`layer` \(='0.spare'\) takes no part"):
        grad_cam(unused, images(4), layer="0.spare")


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("captum"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="captum")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"captum is not .* pip install '.\[analysis\]'"):
        grad_cam(built("resnet20"), images(32))
