"""Every algorithm of tbc_gpu against the reference, what it copies, and who chooses it."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear, dispatch, tied_block_conv2d, tied_block_linear
from tbc_gpu.algorithms import ALGORITHMS, Geometry
from tbc_gpu.dispatch import Condition, Kind, Rule, first, read_table, table_file

from .compare import close, equals_the_reference, same_gradients
from .oracles import dense_bias, dense_weight
from .strategies import Conv, convs

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
NAMES = sorted(ALGORITHMS)
ANY_KERNEL = [name for name in NAMES if name != "gemm"]


def compare(name: str | None, case: Conv, layout: str, device: str, *, bias: bool) -> None:
    x = torch.from_numpy(case.x).to(device).contiguous(memory_format=LAYOUTS[layout])
    convolve = partial(tied_block_conv2d, algorithm=name)  # type: ignore[arg-type]
    equals_the_reference(convolve, x, case.x, case, bias=bias)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ANY_KERNEL)
@given(case=convs(), layout=st.sampled_from(list(LAYOUTS)), bias=st.booleans())
def test_every_algorithm_equals_the_reference(
    name: str, device: str, case: Conv, layout: str, bias: bool
) -> None:
    compare(name, case, layout, device, bias=bias)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [*NAMES, None])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2), "same", "valid"])
@pytest.mark.parametrize("blocks", [1, 3])
def test_pointwise_kernels_equal_the_reference(
    name: str | None,
    layout: str,
    stride: tuple[int, int],
    blocks: int,
    padding: Any,
    device: str,
) -> None:
    if padding == "same" and stride != (1, 1):
        pytest.skip("PyTorch's rule: `same` has stride 1")
    rng = np.random.default_rng(0)
    shapes = ((2, 4 * blocks, 6, 7), (5, 4, 1, 1), (5,))
    options = {"stride": stride, "padding": padding, "dilation": (1, 1)}
    x, w, b = (rng.standard_normal(shape) for shape in shapes)
    case = Conv(x, w, b, 1, blocks, options)
    compare(name, case, layout, device, bias=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["whole", "sliced", "one image", "no batch", "one pixel"])
def test_every_algorithm_keeps_the_memory_format(name: Any, layout: str, form: str) -> None:
    size = (1, 1) if form == "one pixel" else (4, 5)
    x = torch.randn(1 if form == "one image" else 3, 16, *size)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    x = x[:, 4:12] if form == "sliced" else x[:, :8].contiguous(memory_format=LAYOUTS[layout])
    if form == "no batch":
        x = x[0]
    y = tied_block_conv2d(x, torch.randn(4, 4, 1, 1), blocks=2, algorithm=name)
    batched = y if y.ndim == 4 else y[None]
    assert batched.is_contiguous(memory_format=LAYOUTS[layout])


COPIES_NOTHING = [
    ("fold", "contiguous", 3, (2, 2)),
    ("dilated", "channels-last", 3, (1, 1)),
    ("dilated", "channels-last", 3, (2, 1)),
    ("conv3d", "channels-last", 3, (2, 2)),
    ("grouped", "channels-last", 3, (2, 2)),
    ("grouped", "contiguous", 3, (2, 2)),
    ("gemm", "channels-last", 1, (1, 1)),
    ("gemm", "contiguous", 1, (1, 1)),
]


@pytest.mark.parametrize(("name", "layout", "kernel", "stride"), COPIES_NOTHING)
def test_no_activation_is_copied(
    name: Any, layout: str, kernel: int, stride: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PyTorch's operator reads is the input's memory, and what it writes the output's."""
    seen: list[tuple[int, int]] = []

    def watched(function: Any, x: Tensor, *rest: Any) -> Tensor:
        y: Tensor = function(x, *rest)
        dense = x.is_contiguous() or x.is_contiguous(
            memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        )
        seen.append((x.data_ptr() if dense else 0, y.data_ptr()))
        return y

    def watch(x: Tensor, *rest: Any, of: Any, **named: Any) -> Tensor:
        return watched(lambda *a: of(*a, **named), x, *rest)

    for operator in ("conv2d", "conv3d", "linear"):
        monkeypatch.setattr(F, operator, partial(watch, of=getattr(F, operator)))
    matmul = Tensor.__matmul__
    monkeypatch.setattr(
        Tensor, "__matmul__", lambda w, x: watched(lambda x: matmul(w, x), x.contiguous())
    )
    x = torch.randn(2, 32, 6, 6).contiguous(memory_format=LAYOUTS[layout])
    w = torch.randn(8, 8, kernel, kernel)
    with torch.no_grad():
        y = ALGORITHMS[name](x, w, None, Geometry(stride, (0, 0), (1, 1), 1, 4))
    assert seen == [(x.data_ptr(), y.data_ptr())]
    assert y.is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("name", ["fold_channels_last", "fold"])
def test_a_fold_of_a_channels_last_image_copies_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv2d, seen = F.conv2d, []

    def watch(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x.data_ptr())
        return conv2d(x, *rest)

    monkeypatch.setattr(F, "conv2d", watch)
    x = torch.randn(2, 32, 6, 6).contiguous(memory_format=torch.channels_last)
    ALGORITHMS[name](x, torch.randn(8, 8, 3, 3), None, Geometry((1, 1), (0, 0), (1, 1), 1, 4))
    assert seen != [x.data_ptr()]


def small(layout: str, *, kernel: int = 2, grad: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 3, 4), (4, 2, kernel, kernel), (4,))
    x, w, b = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return [t.requires_grad_(grad) for t in (x.contiguous(memory_format=LAYOUTS[layout]), w, b)]


def conv(name: str, kernel: int = 2) -> Any:
    options: Any = {"stride": (2, 1), "padding": kernel // 2, "blocks": 2, "algorithm": name}
    return lambda x, w, b: tied_block_conv2d(x, w, b, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_first_and_second_order_both_ways(name: str, layout: str) -> None:
    kernel = 1 if name == "gemm" else 2
    arguments = small(layout, kernel=kernel, grad=True)
    assert gradcheck(conv(name, kernel), arguments, check_forward_ad=True)
    assert gradgradcheck(conv(name, kernel), arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*NAMES, None])
def test_vmap_over_each_argument_equals_a_loop(name: Any, layout: str) -> None:
    kernel = 1 if name in ("gemm", None) else 2
    function = conv(name, kernel)
    arguments = small(layout, kernel=kernel)
    for which in range(3):
        several: list[Any] = list(arguments)
        several[which] = torch.stack([arguments[which] * k for k in (1, 2, 3)])
        dims = tuple(0 if k == which else None for k in range(3))
        expected = []
        for one in several[which]:
            single = [one if k == which else arguments[k] for k in range(3)]
            expected.append(function(*single))
        close(torch.func.vmap(function, in_dims=dims)(*several), torch.stack(expected))
    rows = torch.func.vmap(torch.func.grad(lambda x: function(x[None], *arguments[1:]).sum()))
    close(
        rows(arguments[0]),
        torch.func.grad(lambda x: function(x, *arguments[1:]).sum())(arguments[0]),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*NAMES, None])
def test_compiles_to_one_graph(name: Any, layout: str) -> None:
    torch.compiler.reset()  # the variants count as recompilations
    kernel = 1 if name == "gemm" else 2
    compiled: Any = torch.compile(conv(name, kernel), fullgraph=True, backend="aot_eager")
    arguments = small(layout, kernel=kernel, grad=True)
    y, expected = compiled(*arguments), conv(name, kernel)(*arguments)
    close(y, expected)
    assert y.stride() == expected.stride()
    same_gradients(y, expected, arguments)


def test_compiles_for_any_batch_at_once() -> None:
    layer = TiedBlockConv2d(8, 8, 3, blocks=4, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (2, 3, 5):
        x = torch.randn(batch, 8, 6, 6, dtype=torch.float64)
        close(compiled(x), layer(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inductor_gives_the_same(name: Any) -> None:
    torch.compiler.reset()
    kernel = 1 if name == "gemm" else 2
    compiled: Any = torch.compile(conv(name, kernel), fullgraph=True)
    for layout in LAYOUTS:
        arguments = small(layout, kernel=kernel, grad=True)
        y, expected = compiled(*arguments), conv(name, kernel)(*arguments)
        close(y, expected)
        same_gradients(y, expected, arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*NAMES, None])
def test_autocast_lowers_every_algorithm(name: Any, layout: str) -> None:
    x, w = torch.randn(2, 8, 4, 4), torch.randn(4, 4, 1, 1)
    x, b = x.contiguous(memory_format=LAYOUTS[layout]), torch.randn(4)
    exact = tied_block_conv2d(x, w, b, blocks=2)
    with torch.autocast("cpu", torch.bfloat16):
        low = tied_block_conv2d(x, w, b, blocks=2, algorithm=name)
    assert low.dtype == torch.bfloat16
    assert_close(low.float(), exact, rtol=0.05, atol=0.05)  # bfloat16 has 8 bits


@pytest.mark.parametrize("name", [*NAMES, None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batches_and_meta_tensors(name: Any, layout: str) -> None:
    x = torch.empty(0, 8, 4, 4).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    w = torch.randn(4, 4, 1, 1, requires_grad=True)
    y = tied_block_conv2d(x, w, stride=2, blocks=2, algorithm=name)
    assert y.shape == (0, 8, 2, 2)
    y.sum().backward()
    assert x.grad is not None
    assert w.grad is not None
    assert x.grad.shape == x.shape
    assert not w.grad.any()
    on_meta = x.detach().to("meta"), w.detach().to("meta")
    assert tied_block_conv2d(*on_meta, blocks=2, algorithm=name).shape == (0, 8, 4, 4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exports_as_a_group_convolution(layout: str) -> None:
    layers = nn.Sequential(
        TiedBlockConv2d(8, 8, 3, padding=1, blocks=2),
        nn.Flatten(),
        TiedBlockLinear(72, 8, blocks=4),
    )
    x = torch.randn(2, 8, 3, 3).contiguous(memory_format=LAYOUTS[layout])
    batch = torch.export.Dim("batch")
    program = torch.export.export(layers, (x,), dynamic_shapes=({0: batch},))
    other = torch.randn(5, 8, 3, 3)
    assert_close(program.module()(other), layers(other))
    convolutions = [n for n in program.graph.nodes if "conv2d" in str(n.target)]
    assert [node.args[6] for node in convolutions] == [2]


def test_the_linear_layer_too() -> None:
    x, w, b = torch.randn(3, 8), torch.randn(3, 4), torch.randn(3)
    x, w, b = (t.double().requires_grad_() for t in (x, w, b))
    linear = partial(tied_block_linear, blocks=2)
    assert gradcheck(linear, (x, w, b), check_forward_ad=True)
    close(torch.func.vmap(linear, in_dims=(0, None, None))(x, w, b), linear(x, w, b))
    dense = dense_weight(w, 1, 2), dense_bias(b, 1, 2)
    close(linear(x, w, b), F.linear(x, *dense))


WRONG = [
    ({"algorithm": "fft"}, r"`algorithm` \(='fft'\) must be one of \('fold', "),
    ({"algorithm": "gemm"}, r"'gemm' needs a 1x1 kernel and one group"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_algorithms_that_cannot_be(options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        tied_block_conv2d(torch.zeros(1, 4, 5, 5), torch.zeros(2, 2, 3, 3), blocks=2, **options)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tables_have_rules_for_every_class(device: str) -> None:
    table = read_table(table_file(device).read_text(encoding="utf-8"))
    assert len(table) == 2**5
    for kind, rules in table.items():
        assert rules[-1].conditions == ()
        assert all(rule.algorithm in ALGORITHMS for rule in rules)
        assert all(rule.algorithm != "gemm" or kind.kernel == "1x1" for rule in rules)


def test_the_first_rule_that_holds_is_taken() -> None:
    rules = (
        Rule((Condition("blocks", True, 2), Condition("pixels", False, 49)), "conv3d"),
        Rule((Condition("blocks", True, 2),), "grouped"),
        Rule((), "dilated"),
    )
    assert first(rules, {"blocks": 4, "pixels": 49}) == "conv3d"
    assert first(rules, {"blocks": 4, "pixels": 50}) == "grouped"
    assert first(rules, {"blocks": 2, "pixels": 49}) == "dilated"


CHOICES: list[tuple[dict[str, Any], Kind]] = [
    ({}, Kind("float32", "contiguous", "larger", False, False)),
    ({"layout": torch.channels_last}, Kind("float32", "channels_last", "larger", False, False)),
    ({"kernel": 1}, Kind("float32", "contiguous", "1x1", False, False)),
    ({"stride": (1, 2)}, Kind("float32", "contiguous", "larger", True, False)),
    ({"grad": True}, Kind("float32", "contiguous", "larger", False, True)),
    ({"dtype": torch.bfloat16}, Kind("bfloat16", "contiguous", "larger", False, False)),
    ({"dtype": torch.float16}, Kind("bfloat16", "contiguous", "larger", False, False)),
    ({"dtype": torch.float64}, Kind("float32", "contiguous", "larger", False, False)),
    ({"autocast": True}, Kind("bfloat16", "contiguous", "larger", False, False)),
]


@pytest.mark.parametrize(("case", "kind"), CHOICES)
def test_a_case_is_looked_up_in_its_class(
    case: dict[str, Any], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_TABLES", {"cpu": {kind: (Rule((), "conv3d"),)}})
    k, dtype = case.get("kernel", 3), case.get("dtype", torch.float32)
    layout = case.get("layout", torch.contiguous_format)
    x = torch.zeros(2, 8, 20, 20, dtype=dtype).contiguous(memory_format=layout)
    w = torch.zeros(4, 4, k, k, dtype=dtype, requires_grad=case.get("grad", False))
    with torch.autocast("cpu", torch.bfloat16, enabled=case.get("autocast", False)):
        assert dispatch.choose(x, w, case.get("stride", (1, 1)), 1, 2) == "conv3d"


@pytest.mark.parametrize(
    ("layout", "kernel", "stride", "algorithm"),
    [
        (torch.contiguous_format, 3, 1, "fold"),
        (torch.contiguous_format, 1, 2, "fold"),
        (torch.channels_last, 1, 1, "gemm"),
    ],
)
def test_a_small_input_takes_what_needs_the_fewest_calls(
    layout: torch.memory_format, kernel: int, stride: int, algorithm: str
) -> None:
    x = torch.zeros(1, 16, 16, 16).contiguous(memory_format=layout)
    w = torch.zeros(8, 8, kernel, kernel)
    assert dispatch.choose(x, w, (stride, stride), 1, 2) == algorithm


def test_without_a_table_filters_are_repeated() -> None:
    x, w = torch.zeros(2, 8, 5, 5), torch.zeros(4, 2, 3, 3)
    assert dispatch.choose(x, w, (1, 1), 2, 2) == "grouped"  # TGC
    assert dispatch.choose(x.to("meta"), w.to("meta"), (1, 1), 1, 4) == "grouped"
    assert dispatch.choose(x, torch.zeros(8, 8, 3, 3), (1, 1), 1, 1) == "grouped"  # SC


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "TBC": (lambda: TiedBlockConv2d(4, 8, 2, stride=2, blocks=2), (2, 4, 4, 4)),
    "TGC": (lambda: TiedBlockConv2d(8, 8, 1, groups=2, blocks=2), (2, 8, 2, 3)),
    "circular": (
        lambda: TiedBlockConv2d(4, 4, 3, padding=1, padding_mode="circular", blocks=2),
        (2, 4, 3, 3),
    ),
    "TFC": (lambda: TiedBlockLinear(6, 4, blocks=2), (3, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_modules_differentiate_vectorise_and_take_nothing(kind: str) -> None:
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    layer: nn.Module = make().double()
    names = [name for name, _ in layer.named_parameters()]
    values = tuple(p.detach().requires_grad_() for p in layer.parameters())

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        y: Tensor = torch.func.functional_call(layer, named, (x,))
        return y

    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert gradcheck(call, (x, *values), check_forward_ad=True)
    assert gradgradcheck(call, (x, *values))
    ensemble = [torch.stack([v.detach(), 2 * v.detach()]) for v in values]
    both = torch.func.vmap(call, in_dims=(None, *(0 for _ in ensemble)))(x, *ensemble)
    close(both[0], layer(x))
    close(both[1], call(x, *(2 * v for v in values)))
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_padding_keeps_the_memory_format(mode: Any, layout: str) -> None:
    layer = TiedBlockConv2d(8, 8, 3, padding=1, padding_mode=mode, blocks=2)
    x = torch.randn(2, 8, 5, 6).contiguous(memory_format=LAYOUTS[layout])
    assert layer(x).is_contiguous(memory_format=LAYOUTS[layout])
