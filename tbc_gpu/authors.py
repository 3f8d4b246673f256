"""Convert weights between the modules that the paper's authors published and ours.

Their modules (TiedBlockConv.py, TiedFullyConnected.py and TiedSE.py of
https://github.com/frank-xwang/TBC-TiedBlockConvolution) wrap a thin layer of PyTorch:

======================== ======================== ========================
their module             their names              ours
======================== ======================== ========================
`TiedBlockConv2d`        ``NAME.conv.weight``     ``NAME.weight``
`TFC`                    ``NAME.linear.weight``   ``NAME.weight``
`TiedSELayer`            ``NAME.fc.0.weight``     ``NAME.fc1.weight``
and                      ``NAME.fc.2.weight``     ``NAME.fc2.weight``
======================== ======================== ========================

Biases are renamed in the same way. A module of ours whose tied layers have other names in the
authors' module lists these in an attribute: `tbc_models.TiedSE` has
``authors_names = {"fc1": "fc.0", "fc2": "fc.2"}``.

The values are the same, but with groups (TGC) the channels come in another order, that of
`authors_channel_order`. Then the weights of the layers before and after have to be permuted too.
Which layers these are cannot be read from the network, so the caller has to name them.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .algorithms import authors_channel_order
from .modules import TiedBlockConv2d, TiedBlockLinear

Around = Mapping[str, tuple[Sequence[str], Sequence[str]]]


def from_authors(
    state_dict: Mapping[str, Tensor], model: nn.Module, *, around: Around | None = None
) -> dict[str, Tensor]:
    """Convert weights of a network built from the authors' modules for the same network of ours.

    Args:
        state_dict: weights of the authors' network. Outside of the tied modules their names must
            be those of `model`.
        model: our network, which gives the names, shapes, groups and blocks. It is not changed.
        around: for each TGC layer two lists: the layers whose outputs it reads, and the layers
            that read its outputs, each with the normalisations in between, for example
            ``{"conv2": (["conv1", "bn1"], ["bn2", "conv3"])}``. Layers that treat each channel
            alone, such as normalisations and depthwise convolutions, are permuted as a whole. Other
            layers are permuted on one side: the output channels of those before, the input channels
            of those after. An empty list means that the network's own input, or output, is in the
            authors' order.

    Returns:
        The state dict for `model`; it shares the tensors of `state_dict` that need no permutation.

    Raises:
        ValueError: if names are missing or unexpected, a shape differs, a TGC layer is not in
            `around`, or a layer named there cannot be permuted.

    Example:
        >>> ours = nn.Sequential(TiedBlockConv2d(4, 4, 1, blocks=2), nn.ReLU())
        >>> theirs = {"0.conv.weight": torch.ones(2, 2, 1, 1), "0.conv.bias": torch.zeros(2)}
        >>> list(from_authors(theirs, ours))
        ['0.weight', '0.bias']
    """
    names = _authors_keys(model)
    right = {names[key]: tensor for key, tensor in model.state_dict().items()}
    _check_state("the authors'", state_dict, right)
    converted = {ours: state_dict[theirs] for ours, theirs in names.items()}
    for (key, dim), order in _permutations(model, around or {}).items():
        converted[key] = _permute(converted[key], dim, order.argsort())
    return converted


def to_authors(
    state_dict: Mapping[str, Tensor], model: nn.Module, *, around: Around | None = None
) -> dict[str, Tensor]:
    """Convert weights of a network of ours for the authors' modules: the inverse of `from_authors`.

    Args:
        state_dict: weights of our network.
        model: our network. It is not changed.
        around: as in `from_authors`.

    Returns:
        The state dict for the authors' network.

    Raises:
        ValueError: as `from_authors`.

    Example:
        >>> ours = nn.Sequential(TiedBlockLinear(4, 4, blocks=2), nn.ReLU())
        >>> list(to_authors(ours.state_dict(), ours))
        ['0.linear.weight', '0.linear.bias']
    """
    names = _authors_keys(model)
    _check_state("our", state_dict, model.state_dict())
    converted = dict(state_dict)
    for (key, dim), order in _permutations(model, around or {}).items():
        converted[key] = _permute(converted[key], dim, order)
    return {theirs: converted[ours] for ours, theirs in names.items()}


def _permute(tensor: Tensor, dim: int, order: Tensor) -> Tensor:
    return tensor.index_select(dim, order.to(tensor.device))


def _authors_keys(model: nn.Module) -> dict[str, str]:
    """Map the names of our state dict to the authors'."""
    keys = {}
    for key in model.state_dict():
        name, _, tensor = key.rpartition(".")
        layer = model.get_submodule(name)
        parts = [name, tensor]
        if isinstance(layer, (TiedBlockConv2d, TiedBlockLinear)):
            parent, _, own = name.rpartition(".")
            inner = "conv" if isinstance(layer, TiedBlockConv2d) else "linear"
            other = getattr(model.get_submodule(parent), "authors_names", {})
            parts = [parent, other[own], tensor] if own in other else [name, inner, tensor]
        keys[key] = ".".join(part for part in parts if part)
    return keys


def _check_state(whose: str, state: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    wrong = []
    if missing := [key for key in right if key not in state]:
        wrong.append(f"has no {_listed(missing)}")
    if unexpected := [key for key in state if key not in right]:
        wrong.append(f"has {_listed(unexpected)}, which `model` has no place for")
    if wrong:
        raise ValueError(f"`state_dict` must have {whose} names: it {', and it '.join(wrong)}")
    for key, value in right.items():
        if state[key].shape != value.shape:
            raise ValueError(
                f"{key!r} in `state_dict` (shape {tuple(state[key].shape)}) must have shape "
                f"{tuple(value.shape)}, as in `model`"
            )


def _listed(names: Iterable[str]) -> str:
    first, *others = names
    shown = [first, *others[:4]] + (["…"] if len(others) > 4 else [])
    return ", ".join(shown)


def _permutations(model: nn.Module, around: Around) -> dict[tuple[str, int], Tensor]:
    """Collect, for tensors by name and dimension, our index of each of the authors' channels."""
    tgc = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, TiedBlockConv2d) and layer.groups > 1 and layer.blocks > 1
    }
    if missing := [name for name in tgc if name not in around]:
        raise ValueError(
            f"`around` must name the layers before and after the TGC layer {missing[0]!r}: the "
            "authors' code has its channels in another order"
        )
    if unknown := [name for name in around if name not in tgc]:
        raise ValueError(f"`around` names {unknown[0]!r}, which must be a TGC layer of `model`")
    orders: dict[tuple[str, int], Tensor] = {}
    for name, (before, after) in around.items():
        here = tgc[name]
        sides = ((before, here.in_channels, False), (after, here.out_channels, True))
        for others, channels, reads in sides:
            order = authors_channel_order(channels, here.groups, here.blocks)
            for other in others:
                for place in _places(model, other, here, channels, reads):
                    if not torch.equal(orders.setdefault(place, order), order):
                        raise ValueError(f"`around` gives {other!r} two orders of channels")
    return orders


def _places(
    model: nn.Module, name: str, tgc: TiedBlockConv2d, channels: int, reads: bool
) -> list[tuple[str, int]]:
    """List the tensors of the layer `name` to permute, each with its dimension of channels."""
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"`around` names {name!r}, which must be a layer of `model`") from None
    own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    wanted = {key: tensor for key, tensor in own if tensor.ndim}  # a counter has no channels
    dim = 0
    groups, blocks = getattr(layer, "groups", 1), getattr(layer, "blocks", 1)
    if isinstance(layer, (nn.Conv2d, nn.Linear, TiedBlockConv2d, TiedBlockLinear)):
        if (groups, blocks) == (tgc.groups, tgc.blocks):
            end = f"{'in' if reads else 'out'}_channels"
            if getattr(layer, end, None) == channels:
                return []  # a TGC layer of the same order
        depthwise = blocks == 1 and groups == channels == getattr(layer, "out_channels", None)
        if groups * blocks > 1 and not depthwise:
            raise ValueError(
                f"`around` names {name!r}, whose channels (groups={groups}, blocks={blocks}) "
                "cannot be permuted one by one"
            )
        if reads and not depthwise:
            wanted, dim = {"weight": wanted["weight"]}, 1
    elif isinstance(layer, nn.GroupNorm) and 1 < layer.num_groups < channels:
        raise ValueError(f"`around` names {name!r}, whose groups of channels cannot be permuted")
    if not wanted or any(t.ndim <= dim or t.shape[dim] != channels for t in wanted.values()):
        raise ValueError(
            f"`around` names {name!r}, a {type(layer).__name__}, which must have the {channels} "
            f"channels that the TGC layer {'writes' if reads else 'reads'}"
        )
    return [(f"{name}.{key}", dim) for key in wanted]
