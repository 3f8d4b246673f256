"""Which layers a network computes, in what order, and which of them the analysis takes.

The paper shows "selected layers" (Fig. 1) without saying which. By default we take convolutions
larger than 1x1 for the method of the paper's text and, for that of the published code, outputs of
stages or residual units.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear
from tbc_models.analysis.guided import check_choice, check_images, evaluating
from tbc_models.data.errors import first_line

Method = Literal["text", "code"]

_WITH_WEIGHTS = (nn.Conv2d, nn.Linear, TiedBlockConv2d, TiedBlockLinear)
_RECTIFIERS = (nn.ReLU, nn.ReLU6)
_WITH_STRIDE = (nn.Conv2d, TiedBlockConv2d, nn.MaxPool2d)


class ComputedLayer(NamedTuple):
    """A module that a network calls, in the order in which their calls end.

    Attributes:
        name: as in `network.named_modules()`.
        depth: number of convolutions and linear layers computed before its first output, itself
            included.
        channels: channels of its first output.
        calls: number of times that it is called.
        kernel: larger side of the kernel of a convolution; 0 for other modules.
        convolutions: number of convolutions larger than 1x1 in it.
        rectified: whether its output is a map of more than one pixel without negative values.
        output: number of its first output; modules that return the same tensor have the same one.
    """

    name: str
    depth: int
    channels: int
    calls: int
    kernel: int
    convolutions: int
    rectified: bool
    output: int


def computed_layers(network: nn.Module, images: Tensor) -> list[ComputedLayer]:
    """Find out which modules compute (N, C, H, W) or (N, C) from some images.

    Args:
        network: the network; it computes in evaluation mode, and is left as it was.
        images: (N, C, H, W); only the first one is used.

    Returns:
        The modules, in the order in which they finish; the network itself is not among them.

    Raises:
        ValueError: if the network does not take the images, or they are smaller than the product of
            the strides of its convolutions and max pooling up to some layer.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        >>> [(one.name, one.depth) for one in computed_layers(network, torch.ones(1, 1, 8, 8))]
        [('0', 1), ('1', 1)]
    """
    check_images(network, images)
    found: dict[str, dict[str, Any]] = {}
    outputs: list[Tensor] = []  # they are kept, since the ids of tensors that are gone return
    depth = 0
    strides = {tuple(images.shape[-2:]): (1, 1)}

    def hook_of(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, given: Any, output: Any) -> None:
            nonlocal depth
            depth += isinstance(module, _WITH_WEIGHTS)
            if isinstance(module, _WITH_STRIDE) and given:
                _follow_stride(strides, name, module, given[0], output)
            if name in found:
                found[name]["calls"] += 1
            elif isinstance(output, Tensor) and output.ndim in (2, 4):
                outputs.append(output)
                found[name] = {
                    "depth": depth,
                    "channels": output.shape[1],
                    "calls": 1,
                    "kernel": _kernel(module),
                    "convolutions": sum(_kernel(part) > 1 for part in module.modules()),
                    "rectified": _is_rectified_map(output),
                    "output": next(i for i, one in enumerate(outputs) if one is output),
                }

        return hook

    handles = [m.register_forward_hook(hook_of(n, m)) for n, m in network.named_modules() if n]
    try:
        with torch.no_grad(), evaluating(network):
            network(images[:1].clone())
    except Exception as error:  # a network may raise anything
        raise ValueError(
            f"the network does not take `images` (shape {tuple(images.shape)}): {first_line(error)}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return [ComputedLayer(name, **facts) for name, facts in found.items()]


def _follow_stride(
    strides: dict[tuple[int, ...], tuple[int, int]],
    name: str,
    module: nn.Module,
    given: Tensor,
    output: Tensor,
) -> None:
    """Multiply the stride of maps of the size given; the first size is that of the images."""
    before = strides.get(tuple(given.shape[-2:]))
    if before is None:  # after what is not followed, such as pooling to one pixel
        return
    own: Any = module.stride
    own = own if isinstance(own, tuple) else (own, own)
    after = before[0] * own[0], before[1] * own[1]
    height, width = next(iter(strides))
    if height < after[0] or width < after[1]:
        raise ValueError(
            f"they must be at least {after[0]}x{after[1]} pixels, the total stride up to {name!r}"
        )
    strides.setdefault(tuple(output.shape[-2:]), after)


def default_layers(
    network: nn.Module, images: Tensor, *, method: Method = "text", count: int = 4
) -> list[str]:
    """Choose layers from the first to the last, evenly spaced in the order of execution.

    Args:
        network: the network.
        images: (N, C, H, W); only the first one is used.
        method: for "text", convolutions larger than 1x1. For "code", maps after a rectifier:
            outputs of stages if there are three or more, otherwise of units with convolutions,
            otherwise of the rectifiers themselves.
        count: number of layers.

    Returns:
        Their names; all, if there are fewer.

    Raises:
        ValueError: if there are none, there is no such method, or the network does not take the
            images.

    Example:
        >>> import timm
        >>> network, images = timm.create_model("resnet18"), torch.zeros(1, 3, 64, 64)
        >>> default_layers(network, images)
        ['conv1', 'layer2.0.conv1', 'layer3.1.conv1', 'layer4.1.conv2']
        >>> default_layers(network, images, method="code")
        ['layer1', 'layer2', 'layer3', 'layer4']
    """
    check_choice("method", method, Method)
    layers = [layer for layer in computed_layers(network, images) if layer.calls == 1]
    if method == "text":
        chosen = [layer.name for layer in layers if layer.kernel > 1]
        what = "convolutions larger than 1x1"
    else:
        chosen, what = _rectified_maps(network, layers), "maps after a rectifier"
    if not chosen:
        raise ValueError(f"the network has no {what}: name `layers`")
    places = np.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().astype(int)
    return [chosen[place] for place in places]


def _rectified_maps(network: nn.Module, layers: list[ComputedLayer]) -> list[str]:
    """Return stages, units or rectifiers whose output has no negative values."""
    maps = [layer for layer in layers if layer.rectified]
    units = [layer for layer in maps if layer.convolutions and not layer.kernel]
    stages = [
        layer
        for layer in units
        if any(
            one.name.startswith(f"{layer.name}.") and one.output == layer.output for one in units
        )
    ]
    if len(stages) >= 3:
        return [layer.name for layer in stages]
    inner = [layer.name for layer in units if layer not in stages]
    if len(inner) >= 2:
        return inner
    return [
        layer.name for layer in maps if isinstance(network.get_submodule(layer.name), _RECTIFIERS)
    ]


def _is_rectified_map(output: Tensor) -> bool:
    return output.ndim == 4 and output[0, 0].numel() > 1 and bool((output >= 0).all())


def _kernel(module: nn.Module) -> int:
    if isinstance(module, (nn.Conv2d, TiedBlockConv2d)):
        return int(max(module.kernel_size))
    return 0
