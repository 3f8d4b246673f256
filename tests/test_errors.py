"""Bad input: an error of the right type that names argument, value and rule, in both packages."""

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch

import tbc_ref
from tbc_gpu import (
    TiedBlockConv2d,
    TiedBlockLinear,
    authors_channel_order,
    repeat_for_blocks,
    tied_block_conv2d,
    tied_block_linear,
)
from tbc_ref import cost

from .reference import EVERY, numbers

# What is wrong; the error; what its text names. x and w are `input` and `weight` in tbc_gpu.
BAD_CONVS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("channels and blocks", {"blocks": 3}, ValueError, r"channels .*\(=8\).*`blocks` \(=2·3\)"),
    ("channels and groups", {"groups": 3}, ValueError, r"channels .*\(=8\).*`blocks` \(=3·2\)"),
    ("weight's channels", {"w": (4, 3, 3, 3)}, ValueError, r"\(4, 3, 3, 3\)\) must be .* 2, kH"),
    ("weight's filters", {"w": (3, 2, 3, 3)}, ValueError, r"\(3, 2, 3, 3\)\) must be .*divisible"),
    ("empty kernel", {"w": (4, 2, 0, 3)}, ValueError, r"\(4, 2, 0, 3\)\) must be"),
    ("weight's dimensions", {"w": (4, 2, 3)}, ValueError, r"\(4, 2, 3\)\) must have 4 dim"),
    ("input's dimensions", {"x": (8, 6)}, ValueError, r"\(8, 6\)\) must have 4 dim"),
    ("bias's shape", {"b": (8,)}, ValueError, r"\(8,\)\) must have shape \(4,\)"),
    ("zero stride", {"stride": (1, 0)}, ValueError, r"`stride` \(=0\) must be at least 1"),
    ("negative stride", {"stride": -1}, ValueError, r"`stride` \(=-1\) must be at least 1"),
    ("three strides", {"stride": (1, 1, 1)}, ValueError, r"`stride` \(=\(1, 1, 1\)\) must be"),
    ("fractional stride", {"stride": 1.5}, TypeError, r"`stride` \(=1.5\) must be"),
    ("zero dilation", {"dilation": 0}, ValueError, r"`dilation` \(=0\) must be at least 1"),
    ("zero blocks", {"blocks": 0}, ValueError, r"`blocks` \(=0\) must be at least 1"),
    ("negative blocks", {"blocks": -2}, ValueError, r"`blocks` \(=-2\) must be at least 1"),
    ("fractional blocks", {"blocks": 2.0}, TypeError, r"`blocks` \(=2.0\) must be"),
    ("a bool", {"blocks": True}, TypeError, r"`blocks` \(=True\) must be an int"),
    ("a bool as padding", {"padding": True}, TypeError, r"`padding` \(=True\) must be an int"),
    ("zero groups", {"groups": 0}, ValueError, r"`groups` \(=0\) must be at least 1"),
    ("negative padding", {"padding": (0, -1)}, ValueError, r"`padding` \(=-1\) must be at least 0"),
    ("unknown padding", {"padding": "full"}, ValueError, r"`padding` \(='full'\) must be .*same"),
    ("same and stride", {"padding": "same", "stride": 2}, ValueError, r"\"same\"\) needs `stride`"),
    ("kernel too large", {"w": (4, 2, 7, 3)}, ValueError, "kernel spans 7x3 .* input's 6x5"),
    ("kernel too spread", {"dilation": 3}, ValueError, "kernel spans 7x7 .* input's 6x5"),
    (
        "mixed dtypes",
        {"w_dtype": "float32"},
        TypeError,
        r"\(dtype .*float(32|64)\) must have the dtype",
    ),
    ("integers", {"x_dtype": "int64", "w_dtype": "int64"}, TypeError, r"\(dtype .*int64\) must be"),
    ("empty map", {"x": (2, 8, 0, 5), "padding": 3}, ValueError, r"\(2, 8, 0, 5\)\) .* one pixel"),
    ("empty map, same", {"x": (2, 8, 0, 5), "padding": "same"}, ValueError, "at least one pixel"),
    ("no array", {"x": None}, TypeError, r"\(a .*list\) must be a"),
]


def conv_case(
    x: Any = (2, 8, 6, 5),
    w: tuple[int, ...] = (4, 2, 3, 3),
    b: tuple[int, ...] | None = None,
    x_dtype: str = "float64",
    w_dtype: str = "float64",
    **options: Any,
) -> tuple[list[Any], dict[str, Any]]:
    arrays: list[Any] = [[[[[1.0]]]] if x is None else np.ones(x, x_dtype), np.ones(w, w_dtype)]
    arrays.append(None if b is None else np.ones(b, w_dtype))
    return arrays, {"groups": 2, "blocks": 2} | options


def torch_of(array: Any) -> Any:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else array


@pytest.mark.parametrize(("wrong", "error", "text"), [c[1:] for c in BAD_CONVS],
                         ids=[c[0] for c in BAD_CONVS])  # fmt: skip
def test_bad_convolutions(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    arrays, options = conv_case(**wrong)
    with pytest.raises(error, match=text):
        tbc_ref.tied_block_group_conv(*arrays, **options)
    with pytest.raises(error, match=text):
        tied_block_conv2d(*map(torch_of, arrays), **options)


BAD_LINEARS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("features and blocks", {"blocks": 3}, ValueError, r"features .*\(=8\).*`blocks` \(=3\)"),
    ("weight's shape", {"w": (3, 5)}, ValueError, r"\(3, 5\)\) must be \(out/B, 4\)"),
    ("weight's dimensions", {"w": (3, 4, 1)}, ValueError, r"\(3, 4, 1\)\) must have 2 dim"),
    ("no dimension", {"x": ()}, ValueError, r"\(shape \(\)\) must have at least one dim"),
    ("bias's shape", {"b": (6,)}, ValueError, r"\(6,\)\) must have shape \(3,\)"),
    ("zero blocks", {"blocks": 0}, ValueError, r"`blocks` \(=0\) must be at least 1"),
    (
        "mixed dtypes",
        {"w_dtype": "float32"},
        TypeError,
        r"\(dtype .*float(32|64)\) must have the dtype",
    ),
    ("integers", {"x_dtype": "int32", "w_dtype": "int32"}, TypeError, r"\(dtype .*int32\) must be"),
]


@pytest.mark.parametrize(("wrong", "error", "text"), [c[1:] for c in BAD_LINEARS],
                         ids=[c[0] for c in BAD_LINEARS])  # fmt: skip
def test_bad_linear_layers(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    right: dict[str, Any] = {"x": (5, 8), "w": (3, 4)}
    arrays, options = conv_case(**(right | wrong))
    del options["groups"]
    with pytest.raises(error, match=text):
        tbc_ref.tied_block_linear(*arrays, **options)
    with pytest.raises(error, match=text):
        tied_block_linear(*map(torch_of, arrays), **options)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", EVERY)
def test_arrays_of_two_libraries(name: str, which: int) -> None:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, dy = numbers(name)
    arguments: list[Any] = [x, w, b]
    arguments[which] = array_api_strict.asarray(arguments[which])
    with pytest.raises(TypeError, match="must come from the same library as `x`"):
        forward(*arguments, **options)
    arguments = [dy, x, w]
    arguments[which] = torch.from_numpy(arguments[which])
    with pytest.raises(TypeError, match="must come from the same library as `x`"):
        backward(*arguments, **options)


def test_arrays_on_two_devices() -> None:
    x, w = torch.ones(1, 4, 3, 3), torch.ones(2, 2, 1, 1, device="meta")
    with pytest.raises(ValueError, match=r"`w` \(on meta\) must be on the device of `x` \(cpu\)"):
        tbc_ref.tied_block_conv(x, w, blocks=2)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_autocast_does_not_excuse_float64(device: str) -> None:
    x = torch.ones(1, 4, 3, 3, device=device)
    w = torch.ones(2, 2, 1, 1, dtype=torch.float64, device=device)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(TypeError, match="must have the dtype of `weight`"):
            tied_block_conv2d(x, w, blocks=2)
        with pytest.raises(TypeError, match="must have the dtype of `weight`"):
            tied_block_linear(x[0, :, 0, 0], w[:, :, 0, 0], blocks=2)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64])
def test_tensors_that_do_not_float(dtype: torch.dtype) -> None:
    x, w = torch.ones(1, 4, 3, 3, dtype=dtype), torch.ones(2, 2, 1, 1, dtype=dtype)
    with pytest.raises(TypeError, match=r"`input` \(dtype .*\) must be of a floating-point dtype"):
        tied_block_conv2d(x, w, blocks=2)
    with pytest.raises(TypeError, match=r"`x` \(dtype .*\) must be float32 or float64"):
        tbc_ref.tied_block_conv(x, w, blocks=2)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_numpy_arrays_in_the_pytorch_backend(which: int) -> None:
    for function, name in ((tied_block_conv2d, "TBC"), (tied_block_linear, "TFC")):
        arguments: list[Any] = [torch.from_numpy(a) for a in numbers(name)[:3]]
        arguments[which] = arguments[which].numpy()
        called = ("input", "weight", "bias")[which]
        with pytest.raises(TypeError, match=rf"`{called}` \(a numpy.ndarray\) must be a torch"):
            function(*arguments, blocks=2)


@pytest.mark.parametrize("name", EVERY)
def test_cotangents_of_the_wrong_shape(name: str) -> None:
    _, backward, _, _, options = EVERY[name]
    x, w, _, dy = numbers(name)
    with pytest.raises(ValueError, match=r"`dy` \(shape .*\) must have shape"):
        backward(dy[:-1], x, w, **options)
    with pytest.raises(TypeError, match=r"`dy` \(dtype float32\) must have the dtype"):
        backward(dy.astype("float32"), x, w, **options)


@pytest.mark.parametrize("name", ["SC", "GC", "TBC", "TGC"])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [({"stride": 0}, "`stride`"), ({"dilation": -1}, "`dilation`"), ({"padding": "no"}, "`padd")],
)
def test_every_convolution_checks_its_options(name: str, wrong: Any, text: str) -> None:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, dy = numbers(name)
    with pytest.raises(ValueError, match=text):
        forward(x, w, b, **(options | wrong))
    with pytest.raises(ValueError, match=text):
        backward(dy, x, w, **(options | wrong))


@pytest.mark.parametrize("name", EVERY)
def test_nothing_where_an_array_belongs(name: str) -> None:
    forward, backward, _, _, options = EVERY[name]
    x, w, b, _ = numbers(name)
    for arguments, called in (((None, w, b), "x"), ((x, None, b), "w")):
        with pytest.raises(
            TypeError, match=rf"`{called}` \(a builtins NoneType\) must be an array"
        ):
            forward(*arguments, **options)
    with pytest.raises(TypeError, match=r"`dy` \(a builtins NoneType\) must be an array"):
        backward(None, x, w, **options)
    with pytest.raises(TypeError, match=r"`b` \(a builtins NoneType\) must be an array"):
        tbc_ref.gradcheck(forward, backward, x, w, None, **options)


def test_errors_name_only_arguments_that_the_operator_has() -> None:
    x = np.ones((1, 6, 3, 3))
    with pytest.raises(ValueError, match=r"must be \(C_out, 6, kH, kW\) for 6 input channels$"):
        tbc_ref.standard_conv(x, np.ones((2, 5, 1, 1)))
    with pytest.raises(ValueError, match=r"\(C_out/B, 3, kH, kW\) for 6 .* and `blocks`=2$"):
        tbc_ref.tied_block_conv(x, np.ones((2, 5, 1, 1)), blocks=2)
    with pytest.raises(
        ValueError, match=r"\(C_out, 3, kH, kW\) with .*`groups` \(=2\) for 6 input"
    ):
        tbc_ref.group_conv(x, np.ones((2, 5, 1, 1)), groups=2)
    with pytest.raises(ValueError, match=r"must be divisible by `blocks` \(=4\)$"):
        tbc_ref.tied_block_conv(x, np.ones((2, 5, 1, 1)), blocks=4)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_layers_say_what_input_they_take(mode: Any) -> None:
    conv = TiedBlockConv2d(8, 8, 3, padding=1, padding_mode=mode, blocks=2)
    for wrong in ((2, 6, 5, 5), (8, 5), (1, 2, 8, 5, 5)):
        with pytest.raises(ValueError, match=r"`input` \(shape .*\) must be \(N, 8, H, W\)"):
            conv(torch.ones(wrong))
    with pytest.raises(TypeError, match=r"`input` \(a numpy.ndarray\) must be a torch.Tensor"):
        conv(np.ones((1, 8, 5, 5)))
    with pytest.raises(TypeError, match=r"`input` \(dtype torch.float64\) must have the dtype"):
        conv(torch.ones(1, 8, 5, 5, dtype=torch.float64))
    linear = TiedBlockLinear(8, 8, blocks=2)
    with pytest.raises(ValueError, match=r"`input` \(shape \(3, 6\)\) must be \(…, 8\)"):
        linear(torch.ones(3, 6))


def test_mixed_devices() -> None:
    with pytest.raises(ValueError, match=r"`input` \(on cpu\) must be on the device of `weight`"):
        tied_block_linear(torch.ones(4), torch.ones(2, 2, device="meta"), blocks=2)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: TiedBlockConv2d(54, 8, 3, blocks=4), ValueError, r"`in_channels` \(=54\).*\(=4\)"),
        (lambda: TiedBlockConv2d(8, 6, 3, groups=2, blocks=2), ValueError, r"`out_channels` \(=6"),
        (lambda: TiedBlockConv2d(8, 8, 0, blocks=2), ValueError, r"`kernel_size` \(=0\)"),
        (lambda: TiedBlockConv2d(8, 8, 3, stride=0, blocks=2), ValueError, r"`stride` \(=0\)"),
        (lambda: TiedBlockConv2d(8, 8, 3, padding=-1, blocks=2), ValueError, r"`padding` \(=-1\)"),
        (lambda: TiedBlockConv2d(8, 8, 3, 2, "same", blocks=2), ValueError, r"needs `stride` 1"),
        (lambda: TiedBlockConv2d(8, 8, 3, dilation=0, blocks=2), ValueError, r"`dilation` \(=0\)"),
        (lambda: TiedBlockConv2d(8, 8, 3, blocks=0), ValueError, r"`blocks` \(=0\)"),
        (lambda: TiedBlockConv2d(0, 8, 3, blocks=1), ValueError, r"`in_channels` \(=0\)"),
        (
            lambda: TiedBlockConv2d(8, 8, 3, padding_mode="mirror", blocks=2),  # type: ignore[arg-type]
            ValueError,
            r"`padding_mode` \(='mirror'\) must be one of",
        ),
        (lambda: TiedBlockLinear(10, 8, blocks=4), ValueError, r"`in_features` \(=10\)"),
        (lambda: TiedBlockLinear(8, 10, blocks=4), ValueError, r"`out_features` \(=10\)"),
        (lambda: TiedBlockLinear(8, 8.0, blocks=4), TypeError, r"`out_features` \(=8.0\)"),  # type: ignore[arg-type]
        (lambda: authors_channel_order(8, 3, 2), ValueError, r"`channels` \(=8\).*3·2"),
        (lambda: cost.tied_block_conv(10, 8, 3, blocks=4), ValueError, r"`in_channels` \(=10\)"),
        (lambda: cost.group_conv(8, 10, 3, groups=4), ValueError, r"`out_channels` \(=10\)"),
        (lambda: cost.linear(0, 10), ValueError, r"`in_features` \(=0\)"),
        (lambda: cost.tied_block_linear(8, 10, blocks=4), ValueError, r"`out_features` \(=10\)"),
        (lambda: tbc_ref.geometry((5, 5), (0, 3)), ValueError, r"`kernel_size` \(=0\)"),
        (lambda: cost.standard_conv(8, 8, 1.5), TypeError, r"`kernel_size` \(=1.5\)"),  # type: ignore[arg-type]
        (lambda: tbc_ref.split(np.ones(5), 2, axis=0), ValueError, r"axis 0 \(=5\).* 2"),
        (lambda: tbc_ref.split(np.ones(4), 2, axis=-1), ValueError, r"`axis` \(=-1\)"),
        (lambda: tbc_ref.split(np.ones(4), 2, axis=1), ValueError, r"`axis` \(=1\) .* than 1"),
        (lambda: repeat_for_blocks(torch.ones(5), 2, 2), ValueError, r"`filters` \(shape \(5,\)\)"),
        (lambda: repeat_for_blocks(torch.ones(4), 2, 0), ValueError, r"`blocks` \(=0\)"),
        (
            lambda: tbc_ref.central_differences(np.square, np.arange(3), np.ones(3)),
            TypeError,
            r"`x` \(dtype int64\) must be float",
        ),
        (
            lambda: tbc_ref.central_differences(np.square, np.ones(3), np.ones(1)),
            ValueError,
            r"`dy` \(shape \(1,\)\) must have shape \(3,\)",
        ),
        (
            lambda: tbc_ref.central_differences(np.sin, np.ones(2), np.ones(2), step=0),
            ValueError,
            r"`step` \(=0\) must be positive",
        ),
    ],
)  # fmt: skip
def test_bad_layers_and_counts(
    make: Callable[[], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make()
