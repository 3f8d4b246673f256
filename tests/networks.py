"""The networks that the tests build, and what they are shown."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tbc_models.networks.registry import BASELINES, names

REGISTERED = [name for name in names() if name not in BASELINES]
# The contract holds for the other designs too: for one network of each, which is small.
NAMES = [*REGISTERED, "tied_resnet14_s, fitted", "tied_resnet14_s, fitted-tbc"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def make(name: str, device: str = "cpu", **options: Any) -> nn.Module:
    """Build a network in which no branch is silent: what starts at zero is drawn at random."""
    if device == "cuda":  # or convolutions of float32 would have products of ten bits
        torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    name, _, design = name.partition(", ")
    if design:
        options["design"] = design
    network: nn.Module = timm.create_model(name, **options)
    if device == "meta":
        return network
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.uniform_(-0.1, 0.1)
    return network.to(device)


def stride_of(network_name: str) -> int:
    """The total stride of one of our networks."""
    return 4 if "resnet20" in network_name else 16 if "resnet14" in network_name else 32


def images(network_name: str, size: int = 0, batch: int = 2, device: str = "cpu") -> Tensor:
    torch.manual_seed(1)
    size = size or (64 if stride_of(network_name) == 32 else 32)
    return torch.randn(batch, 3, size, size, device=device)
