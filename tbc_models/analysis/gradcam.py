"""Grad-CAM: where in an image a network finds evidence for a class (Selvaraju et al. 2017; Fig. 8).

For the channels A of a layer and the score y of a class, before the softmax, the map is
ReLU(Σ_k α_k A_k), where α_k is the mean of ∂y/∂A_k over all pixels of channel k. The computation is
captum's `LayerGradCam`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbc_models.analysis.guided import check_images, check_layer, evaluating, refused


class ClassMaps(NamedTuple):
    """Grad-CAM of some images.

    Attributes:
        maps: where the evidence for the class is, (N, H, W) of the size of the images, from 0 up.
            A map that is zero everywhere means that no pixel speaks for the class.
        classes: the class that each map explains, (N,).
        probabilities: the probability that the network gives to that class, (N,).
        layer: name of the layer.
    """

    maps: Tensor
    classes: Tensor
    probabilities: Tensor
    layer: str


def grad_cam(
    network: nn.Module,
    images: Tensor,
    target: int | Tensor | None = None,
    layer: str | None = None,
) -> ClassMaps:
    """Compute where a network finds its evidence for a class, by Grad-CAM.

    The network computes in evaluation mode and is left as it was, and so are its gradients.

    Args:
        network: a classifier, with scores (N, classes) as its output.
        images: normalised as the network expects, (N, C, H, W); (C, H, W) is one image.
        target: index of the class to explain, or one index for each image; by default the class
            that the network predicts.
        layer: name of the layer whose channels are weighted, as `network.named_modules()` has it.
            By default `last_spatial_layer`, as in the paper.

    Returns:
        The maps, enlarged to the size of the images by bilinear interpolation.

    Raises:
        ValueError: if there is no such layer or class, or the images do not fit the network.
        ImportError: if captum is not installed.

    Example:
        >>> import timm
        >>> network = timm.create_model("tbc_resnet20.cifar10", pretrained=True)
        >>> found = grad_cam(network, torch.rand(2, 3, 32, 32), target=8)
        >>> found.maps.shape, found.layer
        (torch.Size([2, 32, 32]), 'layer4')
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise ImportError(
            f"{error.name} is not installed: run pip install '.[analysis]' in a clone of the "
            "project"
        ) from None
    images = images[None] if images.ndim == 3 else images
    check_images(network, images)
    with evaluating(network):
        found = layer or last_spatial_layer(network, images)
        check_layer(network, found)
        chosen = network.get_submodule(found)
        with torch.no_grad(), _outputs({found: chosen}) as outputs, _refusing(images):
            scores: Tensor = network(images)
        _check_output(found, outputs.get(found))
        classes = _check_target(target, scores)
        cam = LayerGradCam(network, chosen).attribute(images, classes, relu_attributions=True)
    maps = F.interpolate(cast(Tensor, cam).detach(), images.shape[-2:], mode="bilinear")[:, 0]
    probabilities = scores.softmax(1).gather(1, classes[:, None])[:, 0]
    return ClassMaps(maps, classes, probabilities, found)


def last_spatial_layer(network: nn.Module, images: Tensor) -> str:
    """Find the last layer before the pooling whose output has more than one pixel.

    The images pass through the network once. Of all modules whose output is (N, C, H, W) with more
    than one pixel, it is the one that finishes last, leaving out pooling, dropout and identities:
    `layer4` of the ResNets here, in timm and in torchvision.

    Args:
        network: any convolutional network.
        images: (N, C, H, W).

    Returns:
        The name of the layer. On images as small as the total stride it can be an earlier one,
        since one pixel does not tell where anything is.

    Raises:
        ValueError: if there is none, the images do not fit the network, or it turns its features
            into tokens, as transformers do.

    Example:
        >>> import timm
        >>> last_spatial_layer(timm.create_model("efficientnet_b0"), torch.rand(1, 3, 64, 64))
        'bn2'
    """
    names = {name: module for name, module in network.named_modules() if name}
    with evaluating(network), torch.no_grad(), _outputs(names) as outputs, _refusing(images):
        network(images[:1])
    found = tokens = None
    for name, output in outputs.items():  # in the order in which they finish
        if not isinstance(output, Tensor):
            continue
        if output.ndim == 3:
            tokens = name
        passes_on = isinstance(names[name], nn.Identity) or any(
            kind in type(names[name]).__name__.lower() for kind in ("pool", "dropout")
        )
        if output.ndim == 4 and output.shape[-2:].numel() > 1 and not passes_on:
            found, tokens = name, None
    if found is None:
        height, width = images.shape[-2:]
        raise ValueError(
            f"no layer has an output (N, C, H, W) of more than one pixel for images of "
            f"{height}x{width} pixels: Grad-CAM needs a convolutional network and larger images"
        )
    if tokens is not None:
        raise ValueError(
            f"the network turns its features into tokens after {found} (in {tokens}): name the "
            "layer to use"
        )
    return found


@contextmanager
def _refusing(images: Tensor) -> Iterator[None]:
    """Name the images in whatever a network raises that does not take them."""
    try:
        yield
    except Exception as error:  # a network may raise anything
        raise refused(images, error) from error


def _check_output(name: str, output: object) -> None:
    if output is None:
        raise ValueError(f"`layer` (={name!r}) takes no part in the computation: name another")
    if not isinstance(output, Tensor) or output.ndim != 4:
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"`layer` (={name!r}) must have an output (N, C, H, W), not {what}")


def _check_target(target: int | Tensor | None, scores: Tensor) -> Tensor:
    """Return the index of a class for each image."""
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        what = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"the network must give scores (N, classes), not {what}")
    if target is None:
        return scores.argmax(1)
    number, count = len(scores), scores.shape[1]
    wanted = torch.as_tensor(target, device=scores.device)
    whole = not (wanted.is_floating_point() or wanted.is_complex() or wanted.dtype == torch.bool)
    if not whole or wanted.ndim > 1 or (wanted.ndim == 1 and len(wanted) != number):
        raise ValueError(
            f"`target` (={target}) must be the index of a class, or one for each of {number} images"
        )
    if int(wanted.min()) < 0 or int(wanted.max()) >= count:
        raise ValueError(f"`target` (={wanted.tolist()}) must be from 0 to {count - 1}")
    return wanted.long().expand(number)


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, object]]:
    """Note the last output of modules, in the order in which they finish."""
    noted: dict[str, object] = {}

    def note(name: str, output: object) -> None:
        noted.pop(name, None)
        noted[name] = output

    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in modules.items()
    ]
    try:
        yield noted
    finally:
        for handle in handles:
            handle.remove()
