"""The untrained control: the same network with random weights (Adebayo et al. 2018).

What a trained network shows, an untrained one may show as well; then training is not the reason.
Adebayo et al. (Sanity Checks for Saliency Maps) compare with random weights for that reason, and
Nie et al. (2018) show that guided backpropagation depends on the weights surprisingly little.
"""

import hashlib
from collections.abc import Callable

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


def build_untrained(build: Callable[[], nn.Module], seed: int, *, trained: str = "") -> nn.Module:
    """Build a network with the random weights that a seed determines.

    The running means of batch normalisation are 0 and its variances 1, as the constructor has
    them. Scales of normalisation layers that are all zero become one: timm's `zero_init_last`
    makes the last ones of residual units zero, so that gradient reaches no filter before them.

    Args:
        build: builds the network, such as a class or a function of torchvision.
        seed: seed of the weights.
        trained: `weights_digest` of the trained network. If `build` gives those weights whatever
            the seed, every layer draws its weights anew by `reset_parameters`.

    Returns:
        The network, in evaluation mode; its parameters do not require gradients.

    Example:
        >>> network = build_untrained(lambda: nn.Linear(2, 2), seed=3)
        >>> torch.manual_seed(3) and torch.equal(nn.Linear(2, 2).weight, network.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        if trained and weights_digest(network) == trained:
            torch.manual_seed(seed)
            for module in network.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
    for module in network.modules():
        scale = getattr(module, "weight", None)
        if isinstance(scale, torch.Tensor) and scale.ndim == 1 and not scale.any():
            nn.init.ones_(scale)
    return network.eval().requires_grad_(False)
