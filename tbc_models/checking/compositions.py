"""The modules of Fig. 4 and 5 as compositions of `tbc_ref` functions, forward and backward.

Each function returns the output y and its pullback, a function that computes ∂L/∂x from ∂L/∂y and
stores the gradients of the parameters. They share only the names of the parameters with the PyTorch
modules that they check.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

import tbc_ref

Array = Any  # of NumPy
Pullback = Callable[[Array], Array]
Traced = tuple[Array, Pullback]


class Parameters:
    """The parameters of a module by name, and the gradients that pullbacks compute for them."""

    def __init__(self, values: dict[str, Array]) -> None:
        self.values = values
        self.gradients: dict[str, Array] = {}

    def leave(self, name: str, gradients: tbc_ref.Gradients) -> Array:
        """Store dw and db under the name of a layer, and return dx."""
        self.gradients[f"{name}.weight"] = gradients.dw
        if f"{name}.bias" in self.values:
            self.gradients[f"{name}.bias"] = gradients.db
        return gradients.dx

    def of(self, name: str) -> tuple[Array, Array | None]:
        """Return weight and bias of a layer."""
        return self.values[f"{name}.weight"], self.values.get(f"{name}.bias")


def unchanged(d: Array) -> Array:
    """Return a gradient unchanged: the pullback of the identity."""
    return d


def after(first: Pullback, second: Pullback) -> Pullback:
    """Compose two pullbacks: `first` belongs to the function that is applied last."""
    return lambda d: second(first(d))


def conv(p: Parameters, name: str, x: Array, *, blocks: int = 1, **options: Any) -> Traced:
    """Trace SC, TBC, or with `groups` TGC."""
    w, b = p.of(name)
    options = {"groups": 1, "blocks": blocks} | options
    y = tbc_ref.tied_block_group_conv(x, w, b, **options)

    def pull(dy: Array) -> Array:
        return p.leave(name, tbc_ref.tied_block_group_conv_backward(dy, x, w, **options))

    return y, pull


def norm(p: Parameters, name: str, x: Array) -> Traced:
    """Trace batch normalisation."""
    w, b = p.of(name)
    y = tbc_ref.nn.batch_norm(x, w, b)
    return y, lambda dy: p.leave(name, tbc_ref.nn.batch_norm_backward(dy, x, w))


def norm_relu(p: Parameters, name: str, x: Array) -> Traced:
    """Trace batch normalisation and ReLU."""
    y, pull = norm(p, name, x)
    return tbc_ref.nn.relu(y), after(lambda dz: tbc_ref.nn.relu_backward(dz, y), pull)


def conv_norm_relu(p: Parameters, names: Sequence[str], x: Array, **options: Any) -> Traced:
    """Trace a convolution, batch normalisation and ReLU."""
    y, pull_conv = conv(p, names[0], x, **options)
    z, pull_norm = norm_relu(p, names[1], y)
    return z, after(pull_norm, pull_conv)


def bottleneck(
    p: Parameters,
    x: Array,
    *,
    blocks: Sequence[int],
    groups: int,
    stride: int,
    dilation: int,
    design: str,
    mixer: str,
) -> Traced:
    """Trace the tied bottleneck, Fig. 4a, or with `groups` 4b."""
    s = len(blocks)
    z, pull_entry = conv_norm_relu(p, ("conv1", "bn1"), x, blocks=2)
    spatial = {"stride": stride, "padding": dilation, "dilation": dilation}
    outputs, pulls = zip(
        *(
            conv(p, f"conv2.{i}", part, blocks=B, groups=groups, **spatial)
            for i, (part, B) in enumerate(zip(tbc_ref.split(z, s, axis=1), blocks, strict=True))
        ),
        strict=True,
    )
    y, pull_norm = norm_relu(p, "bn2", np.concatenate(outputs, axis=1))
    mixed, pull_mixer = mix(p, y, splits=s, design=design, mixer=mixer)
    exit_conv, pull_exit = conv(p, "conv3", mixed)
    exit_norm, pull_exit_norm = norm(p, "bn3", exit_conv)

    short: Array = x
    pull_short: Pullback = unchanged
    if "downsample.0.weight" in p.values:
        tied = 1 if design == "literal" else 2
        short_conv, pull_short_conv = conv(p, "downsample.0", x, blocks=tied, stride=stride)
        short, pull_short_norm = norm(p, "downsample.1", short_conv)
        pull_short = after(pull_short_norm, pull_short_conv)

    total = exit_norm + short

    def pull(d: Array) -> Array:
        d = tbc_ref.nn.relu_backward(d, total)
        dy = pull_norm(pull_mixer(pull_exit(pull_exit_norm(d))))
        parts = tbc_ref.split(dy, s, axis=1)
        dz = np.concatenate([back(part) for back, part in zip(pulls, parts, strict=True)], axis=1)
        return pull_entry(dz) + pull_short(d)

    return tbc_ref.nn.relu(total), pull


def mix(p: Parameters, y: Array, *, splits: int, design: str, mixer: str) -> Traced:
    """Trace the mixer: its input, its convolutions, and how its output joins the splits."""
    if mixer == "none":
        return y, unchanged
    read = reduce(add, tbc_ref.split(y, splits, axis=1)) if mixer == "sum" else y

    def to_splits(a: Array) -> Array:  # a mixer of the sum gives every split the same
        return np.concatenate([a] * splits, axis=1) if mixer == "sum" else a

    first = {"blocks": 2, "padding": 1} if design == "fitted-tbc" else {}
    mixed, pull_first = conv_norm_relu(p, ("mixer.0", "mixer.1"), read, **first)
    pull_mixed = pull_first
    if design == "fitted":
        mixed, pull_second = conv_norm_relu(p, ("mixer.3", "mixer.4"), mixed)
        pull_mixed = after(pull_second, pull_first)
    channels = y.shape[1]

    def pull(d: Array) -> Array:
        if design == "literal":
            dm = reduce(add, tbc_ref.split(d, splits, axis=1)) if mixer == "sum" else d
        else:
            dm = d[:, channels:]
        return d[:, :channels] + to_splits(pull_mixed(dm))

    if design == "literal":
        return y + to_splits(mixed), pull
    return np.concatenate([y, mixed], axis=1), pull


def tied_se(p: Parameters, x: Array, *, blocks: int) -> Traced:
    """Trace TiedSE, Fig. 5a."""
    w1, b1 = p.of("fc1")
    w2, b2 = p.of("fc2")
    squeezed = x.mean(axis=(2, 3))
    hidden = tbc_ref.tied_block_linear(squeezed, w1, b1, blocks=blocks)
    active = tbc_ref.nn.relu(hidden)
    excited = tbc_ref.tied_block_linear(active, w2, b2, blocks=blocks)
    scale = tbc_ref.nn.sigmoid(excited)[:, :, None, None]

    def pull(dy: Array) -> Array:
        d = tbc_ref.nn.sigmoid_backward((dy * x).sum(axis=(2, 3)), excited)
        d = p.leave("fc2", tbc_ref.tied_block_linear_backward(d, active, w2, blocks=blocks))
        d = tbc_ref.nn.relu_backward(d, hidden)
        d = p.leave("fc1", tbc_ref.tied_block_linear_backward(d, squeezed, w1, blocks=blocks))
        return dy * scale + d[:, :, None, None] / math.prod(x.shape[2:])

    return x * scale, pull


def tied_gcb(p: Parameters, x: Array, *, blocks: int) -> Traced:
    """Trace TiedGCB, Fig. 5b."""
    n, c = x.shape[:2]
    logits, pull_mask = conv(p, "mask", x)
    mask = tbc_ref.nn.softmax(logits.reshape(n, -1))  # over the positions
    positions = x.reshape(n, c, -1)
    context = (positions * mask[:, None]).sum(axis=2)[:, :, None, None]
    hidden, pull_first = conv(p, "conv1", context, blocks=blocks)
    w, b = p.of("norm")
    normal = tbc_ref.nn.layer_norm(hidden, w, b)
    transformed, pull_second = conv(p, "conv2", tbc_ref.nn.relu(normal), blocks=blocks)

    def pull(dy: Array) -> Array:
        d = pull_second(dy.sum(axis=(2, 3), keepdims=True))
        d = tbc_ref.nn.relu_backward(d, normal)
        d = p.leave("norm", tbc_ref.nn.layer_norm_backward(d, hidden, w))
        d_context = pull_first(d).reshape(n, c, 1)
        d_mask = tbc_ref.nn.softmax_backward(
            (d_context * positions).sum(axis=1), logits.reshape(n, -1)
        )
        return (
            dy
            + (d_context * mask[:, None]).reshape(x.shape)
            + pull_mask(d_mask.reshape(logits.shape))
        )

    return x + transformed, pull
