"""The reference and the PyTorch backend on the same random numbers.

Inputs, weights, biases and cotangents are uniform in [−1, 1]. Every product that an operator sums
is at most 1 in absolute value, so a partial sum of n products is at most n, and each of the n
roundings has an error of at most ε/2 times such a sum. Most roundings cancel: the results of two
correct implementations differ by about n·ε. That is the unit of the errors, and `TOLERANCE` units
are allowed; a wrong sign or index gives millions.

In the 16-bit dtypes that unit would be as large as the outputs, so a test with it would accept
anything. There the unit is ε times the largest entry, or times √n where that is larger, which is
about the size of a sum of n products with random signs. What is allowed depends on how often a
sum is rounded to 16 bits. y is rounded once, which costs half a unit, and a bias once more. dw and
db are rounded for each image and block, up to 12 times. dx is rounded at every kernel tap in
PyTorch's simplest kernel: 121 roundings are a random walk whose standard deviation is about
√121/√12 ≈ 3 units, if every partial sum is as large as the largest entry.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import tbc_ref
from tbc_gpu import tied_block_conv2d, tied_block_linear
from tbc_models.checking.cases import OPERATORS, Case, Quantity, draw_case
from tbc_models.checking.names import DType

Results = dict[Quantity, NDArray[Any]]
QUANTITIES: tuple[Quantity, ...] = ("y", "dx", "dw", "db")
TOLERANCE = 4.0
HALF_TOLERANCES: dict[Quantity, float] = {"y": 1.5, "dx": 8.0, "dw": 4.0, "db": 4.0}


def tolerances(dtype: str) -> dict[Quantity, float]:
    """Return the largest error of each quantity that is allowed in a dtype, in its units.

    Args:
        dtype: one of `DType`.

    Returns:
        `TOLERANCE` for all, or `HALF_TOLERANCES` for a 16-bit dtype.

    Raises:
        ValueError: for another dtype.

    Example:
        >>> tolerances("float32")["dx"], tolerances("bfloat16")["dx"]
        (4.0, 8.0)
    """
    return HALF_TOLERANCES if DType(dtype).is_half else dict.fromkeys(QUANTITIES, TOLERANCE)


@dataclass
class OperatorRow:
    """The results of all cases of one operator in one dtype: largest errors, and failures."""

    operator: str
    dtype: str
    backends: list[str]
    cases: int = 0
    errors: dict[Quantity, float] = field(default_factory=lambda: dict.fromkeys(QUANTITIES, 0.0))
    failures: list[dict[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What was checked: the operator and the dtype."""
        return f"{self.operator} {self.dtype}"

    @property
    def passed(self) -> bool:
        """Whether every case stayed within the tolerance."""
        return not self.failures

    @property
    def failed(self) -> int:
        """The number of cases that failed on at least one backend."""
        return len({(failure["case"], failure["index"]) for failure in self.failures})

    def add(
        self, case: Case, backend: str, expected: Results | Exception, actual: Results | Exception
    ) -> None:
        """Add the result of one backend on one case."""
        if isinstance(expected, Exception) or isinstance(actual, Exception):
            raised = expected if isinstance(expected, Exception) else actual
            described = f"{type(raised).__name__}: {raised}"
            self.errors["y"] = math.inf
        else:
            apart = errors(case, expected, actual)
            for quantity, error in apart.items():  # max() would drop a NaN
                self.errors[quantity] = float(np.maximum(self.errors[quantity], error))
            allowed = tolerances(case.dtype)
            if all(error <= allowed[quantity] for quantity, error in apart.items()):
                return
            described = ", ".join(f"{quantity} {error:.3g}" for quantity, error in apart.items())
        failure = {"backend": backend, "case": str(case), "index": str(case.index)}
        self.failures.append(failure | {"errors": described})


def run_reference(case: Case, array: Callable[[Any], Any] = np.asarray) -> Results:
    """Run a case through `tbc_ref`, with its arrays converted by `array`."""
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
        """Copy an array to the device and dtype, and keep its strides, as `Tensor.to` does not."""
        if any(stride < 0 for stride in array.strides):  # PyTorch does not have these
            array = array.copy()
        source = torch.from_numpy(array)
        at: Any = {"device": device, "dtype": getattr(torch, case.dtype)}
        if array.ndim and array.strides[0] == 0 and array.shape[0] > 1:  # one entry, expanded
            return source[:1].to(**at).expand(source.shape)
        return torch.empty_strided(source.shape, source.stride(), **at).copy_(source)

    function = tied_block_conv2d if case.w.ndim == 4 else tied_block_linear
    options = {"blocks": 1} | case.options
    with _exact_kernels(case.dtype), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")  # of its copy
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        x, w, dy = tensor(case.x), tensor(case.w), tensor(case.dy)
        leaves = [x, w] if case.b is None else [x, w, tensor(case.b)]
        for leaf in leaves:
            leaf.requires_grad_()
        y = function(x, w, leaves[2] if case.b is not None else None, **options)
        gradients = torch.autograd.grad(y, leaves, dy)
    outputs = zip(QUANTITIES, (y, *gradients), strict=False)
    wide = torch.float64 if case.dtype.is_half else y.dtype
    return {name: value.detach().cpu().to(wide).numpy() for name, value in outputs}


@contextmanager
def _exact_kernels(dtype: DType) -> Iterator[None]:
    """Keep PyTorch from using kernels that are less precise, or wrong."""
    # TF32 would round float32 products to 10 bits. On CPUs with AMX, oneDNN's 16-bit convolutions
    # are wrong where the stride is larger than the kernel (PyTorch issue 169688). Random cases gave
    # wrong results and crashes, in PyTorch's own conv2d too, and neither without oneDNN.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        with (
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            torch.backends.mkldnn.flags(enabled=not dtype.is_half),
        ):
            yield


def backends(
    device: Literal["auto", "cpu", "cuda"], dtype: str = "float64"
) -> dict[str, Callable[[Case], Results]]:
    """Return the backends to compare with the reference on NumPy.

    Args:
        device: "cpu", "cuda", or "auto" for every backend that this machine has.
        dtype: one of `DType`; CuPy runs the reference, which has no 16-bit dtypes.

    Returns:
        A function that runs a case, for each backend.

    Raises:
        ValueError: for another device.
        RuntimeError: for "cuda" if PyTorch finds no CUDA device.

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
        if cupy.is_available() and not DType(dtype).is_half:
            found["CuPy"] = run_cupy
    return found


def errors(case: Case, expected: Results, actual: Results) -> dict[Quantity, float]:
    """Return the difference of two results of a case, in the unit that the module describes.

    Returns:
        The largest error of each quantity, infinite where a shape is wrong.
    """
    apart: dict[Quantity, float] = {}
    for name, right in expected.items():
        value = actual[name]
        if value.shape != right.shape:
            apart[name] = math.inf
        elif value.size == 0:
            apart[name] = 0.0
        else:
            terms = max(case.terms[name], 1)
            largest = float(np.max(np.abs(right)))
            unit = max(largest, math.sqrt(terms)) if case.dtype.is_half else terms
            apart[name] = float(np.max(np.abs(value - right))) / (case.dtype.epsilon * unit)
    return apart


def check(
    operator: str,
    dtype: str,
    *,
    indices: Iterable[int],
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Iterator[OperatorRow]:
    """Compare the reference with every backend on random cases of one operator.

    Args:
        operator: one of `OPERATORS`.
        dtype: one of `DType`.
        indices: indices of the cases to draw, such as `range(200)`; they may be endless.
        seed: seed of the whole run.
        device: "cpu", "cuda", or "auto" for every backend that this machine has.

    Yields:
        The row so far, after every 50 cases; the last is the result.

    Raises:
        RuntimeError: for "cuda" if PyTorch finds no CUDA device.

    Example:
        >>> *_, row = check("TBC", "float64", indices=range(5), device="cpu")
        >>> row.cases, row.passed
        (5, True)
    """
    others = backends(device, dtype)
    row = OperatorRow(operator, dtype, ["NumPy", *others])
    remaining = iter(indices)
    # NumPy and PyTorch each have a pool of threads, which compete unless they work in turns.
    while cases := [draw_case(operator, seed, i, dtype) for i in islice(remaining, 50)]:
        expected = [attempt(run_reference, case) for case in cases]
        with one_thread():
            for name, run in others.items():
                for case, right in zip(cases, expected, strict=True):
                    row.add(case, name, right, attempt(run, case))
        row.cases += len(cases)
        yield row


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread: for cases as small as these, more threads cost time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def attempt(run: Callable[[Case], Results], case: Case) -> Results | Exception:
    """Run a case; return an error as its result, to be reported with the case."""
    try:
        return run(case)
    except Exception as error:
        return error
