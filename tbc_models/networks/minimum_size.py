"""The smallest image that a network accepts: its total stride in each direction.

On smaller images the last convolutions would read more padding than pixels, and their features
would mean nothing. timm's networks compute them without a warning; ours raise a ValueError.
"""

from typing import Any, cast

from timm.models import register_notrace_module
from torch import Tensor, nn


@register_notrace_module  # compares sizes, which timm's feature_cls="fx" could not trace
class MinimumSize(nn.Module):
    """Return the images as they are, or raise a ValueError if they are too small.

    Args:
        pixels: the least height and width.

    Shape:
        - Input: (N, C, H, W).
        - Output: the same.

    Example:
        >>> import torch
        >>> MinimumSize(32)(torch.zeros(1, 3, 28, 28))
        Traceback (most recent call last):
        ValueError: `input` (shape (1, 3, 28, 28)) must be at least 32x32 pixels, ...
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def extra_repr(self) -> str:
        """What `print` shows of the check."""
        return f"pixels={self.pixels}"

    def forward(self, x: Tensor) -> Tensor:
        """Check the size of (N, C, H, W), and return it."""
        least = self.pixels
        if x.shape[-2] < least or x.shape[-1] < least:
            shape = ", ".join([str(n) for n in x.shape])  # TorchScript has no tuple()
            hint = "; tied_resnet14_s is made for small images" if least > 16 else ""
            raise ValueError(
                f"`input` (shape ({shape})) must be at least {least}x{least} pixels, the total "
                f"stride of this network{hint}"
            )
        return x


class ChecksSize(nn.Module):
    """Mixin for a network of timm: every way through it begins with a `MinimumSize`.

    Args:
        arguments: of the network.
        options: of the network.

    Example:
        >>> from timm.models.resnet import BasicBlock, ResNet
        >>> class Checked(ChecksSize, ResNet): pass
        >>> Checked(BasicBlock, (1, 1, 1, 1)).minimum_size
        MinimumSize(pixels=32)
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # timm's features_only calls the children of a network in their order: the check comes
        # first. It has no parameters, so the keys of the state dict are timm's.
        children = list(self.named_children())
        self.minimum_size = MinimumSize(total_stride(self))
        for name, child in children:
            delattr(self, name)
            setattr(self, name, child)

    def forward_features(self, x: Tensor) -> Tensor:
        """Check the size of the images, and compute the last features."""
        return cast(Tensor, super().forward_features(self.minimum_size(x)))  # type: ignore[misc]

    def forward_intermediates(self, x: Tensor, *arguments: Any, **options: Any) -> Any:
        """Check the size of the images, and compute the features of several stages."""
        checked = self.minimum_size(x)
        return super().forward_intermediates(checked, *arguments, **options)  # type: ignore[misc]


def total_stride(network: nn.Module) -> int:
    """Find the stride of the deepest features of a network.

    Args:
        network: of timm, with `feature_info`.

    Returns:
        How many pixels of the image, in each direction, one pixel of those features stands for.

    Example:
        >>> import timm
        >>> total_stride(timm.create_model("resnet18", output_stride=8))
        8
    """
    info: Any = network.feature_info
    steps: list[int] = (
        info.reduction()  # with features_only, of the features that were chosen
        if hasattr(info, "reduction")
        else [stage["reduction"] for stage in info]
    )
    return max(steps)


def set_minimum_size(network: nn.Module) -> nn.Module:
    """Set the smallest size to the total stride of the features that a network computes.

    With `features_only` and `out_indices` they may end before the last stage.

    Args:
        network: one that is, or contains, a `ChecksSize`.

    Returns:
        The same network.

    Example:
        >>> import timm
        >>> timm.create_model("tied_resnet50", features_only=True, out_indices=(1, 2)).minimum_size
        MinimumSize(pixels=8)
    """
    for module in network.modules():
        if isinstance(module, MinimumSize):
            module.pixels = total_stride(network)
    return network
