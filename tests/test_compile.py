"""Tied networks under torch.compile, and one of each family in onnxruntime."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from tbc_models import GCB, SE, TiedBottleneck, TiedGCB, TiedSE
from tbc_models.networks.bottleneck import Design, Mixer

from .networks import DEVICES, NAMES, images, make

# Where a whole network takes minutes, two blocks a stage have all that the compiler meets in it: in
# each stage a block that changes width and stride, and one that keeps them.
SHALLOW = {"layers": (2, 2, 2, 2)}
# At that depth networks of 50 and of 101 layers are the same.
DISTINCT = [name for name in NAMES if "101" not in name or name.startswith("tied_senet")]
# One network of each family.
FAMILIES = (
    *("tied_resnet14_s", "tied_resnet50", "tied_resnext50_s", "tied_senet101_s"),
    *("tied_seresnet50", "tied_gc_resnet50", "tied_resnest50_s", "tied_efficientnet_b0"),
)


def depth(name: str) -> dict[str, Any]:
    """The options that make a network no deeper than it must be."""
    if "resnet20" in name:
        return {"layers": (2, 2, 2)}
    return {} if "resnet14" in name or "efficientnet" in name else SHALLOW


# Two and more ways to attend, and one without: their gradients are compared too.
TRAINED = ("tied_resnet14_s", "tied_senet101_s", "tied_gc_resnet50", "tied_resnest50_s")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", DISTINCT)
def test_compiles_whole_to_the_same_outputs(name: str, device: str) -> None:
    network = make(name, device, **depth(name)).eval()
    x = images(name, device=device)
    torch.compiler.reset()
    with torch.no_grad():
        y = network(x)
        compiled = torch.compile(network, fullgraph=True)(x)
    # float32 in another order of summing, through tens of layers
    torch.testing.assert_close(compiled, y, rtol=0, atol=1e-4 * float(y.abs().max()))


@pytest.mark.slow
def test_a_network_compiles_at_its_full_depth() -> None:
    network = make("tied_resnet50_s").eval()
    x = images("tied_resnet50_s")
    torch.compiler.reset()
    with torch.no_grad():
        y = network(x)
        compiled = torch.compile(network, fullgraph=True)(x)
    torch.testing.assert_close(compiled, y, rtol=0, atol=1e-4 * float(y.abs().max()))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "SE": lambda: SE(32),
    "TiedSE": lambda: TiedSE(32, blocks=2),
    "GCB": lambda: GCB(32),
    "TiedGCB": lambda: TiedGCB(32, blocks=2),
    **{
        f"bottleneck, {design}, {mixer}": partial(
            TiedBottleneck, 32, 8, base_width=64, design=design, mixer=mixer
        )
        for design in get_args(Design)
        for mixer in get_args(Mixer)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_every_module_compiles_to_the_same_outputs_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().double()
    for parameter in module.parameters():
        if parameter.ndim == 1:  # scales that start at zero would hide what is before them
            nn.init.uniform_(parameter, 0.5, 1.5)
    twin = copy.deepcopy(module)
    x = torch.randn(2, 32, 8, 8, dtype=torch.float64)
    dy = torch.randn_like(x)
    torch.compiler.reset()
    y, compiled = module(x), torch.compile(twin, fullgraph=True)(x)
    torch.testing.assert_close(compiled, y, rtol=1e-8, atol=1e-8)
    ours = torch.autograd.grad(compiled, list(twin.parameters()), dy)
    right = torch.autograd.grad(y, list(module.parameters()), dy)
    torch.testing.assert_close(ours, right, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TRAINED)
def test_compiles_to_the_same_gradients(name: str, device: str) -> None:
    # In float64, or a ReLU that another order of summing turns on would change many gradients.
    network = make(name, device, **depth(name)).double()
    x = images(name, device=device).double()
    twin = copy.deepcopy(network)
    y = network(x)
    y.square().sum().backward()
    torch.compiler.reset()
    compiled = torch.compile(twin, fullgraph=True)(x)
    compiled.square().sum().backward()
    torch.testing.assert_close(compiled, y, rtol=1e-8, atol=1e-8)
    for (where, p), q in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        scale = float(p.grad.abs().max())
        torch.testing.assert_close(q.grad, p.grad, rtol=0, atol=1e-8 * scale + 1e-8, msg=where)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_onnx_files_run_in_onnxruntime(name: str, tmp_path: Path) -> None:
    network = make(name, **depth(name)).eval()
    x = images(name)
    with torch.no_grad():
        y = network(x)
    file = tmp_path / "network.onnx"
    torch.onnx.export(
        network, (x,), file, dynamo=True, verbose=False, dynamic_shapes=({0: "batch"},)
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (name_of_input,) = (i.name for i in session.get_inputs())
    (result,) = session.run(None, {name_of_input: x.numpy()})
    scale = max(1.0, float(y.abs().max()))
    np.testing.assert_allclose(result, y.numpy(), rtol=0, atol=1e-4 * scale)
    three = torch.cat([x, x[:1]])
    assert session.run(None, {name_of_input: three.numpy()})[0].shape[0] == 3
