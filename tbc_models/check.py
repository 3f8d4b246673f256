"""`tbc check`: the reference and the PyTorch backend on the same random numbers.

This module sees both implementations, as does `check_modules` for what is built of them. A case
is drawn from (seed, operator, index) alone, so that any one can be run again by itself.

Inputs, weights, biases and cotangents are uniform in [−1, 1], so every product that an
operator sums is at most 1 in size, every partial sum of n of them at most n, and each of the n
roundings is off by ε/2 of such a sum. They rarely pull the same way: two honest
implementations end about n·ε apart. That is the unit in which errors are told, and
`TOLERANCE` of them are allowed; a wrong sign or index gives millions.
"""

import math
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import tbc_ref
from tbc_gpu import tied_block_conv2d, tied_block_linear

Quantity = Literal["y", "dx", "dw", "db"]
Results = dict[Quantity, NDArray[Any]]


class Operator(StrEnum):
    """The operators, as the paper abbreviates them."""

    SC = "SC"
    GC = "GC"
    TBC = "TBC"
    TGC = "TGC"
    FC = "FC"
    TFC = "TFC"


class DType(StrEnum):
    """The dtypes that both implementations share."""

    float64 = "float64"
    float32 = "float32"


# Each operator's name in `tbc_ref`, and which of `groups` and `blocks` it takes.
OPERATORS: dict[str, tuple[str, tuple[str, ...]]] = {
    Operator.SC: ("standard_conv", ()),
    Operator.GC: ("group_conv", ("groups",)),
    Operator.TBC: ("tied_block_conv", ("blocks",)),
    Operator.TGC: ("tied_block_group_conv", ("groups", "blocks")),
    Operator.FC: ("linear", ()),
    Operator.TFC: ("tied_block_linear", ("blocks",)),
}
QUANTITIES: tuple[Quantity, ...] = ("y", "dx", "dw", "db")
TOLERANCE = 4.0


@dataclass(frozen=True)
class Case:
    """One random configuration of one operator, with its numbers."""

    operator: str
    seed: int
    index: int
    options: dict[str, Any]  # stride, padding, dilation, groups, blocks: those it takes
    channels_last: bool  # memory format of the input of the PyTorch backend
    x: NDArray[Any]
    w: NDArray[Any]
    b: NDArray[Any] | None
    dy: NDArray[Any]

    @property
    def terms(self) -> dict[Quantity, int]:
        """The reduction lengths, how many terms each entry of y, dx, dw and db sums."""
        groups = self.options.get("groups", 1)
        filters, thin, *kernel = self.w.shape
        taps = math.prod(kernel)
        shared = self.dy.size // filters  # a filter meets every image, position and block
        return {"y": thin * taps + 1, "dx": filters // groups * taps, "dw": shared, "db": shared}

    def __str__(self) -> str:
        bias = "no bias" if self.b is None else "bias"
        layout = ", channels-last" if self.channels_last else ""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.operator} x{self.x.shape} w{self.w.shape} {bias}{options}{layout}"

    def command(self, device: str) -> str:
        """Give the command line that runs this case alone."""
        words = ["tbc", "check", "--operator", self.operator, "--case", str(self.index)]
        words += ["--seed", str(self.seed), "--dtype", str(self.x.dtype), "--device", device]
        return shlex.join(words)


@dataclass
class Row:
    """What the cases of one operator in one dtype came to."""

    operator: str
    dtype: str
    backends: list[str]
    cases: int = 0
    errors: dict[Quantity, float] = field(default_factory=lambda: dict.fromkeys(QUANTITIES, 0.0))
    failures: list[dict[str, str]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every case stayed within the tolerance."""
        return not self.failures

    def add(
        self, case: Case, backend: str, expected: Results | Exception, actual: Results | Exception
    ) -> None:
        """Take in how one backend did on one case."""
        if isinstance(expected, Exception) or isinstance(actual, Exception):
            raised = expected if isinstance(expected, Exception) else actual
            told = f"{type(raised).__name__}: {raised}"
            self.errors["y"] = math.inf
        else:
            apart = errors(case, expected, actual)
            for quantity, error in apart.items():  # max() would drop a NaN
                self.errors[quantity] = float(np.maximum(self.errors[quantity], error))
            if all(error <= TOLERANCE for error in apart.values()):
                return
            told = ", ".join(f"{quantity} {error:.3g}" for quantity, error in apart.items())
        command = case.command("cpu" if backend == "torch CPU" else "cuda")
        failure = {"backend": backend, "case": str(case), "errors": told, "command": command}
        self.failures.append(failure)


def draw(operator: str, seed: int, index: int, dtype: str) -> Case:
    """Draw a random case: shapes, options, and numbers uniform in [−1, 1].

    Args:
        operator: one of `OPERATORS`.
        seed: of the whole run.
        index: of the case; the same (operator, seed, index) give the same case.
        dtype: "float64" or "float32"; the numbers are drawn in float64 and rounded to it.

    Returns:
        The case.

    Raises:
        KeyError: for an unknown operator.

    Example:
        >>> print(draw("TFC", seed=0, index=3, dtype="float64"))
        TFC x(2, 1) w(1, 1) bias, blocks=1
    """
    name, takes = OPERATORS[operator]
    rng = np.random.default_rng([seed, list(OPERATORS).index(operator), index])

    def some(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    def pair(low: int, high: int) -> tuple[int, int]:
        return some(low, high), some(low, high)

    def count() -> int:  # now and then an empty batch, which has nothing to compare
        return 0 if rng.random() < 0.02 else some(1, 3)

    counts = {what: some(1, 4) for what in takes}
    groups, blocks = counts.get("groups", 1), counts.get("blocks", 1)
    thin, filters = some(1, 4), groups * some(1, 4)
    channels_last = False
    if name.endswith("linear"):
        options: dict[str, Any] = {}
        leading = [count() for _ in range(some(0, 2))]
        x_shape = [*leading, blocks * thin]
        w_shape = [filters, thin]
        y_shape = [*leading, blocks * filters]
    else:
        kernel, dilation = pair(1, 4), pair(1, 3)
        options = {"stride": pair(1, 3), "padding": pair(0, 3), "dilation": dilation}
        word = rng.choice(["", "same", "valid"], p=[0.7, 0.15, 0.15])
        if word:
            options["padding"] = str(word)
        if word == "same":
            options["stride"] = (1, 1)
        # The smallest map that the kernel fits: any with "same", as padding makes room for it.
        pad = (0, 0) if word else options["padding"]
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        if word == "same":
            spans = [1, 1]
        fits = [max(1, span - 2 * p) for span, p in zip(spans, pad, strict=True)]
        size = (fits[0] + some(0, 6), fits[1] + some(0, 6))
        output = tbc_ref.geometry(size, kernel, **options).output
        n = count()
        x_shape = [n, groups * blocks * thin, *size]
        w_shape = [filters, thin, *kernel]
        y_shape = [n, blocks * filters, *output]
        channels_last = some(0, 1) == 1

    def numbers(shape: Sequence[int]) -> NDArray[Any]:
        return rng.uniform(-1, 1, shape).astype(dtype)

    x, w, dy = numbers(x_shape), numbers(w_shape), numbers(y_shape)
    b = numbers([filters]) if some(0, 1) else None
    return Case(operator, seed, index, options | counts, channels_last, x, w, b, dy)


def run_reference(case: Case, array: Callable[[Any], Any] = np.asarray) -> Results:
    """Run a case through `tbc_ref`, on arrays as `array` makes them of NumPy's."""
    name, _ = OPERATORS[case.operator]
    x, w, dy = array(case.x), array(case.w), array(case.dy)
    b = None if case.b is None else array(case.b)
    y = getattr(tbc_ref, name)(x, w, b, **case.options)
    dx, dw, db = getattr(tbc_ref, f"{name}_backward")(dy, x, w, **case.options)
    results: Results = {"y": y, "dx": dx, "dw": dw}
    return results if b is None else results | {"db": db}


def run_cupy(case: Case) -> Results:
    """Run a case through `tbc_ref` on CuPy arrays."""
    import cupy

    return {name: cupy.asnumpy(a) for name, a in run_reference(case, cupy.asarray).items()}


def run_torch(case: Case, device: str) -> Results:
    """Run a case through `tbc_gpu`, with autograd for the derivatives."""

    def tensor(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    x, w, dy = tensor(case.x), tensor(case.w), tensor(case.dy)
    if case.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = [x, w] if case.b is None else [x, w, tensor(case.b)]
    for leaf in leaves:
        leaf.requires_grad_()
    bias = leaves[2] if case.b is not None else None
    function = tied_block_conv2d if case.w.ndim == 4 else tied_block_linear
    options = {"blocks": 1} | case.options
    # TF32 would round float32 products to 10 bits.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")  # of its copy
        y = function(x, w, bias, **options)
        gradients = torch.autograd.grad(y, leaves, dy)
    outputs = zip(QUANTITIES, (y, *gradients), strict=False)
    return {name: value.detach().cpu().numpy() for name, value in outputs}


def backends(device: Literal["auto", "cpu", "cuda"]) -> dict[str, Callable[[Case], Results]]:
    """Name the backends to compare with the reference on NumPy.

    Args:
        device: "cpu", "cuda", or "auto" for all that this machine has.

    Returns:
        A function that runs a case, for each backend.

    Raises:
        ValueError: for another word.
        RuntimeError: if "cuda" is asked for and PyTorch finds no CUDA device.

    Example:
        >>> list(backends("cpu"))
        ['torch CPU']
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"`device` (={device!r}) must be 'auto', 'cpu' or 'cuda'")
    found: dict[str, Callable[[Case], Results]] = {}
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("`device` (='cuda') needs a CUDA device, and PyTorch finds none")
    if device != "cuda":
        found["torch CPU"] = lambda case: run_torch(case, "cpu")
    if device != "cpu" and torch.cuda.is_available():
        found["torch CUDA"] = lambda case: run_torch(case, "cuda")
        try:
            import cupy
        except ImportError:
            return found
        if cupy.is_available():
            found["CuPy"] = run_cupy
    return found


def errors(case: Case, expected: Results, actual: Results) -> dict[Quantity, float]:
    """Measure how far two results of a case lie apart, in units of ε times the terms summed.

    Returns:
        The largest error of each quantity; infinite where a shape is wrong.
    """
    epsilon = float(np.finfo(case.x.dtype).eps)
    apart: dict[Quantity, float] = {}
    for name, right in expected.items():
        value = actual[name]
        if value.shape != right.shape:
            apart[name] = math.inf
        elif value.size == 0:
            apart[name] = 0.0
        else:
            unit = epsilon * max(case.terms[name], 1)
            apart[name] = float(np.max(np.abs(value - right))) / unit
    return apart


def check(
    operator: str,
    dtype: str,
    *,
    indices: Sequence[int],
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Iterator[Row]:
    """Compare the reference with every backend on random cases of one operator.

    Args:
        operator: one of `OPERATORS`.
        dtype: "float64" or "float32".
        indices: which cases to draw.
        seed: of the whole run.
        device: "cpu", "cuda", or "auto" for all that this machine has.

    Yields:
        The row so far, after every burst of cases; the last is the result.

    Raises:
        RuntimeError: if "cuda" is asked for and PyTorch finds no CUDA device.

    Example:
        >>> *_, row = check("TBC", "float64", indices=range(5), device="cpu")
        >>> row.cases, row.passed
        (5, True)
    """
    others = backends(device)
    row = Row(operator, dtype, ["NumPy", *others])
    # NumPy and PyTorch each keep a pool of threads: taking turns in bursts keeps them apart.
    for start in range(0, len(indices), 50):
        cases = [draw(operator, seed, i, dtype) for i in indices[start : start + 50]]
        expected = [attempt(run_reference, case) for case in cases]
        with one_thread():
            for name, run in others.items():
                for case, right in zip(cases, expected, strict=True):
                    row.add(case, name, right, attempt(run, case))
        row.cases += len(cases)
        yield row


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread: the cases are so small that a second costs more than it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def attempt(run: Callable[[Case], Results], case: Case) -> Results | Exception:
    """Run a case; an error is a result too, so that the case which caused it can be told."""
    try:
        return run(case)
    except Exception as error:  # whatever it is, it goes into the report
        return error
