"""Random cases of the six operators: shapes, options, memory layouts and numbers.

A case depends only on (seed, operator, index, dtype), so each can be run again by itself. Three
quarters of the cases are small, and cover the combinations of options; the others have up to 64
channels, images up to 40 pixels high and wide, kernels of up to 11 taps and strides of up to 13.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import tbc_ref
from tbc_models.checking.names import DType, Operator

Quantity = Literal["y", "dx", "dw", "db"]
Layout = Literal["contiguous", "channels-last", "strided", "expanded", "reversed"]
LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels-last", "strided", "expanded", "reversed")
# The most MACs of a large case; without a limit, one case would delay hundreds of others.
MOST_MACS = 10_000_000


# Each operator's name in `tbc_ref`, and which of `groups` and `blocks` it takes.
OPERATORS: dict[str, tuple[str, tuple[str, ...]]] = {
    Operator.SC: ("standard_conv", ()),
    Operator.GC: ("group_conv", ("groups",)),
    Operator.TBC: ("tied_block_conv", ("blocks",)),
    Operator.TGC: ("tied_block_group_conv", ("groups", "blocks")),
    Operator.FC: ("linear", ()),
    Operator.TFC: ("tied_block_linear", ("blocks",)),
}


@dataclass(frozen=True)
class Case:
    """One random configuration of one operator, with its numbers.

    Attributes:
        operator: its name, one of `OPERATORS`.
        seed: seed of the whole run.
        index: number of the case in that run.
        dtype: dtype of the PyTorch backend.
        options: those of stride, padding, dilation, groups and blocks that the operator takes.
        layouts: how `x`, `w` and `dy` are stored.
        x: input, in float32, or in float64 with numbers that `dtype` can represent.
        w: stored filters, with the dtype of `x`.
        b: stored bias, with the dtype of `x`, or None.
        dy: derivative of the loss with respect to the output, with the dtype of `x`.
    """

    operator: str
    seed: int
    index: int
    dtype: DType
    options: dict[str, Any]
    layouts: dict[str, Layout]
    x: NDArray[Any]
    w: NDArray[Any]
    b: NDArray[Any] | None
    dy: NDArray[Any]

    @property
    def terms(self) -> dict[Quantity, int]:
        """The number of terms that each entry of y, dx, dw and db sums."""
        groups = self.options.get("groups", 1)
        filters, thin, *kernel = self.w.shape
        taps = math.prod(kernel)
        shared = self.dy.size // filters  # a filter meets every image, position and block
        return {"y": thin * taps + 1, "dx": filters // groups * taps, "dw": shared, "db": shared}

    def __str__(self) -> str:
        bias = "no bias" if self.b is None else "bias"
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        stored = [f"{k} {v}" for k, v in self.layouts.items() if v != "contiguous"]
        layouts = "; " + ", ".join(stored) if stored else ""
        return f"{self.operator} x{self.x.shape} w{self.w.shape} {bias}{options}{layouts}"


class Shapes(NamedTuple):
    """A layer before its numbers are drawn."""

    x: list[int]
    w: list[int]
    y: list[int]
    options: dict[str, Any]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return math.prod(self.y) * math.prod(self.w[1:])


class Dice:
    """Random sizes, small by default."""

    def __init__(self, rng: np.random.Generator, *, large: bool) -> None:
        self.rng = rng
        self.large = large

    def some(self, low: int, high: int, largest: int | None = None) -> int:
        """Draw an int from `low` to `high`, or in a large case to `largest`."""
        top = largest if self.large and largest is not None else high
        return int(self.rng.integers(low, max(low, top), endpoint=True))

    def pair(self, low: int, high: int, largest: int | None = None) -> tuple[int, int]:
        """Draw two such ints, vertical and horizontal."""
        return self.some(low, high, largest), self.some(low, high, largest)

    def batch(self) -> int:
        """Draw the size of a batch, which is rarely 0: an empty batch must work as well."""
        return 0 if self.rng.random() < 0.02 else self.some(1, 3)


def draw_case(operator: str, seed: int, index: int, dtype: str) -> Case:
    """Draw a random case: shapes, options, memory layouts, and numbers uniform in [−1, 1].

    Args:
        operator: one of `OPERATORS`.
        seed: seed of the whole run.
        index: number of the case; the same (operator, seed, index) give the same case.
        dtype: one of `DType`; the numbers are drawn in float64 and rounded to it.

    Returns:
        The case.

    Raises:
        KeyError: for an unknown operator.
        ValueError: for an unknown dtype.

    Example:
        >>> print(draw_case("TFC", seed=0, index=3, dtype="float64"))
        TFC x(3, 38) w(64, 38) bias, blocks=1; x reversed
    """
    name, takes = OPERATORS[operator]
    kind = DType(dtype)
    rng = np.random.default_rng([seed, list(OPERATORS).index(operator), index])
    dice = Dice(rng, large=rng.random() < 0.25)
    layer = _linear if name.endswith("linear") else _convolution
    shapes = layer(dice, takes)
    while shapes.macs > MOST_MACS:
        shapes = layer(dice, takes)
    # Half of the arrays are contiguous, as most are in practice.
    layouts: dict[str, Layout] = {
        what: LAYOUTS[0] if rng.random() < 0.5 else LAYOUTS[int(rng.integers(1, len(LAYOUTS)))]
        for what in ("x", "w", "dy")
    }
    if len(shapes.y) == 1 and layouts["w"] == layouts["dy"] == "expanded":
        # All terms of dx would be one number, and their roundings would all go the same way.
        layouts["dy"] = "contiguous"

    def numbers(shape: Sequence[int], layout: Layout = "contiguous") -> NDArray[Any]:
        rounded = torch.from_numpy(rng.uniform(-1, 1, shape)).to(getattr(torch, kind))
        array = rounded.double().numpy() if kind.is_half else rounded.numpy()
        return laid_out(array, layout)

    x, w, dy = (
        numbers(shape, layout)
        for shape, layout in zip((shapes.x, shapes.w, shapes.y), layouts.values(), strict=True)
    )
    b = numbers([shapes.w[0]]) if dice.some(0, 1) else None
    return Case(operator, seed, index, kind, shapes.options, layouts, x, w, b, dy)


def _counts(dice: Dice, takes: Sequence[str]) -> tuple[dict[str, int], int, int, int, int]:
    """Draw groups and blocks, and how many channels a filter reads and a group's block writes."""
    counts = {what: dice.some(1, 4) for what in takes}
    groups, blocks = counts.get("groups", 1), counts.get("blocks", 1)
    most = 64 // (groups * blocks)
    return counts, groups, blocks, dice.some(1, 4, most), dice.some(1, 4, most)


def _linear(dice: Dice, takes: Sequence[str]) -> Shapes:
    counts, _, blocks, thin, filters = _counts(dice, takes)
    leading = [dice.batch() for _ in range(dice.some(0, 2))]
    return Shapes(
        [*leading, blocks * thin], [filters, thin], [*leading, blocks * filters], dict(counts)
    )


def _convolution(dice: Dice, takes: Sequence[str]) -> Shapes:
    counts, groups, blocks, thin, filters = _counts(dice, takes)
    kernel, dilation = dice.pair(1, 4, 11), dice.pair(1, 3)
    options: dict[str, Any] = {
        "stride": dice.pair(1, 3, 13),
        "padding": dice.pair(0, 3, 6),
        "dilation": dilation,
    }
    word = str(dice.rng.choice(["", "same", "valid"], p=[0.7, 0.15, 0.15]))
    if word:
        options["padding"] = word
    if word == "same":
        options["stride"] = (1, 1)
    # The smallest map that the kernel fits: any with "same", as padding makes room for it.
    pad = (0, 0) if word else options["padding"]
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if word == "same":
        spans = [1, 1]
    fits = [max(1, span - 2 * p) for span, p in zip(spans, pad, strict=True)]
    size = (fits[0] + dice.some(0, 6, 40 - fits[0]), fits[1] + dice.some(0, 6, 40 - fits[1]))
    output = tbc_ref.geometry(size, kernel, **options).output
    n = dice.batch()
    return Shapes(
        [n, groups * blocks * thin, *size],
        [groups * filters, thin, *kernel],
        [n, groups * blocks * filters, *output],
        options | counts,
    )


def laid_out(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Store an array in another memory layout.

    Args:
        array: any shape.
        layout: "contiguous"; "channels-last", with axis 1 innermost; "strided", every other
            number of a wider array; "expanded", its first entry along axis 0 repeated by a
            stride of zero, which changes the numbers; or "reversed", with negative strides.

    Returns:
        A view or a copy.

    Example:
        >>> laid_out(np.ones((2, 3)), "expanded").strides
        (0, 8)
    """
    match layout:
        case "channels-last":
            innermost = np.ascontiguousarray(np.moveaxis(array, min(1, array.ndim - 1), -1))
            return np.moveaxis(innermost, -1, min(1, array.ndim - 1))
        case "strided":
            wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
            wide[..., ::2] = array
            return wide[..., ::2]
        case "expanded":
            return np.broadcast_to(array[:1], array.shape)
        case "reversed":
            return np.flip(np.flip(array).copy())
    return array
