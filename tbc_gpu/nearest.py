"""The tied weight nearest to a plain one, in the sense of least squares.

A tied layer equals a plain one whose weight T(W′) has the thin weight W′ in each of its B diagonal
blocks and zeros elsewhere. For a plain weight W with the blocks W_bc, in each group,

    ‖W − T(W′)‖² = Σ_{b≠c} ‖W_bc‖² + Σ_b ‖W_bb − W′‖².

Only the second sum depends on W′, so the nearest W′ is the mean of the diagonal blocks.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .modules import TiedBlockConv2d, TiedBlockLinear


def nearest_thin(weight: Tensor, *, groups: int = 1, blocks: int) -> Tensor:
    """Compute the thin weight W′ that is nearest to a plain weight W, or thin bias to a bias.

    Args:
        weight: (C_out, C_in/G, …) of a convolution or a linear layer; or a bias (C_out,).
        groups: G.
        blocks: B.

    Returns:
        (C_out/B, C_in/(G·B), …), the mean of the diagonal blocks; or (C_out/B,), the mean of the
        bias over the blocks.

    Example:
        >>> nearest_thin(torch.tensor([[1.0, 5.0], [5.0, 3.0]]), blocks=2)
        tensor([[2.]])
    """
    if weight.ndim == 1:
        thin: Tensor = weight.unflatten(0, (groups, blocks, -1)).mean(1).flatten()
        return thin
    return _diagonal(weight, groups, blocks).mean(-1).flatten(0, 1).contiguous()


def part_lost(weight: Tensor, thin: Tensor, *, groups: int = 1, blocks: int) -> float:
    """Compute the part of a plain weight that a thin one does not reproduce.

    Args:
        weight: W, (C_out, C_in/G, …).
        thin: W′, (C_out/B, C_in/(G·B), …).
        groups: G.
        blocks: B.

    Returns:
        ‖W − T(W′)‖ / ‖W‖, from 0 to 1 for the nearest W′; 0 if W is zero.

    Example:
        >>> part_lost(torch.eye(2), torch.ones(1, 1), blocks=2)
        0.0
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    rest = weight.to(dtype, copy=True)
    _diagonal(rest, groups, blocks).sub_(thin.unflatten(0, (groups, -1)).unsqueeze(-1))
    whole = float(torch.linalg.vector_norm(weight, dtype=dtype))
    return float(torch.linalg.vector_norm(rest)) / whole if whole else 0.0


def load_nearest(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load the weights of a plain network into one with tied layers: to each the nearest.

    The two networks must differ only in that layers are tied, as timm's name `tbc_resnet20` from
    `resnet20`, or what `tie` returns from what it was given.

    Args:
        model: network with tied layers; it is changed.
        state: state dict of the plain network. Layers that are tied there too are copied.

    Returns:
        The names of the layers that received the nearest thin weights.

    Raises:
        RuntimeError: if the networks differ in more; the message is PyTorch's.

    Example:
        >>> plain = nn.Sequential(nn.Linear(4, 4))
        >>> tied = nn.Sequential(TiedBlockLinear(4, 4, blocks=2))
        >>> load_nearest(tied, plain.state_dict())
        ['0']
        >>> torch.equal(tied[0].bias, plain[0].bias.unflatten(0, (2, 2)).mean(0))
        True
    """
    state = dict(state)
    changed = []
    for name, layer in model.named_modules():
        if not isinstance(layer, (TiedBlockConv2d, TiedBlockLinear)):
            continue
        for kind, thin in layer.named_parameters(recurse=False):
            key = f"{name}.{kind}".removeprefix(".")
            plain = [size * layer.blocks for size in thin.shape[:2]] + list(thin.shape[2:])
            if key in state and list(state[key].shape) == plain:
                groups = getattr(layer, "groups", 1)
                state[key] = nearest_thin(state[key], groups=groups, blocks=layer.blocks)
                changed += [name] if kind == "weight" else []
    model.load_state_dict(state)
    return changed


def _diagonal(weight: Tensor, groups: int, blocks: int) -> Tensor:
    """Return a view of the diagonal blocks of a weight: (G, C_out/(G·B), C_in/(G·B), …, B)."""
    blockwise: Tensor = weight.unflatten(0, (groups, blocks, -1)).unflatten(3, (blocks, -1))
    return blockwise.diagonal(dim1=1, dim2=3)
