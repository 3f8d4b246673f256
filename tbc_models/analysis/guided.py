"""Guided backpropagation (Springenberg et al. 2014): the image that a channel responds to.

The gradient of a channel's output with respect to the image, with one change. Where a rectifier
y = max(x, 0) passes the gradient dy back as dx = dy · [x > 0], guided backpropagation passes

    dx = max(dy, 0) · [x > 0],

so that only what excites the channel reaches the image. The second factor is PyTorch's own
derivative of the rectifier. The first is a hook on the rectifier's result, which is put there while
the forward pass runs: a `TorchFunctionMode` sees every function that is called, so it also sees
rectifiers that are functions, work in place, or are one module that is used several times.

Rectifiers are ReLU, ReLU6, `hardtanh` and `clamp` with a lower bound of 0, and `threshold` with 0
for both of its numbers. Other activations keep their own derivative, also leaky ones, which block
no gradient that could be guided. Those that are written with a rectifier, such as timm's
`hard_sigmoid`, have that rectifier guided.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tbc_models.data.errors import first_line
from tbc_models.networks.minimum_size import total_stride

Progress = Callable[[int, int], None]
Gradient = Literal["guided", "ordinary"]

_PIXELS = 200_704
"""Of a batch: four images of 224x224."""

_RECTIFIERS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6)
_CLAMPS = {
    F.hardtanh: "min_val",
    F.hardtanh_: "min_val",
    torch.clamp: "min",
    torch.clamp_: "min",
    torch.clip: "min",
    torch.clip_: "min",
    torch.clamp_min: "min",
    torch.clamp_min_: "min",
    Tensor.clamp: "min",
    Tensor.clamp_: "min",
    Tensor.clip: "min",
    Tensor.clip_: "min",
    Tensor.clamp_min: "min",
    Tensor.clamp_min_: "min",
}
"""Functions that are rectifiers if their lower bound, the second argument, is 0; and its name."""

_THRESHOLDS = (F.threshold, torch.threshold, torch.threshold_)
"""Rectifiers if the least value and what replaces smaller ones are both 0."""


def guided_backprop(
    network: nn.Module,
    images: Tensor,
    layer: str,
    channels: Sequence[int],
    *,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Compute what channels of a layer respond to, by guided backpropagation.

    The network computes in evaluation mode, up to the layer and no further, once for each batch of
    images; then one backward pass for each channel goes back to the images. The network is left as
    it was.

    Args:
        network: network with rectifiers.
        images: (N, C, H, W), normalised as the network takes them.
        layer: name of a module whose output is (N, channels, H', W') or (N, channels), as in
            `network.named_modules()`. If it is called several times, its first output counts.
        channels: channels of that output.
        batch_size: images that are computed at once; by default as many as have 200,000 pixels
            together, four of 224x224. More need more memory, and were not faster.
        progress: called with the number of backward passes done so far and their total.

    Returns:
        The patterns, (len(channels), N, C, H, W). Each is the derivative of the sum of a channel's
        output over its positions with respect to an image, with guided rectifiers.

    Raises:
        ValueError: if there is no such layer (the message names similar ones) or the images do not
            reach it; if its output has another shape or not these channels; if the network has no
            rectifier; or if it does not take the images, or they are smaller than its total
            stride.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU())
        >>> _ = nn.init.ones_(network[0].weight)
        >>> guided_backprop(network, torch.tensor([[[[3.0, -3.0]]]]), "1", [0]).tolist()
        [[[[[1.0, 0.0]]]]]
    """
    groups = [(channel,) for channel in channels]
    batches = gradient_patterns(
        network, images, {layer: groups}, batch_size=batch_size, progress=progress
    )
    return torch.cat([patterns for _, patterns in batches], dim=1)


def gradient_patterns(
    network: nn.Module,
    images: Tensor,
    wanted: Mapping[str, Sequence[Sequence[int]]],
    *,
    gradient: Gradient = "guided",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Compute the patterns of several layers batch by batch, as they would not fit into memory.

    All layers share the forward pass of a batch.

    Args:
        network: as `guided_backprop` takes it.
        images: as `guided_backprop` takes them.
        wanted: for each layer the groups of channels; a pattern belongs to the sum of its group.
        gradient: "guided"; or "ordinary", which leaves every derivative as it is, and so shows what
            guiding does. It needs no rectifiers.
        batch_size: as `guided_backprop` takes it.
        progress: called with the number of backward passes done so far and their total.

    Yields:
        For each batch of n images, and for each layer, its name and (groups, n, C, H, W).

    Raises:
        ValueError: as `guided_backprop`, or if `gradient` is neither.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
        >>> both = {"1": [(0,), (0, 1)]}
        >>> for layer, patterns in gradient_patterns(network, torch.ones(3, 1, 4, 4), both):
        ...     print(layer, tuple(patterns.shape))
        1 (2, 3, 1, 4, 4)
    """
    check_choice("gradient", gradient, Gradient)
    for layer in wanted:
        check_layer(network, layer)
    check_images(network, images)
    if batch_size is None:
        batch_size = max(1, _PIXELS // images[0, 0].numel())
    if batch_size < 1:
        raise ValueError(f"`batch_size` (={batch_size}) must be at least 1")
    batches = images.split(batch_size)
    done, total = 0, len(batches) * sum(map(len, wanted.values()))
    for batch in batches:
        start, outputs = _forward(network, batch, wanted, gradient)
        for layer, groups in wanted.items():
            found = batch.new_empty(len(groups), *batch.shape)
            for i, group in enumerate(groups):
                ones = torch.zeros_like(outputs[layer])
                ones[:, list(group)] = 1
                (found[i],) = torch.autograd.grad(outputs[layer], start, ones, retain_graph=True)
                done += 1
                if progress is not None:
                    progress(done, total)
            yield layer, found


def check_layer(network: nn.Module, layer: str) -> None:
    """Check that a network has a layer.

    Args:
        network: the network.
        layer: name of a module.

    Raises:
        ValueError: if it has none of that name. The message gives the most similar names.

    Example:
        >>> check_layer(nn.Sequential(nn.ReLU()), "O")
        Traceback (most recent call last):
        ...
        ValueError: `layer` (='O') is not a layer of the network; did you mean 0?
    """
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        near = get_close_matches(layer, names, n=3, cutoff=0.0)
        hint = f"; did you mean {', '.join(near)}?" if near else ", which contains no modules"
        raise ValueError(f"`layer` (={layer!r}) is not a layer of the network{hint}")


def check_choice(name: str, value: object, choices: object) -> None:
    """Check that an argument has one of the values that it can have.

    Args:
        name: the argument.
        value: what it is.
        choices: a `Literal` of the values.

    Raises:
        ValueError: if it is none of them.

    Example:
        >>> check_choice("gradient", "guide", Gradient)
        Traceback (most recent call last):
        ...
        ValueError: `gradient` (='guide') must be 'guided' or 'ordinary'
    """
    if value not in get_args(choices):
        right = " or ".join(map(repr, get_args(choices)))
        raise ValueError(f"`{name}` (={value!r}) must be {right}")


class _Reached(Exception):  # noqa: N818 (it is not an error)
    """Ends a forward pass when every wanted layer has its output."""


class _Guiding(TorchFunctionMode):
    """Put a hook on the result of every rectifier, and count them."""

    def __init__(self) -> None:
        super().__init__()
        self.rectifiers = 0

    def __torch_function__(
        self, function: Any, _: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        result = function(*arguments, **options)  # the functions that this one calls are not seen
        if function in _RECTIFIERS or _cuts_at_zero(function, arguments, options):
            self.rectifiers += 1
            if result.requires_grad:
                result.register_hook(lambda gradient: gradient.clamp(min=0))
        return result


def _cuts_at_zero(function: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    if function in _THRESHOLDS:
        names = ["threshold", "value"]
    elif function in _CLAMPS:
        names = [_CLAMPS[function]]
    else:
        return False
    given = [
        arguments[place] if len(arguments) > place else options.get(name)
        for place, name in enumerate(names, 1)
    ]
    return all(
        isinstance(one, (int, float)) or (isinstance(one, Tensor) and not one.ndim) for one in given
    ) and not any(given)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and every module back into its own mode at the end.

    Args:
        network: the network.

    Yields:
        Nothing.

    Example:
        >>> dropout = nn.Dropout()
        >>> with evaluating(dropout):
        ...     print(dropout.training)
        False
        >>> dropout.training
        True
    """
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _forward(
    network: nn.Module,
    batch: Tensor,
    wanted: Mapping[str, Sequence[Sequence[int]]],
    gradient: Gradient,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the start of a graph and the outputs of the layers at its ends."""
    outputs: dict[str, Any] = {}

    def keep(layer: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            # A copy: what follows may change the output in place.
            outputs.setdefault(layer, output.clone() if isinstance(output, Tensor) else output)
            if len(outputs) == len(wanted):
                raise _Reached

        return hook

    handles = [network.get_submodule(layer).register_forward_hook(keep(layer)) for layer in wanted]
    guiding = _Guiding()
    try:
        with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
            # Channels last: on CPUs a tenth faster than contiguous images, at equal weights.
            start = batch.detach().clone(memory_format=torch.channels_last).requires_grad_()
            with guiding if gradient == "guided" else nullcontext():
                network(start.clone())  # a copy: the network may change it in place
    except _Reached:
        pass
    except Exception as error:  # a network may raise anything
        raise refused(batch, error) from error
    finally:
        for handle in handles:
            handle.remove()
    for layer, groups in wanted.items():
        if layer not in outputs:
            raise ValueError(f"`layer` (={layer!r}) is never reached by the images")
        _check_output(layer, outputs[layer], groups)
    if gradient == "guided" and not guiding.rectifiers:
        _require_rectifiers(network, batch)
    return start, outputs


def refused(images: Tensor, error: Exception) -> ValueError:
    """Make the error for images that a network does not take, whatever it raised.

    Args:
        images: (N, C, H, W).
        error: what the network raised.

    Returns:
        The error, which names the shape of the images.

    Example:
        >>> refused(torch.zeros(1, 3, 8, 8), RuntimeError("too small")).args[0]
        'the network does not take `images` (shape (1, 3, 8, 8)): too small'
    """
    return ValueError(
        f"the network does not take `images` (shape {tuple(images.shape)}): {first_line(error)}"
    )


def check_images(network: nn.Module, images: Tensor) -> None:
    """Check that images are a batch, and not smaller than the network's total stride.

    Args:
        network: the network; its total stride is known if timm built it.
        images: (N, C, H, W).

    Raises:
        ValueError: if they are not.

    Example:
        >>> check_images(nn.ReLU(), torch.zeros(3, 8, 8))
        Traceback (most recent call last):
        ...
        ValueError: `images` (shape (3, 8, 8), torch.float32) must be (N, C, H, W), ...
    """
    if images.ndim != 4 or not images.numel() or not images.is_floating_point():
        raise ValueError(
            f"`images` (shape {tuple(images.shape)}, {images.dtype}) must be (N, C, H, W), "
            "of floating point and not empty"
        )
    if getattr(network, "feature_info", None):
        least = total_stride(network)
        if min(images.shape[-2:]) < least:
            raise ValueError(
                f"`images` (shape {tuple(images.shape)}) must be at least {least}x{least} pixels, "
                "the total stride of this network"
            )


def _check_output(layer: str, output: Any, groups: Sequence[Sequence[int]]) -> None:
    if not isinstance(output, Tensor) or output.ndim not in (2, 4) or not output.numel():
        what = (
            f"of shape {tuple(output.shape)}"
            if isinstance(output, Tensor)
            else f"a {type(output).__name__}"
        )
        raise ValueError(
            f"the output of `layer` (={layer!r}) is {what}, not (N, C, H, W) or (N, C)"
        )
    if not output.requires_grad:
        raise ValueError(f"the output of `layer` (={layer!r}) does not depend on the images")
    channels = output.shape[1]
    for channel in (channel for group in groups for channel in group):
        if not 0 <= channel < channels:
            raise ValueError(
                f"`channels` (={channel}) must be from 0 to {channels - 1}: {layer!r} has "
                f"{channels} channels"
            )


def _require_rectifiers(network: nn.Module, batch: Tensor) -> None:
    """Raise an error if there are none after the layer either."""
    with torch.no_grad(), evaluating(network), _Guiding() as guiding:
        network(batch[:1].clone())
    if not guiding.rectifiers:
        others = {type(m).__name__ for m in network.modules() if _is_activation(m)}
        has = f"it has {', '.join(sorted(others))}" if others else "it has no activations"
        raise ValueError(
            f"the network has no rectifiers, for which guided backpropagation is defined: {has}"
        )


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ in ("torch.nn.modules.activation", "timm.layers.activations")
