"""Where a kernel meets its input (padding, stride, dilation), and every check of an argument.

A convolution needs only three things from here: the size of the padded input, the slice of it
that one kernel tap meets, and the size of the output. The rest of the file checks arguments before
anything is computed; its errors name the argument, its value and the rule.
"""

import operator
from types import ModuleType
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

Array = Any  # any array that follows the Python array API standard
Pair = tuple[int, int]


class Geometry(NamedTuple):
    """The spatial sizes of a convolution, computed from `stride`, `padding` and `dilation`.

    Attributes:
        stride: vertical and horizontal step, in pixels.
        dilation: vertical and horizontal distance between taps, in pixels.
        before: rows of zeros above the input, and columns of zeros to its left.
        padded: height and width of the padded input.
        output: height and width of the output.
    """

    stride: Pair
    dilation: Pair
    before: Pair
    padded: Pair
    output: Pair

    def tap(self, i: int, j: int) -> tuple[slice, ...]:
        """Slice of the padded input at kernel tap (i, j): rows p·s + i·d, columns q·s + j·d."""
        rows, columns = (
            slice(tap * d, tap * d + (size - 1) * s + 1, s)
            for tap, d, size, s in zip((i, j), self.dilation, self.output, self.stride, strict=True)
        )
        return slice(None), slice(None), rows, columns

    def inside(self, size: Pair) -> tuple[slice, ...]:
        """Slice of the padded input that holds an unpadded input of `size`."""
        rows, columns = (slice(b, b + n) for b, n in zip(self.before, size, strict=True))
        return slice(None), slice(None), rows, columns


def geometry(
    size: Pair,
    kernel_size: Pair,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
) -> Geometry:
    """Compute a convolution's spatial sizes (the h_o × w_o of "TBC Formulation").

    A kernel of k taps, d apart, spans d·(k − 1) + 1 pixels, so that the output has
    ⌊(padded − span) / s⌋ + 1 of them.

    Args:
        size: height and width of the input, in pixels.
        kernel_size: height and width of the kernel, in taps.
        stride: step of the kernel, in pixels; an int or a (vertical, horizontal) pair.
        padding: zeros added on each side, in pixels; an int, a pair, "valid" (none) or "same"
            (as many as keep the size; an odd one goes to the bottom and to the right).
        dilation: distance between taps, in pixels; an int or a pair.

    Returns:
        The sizes.

    Raises:
        ValueError: if a value is out of range, or the kernel is larger than the padded input.
        TypeError: if a value is not an int, a pair of ints or (for `padding`) a known word.

    Example:
        >>> geometry((8, 8), (3, 3), stride=2, padding=1).output
        (4, 4)
    """
    size = as_pair("size", size, minimum=0)
    kernel_size = as_pair("kernel_size", kernel_size, minimum=1)
    strides = as_pair("stride", stride, minimum=1)
    dilations = as_pair("dilation", dilation, minimum=1)
    extra = (dilations[0] * (kernel_size[0] - 1), dilations[1] * (kernel_size[1] - 1))
    if not isinstance(padding, str):
        before = as_pair("padding", padding, minimum=0)
        total = (2 * before[0], 2 * before[1])
    elif padding == "same":
        if strides != (1, 1):
            raise ValueError(f'`padding` (="same") needs `stride` 1, not {stride!r}')
        before, total = (extra[0] // 2, extra[1] // 2), extra
    elif padding == "valid":
        before, total = (0, 0), (0, 0)
    else:
        raise ValueError(f'`padding` (={padding!r}) must be an int, a pair, "same" or "valid"')
    padded = (size[0] + total[0], size[1] + total[1])
    spans = (extra[0] + 1, extra[1] + 1)
    if spans[0] > padded[0] or spans[1] > padded[1]:
        raise ValueError(
            f"the kernel spans {spans[0]}x{spans[1]} pixels (`kernel_size` {kernel_size}, "
            f"`dilation` {dilations}), more than the padded input's {padded[0]}x{padded[1]}"
        )
    output = (
        (padded[0] - spans[0]) // strides[0] + 1,
        (padded[1] - spans[1]) // strides[1] + 1,
    )
    return Geometry(strides, dilations, before, padded, output)


def as_pair(name: str, value: int | Pair, *, minimum: int) -> Pair:
    """Check that the argument `name` is an int or a pair of ints, and return it as a pair."""
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise ValueError(f"`{name}` (={value!r}) must be an int or a pair of ints")
    return as_int(name, values[0], minimum=minimum), as_int(name, values[1], minimum=minimum)


def as_int(name: str, value: int, *, minimum: int) -> int:
    """Check that the argument `name` is an int of at least `minimum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"`{name}` (={value!r}) must be an int")
    number = operator.index(value)
    if number < minimum:
        raise ValueError(f"`{name}` (={value!r}) must be at least {minimum}")
    return number


def check_arrays(**arrays: Array) -> ModuleType:
    """Check that all arrays come from one library and share one dtype; return that library.

    Raises:
        TypeError: for anything that is not an array, for two libraries, two dtypes, or a dtype
            other than float32 and float64.
        ValueError: for two devices.
    """
    namespaces = {}
    for name, array in arrays.items():
        try:
            namespaces[name] = array_namespace(array)
        except TypeError:
            raise TypeError(f"`{name}` (a {_kind(array)}) must be an array") from None
    (first, xp), *others = namespaces.items()
    for name, other in others:
        if other is not xp:
            raise TypeError(
                f"`{name}` (a {_kind(arrays[name])}) must come from the same library "
                f"as `{first}` (a {_kind(arrays[first])})"
            )
    for name, array in arrays.items():
        if array.dtype not in (xp.float32, xp.float64):
            raise TypeError(f"`{name}` (dtype {array.dtype}) must be float32 or float64")
        if array.dtype != arrays[first].dtype:
            raise TypeError(
                f"`{name}` (dtype {array.dtype}) must have the dtype of `{first}` "
                f"({arrays[first].dtype})"
            )
        if device(array) != device(arrays[first]):
            raise ValueError(
                f"`{name}` (on {device(array)}) must be on the device of `{first}` "
                f"({device(arrays[first])})"
            )
    return xp


def check_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int | Pair,
    padding: int | Pair | str,
    dilation: int | Pair,
    groups: int = 1,
    blocks: int = 1,
) -> tuple[ModuleType, Geometry]:
    """Check every argument of a convolution with `groups` groups of `blocks` blocks.

    Returns:
        The arrays' library and the geometry.

    Raises:
        TypeError, ValueError: naming the argument, its value and the rule that it breaks.
    """
    xp = check_arrays(x=x, w=w) if b is None else check_arrays(x=x, w=w, b=b)
    groups, blocks = as_int("groups", groups, minimum=1), as_int("blocks", blocks, minimum=1)
    check_dimensions("x", x, "(N, C_in, H, W)")
    check_dimensions("w", w, "(C_out, C_in, kH, kW)")
    if 0 in x.shape[2:]:
        raise ValueError(f"`x` (shape {tuple(x.shape)}) must have maps of at least one pixel")
    channels = x.shape[1]
    check_divisible("the channels of `x`", channels, groups=groups, blocks=blocks)
    thin = channels // (groups * blocks)
    if w.shape[1] != thin or w.shape[0] % groups or 0 in w.shape:
        filters = "C_out/B" if blocks > 1 else "C_out"
        by = f" with {filters} divisible by `groups` (={groups})" if groups > 1 else ""
        tied = f" and `blocks`={blocks}" if blocks > 1 else ""
        raise ValueError(
            f"`w` (shape {tuple(w.shape)}) must be ({filters}, {thin}, kH, kW){by} "
            f"for {channels} input channels{tied}"
        )
    if b is not None:
        check_shape("b", b, (w.shape[0],))
    geo = geometry(x.shape[2:], w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    return xp, geo


def check_linear(x: Array, w: Array, b: Array | None = None, *, blocks: int = 1) -> ModuleType:
    """Check every argument of a (tied block) fully connected layer; return the arrays' library.

    Raises:
        TypeError, ValueError: naming the argument, its value and the rule that it breaks.
    """
    xp = check_arrays(x=x, w=w) if b is None else check_arrays(x=x, w=w, b=b)
    blocks = as_int("blocks", blocks, minimum=1)
    if x.ndim == 0:
        raise ValueError("`x` (shape ()) must have at least one dimension (…, in)")
    check_dimensions("w", w, "(out, in)")
    features = x.shape[-1]
    check_divisible("the features of `x`", features, blocks=blocks)
    if w.shape[1] != features // blocks or 0 in w.shape:
        out, tied = ("out/B", f" and `blocks`={blocks}") if blocks > 1 else ("out", "")
        raise ValueError(
            f"`w` (shape {tuple(w.shape)}) must be ({out}, {features // blocks}) "
            f"for {features} input features{tied}"
        )
    if b is not None:
        check_shape("b", b, (w.shape[0],))
    return xp


def check_cotangent(dy: Array, x: Array, shape: tuple[int, ...]) -> None:
    """Check that `dy` is an array like `x`, with the shape of the output.

    Raises:
        TypeError, ValueError: naming `dy`, its value and the rule that it breaks.
    """
    check_arrays(x=x, dy=dy)
    check_shape("dy", dy, shape)


def check_divisible(what: str, size: int, *, groups: int = 1, blocks: int = 1) -> None:
    """Raise ValueError unless `size` divides into `groups` groups of `blocks` blocks."""
    if size % (groups * blocks):
        counts = {"groups": groups, "blocks": blocks}
        shown = {name: n for name, n in counts.items() if n > 1}
        names, values = "·".join(f"`{name}`" for name in shown), "·".join(map(str, shown.values()))
        raise ValueError(f"{what} (={size}) must be divisible by {names} (={values})")


def check_dimensions(name: str, array: Array, axes: str) -> None:
    """Raise ValueError unless `array` has one dimension for each name in `axes`."""
    wanted = axes.count(",") + 1
    if array.ndim != wanted:
        raise ValueError(
            f"`{name}` (shape {tuple(array.shape)}) must have {wanted} dimensions {axes}"
        )


def check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the shape of `array` is `shape`."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"`{name}` (shape {tuple(array.shape)}) must have shape {tuple(shape)}")


def _kind(value: object) -> str:
    return f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
