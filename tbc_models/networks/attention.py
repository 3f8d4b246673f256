"""Attention with tied blocks (Fig. 5 of the paper): TiedSE and TiedGCB, and plain SE and GCB.

All take the number of channels first, and `device` and `dtype`, so that timm's networks can use
them: ``attn_layer=partial(TiedSE, blocks=8)``.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from timm.layers import create_act_layer, register_notrace_module
from torch import Tensor, nn

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear

# Their checks cannot be traced: timm's feature_cls="fx" keeps these layers as they are.
register_notrace_module(TiedBlockConv2d)
register_notrace_module(TiedBlockLinear)


class TiedSE(nn.Module):
    """Squeeze and excitation with tied fully connected layers (TFC), Fig. 5a.

    The mean of every channel goes through C → C/r → C, and the result scales the channel. In both
    layers B blocks share one thin layer, from c = C/B channels to h = max(2, ⌊c/r⌋) hidden ones
    and back, with 2·c·h + h + c parameters: about B² times fewer. B = 1 is the standard SE.

    Args:
        channels: C.
        blocks: B.
        reduction: r.
        act_layer: activation between the two layers.
        device: where to put the parameters.
        dtype: dtype of the parameters.

    Shape:
        - Input: (N, C, H, W).
        - Output: the same.

    Raises:
        ValueError: if `channels` is not divisible by `blocks`, or `reduction` is larger than
            `channels`.

    Example:
        >>> se = TiedSE(256, blocks=8)
        >>> se(torch.zeros(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
        >>> sum(p.numel() for p in se.parameters())  # 2·32·2 + 2 + 32
        162
    """

    authors_names: ClassVar = {"fc1": "fc.0", "fc2": "fc.2"}  # for `tbc_gpu.from_authors`

    def __init__(
        self,
        channels: int,
        *,
        blocks: int,
        reduction: int = 16,
        act_layer: str | Callable[..., nn.Module] = nn.ReLU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(channels, blocks)
        if not 1 <= reduction <= channels:
            raise ValueError(
                f"`reduction` (={reduction}) must be between 1 and `channels` (={channels})"
            )
        # At least 2 in each block, as in the authors' code.
        hidden = blocks * max(2, channels // blocks // reduction)
        self.fc1 = TiedBlockLinear(channels, hidden, device=device, dtype=dtype, blocks=blocks)
        self.act = create_act_layer(act_layer, inplace=True)
        self.fc2 = TiedBlockLinear(hidden, channels, device=device, dtype=dtype, blocks=blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (N, C, H, W)."""
        squeezed = x.mean((2, 3))
        scale: Tensor = self.fc2(self.act(self.fc1(squeezed))).sigmoid()
        return x * scale[:, :, None, None]


class SE(TiedSE):
    """Squeeze and excitation (Hu, Shen and Sun, 2018): `TiedSE` with one block.

    Args:
        channels: C.
        options: of `TiedSE`, without `blocks`.

    Raises:
        ValueError: if `reduction` is larger than `channels`.

    Example:
        >>> sum(p.numel() for p in SE(256, reduction=16).parameters())
        8464
    """

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, blocks=1, **options)


class TiedGCB(nn.Module):
    """Global context block with tied block convolutions (TBC), Fig. 5b.

    As in GCNet (Cao et al., 2019), a 1x1 convolution and a softmax over the positions give a mask.
    The mean of the input, weighted by the mask, goes through C → C/4 → C, with layer normalisation
    and ReLU in between, and is added to the input. The two 1x1 convolutions are tied; the mask
    (C + 1 parameters) and the normalisation (2·C/4) are not. B = 1 is the standard GCB.

    Args:
        channels: C.
        blocks: B.
        ratio: number of hidden channels, as a fraction of C.
        device: where to put the parameters.
        dtype: dtype of the parameters.

    Shape:
        - Input: (N, C, H, W).
        - Output: the same.

    Raises:
        ValueError: if the channels or the hidden channels are not divisible by `blocks`.

    Example:
        >>> gcb = TiedGCB(512, blocks=2)
        >>> gcb(torch.zeros(2, 512, 7, 7)).shape
        torch.Size([2, 512, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        blocks: int,
        ratio: float = 1 / 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(channels, blocks)
        hidden = int(channels * ratio)
        if not 0 < ratio <= 1 or hidden < blocks or hidden % blocks:
            raise ValueError(
                f"`ratio` (={ratio:g}) of `channels` (={channels}) must leave a multiple of "
                f"`blocks` (={blocks}), not {hidden}"
            )
        dd = {"device": device, "dtype": dtype}
        # With B = 1 this computes the same as an nn.Conv2d, whose weights timm's ResNet would draw
        # again, for its fan-out: with one output channel they would be so large that the softmax
        # would select a single position.
        self.mask = TiedBlockConv2d(channels, 1, 1, **dd, blocks=1)  # type: ignore[arg-type]
        self.conv1 = TiedBlockConv2d(channels, hidden, 1, **dd, blocks=blocks)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm((hidden, 1, 1), **dd)  # type: ignore[arg-type]
        self.act = nn.ReLU(inplace=True)
        self.conv2 = TiedBlockConv2d(hidden, channels, 1, **dd, blocks=blocks)  # type: ignore[arg-type]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as in GCNet: the last convolution is zero, so the module is the identity."""
        nn.init.kaiming_normal_(self.mask.weight, mode="fan_in", nonlinearity="relu")
        for conv in (self.conv2.weight, self.conv2.bias):
            nn.init.zeros_(conv)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Add the global context to (N, C, H, W)."""
        mask = self.mask(x).flatten(2).softmax(-1)  # (N, 1, HW)
        context = x.flatten(2) @ mask.transpose(1, 2)  # (N, C, 1)
        transformed: Tensor = self.conv2(self.act(self.norm(self.conv1(context.unsqueeze(-1)))))
        return x + transformed


class GCB(TiedGCB):
    """Global context block (Cao et al., 2019): `TiedGCB` with one block.

    Args:
        channels: C.
        options: of `TiedGCB`, without `blocks`.

    Raises:
        ValueError: if `ratio` leaves no hidden channels.

    Example:
        >>> sum(p.numel() for p in GCB(512).parameters())
        132481
    """

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, blocks=1, **options)


def _check(channels: int, blocks: int) -> None:
    if blocks < 1 or channels < 1 or channels % blocks:
        raise ValueError(f"`channels` (={channels}) must be a multiple of `blocks` (={blocks})")
