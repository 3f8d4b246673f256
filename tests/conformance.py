"""Public conformance suites, run on both implementations: `python -m tests.conformance`.

Nobody here wrote these cases or the code that answers them. Every case runs as it is, on SC, GC or
FC, and once more for each number of blocks in `BLOCKS`: on TBC, TGC or TFC, with the case's weight
as the shared filters and an input of that many blocks. The suite's own implementation then gets
the block-expanded weight, in which the shared filters are repeated along the diagonal.
"""

import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

import tbc_ref
from tbc_gpu import tied_block_conv2d, tied_block_linear
from tbc_models import results
from tbc_models.checking.cases import OPERATORS

from .oracles import Array, dense_bias, dense_weight

BLOCKS = (2, 3)
# Sums of at most some hundred float64 products, relative to the largest entry.
TOLERANCE = 1e-12
# Outputs that a suite stores were computed, and rounded, in float32.
STORED_TOLERANCE = 1e-6
RESULTS = Path(__file__).parent.parent / "docs" / "_results" / "conformance.json"

# What answers: (x, w, b, groups) to y, for arrays or, where gradients are wanted, for tensors.
Oracle = Callable[[Any, Any, Any, int], Any]


@dataclass(frozen=True)
class SuiteCase:
    """A layer with its numbers, and what the suite says that it gives."""

    name: str
    x: Array
    w: Array
    b: Array | None
    oracle: Oracle  # with the suite's stride, padding and dilation
    options: dict[str, Any] = field(default_factory=dict)  # of tbc_ref; none for FC
    stored: Array | None = None  # the output, where the suite stores it
    batched: bool = True  # tbc_ref has no layers without a batch

    @property
    def groups(self) -> int:
        groups: int = self.options.get("groups", 1)
        return groups


class Excluded(NamedTuple):
    """A case that no operator of the paper can run."""

    name: str
    reason: str


@dataclass
class Result:
    """How one suite went: a row of the table."""

    suite: str
    source: str
    cases: int = 0
    comparisons: dict[str, int] = field(default_factory=dict)  # by "package, operator"
    worst: float = 0.0  # relative difference from an output computed in float64
    worst_stored: float = 0.0  # and from one that the suite stores, rounded to float32
    failures: list[str] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)  # names, by reason


# The two implementations ------------------------------------------------------------------------


def operator(case: SuiteCase, blocks: int) -> str:
    """Which of the paper's operators runs a case."""
    if case.w.ndim == 2:
        return "FC" if blocks == 1 else "TFC"
    if blocks == 1:
        return "SC" if case.groups == 1 else "GC"
    return "TBC" if case.groups == 1 else "TGC"


def by_reference(
    case: SuiteCase, x: Array, blocks: int
) -> tuple[Array, Callable[[Array], list[Array]]]:
    """The output of `tbc_ref`, and the function from dy to dx, dw and db."""
    name, takes = OPERATORS[operator(case, blocks)]
    counts = {"groups": case.groups, "blocks": blocks}
    options = {k: v for k, v in case.options.items() if k != "groups"}
    options |= {count: counts[count] for count in takes}
    y = getattr(tbc_ref, name)(x, case.w, case.b, **options)
    backward = getattr(tbc_ref, f"{name}_backward")
    return y, lambda dy: list(backward(dy, x, case.w, **options))


def by_backend(
    case: SuiteCase, x: Array, blocks: int
) -> tuple[Array, Callable[[Array], list[Array]]]:
    """The same of `tbc_gpu`."""
    layer = tied_block_linear if case.w.ndim == 2 else tied_block_conv2d
    options = {"blocks": blocks} | case.options

    def apply(x: Any, w: Any, b: Any) -> Any:
        return layer(x, w, b, **options) if case.batched else layer(x[0], w, b, **options)[None]

    return by_torch(apply, x, case.w, case.b)


def by_torch(
    function: Callable[[Any, Any, Any], Any], x: Array, w: Array, b: Array | None
) -> tuple[Array, Callable[[Array], list[Array]]]:
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, w, b) if a is not None]
    y = function(*leaves, *([None] if b is None else []))

    def gradients(dy: Array) -> list[Array]:
        return [g.numpy() for g in torch.autograd.grad(y, leaves, torch.from_numpy(dy))]

    return y.detach().numpy(), gradients


IMPLEMENTATIONS = {"tbc_ref": by_reference, "tbc_gpu": by_backend}


# More blocks ------------------------------------------------------------------------------------


def more_blocks(case: SuiteCase, blocks: int) -> Array:
    """An input of `blocks` times as many channels: each group's, shifted and scaled."""
    axis = 1 if case.w.ndim == 4 else -1
    groups = np.split(case.x, case.groups, axis)
    return np.concat(
        [(1 + b) * np.roll(x_g, b, axis=-1) for x_g in groups for b in range(blocks)], axis
    )


def expected(case: SuiteCase, x: Array, blocks: int) -> Array:
    """What the suite's implementation gives for the block-expanded weight."""
    if blocks == 1 and case.stored is not None:
        return case.stored
    if blocks == 1:  # the case as it is
        return np.asarray(case.oracle(x, case.w, case.b, case.groups))
    w = dense_weight(torch.from_numpy(case.w), case.groups, blocks).numpy()
    b = None if case.b is None else torch.from_numpy(case.b)
    expanded = dense_bias(b, case.groups, blocks)
    return np.asarray(case.oracle(x, w, None if expanded is None else expanded.numpy(), 1))


def apart(ours: Array, right: Array) -> float:
    """The largest difference, relative to the largest entry or to 1; infinite for a wrong shape."""
    if ours.shape != right.shape:
        return float("inf")
    if not right.size:
        return 0.0
    difference = float(np.abs(ours - right).max() / max(1.0, np.abs(right).max()))
    return difference if np.isfinite(difference) else float("inf")


# ONNX -------------------------------------------------------------------------------------------


def onnx_layer(
    name: str, node: Any, x: Array, w: Array, b: Array | None, stored: Array | None = None
) -> SuiteCase | Excluded:
    """The case that a Conv or Gemm node describes."""
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x, w = x.astype(np.float64), w.astype(np.float64)
    b = None if b is None else b.astype(np.float64)
    if node.op_type == "Gemm":
        x = x.T if told.get("transA") else x
        w = told.get("alpha", 1.0) * (w if told.get("transB") else w.T)
        if b is not None:
            if b.ndim == 2 and b.shape[0] > 1:
                return Excluded(name, "a bias for every sample: layers have one for every output")
            b = told.get("beta", 1.0) * np.broadcast_to(b.reshape(-1), w.shape[0])
        return SuiteCase(
            name, np.ascontiguousarray(x), np.ascontiguousarray(w), b, gemm, stored=stored
        )
    if w.ndim != 4:
        return Excluded(name, f"a {w.ndim - 2}-D convolution: the paper's are 2-D")
    stride, dilation = (tuple(told.get(k, (1, 1))) for k in ("strides", "dilations"))
    padding: Any = told.get("pads", (0, 0, 0, 0))
    if auto := told.get("auto_pad", b"").decode():
        if auto == "SAME_UPPER" and stride == (1, 1):
            padding = "same"
        else:  # which is defined by the size of the output
            spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
            sizes = zip(x.shape[2:], spans, stride, strict=True)
            whole = [max(0, (-(-n // s) - 1) * s + span - n) for n, span, s in sizes]
            lower = [(total + 1) // 2 for total in whole]
            padding = (*lower, *(t - low for t, low in zip(whole, lower, strict=True)))
    if padding != "same":
        if tuple(padding[:2]) != tuple(padding[2:]):
            return Excluded(name, "another padding on the left than on the right")
        padding = tuple(padding[:2])
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    options["groups"] = told.get("group", 1)
    return SuiteCase(name, x, w, b, OnnxConv(told), options, stored)


def evaluate(node: Any, arrays: Sequence[Array]) -> Array:
    """Run one node in ONNX's own reference implementation, in float64."""
    told = [helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in node.input]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)
    graph = helper.make_graph([node], "layer", told, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    (result,) = ReferenceEvaluator(model).run(None, dict(zip(node.input, arrays, strict=True)))
    return np.asarray(result)


@dataclass(frozen=True)
class OnnxConv:
    """The Conv of a node, with the weight and the number of groups that it is given."""

    attributes: dict[str, Any]

    def __call__(self, x: Array, w: Array, b: Array | None, groups: int) -> Array:
        arrays = [x, w] if b is None else [x, w, b]
        names = ["x", "w", "b"][: len(arrays)]
        return evaluate(
            helper.make_node("Conv", names, ["y"], **self.attributes | {"group": groups}), arrays
        )


def gemm(x: Array, w: Array, b: Array | None, _: int) -> Array:
    arrays = [x, w] if b is None else [x, w, b]
    return evaluate(
        helper.make_node("Gemm", ["x", "w", "b"][: len(arrays)], ["y"], transB=1), arrays
    )


def onnx_stored() -> Iterator[SuiteCase | Excluded]:
    """The cases of `onnx.backend.test`: of single nodes, and converted from PyTorch's layers."""
    seen = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cases of other operators
        nodes: Any = collect_testcases(None)
    for test in nodes:
        ops = [node.op_type for node in test.model.graph.node]
        if test.name in seen:
            continue
        seen.add(test.name)
        if any("Conv" in op for op in ops) and ops != ["Conv"]:
            several = "a graph of several operators"
            yield Excluded(test.name, several if ops[1:] else f"another operator, {ops[0]}")
        elif ops in (["Conv"], ["Gemm"]):
            (inputs, outputs), *_ = test.data_sets
            x, w, *b = inputs
            yield onnx_layer(
                test.name, test.model.graph.node[0], x, w, b[0] if b else None, outputs[0]
            )
    for kind in ("pytorch-converted", "pytorch-operator"):
        models: Any = load_model_tests(kind=kind)
        for test in sorted(models, key=lambda test: str(test.name)):
            model = onnx.load(Path(test.model_dir) / "model.onnx")
            ops = [node.op_type for node in model.graph.node]
            if "ConvTranspose" in ops:
                yield Excluded(test.name, "another operator, ConvTranspose")
            elif "Gemm" in ops and ops != ["Gemm"]:
                yield Excluded(test.name, "a graph of several operators")
            elif ops in (["Conv"], ["Gemm"], ["Transpose", "MatMul"]):
                yield converted(test.name, model, Path(test.model_dir) / "test_data_set_0")


def converted(name: str, model: Any, folder: Path) -> SuiteCase | Excluded:
    """A layer of PyTorch, its weights stored as a model and its input and output beside it."""

    def read(file: Path) -> Array:
        return numpy_helper.to_array(onnx.load_tensor(file))

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for i, told in enumerate(i for i in model.graph.input if i.name not in arrays):
        arrays[told.name] = read(folder / f"input_{i}.pb")
    node = model.graph.node[0]
    if node.op_type == "Transpose":  # of the weight, before a product: a layer without bias
        (x_name,) = (n for n in model.graph.node[1].input if n not in node.output)
        node = helper.make_node("Gemm", [x_name, node.input[0]], ["y"], transB=1)
    x, w, *b = (arrays[n] for n in node.input)
    return onnx_layer(name, node, x, w, b[0] if b else None, read(folder / "output_0.pb"))


def onnx_random(cases: int = 200) -> Iterator[SuiteCase | Excluded]:
    """Random layers, three of four convolutions, answered by `onnx.reference`."""
    rng = np.random.default_rng(0)

    def some(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    for i in range(cases):
        groups, thin, filters = some(1, 3), some(1, 3), some(1, 3)
        if i % 4 == 3:
            x, w = rng.standard_normal((some(1, 4), thin)), rng.standard_normal((thin, filters))
            told: dict[str, Any] = {"alpha": rng.random(), "beta": rng.random()}
            node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], **told)
            yield onnx_layer(f"Gemm {i}", node, x, w, rng.standard_normal(filters))
            continue
        kernel, dilation, stride = ((some(1, 4), some(1, 4)) for _ in range(3))
        told = {"dilations": dilation, "group": groups, "strides": stride}
        if i % 4 == 2:
            told |= {"auto_pad": "SAME_UPPER", "strides": (1, 1)}
            size = [some(1, 9), some(1, 9)]
        else:
            pad = (some(0, 3), some(0, 3))
            told["pads"] = pad * 2
            spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
            size = [max(1, n - 2 * p) + some(0, 6) for n, p in zip(spans, pad, strict=True)]
        x = rng.standard_normal((some(1, 3), groups * thin, *size))
        w = rng.standard_normal((groups * filters, thin, *kernel))
        b = rng.standard_normal(groups * filters) if some(0, 1) else None
        node = helper.make_node("Conv", ["x", "w", "b"][: 2 + (b is not None)], ["y"], **told)
        yield onnx_layer(f"Conv {i}", node, x, w, b)


# PyTorch ----------------------------------------------------------------------------------------


def operator_info(name: str) -> Any:
    """What PyTorch tests its own operators with, in every backend."""
    from torch.testing._internal.common_methods_invocations import op_db  # 5 s, and a log line

    return next(info for info in op_db if info.name == f"nn.functional.{name}")


def arguments(sample: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Input, weight, bias and options of a sample of conv2d or linear."""
    w, *rest = sample.args
    names = ("bias", "stride", "padding", "dilation", "groups")
    options = dict(zip(names, rest, strict=False)) | sample.kwargs
    return sample.input, w, options.pop("bias", None), options


def torch_samples() -> Iterator[SuiteCase | Excluded]:
    """The samples of conv2d and linear, answered by PyTorch on the block-expanded weight."""
    for sample in operator_info("conv2d").sample_inputs("cpu", torch.float64):
        x, w, b, options = arguments(sample)
        name = f"conv2d {tuple(x.shape)} {tuple(w.shape)} {options}"
        batched = x.ndim == 4
        x = x if batched else x[None]
        plain = {k: v for k, v in options.items() if k != "groups"}
        arrays = as_arrays(x, w, b)
        yield SuiteCase(name, *arrays, TorchLayer(F.conv2d, plain), options, batched=batched)
    for sample in operator_info("linear").sample_inputs("cpu", torch.float64):
        x, w, b, _ = arguments(sample)
        name = f"linear {tuple(x.shape)} {tuple(w.shape)}"
        if w.ndim != 2:
            yield Excluded(name, "a weight that is a vector: a layer's is a matrix")
        elif not w.numel():
            yield Excluded(name, "a layer without input features, which ours refuse")
        else:
            arrays = as_arrays(x, w, b)
            yield SuiteCase(name, *arrays, TorchLayer(F.linear, {}))


def as_arrays(x: Any, w: Any, b: Any) -> tuple[Array, Array, Array | None]:
    return x.detach().numpy(), w.detach().numpy(), None if b is None else b.detach().numpy()


@dataclass(frozen=True)
class TorchLayer:
    """A function of PyTorch with its options, on arrays."""

    function: Callable[..., Any]
    options: dict[str, Any]

    def __call__(self, x: Array, w: Array, b: Array | None, groups: int) -> Array:
        y, _ = by_torch(partial(self.on_tensors, groups=groups), x, w, b)
        return y

    def on_tensors(self, x: Any, w: Any, b: Any, *, groups: int) -> Any:
        grouped = {"groups": groups} if groups > 1 else {}
        return self.function(x, w, b, **self.options, **grouped)


def torch_gradients(case: SuiteCase, x: Array, blocks: int, dy: Array) -> list[Array]:
    """PyTorch's derivatives through the block-expanded weight."""
    assert isinstance(case.oracle, TorchLayer)
    layer = case.oracle.on_tensors

    def expanded(x: Any, w: Any, b: Any) -> Any:
        groups = case.groups
        if blocks == 1:
            return layer(x, w, b, groups=groups)
        return layer(x, dense_weight(w, groups, blocks), dense_bias(b, groups, blocks), groups=1)

    _, gradients = by_torch(expanded, x, case.w, case.b)
    return gradients(dy)


def refused(result: Result) -> None:
    """The calls that conv2d refuses: both implementations must refuse them, with 1 and 2 blocks."""
    for error in operator_info("conv2d").error_inputs("cpu"):
        x, w, b, options = arguments(error.sample_input)
        result.cases += 1
        name = f"{tuple(x.shape)} {tuple(w.shape)} {options}"
        groups = options.pop("groups", 1)
        # PyTorch takes (−1,) for −1: as a tuple of one it would be refused for its length.
        options = {
            k: v[0] if isinstance(v, tuple) and len(v) == 1 else v for k, v in options.items()
        }
        for blocks in (1, 2):
            wide = torch.cat([x] * blocks, -3)
            for package in IMPLEMENTATIONS:
                what = f"{package}, {'SC, GC' if blocks == 1 else 'TBC, TGC'}"
                result.comparisons[what] = result.comparisons.get(what, 0) + 1
                try:
                    call(package, wide, w, b, groups=groups, blocks=blocks, **options)
                except (TypeError, ValueError):
                    continue
                result.failures.append(f"{package} with {blocks} blocks accepts {name}")


def call(package: str, x: Any, w: Any, b: Any, **options: Any) -> None:
    """Call one implementation on tensors as they are, however wrong."""
    if package == "tbc_ref":
        tbc_ref.tied_block_group_conv(*as_arrays(x, w, b), **options)
    else:
        tied_block_conv2d(x, w, b, **options)


# The suites -------------------------------------------------------------------------------------


def run(result: Result, cases: Iterator[SuiteCase | Excluded]) -> None:
    """Compare both implementations on every case, forward, and backward where PyTorch answers."""
    for case in cases:
        if isinstance(case, Excluded):
            result.excluded.setdefault(case.reason, []).append(case.name)
            continue
        result.cases += 1
        for blocks in (1, *BLOCKS):
            x = more_blocks(case, blocks) if blocks > 1 else case.x
            right = [expected(case, x, blocks)]
            stored = blocks == 1 and case.stored is not None
            dy = np.random.default_rng(blocks).standard_normal(right[0].shape)
            if isinstance(case.oracle, TorchLayer):
                right += torch_gradients(case, x, blocks, dy)
            for package, implementation in IMPLEMENTATIONS.items():
                if package == "tbc_ref" and not case.batched:
                    continue
                what = f"{package}, {operator(case, blocks)}"
                result.comparisons[what] = result.comparisons.get(what, 0) + 1
                y, gradients = implementation(case, x, blocks)
                ours = [y, *gradients(dy)] if len(right) > 1 else [y]
                error = max(map(apart, ours, right))
                if stored:
                    result.worst_stored = max(result.worst_stored, error)
                else:
                    result.worst = max(result.worst, error)
                if error > (STORED_TOLERANCE if stored else TOLERANCE):
                    result.failures.append(f"{what}, B = {blocks}: {case.name} is {error:.1e} off")


def compare(result: Result, cases: Callable[[], Iterator[SuiteCase | Excluded]]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")  # of its copy
        run(result, cases())


_ONNX, _TORCH = f"onnx {version('onnx')}", f"torch {version('torch')}"
# Each suite with where it comes from, and how to run it.
SUITES: dict[str, tuple[str, Callable[[Result], None]]] = {
    "ONNX's stored cases": (
        f"{_ONNX}, onnx.backend.test",
        lambda result: compare(result, onnx_stored),
    ),
    "ONNX's reference on random cases": (
        f"{_ONNX}, onnx.reference",
        lambda result: compare(result, onnx_random),
    ),
    "PyTorch's samples": (f"{_TORCH}, OpInfo", lambda result: compare(result, torch_samples)),
    "PyTorch's error inputs": (f"{_TORCH}, OpInfo", refused),
}


def main() -> None:
    """Run every suite, print how it went, and store what the site shows."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    file = parser.parse_args().json
    rows = []
    for suite, (source, run_suite) in SUITES.items():
        row = Result(suite, source)
        run_suite(row)
        rows.append(row)
        print(
            f"{row.suite}: {row.cases} cases, {sum(row.comparisons.values())} comparisons, "
            f"{len(row.failures)} failed, worst {row.worst:.1e}, stored {row.worst_stored:.1e}",
            *row.failures,
            sep="\n  ",
        )
    report = {
        "command": "python -m tests.conformance",
        "machine": results.machine("onnx", "numpy"),
        "tolerance": TOLERANCE,
        "stored_tolerance": STORED_TOLERANCE,
        "suites": [asdict(row) for row in rows],
    }
    results.write(file, report)
    raise SystemExit(any(row.failures for row in rows))


if __name__ == "__main__":
    main()
