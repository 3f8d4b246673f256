"""Tied block layers as modules: drop-in replacements for `torch.nn.Conv2d` and `torch.nn.Linear`.

Each stores its thin filters once. `blocks` is a required keyword: with a default of 1, forgetting
it would silently give a plain layer.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .algorithms import as_channels_last, is_channels_last
from .checks import Pair, as_int, as_pair, check_divisible, check_padding, check_tensors, sides_of
from .functional import convolve, tied_block_conv2d

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class TiedBlockConv2d(nn.Module):
    """Tied block convolution: TBC, Eq. (3), and with `groups` TGC, Eq. (4).

    The signature is that of `torch.nn.Conv2d`, and `blocks`. Filters and bias are initialised as
    in `torch.nn.Conv2d`, with the fan-in of a thin filter, C_in/(G·B)·kH·kW.

    Args:
        in_channels: C_in, the channels of the input.
        out_channels: C_out, the channels of the output.
        kernel_size: size of the kernel, an int or a (kH, kW) pair.
        stride: step of the kernel in pixels, an int or a pair.
        padding: padding on each side in pixels, an int, a pair, "same" or "valid".
        dilation: distance between the kernel's taps in pixels, an int or a pair.
        groups: G, the number of groups of channels; each group has its own filters.
        bias: whether to add a bias, one value per filter, which the blocks share too.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        device: where to put the parameters.
        dtype: dtype of the parameters.
        blocks: B, the number of blocks in each group; all blocks of a group share its filters.

    Shape:
        - Input: (N, C_in, H, W) or (C_in, H, W).
        - Output: (N, C_out, H_o, W_o) or (C_out, H_o, W_o).
        - weight: (C_out/B, C_in/(G·B), kH, kW).
        - bias: (C_out/B,).

    Raises:
        TypeError: if a size is not an int.
        ValueError: if the channels are not divisible by groups·blocks, or a value is out of range.

    Example:
        >>> layer = TiedBlockConv2d(64, 128, 3, padding=1, blocks=4)
        >>> layer(torch.zeros(2, 64, 8, 8)).shape
        torch.Size([2, 128, 8, 8])
        >>> layer.weight.shape
        torch.Size([32, 16, 3, 3])
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        blocks: int,
    ) -> None:
        super().__init__()
        self.in_channels = as_int("in_channels", in_channels, 1)
        self.out_channels = as_int("out_channels", out_channels, 1)
        self.kernel_size = as_pair("kernel_size", kernel_size, 1)
        self.stride = as_pair("stride", stride, 1)
        self.padding = check_padding(padding, self.stride)
        self.dilation = as_pair("dilation", dilation, 1)
        self.groups = as_int("groups", groups, 1)
        self.blocks = as_int("blocks", blocks, 1)
        modes = get_args(PaddingMode)
        if padding_mode not in modes:
            raise ValueError(f"`padding_mode` (={padding_mode!r}) must be one of {modes}")
        self.padding_mode = padding_mode
        check_divisible("`in_channels`", self.in_channels, self.groups, self.blocks)
        check_divisible("`out_channels`", self.out_channels, self.groups, self.blocks)
        thin = self.in_channels // (self.groups * self.blocks)
        shape = (self.out_channels // self.blocks, thin, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise filters and bias, uniform in ±1/√fan_in as in `torch.nn.Conv2d`."""
        _reset(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to (N, C_in, H, W) or (C_in, H, W)."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._checked(input)
        return self._scripted(input)

    def _checked(self, input: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        # The checks take as long as a small convolution does, so they are skipped for an input of
        # the right shape and dtype. In a compiled graph they cost nothing.
        if (
            not torch.compiler.is_compiling()
            and isinstance(input, Tensor)
            and input.ndim == 4
            and input.shape[1] == self.in_channels
            and input.numel()  # a 1x1 kernel would accept maps without pixels
            and input.dtype is weight.dtype
            and self.padding_mode == "zeros"
        ):
            at = (self.stride, self.padding, self.dilation, self.groups, self.blocks)
            try:
                return convolve(input, weight, bias, *at)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TypeError):  # the checks below name what is wrong, or mend it
                pass
        if isinstance(input, Tensor) and (
            input.ndim not in (3, 4) or input.shape[-3] != self.in_channels
        ):
            raise ValueError(
                f"`input` (shape {tuple(input.shape)}) must be (N, {self.in_channels}, H, W), "
                f"or ({self.in_channels}, H, W) without a batch"
            )
        images, padding = input, self.padding
        if self.padding_mode != "zeros":
            check_tensors(input, weight, bias)  # before the padding reads them
            images, padding = self._pad(input), (0, 0)
        options = (self.stride, padding, self.dilation, self.groups)
        return tied_block_conv2d(images, weight, bias, *options, blocks=self.blocks)

    def _scripted(self, input: Tensor) -> Tensor:
        """Convolve in G·B groups, in the part of Python that TorchScript compiles."""
        if self.padding_mode != "zeros":
            raise ValueError(
                f"`padding_mode` (='{self.padding_mode}') must be 'zeros' in TorchScript"
            )
        split = self.weight.unflatten(0, (self.groups, 1, -1))
        weight = split.expand(-1, self.blocks, -1, -1, -1, -1).flatten(0, 2)
        bias: Tensor | None = self.bias
        if bias is not None:
            bias = bias.view(self.groups, 1, -1).expand(-1, self.blocks, -1).flatten()
        groups = self.groups * self.blocks
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, groups)

    def _pad(self, input: Tensor) -> Tensor:
        sides = list(sides_of(self.padding, self.kernel_size, self.dilation))
        padded = F.pad(input, sides, mode=self.padding_mode)
        # The mode "circular" always gives a contiguous image.
        return as_channels_last(padded) if input.ndim == 4 and is_channels_last(input) else padded

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        shown = {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias is not None,
            "padding_mode": self.padding_mode,
        }
        plain = {
            "padding": (0, 0),
            "dilation": (1, 1),
            "groups": 1,
            "bias": True,
            "padding_mode": "zeros",
        }
        parts = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}"]
        parts += [f"{name}={value!r}" for name, value in shown.items() if plain.get(name) != value]
        return ", ".join([*parts, f"blocks={self.blocks}"])


class TiedBlockLinear(nn.Module):
    """Tied block fully connected layer (TFC): one thin layer applied to every block of features.

    The signature is that of `torch.nn.Linear`, and `blocks`.

    Args:
        in_features: features of the input.
        out_features: features of the output.
        bias: whether to add a bias, which the blocks share like the weight.
        device: where to put the parameters.
        dtype: dtype of the parameters.
        blocks: B, the number of blocks, which share one weight.

    Shape:
        - Input: (…, in_features).
        - Output: (…, out_features).
        - weight: (out_features/B, in_features/B).
        - bias: (out_features/B,).

    Raises:
        TypeError: if a size is not an int.
        ValueError: if the features are not divisible by `blocks`, or a value is out of range.

    Example:
        >>> layer = TiedBlockLinear(256, 64, blocks=4)
        >>> layer(torch.zeros(2, 7, 256)).shape
        torch.Size([2, 7, 64])
        >>> layer.weight.shape
        torch.Size([16, 64])
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        blocks: int,
    ) -> None:
        super().__init__()
        self.in_features = as_int("in_features", in_features, 1)
        self.out_features = as_int("out_features", out_features, 1)
        self.blocks = as_int("blocks", blocks, 1)
        check_divisible("`in_features`", self.in_features, 1, self.blocks)
        check_divisible("`out_features`", self.out_features, 1, self.blocks)
        shape = (self.out_features // self.blocks, self.in_features // self.blocks)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise weight and bias, uniform in ±1/√fan_in as in `torch.nn.Linear`."""
        _reset(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to (…, in_features)."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._check(input)
        blockwise = input.unflatten(-1, (self.blocks, -1))
        return F.linear(blockwise, self.weight, self.bias).flatten(-2)

    def _check(self, input: Tensor) -> None:
        weight = self.weight
        fits = isinstance(input, Tensor) and input.ndim and input.shape[-1] == self.in_features
        if fits and input.dtype is weight.dtype and input.device == weight.device:
            return  # what follows takes as long as a small product does
        check_tensors(input, weight, self.bias)
        if not fits:
            raise ValueError(
                f"`input` (shape {tuple(input.shape)}) must be (…, {self.in_features})"
            )

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, blocks={self.blocks}"
        )


def _reset(weight: nn.Parameter, bias: nn.Parameter | None) -> None:
    # The default of torch.nn, kaiming_uniform_ with a = √5, is uniform in ±1/√fan_in.
    bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
    for parameter in (weight, bias):
        if parameter is not None:
            nn.init.uniform_(parameter, -bound, bound)
