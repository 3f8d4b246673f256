"""The untrained control: the same network with random weights (Adebayo et al. 2018).

What a trained network shows, an untrained one may show as well; then training is not the reason.
Adebayo et al. (Sanity Checks for Saliency Maps) compare with random weights for that reason, and
Nie et al. (2018) show that guided backpropagation depends on the weights surprisingly little.
"""

import hashlib
from collections.abc import Callable, Mapping

import torch
from torch import nn


def weights_digest(network: nn.Module) -> str:
    """Hash the weights of a network, with their names, as a report shows them.

    Args:
        network: any network.

    Returns:
        The first twelve digits of a SHA-256.

    Example:
        >>> weights_digest(nn.Linear(2, 2)) == weights_digest(nn.Linear(2, 2))
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(content.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def build_untrained(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network with the random weights that a seed determines.

    The running means of batch normalisation are 0 and its variances 1, as the constructor has
    them. Scales of normalisation layers that are all zero become one: timm's `zero_init_last`
    makes the last ones of residual units zero, so that gradient reaches no filter before them.

    A constructor may load trained weights, or fix its own seed. Then parameters of two or more
    dimensions are equal whatever the seed, and every module draws its weights anew by
    `reset_parameters`. Parameters that hold one number everywhere are left as they are built.

    Args:
        build: builds the network, such as a class or a function of torchvision.
        seed: seed of the weights.

    Returns:
        The network, in evaluation mode; its parameters do not require gradients.

    Raises:
        ValueError: if a parameter is equal whatever the seed, and no module resets it.

    Example:
        >>> network = build_untrained(lambda: nn.Linear(2, 2), seed=3)
        >>> torch.manual_seed(3) and torch.equal(nn.Linear(2, 2).weight, network.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        torch.manual_seed(seed + 1)
        if fixed := _equal_parameters(network, build()):
            torch.manual_seed(seed)
            _reset(network, fixed)
    for module in network.modules():
        scale = getattr(module, "weight", None)
        if _is_normalisation(module) and isinstance(scale, torch.Tensor) and not scale.any():
            nn.init.ones_(scale)
    return network.eval().requires_grad_(False)


def _equal_parameters(one: nn.Module, other: nn.Module) -> dict[str, torch.Tensor]:
    """Copy the parameters of two or more dimensions that are equal, but for constant ones."""
    others = dict(other.named_parameters())
    return {
        name: own.detach().clone()
        for name, own in one.named_parameters()
        if own.ndim > 1 and own.numel() and torch.equal(own, others[name]) and own.min() < own.max()
    }


def _reset(network: nn.Module, fixed: Mapping[str, torch.Tensor]) -> None:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    for name, before in fixed.items():
        if torch.equal(network.get_parameter(name), before):
            raise ValueError(
                f"`build` gives the parameter {name!r} the same values whatever the seed, and its "
                "module has no `reset_parameters`: name a function that draws it at random"
            )


def _is_normalisation(module: nn.Module) -> bool:
    return any("Norm" in kind.__name__ for kind in type(module).__mro__)
