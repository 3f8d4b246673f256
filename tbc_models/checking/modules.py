"""`tbc check --modules`: whole modules of Fig. 4 and 5, in PyTorch and of reference functions.

Each reference module is a composition of `tbc_ref` functions that returns its output and its
pullback: the function that leads a derivative from the output back to the input, and leaves the
derivatives of the parameters behind. It shares nothing with the module that it checks but the
names of the parameters.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

import tbc_ref
from tbc_models.checking.operators import one_thread
from tbc_models.networks.attention import TiedGCB, TiedSE
from tbc_models.networks.bottleneck import Design, Mixer, TiedBottleneck

Array = Any  # of NumPy
Pullback = Callable[[Array], Array]
Traced = tuple[Array, Pullback]

# Normalisations divide by deviations, and biases before them have derivatives that are zero but
# for rounding: docs/checking.md tells the largest error that was measured.
MODULE_TOLERANCE = 1e-10

MODULES = (
    *(f"bottleneck, {design}, {mixer}" for design in get_args(Design) for mixer in get_args(Mixer)),
    "TiedSE",
    "TiedGCB",
)


class Parameters:
    """The parameters of a module by name, and the derivatives that pullbacks leave for them."""

    def __init__(self, values: dict[str, Array]) -> None:
        self.values = values
        self.gradients: dict[str, Array] = {}

    def leave(self, name: str, gradients: tbc_ref.Gradients) -> Array:
        """Keep dw and db under the name of a layer, and hand dx on."""
        self.gradients[f"{name}.weight"] = gradients.dw
        if f"{name}.bias" in self.values:
            self.gradients[f"{name}.bias"] = gradients.db
        return gradients.dx

    def of(self, name: str) -> tuple[Array, Array | None]:
        """Weight and bias of a layer."""
        return self.values[f"{name}.weight"], self.values.get(f"{name}.bias")


def unchanged(d: Array) -> Array:
    """Pull a derivative back through nothing."""
    return d


def after(first: Pullback, second: Pullback) -> Pullback:
    """Pull back through one function, then through the one before it."""
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
    """Trace the mixer: what it reads, its convolutions, and how its output joins the splits."""
    if mixer == "none":
        return y, unchanged
    read = reduce(add, tbc_ref.split(y, splits, axis=1)) if mixer == "sum" else y

    def to_splits(a: Array) -> Array:  # to each split, if it was their sum
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


@dataclass(frozen=True)
class ModuleCase:
    """One random configuration of a module: ours, the reference's, and their numbers."""

    name: str
    options: dict[str, Any]
    module: nn.Module
    reference: Callable[..., Traced]
    x: Array
    dy: Array

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name} x{self.x.shape} {options}"


@dataclass
class ModuleRow:
    """What the cases of one module came to: the largest errors, and the cases that failed."""

    module: str
    cases: int = 0
    errors: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("y", "dx", "dparameters"), 0.0)
    )
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every case stayed within the tolerance."""
        return not self.failures


def draw_module(name: str, seed: int, index: int) -> ModuleCase:
    """Draw a random module in float64, with random parameters, input and cotangent.

    Args:
        name: one of `MODULES`.
        seed: of the whole run.
        index: of the case; the same (name, seed, index) give the same case.

    Returns:
        The case.

    Raises:
        ValueError: for another name.

    Example:
        >>> print(draw_module("TiedSE", seed=0, index=0))
        TiedSE x(3, 32, 4, 7) blocks=2
    """
    if name not in MODULES:
        raise ValueError(f"`name` (={name!r}) must be one of {MODULES}")
    rng = np.random.default_rng([seed, MODULES.index(name), index])

    def some(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    reference: Callable[..., Traced]
    blocks = some(1, 4)
    size = (some(2, 3), some(4, 7), some(4, 7))
    if name == "TiedSE":
        channels = 16 * some(1, 2) * blocks
        module: nn.Module = TiedSE(channels, blocks=blocks)
        reference, options = tied_se, {"blocks": blocks}
    elif name == "TiedGCB":
        channels = 4 * some(2, 4) * blocks
        module = TiedGCB(channels, blocks=blocks)
        reference, options = tied_gcb, {"blocks": blocks}
    else:
        module, channels, options = _draw_bottleneck(name, some)
        reference = bottleneck
    module = module.double().train()
    with torch.no_grad():
        for parameter in module.parameters():
            # Scales and shifts keep channels alive: a constant one is divided by √ε alone.
            low, high = (0.5, 1.5) if parameter.ndim == 1 else (-1, 1)
            parameter.copy_(torch.from_numpy(rng.uniform(low, high, tuple(parameter.shape))))
    x = rng.uniform(-1, 1, (size[0], channels, *size[1:]))
    with torch.no_grad():
        shape = tuple(module(torch.from_numpy(x)).shape)
    return ModuleCase(name, options, module, reference, x, rng.uniform(-1, 1, shape))


def _draw_bottleneck(
    name: str, some: Callable[[int, int], int]
) -> tuple[nn.Module, int, dict[str, Any]]:
    _, design, mixer = name.split(", ")
    splits, groups = some(2, 4), some(1, 2)
    asked = [some(1, 4) for _ in range(splits)]
    planes, width = 2 * some(2, 4), 2 * groups * some(2, 4)  # even, for the blocks of two
    fitting = [max(b for b in range(1, B + 1) if width // groups % b == 0) for B in asked]
    stride, dilation = some(1, 2), some(1, 2)
    out = 4 * planes
    channels = out if stride == 1 and some(0, 1) else 2 * some(4, 8)
    shortcut = None
    if stride > 1 or channels != out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )
    module = TiedBottleneck(
        channels,
        planes,
        stride,
        shortcut,
        base_width=math.ceil(64 * width / planes),
        dilation=dilation,
        splits=splits,
        blocks=asked,
        mixer=mixer,  # type: ignore[arg-type]
        design=design,  # type: ignore[arg-type]
        groups=groups,
    )
    spatial = {"stride": stride, "dilation": dilation}
    choices = {"design": design, "mixer": mixer}
    return module, channels, {"blocks": fitting, "groups": groups} | spatial | choices


def check_modules(
    name: str, *, indices: Iterable[int], seed: int = 0, device: str = "cpu"
) -> Iterator[ModuleRow]:
    """Compare a PyTorch module with its composition of reference functions on random cases.

    Both get the same parameters, input and cotangent in float64. Errors are told relative to the
    largest entry of the reference's array, or to one if that is larger: some derivatives are
    zero but for rounding.

    Args:
        name: one of `MODULES`.
        indices: which cases to draw.
        seed: of the whole run.
        device: where PyTorch runs the module, "cpu" or "cuda".

    Yields:
        The row so far, after every case; the last is the result.

    Raises:
        ValueError: for another name.

    Example:
        >>> *_, row = check_modules("TiedGCB", indices=range(3))
        >>> row.cases, row.passed
        (3, True)
    """
    row = ModuleRow(name)
    for index in indices:
        case = draw_module(name, seed, index)
        errors = compare(case, device)
        for quantity, error in errors.items():
            row.errors[quantity] = float(np.maximum(row.errors[quantity], error))  # keeps a NaN
        if not all(error <= MODULE_TOLERANCE for error in errors.values()):
            told = ", ".join(f"{quantity} {error:.1e}" for quantity, error in errors.items())
            row.failures.append(f"{case}: {told}; tbc check --modules --case {index} --seed {seed}")
        row.cases += 1
        yield row


def compare(case: ModuleCase, device: str = "cpu") -> dict[str, float]:
    """Run one case both ways; return the largest errors of y, dx and the parameters' gradients."""
    module = case.module.to(device)
    names, leaves = zip(*module.named_parameters(), strict=True)
    x, dy = (torch.from_numpy(a).to(device) for a in (case.x, case.dy))
    x.requires_grad_()
    with one_thread():
        y = module(x)
        derivatives = torch.autograd.grad(y, [x, *leaves], dy)
    dx, *gradients = (d.cpu() for d in derivatives)
    p = Parameters({n: leaf.detach().cpu().numpy() for n, leaf in zip(names, leaves, strict=True)})
    expected, pull = case.reference(p, case.x, **case.options)
    expected_dx = pull(case.dy)
    if set(p.gradients) != set(names):
        return dict.fromkeys(("y", "dx", "dparameters"), math.inf)
    pairs = zip(names, gradients, strict=True)
    return {
        "y": _error(expected, y.detach().cpu().numpy()),
        "dx": _error(expected_dx, dx.numpy()),
        "dparameters": max(_error(p.gradients[n], g.numpy()) for n, g in pairs),
    }


def _error(expected: Array, actual: Array) -> float:
    if expected.shape != actual.shape:
        return math.inf
    scale = max(1.0, float(np.max(np.abs(expected))))
    error = float(np.max(np.abs(expected - actual))) / scale
    return math.inf if math.isnan(error) else error  # max() would drop a NaN
