"""The networks that the tests build, and what they are shown."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tbc_models.count import names

NAMES = [name for name in names() if "tied" in name or name.startswith("gc_")]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def make(name: str, device: str = "cpu", **options: Any) -> nn.Module:
    """Build a network in which no branch is silent: what starts at zero is drawn at random."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.uniform_(-0.1, 0.1)
    return network.to(device)


def images(network_name: str, size: int = 0, batch: int = 2, device: str = "cpu") -> Tensor:
    torch.manual_seed(1)
    size = size or (32 if network_name == "tied_resnet14_s" else 64)
    return torch.randn(batch, 3, size, size, device=device)
