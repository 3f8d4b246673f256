"""`tbc check --modules`: the modules of Fig. 4 and 5, compared with reference functions."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from tbc_models.checking.compositions import (
    Array,
    Parameters,
    Traced,
    bottleneck,
    tied_gcb,
    tied_se,
)
from tbc_models.checking.operators import one_thread
from tbc_models.networks.attention import TiedGCB, TiedSE
from tbc_models.networks.bottleneck import Design, Mixer, TiedBottleneck

# Larger than for single operators: normalisations divide by standard deviations, and amplify the
# rounding errors before them. docs/checking.md gives the largest error that was measured.
MODULE_TOLERANCE = 1e-10

MODULES = (
    *(f"bottleneck, {design}, {mixer}" for design in get_args(Design) for mixer in get_args(Mixer)),
    "TiedSE",
    "TiedGCB",
)


@dataclass(frozen=True)
class ModuleCase:
    """One random case: a PyTorch module, its reference, and their inputs."""

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
    """The result for one module: the largest errors, and the cases that failed."""

    module: str
    cases: int = 0
    errors: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("y", "dx", "dparameters"), 0.0)
    )
    failures: list[dict[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What was checked: the module."""
        return self.module

    @property
    def passed(self) -> bool:
        """Whether every case stayed within the tolerance."""
        return not self.failures

    @property
    def failed(self) -> int:
        """The number of cases that failed."""
        return len(self.failures)


def draw_module(name: str, seed: int, index: int) -> ModuleCase:
    """Draw a random module in float64, with random parameters, input and cotangent.

    Args:
        name: one of `MODULES`.
        seed: seed of the whole run.
        index: index of the case; the same (name, seed, index) give the same case.

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
            # Scales and shifts are positive, so that ReLU leaves no channel constant: batch
            # normalisation would divide it by √ε.
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

    Both get the same parameters, input and ∂L/∂y in float64. Errors are relative to the largest
    entry of the reference's array, but at least to one: some gradients are zero up to rounding.

    Args:
        name: one of `MODULES`.
        indices: indices of the cases.
        seed: seed of the whole run.
        device: where PyTorch runs the module, "cpu" or "cuda".

    Yields:
        The row after each case; the last one is the result.

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
        errors = errors_of(case, device)
        for quantity, error in errors.items():
            row.errors[quantity] = float(np.maximum(row.errors[quantity], error))  # keeps a NaN
        if not all(error <= MODULE_TOLERANCE for error in errors.values()):
            listed = ", ".join(f"{quantity} {error:.1e}" for quantity, error in errors.items())
            row.failures.append({"case": str(case), "index": str(index), "errors": listed})
        row.cases += 1
        yield row


def errors_of(case: ModuleCase, device: str = "cpu") -> dict[str, float]:
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
