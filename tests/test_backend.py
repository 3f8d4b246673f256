"""tbc_gpu against the reference, and as a citizen of PyTorch."""

import copy
import io
import math
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

import tbc_ref
from tbc_gpu import (
    TiedBlockConv2d,
    TiedBlockLinear,
    authors_channel_order,
    tied_block_conv2d,
    tied_block_linear,
)

from .compare import close, equals_the_reference
from .oracles import authors_fold, dense_bias, dense_weight
from .strategies import Conv, convs

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def tensors(*shapes: tuple[int, ...], grad: bool = False, **kwargs: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [t.to(**kwargs).requires_grad_(grad) if kwargs else t.requires_grad_(grad) for t in made]


@pytest.mark.parametrize("device", DEVICES)
@given(
    case=convs(),
    layout=st.sampled_from(["contiguous", "channels-last", "strided", "unbatched"]),
    bias=st.booleans(),
)
def test_conv_equals_the_reference(device: str, case: Conv, layout: str, bias: bool) -> None:
    array = case.x[:1] if layout == "unbatched" else case.x
    if len(array) == 0 and layout == "unbatched":
        array = np.ones((1, *case.x.shape[1:]))
    x = torch.from_numpy(array).to(device)
    if layout == "channels-last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        x = torch.stack([x, x], dim=-1).flatten(-2)[..., ::2]

    def convolve(x: Tensor, *rest: Any, **options: Any) -> Tensor:
        if layout == "unbatched":
            return tied_block_conv2d(x[0], *rest, **options)[None]
        return tied_block_conv2d(x, *rest, **options)

    equals_the_reference(convolve, x, array, case, bias=bias)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("leading", [(), (5,), (0,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_linear_equals_the_reference(device: str, leading: tuple[int, ...], blocks: int) -> None:
    x, w, b = tensors((*leading, 4 * blocks), (2, 4), (2,), grad=True)
    dy = tensors((*leading, 2 * blocks))[0]
    y = tied_block_linear(*(t.to(device) for t in (x, w, b)), blocks=blocks)
    ours = torch.autograd.grad(y, (x, w, b), dy.to(device))
    arrays = [t.detach().numpy() for t in (x, w, b)]
    close(y.detach().cpu(), torch.from_numpy(tbc_ref.tied_block_linear(*arrays, blocks=blocks)))
    right = tbc_ref.tied_block_linear_backward(dy.numpy(), *arrays[:2], blocks=blocks)
    for gradient, expected in zip(ours, right, strict=True):
        close(gradient, torch.from_numpy(np.asarray(expected)))


@given(case=convs())
def test_conv_equals_conv2d_on_the_dense_weight(case: Conv) -> None:
    x, w, b = (torch.from_numpy(a) for a in (case.x, case.w, case.b))
    dense = dense_weight(w, case.groups, case.blocks), dense_bias(b, case.groups, case.blocks)
    y = tied_block_conv2d(x, w, b, groups=case.groups, blocks=case.blocks, **case.options)
    close(y, F.conv2d(x, *dense, **case.options))


def test_conv_equals_the_authors_code_permuted() -> None:
    x, w, b = tensors((3, 24, 6, 5), (12, 4, 3, 2), (12,))  # 24 channels in, 36 out
    ours = tied_block_conv2d(x, w, b, groups=2, blocks=3)
    into, out = authors_channel_order(24, 2, 3), authors_channel_order(36, 2, 3)
    close(authors_fold(x[:, into], w, b, groups=2, blocks=3), ours[:, out])
    # Their order is another one: without the permutation they differ.
    assert not torch.allclose(authors_fold(x, w, b, groups=2, blocks=3), ours)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("device", DEVICES)
def test_first_and_second_derivatives(check: Any, device: str) -> None:
    conv = partial(
        tied_block_conv2d, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, blocks=2
    )
    arguments = tensors((2, 8, 4, 3), (4, 2, 3, 2), (4,), device=device)
    # cuDNN's backward may add in any order
    assert check(conv, [t.requires_grad_() for t in arguments], nondet_tol=1e-10)
    linear = partial(tied_block_linear, blocks=2)
    arguments = tensors((2, 3, 4), (3, 2), (3,), device=device)
    assert check(linear, [t.requires_grad_() for t in arguments], nondet_tol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_conv_keeps_the_memory_format(device: str, layout: torch.memory_format) -> None:
    x = torch.randn(2, 8, 6, 5, device=device).contiguous(memory_format=layout)
    y = tied_block_conv2d(x, torch.randn(4, 4, 3, 3, device=device), padding=1, blocks=2)
    assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_casts_what_differs(device: str) -> None:
    conv = TiedBlockConv2d(8, 8, 3, blocks=2, device=device)
    linear = TiedBlockLinear(8, 8, blocks=2, device=device)
    x = torch.randn(2, 8, 5, 5, device=device, dtype=torch.bfloat16)
    with torch.autocast(device, torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16
        assert linear(x.flatten(1)[:, :8]).dtype == torch.bfloat16
        exact = conv(x.float())
    assert_close(conv(x.float()), exact.float(), rtol=0.05, atol=0.05)  # bfloat16 has 8 bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layers_run_in_low_precision(dtype: torch.dtype) -> None:
    conv = TiedBlockConv2d(8, 4, 3, blocks=2, dtype=dtype)
    linear = TiedBlockLinear(4, 8, blocks=2).to(dtype)
    out = linear(conv(torch.randn(2, 8, 3, 3, dtype=dtype)).flatten(1))
    assert (out.dtype, out.shape) == (dtype, (2, 8))
    exact = copy.deepcopy(conv).double()
    assert_close(
        conv(torch.ones(1, 8, 3, 3, dtype=dtype)).double(),
        exact(torch.ones(1, 8, 3, 3, dtype=torch.float64)),
        rtol=0.02,
        atol=0.02,
    )


def test_meta_tensors_give_shapes() -> None:
    with torch.device("meta"):
        conv, linear = TiedBlockConv2d(8, 12, 3, blocks=4), TiedBlockLinear(12, 8, blocks=4)
        assert conv(torch.empty(5, 8, 6, 7)).shape == (5, 12, 4, 5)
        assert linear(torch.empty(5, 12)).shape == (5, 8)


def test_compiles_to_one_graph() -> None:
    layers = nn.Sequential(TiedBlockConv2d(8, 8, 3, groups=2, blocks=2, padding="same"))
    compiled = torch.compile(layers, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 8, 6, 6)
    assert_close(compiled(x), layers(x))


@pytest.mark.parametrize("padding", [(0, 0), (1, 2), "same", "valid"])
@pytest.mark.parametrize("dilation", [(1, 2), (2, 1)])  # even and odd totals of "same"
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes_equal_those_of_conv2d(mode: Any, dilation: Any, padding: Any) -> None:
    options: dict[str, Any] = {"padding": padding, "dilation": dilation, "padding_mode": mode}
    tied = TiedBlockConv2d(8, 4, (3, 2), groups=2, blocks=2, dtype=torch.float64, **options)
    plain = nn.Conv2d(8, 4, (3, 2), dtype=torch.float64, **options)
    bias = dense_bias(tied.bias, 2, 2)
    assert bias is not None
    plain.weight.data, plain.bias.data = dense_weight(tied.weight.data, 2, 2), bias.data  # type: ignore[union-attr]
    x = tensors((2, 8, 6, 5))[0]
    close(tied(x), plain(x))


@pytest.mark.parametrize("bias", [True, False])
def test_layers_compute_what_the_functions_do(bias: bool) -> None:
    conv = TiedBlockConv2d(
        16, 24, (3, 2), (2, 1), (1, 2), (1, 2), 2, bias, dtype=torch.float64, blocks=4
    )
    x = tensors((2, 16, 7, 6))[0]
    expected = tied_block_conv2d(
        x, conv.weight, conv.bias, (2, 1), (1, 2), (1, 2), groups=2, blocks=4
    )
    assert torch.equal(conv(x), expected)
    linear = TiedBlockLinear(16, 24, bias, dtype=torch.float64, blocks=4)
    x = tensors((2, 3, 16))[0]
    dense = dense_weight(linear.weight, 1, 4), dense_bias(linear.bias, 1, 4)
    close(linear(x), F.linear(x, *dense))


def test_one_tap_keeps_no_distance() -> None:
    """Before 2.15 PyTorch could crash here: channels-last, one tap, dilation and padding."""
    x = torch.randn(1, 24, 6, 1).contiguous(memory_format=torch.channels_last)
    spread = TiedBlockConv2d(24, 24, 1, stride=(3, 2), padding=1, dilation=(3, 2), blocks=8)
    plain = TiedBlockConv2d(24, 24, 1, stride=(3, 2), padding=1, blocks=8)
    plain.load_state_dict(spread.state_dict())
    assert_close(spread(x), plain(x))


def test_parameters_are_thin_and_stored_once() -> None:
    conv = TiedBlockConv2d(48, 96, (3, 5), groups=2, blocks=4)
    linear = TiedBlockLinear(48, 96, blocks=4)
    assert {name: tuple(p.shape) for name, p in conv.state_dict().items()} == {
        "weight": (24, 6, 3, 5),
        "bias": (24,),
    }
    assert {name: tuple(p.shape) for name, p in linear.state_dict().items()} == {
        "weight": (24, 12),
        "bias": (24,),
    }
    assert list(TiedBlockConv2d(8, 8, 3, bias=False, blocks=2).state_dict()) == ["weight"]
    assert list(TiedBlockLinear(8, 8, bias=False, blocks=2).state_dict()) == ["weight"]


def test_state_dict_round_trips() -> None:
    for layer in (TiedBlockConv2d(8, 8, 3, blocks=2), TiedBlockLinear(8, 8, blocks=2)):
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        with torch.device("meta"):
            fresh = copy.deepcopy(layer).to("meta")
        fresh.load_state_dict(torch.load(file, weights_only=True), assign=True)
        for name, value in layer.state_dict().items():
            assert torch.equal(fresh.state_dict()[name], value)
        twin = copy.deepcopy(layer)
        nn.init.zeros_(twin.weight)
        assert layer.weight.any()


def test_initialised_with_the_fan_in_it_really_has() -> None:
    torch.manual_seed(0)
    for layer, fan_in in (
        (TiedBlockConv2d(64, 4096, 3, groups=2, blocks=4), 64 // 8 * 9),
        (TiedBlockLinear(64, 40960, blocks=4), 64 // 4),
    ):
        bound = 1 / math.sqrt(fan_in)
        for parameter in (layer.weight, layer.bias):
            assert parameter is not None
            assert parameter.abs().max() <= bound
            # Uniform in ±bound has the deviation bound/√3; thousands of draws show it to 5 %.
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


SMALL = ValueError, r"the kernel spans 5x5 pixels .* more than the padded input's 4x4"
CHANNELS = ValueError, r"`input` \(shape \(1, 6, 9, 9\)\) must be \(N, 8, H, W\), or \(8, H, W\)"
DOUBLE = TypeError, r"`input` \(dtype torch.float64\) must have the dtype of `weight`"
ARRAY = TypeError, r"`input` \(a numpy.ndarray\) must be a torch.Tensor"
WHOLE = TypeError, r"`input` \(dtype torch.int64\) must be of a floating-point dtype"
EMPTY = ValueError, r"`input` \(shape \(1, 8, 0, 9\)\) must have maps of at least one pixel"


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (torch.zeros(1, 8, 2, 2), SMALL),
        (torch.zeros(1, 6, 9, 9), CHANNELS),
        (torch.zeros(1, 8, 9, 9, dtype=torch.float64), DOUBLE),
        (torch.zeros(1, 8, 9, 9, dtype=torch.int64), WHOLE),
        (torch.zeros(1, 8, 0, 9), EMPTY),
        (
            torch.zeros(1, 8, 9),
            (ValueError, r"`input` \(shape \(1, 8, 9\)\) must be \(N, 8, H, W\)"),
        ),
        (torch.zeros(8), (ValueError, r"`input` \(shape \(8,\)\) must be \(N, 8, H, W\)")),
        (np.zeros((1, 8, 9, 9)), ARRAY),
    ],
    ids=["small", "channels", "double", "integer", "no pixels", "unbatched", "vector", "array"],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_names_what_is_wrong_with_its_input(
    x: Any, error: tuple[type[Exception], str], layout: torch.memory_format, groups: int
) -> None:
    layer = TiedBlockConv2d(8, 8, 5, padding=1, groups=groups, blocks=2)
    if isinstance(x, Tensor) and x.ndim == 4:
        x = x.contiguous(memory_format=layout)
    with pytest.raises(error[0], match=error[1]):
        layer(x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_kernel_of_one_tap_needs_a_pixel_too(padding: int, layout: torch.memory_format) -> None:
    layer = TiedBlockConv2d(8, 8, 1, padding=padding, blocks=2)
    for shape in ((1, 8, 0, 9), (1, 8, 9, 0)):
        with pytest.raises(ValueError, match="must have maps of at least one pixel"):
            layer(torch.zeros(shape).contiguous(memory_format=layout))
    assert layer(torch.zeros(0, 8, 9, 9)).shape[0] == 0  # no images are no mistake


@pytest.mark.parametrize(
    "options",
    [{}, {"groups": 2}, {"padding": "same"}, {"padding": (1, 2), "dilation": 2}, {"bias": False}],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_layers_compute_the_same(options: dict[str, Any]) -> None:
    conv = TiedBlockConv2d(8, 16, (3, 2), blocks=2, **options)
    linear = TiedBlockLinear(8, 16, bias=options.get("bias", True), blocks=2)
    images, features = torch.randn(2, 8, 9, 7), torch.randn(2, 3, 8)
    for layer, inputs in ((conv, (images, images[0])), (linear, (features, features[0, 0]))):
        scripted: Any = torch.jit.script(layer)
        for x in inputs:
            assert_close(scripted(x), layer(x))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_layers_pad_with_zeros_only() -> None:
    layer: Any = torch.jit.script(TiedBlockConv2d(8, 8, 3, padding_mode="reflect", blocks=2))
    with pytest.raises(torch.jit.Error, match=r"\(='reflect'\) must be 'zeros' in TorchScript"):
        layer(torch.zeros(1, 8, 5, 5))


def test_blocks_cannot_be_forgotten() -> None:
    with pytest.raises(TypeError, match="blocks"):
        TiedBlockConv2d(8, 8, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="blocks"):
        TiedBlockLinear(8, 8)  # type: ignore[call-arg]


def test_printed_layers_show_what_matters() -> None:
    assert repr(TiedBlockConv2d(8, 8, 3, blocks=2)) == (
        "TiedBlockConv2d(8, 8, kernel_size=(3, 3), stride=(1, 1), blocks=2)"
    )
    assert repr(
        TiedBlockConv2d(8, 8, 3, 2, 1, 2, 2, bias=False, padding_mode="circular", blocks=2)
    ) == (
        "TiedBlockConv2d(8, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), "
        "dilation=(2, 2), groups=2, bias=False, padding_mode='circular', blocks=2)"
    )
    assert repr(TiedBlockLinear(8, 4, blocks=2)) == (
        "TiedBlockLinear(in_features=8, out_features=4, bias=True, blocks=2)"
    )


def test_no_call_is_checked_twice_and_most_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    for module in ("modules", "functional"):
        monkeypatch.setattr(
            f"tbc_gpu.{module}.check_tensors", lambda *_, **__: checked.append("tensors")
        )
    conv, x = TiedBlockConv2d(16, 16, 3, padding=1, blocks=2), torch.randn(1, 16, 4, 4)
    linear = TiedBlockLinear(16, 16, blocks=2)
    conv(x)
    linear(x[..., 0, 0])
    assert checked == []
    conv(x[0])
    assert checked == ["tensors"]
    with torch.autocast("cpu", torch.bfloat16):
        linear(x[0, :, 0, 0].bfloat16())
    assert checked == ["tensors"] * 2


def test_options_may_be_set_after_construction() -> None:
    layer: Any = TiedBlockConv2d(8, 8, 3, blocks=2)
    other = TiedBlockConv2d(8, 8, 3, 2, 1, 2, blocks=2)
    other.load_state_dict(layer.state_dict())
    layer.stride, layer.padding, layer.dilation = 2, 1, 2
    x = torch.randn(2, 8, 9, 9)
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        assert_close(layer(images), other(images))
