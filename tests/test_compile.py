"""Tied networks under torch.compile, and one of each family in onnxruntime."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from .networks import DEVICES, NAMES, images, make

# Where a whole network takes minutes, two blocks in the first stage and one in each of the others
# have all that the compiler meets in it: blocks with and without shortcut, every width and stride.
SHALLOW = {"layers": (2, 1, 1, 1)}
# One network of each family.
FAMILIES = (
    *("tied_resnet14_s", "tied_resnet50", "tied_resnext50_s", "tied_senet101_s"),
    *("tied_seresnet50", "tied_gc_resnet50", "tied_resnest50_s", "tied_efficientnet_b0"),
)


def depth(name: str) -> dict[str, Any]:
    """The options that make a network no deeper than it must be."""
    return {} if "resnet14" in name or "efficientnet" in name else SHALLOW


# Two and more ways to attend, and one without: their gradients are compared too.
TRAINED = ("tied_resnet14_s", "tied_senet101_s", "tied_gc_resnet50", "tied_resnest50_s")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_compiles_whole_to_the_same_outputs(name: str, device: str) -> None:
    network = make(name, device, **depth(name)).eval()
    x = images(name, device=device)
    torch.compiler.reset()
    with torch.no_grad():
        y = network(x)
        compiled = torch.compile(network, fullgraph=True)(x)
    # float32 in another order of summing, through a hundred layers
    torch.testing.assert_close(compiled, y, rtol=0, atol=1e-4 * float(y.abs().max()))


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
