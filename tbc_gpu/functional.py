"""Tied block convolution and linear layers as PyTorch functions (Eq. 3 and 4 of the paper).

The algorithm: repeat the thin filter once for each block that shares it, and let PyTorch's
grouped convolution apply it. Autograd turns the repetition into the sum over blocks that the
derivative of a shared filter is, and the memory format of the input is kept.
"""

import operator

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor

Pair = tuple[int, int]


def tied_block_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    blocks: int,
) -> Tensor:
    """Tied block (group) convolution: TBC, Eq. (3), and with `groups` TGC, Eq. (4).

    Arguments are those of `torch.nn.functional.conv2d`, and `blocks`. With ``blocks=1`` it is
    that function.

    Args:
        input: (N, C_in, H, W), or (C_in, H, W) without a batch.
        weight: the filters that the blocks share, (C_out/B, C_in/(G·B), kH, kW), group-major.
        bias: one value per filter, (C_out/B,), shared like the filters, or None.
        stride: step of the kernel in pixels, an int or a (vertical, horizontal) pair.
        padding: zeros on each side in pixels, an int, a pair, "same" or "valid".
        dilation: distance between the kernel's taps in pixels, an int or a pair.
        groups: G, the number of groups, which share nothing.
        blocks: B, the number of blocks in each group, which share one set of filters.

    Returns:
        The output, (N, C_out, H_o, W_o) or (C_out, H_o, W_o); block b of group g fills channels
        g·C_out/G + b·C_out/(G·B) onward.

    Raises:
        TypeError: for anything but floating-point tensors of one dtype (autocast may mix them).
        ValueError: for a wrong shape, a value out of range, a kernel larger than the input.

    Example:
        >>> import torch
        >>> input = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
        >>> tied_block_conv2d(input, torch.ones(1, 2, 1, 1), blocks=2).flatten()
        tensor([3., 7.])
    """
    check_tensors(input=input, weight=weight, bias=bias)
    stride, dilation = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1)
    padding = check_padding(padding, stride)
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    _check_conv_shapes(input, weight, bias, padding, dilation, groups, blocks)
    # One tap has no distance to keep; before 2.15 PyTorch could crash over it (channels-last).
    k_h, k_w = weight.shape[2:]
    dilation = (dilation[0] if k_h > 1 else 1, dilation[1] if k_w > 1 else 1)
    return F.conv2d(
        input,
        repeat_for_blocks(weight, groups, blocks),
        None if bias is None else repeat_for_blocks(bias, groups, blocks),
        stride,
        padding,
        dilation,
        groups * blocks,
    )


def repeat_for_blocks(filters: Tensor, groups: int, blocks: int) -> Tensor:
    """Repeat W'_1, …, W'_G as Eq. (4) uses them: W'_1 for all blocks of group 1, then W'_2, ….

    Args:
        filters: (C_out/B, …), group-major.
        groups: G.
        blocks: B.

    Returns:
        (C_out, …), the weight of a group convolution with G·B groups and the same output.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the filters do not divide by groups.

    Example:
        >>> repeat_for_blocks(torch.tensor([1.0, 2.0, 3.0, 4.0]), groups=2, blocks=2)
        tensor([1., 2., 1., 2., 3., 4., 3., 4.])
    """
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    if filters.shape[0] % groups:
        raise ValueError(
            f"`filters` (shape {tuple(filters.shape)}) must divide into `groups` (={groups})"
        )
    by_group: Tensor = filters.unflatten(0, (groups, -1))
    return by_group.repeat_interleave(blocks, dim=0).flatten(0, 1)


def authors_channel_order(channels: int, groups: int, blocks: int) -> Tensor:
    """Give the permutation that leads from our channel order of TGC to the authors' code's.

    Eq. (4) has the group outside and the block inside: channel (g, b, c). The authors' code
    folds the blocks first and convolves in groups then: channel (b, g, c). The operator is
    the same: ``authors(x[:, i], w) == ours(x, w)[:, o]`` with i and o the orders of the input
    and output channels. TBC (one group) and GC (one block) need none.

    Args:
        channels: C_in or C_out.
        groups: G.
        blocks: B.

    Returns:
        Indices, (channels,); entry k is our index of the authors' channel k.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or channels do not divide by groups·blocks.

    Example:
        >>> authors_channel_order(8, groups=2, blocks=2)
        tensor([0, 1, 4, 5, 2, 3, 6, 7])
    """
    channels = as_int("channels", channels, 1)
    groups, blocks = as_int("groups", groups, 1), as_int("blocks", blocks, 1)
    check_divisible("`channels`", channels, groups, blocks)
    return torch.arange(channels).reshape(groups, blocks, -1).transpose(0, 1).flatten()


def tied_block_linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, blocks: int
) -> Tensor:
    """Tied block fully connected layer (TFC): one thin layer applied to every block of features.

    Args:
        input: (…, in_features) with any leading dimensions.
        weight: the weight that the blocks share, (out_features/B, in_features/B).
        bias: (out_features/B,), shared like the weight, or None.
        blocks: B, the number of blocks.

    Returns:
        The output, (…, out_features); block b fills features b·out_features/B onward.

    Raises:
        TypeError: for anything but floating-point tensors of one dtype (autocast may mix them).
        ValueError: for a wrong shape or a value out of range.

    Example:
        >>> import torch
        >>> tied_block_linear(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(1, 2), blocks=2)
        tensor([3., 7.])
    """
    check_tensors(input=input, weight=weight, bias=bias)
    blocks = as_int("blocks", blocks, 1)
    _check_linear_shapes(input, weight, bias, blocks)
    return F.linear(input.unflatten(-1, (blocks, -1)), weight, bias).flatten(-2)


def as_int(name: str, value: int, minimum: int) -> int:
    """Check that the argument `name` is an int of at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` (={value!r}) must be an int")
    if number < minimum:
        raise ValueError(f"`{name}` (={value!r}) must be at least {minimum}")
    return number


def as_pair(name: str, value: int | Pair, minimum: int) -> Pair:
    """Check that the argument `name` is an int or a pair of ints, and return it as a pair."""
    if not isinstance(value, (tuple, list)):  # a union stops older versions of torch.compile
        value = (value, value)
    if len(value) != 2:
        raise ValueError(f"`{name}` (={value!r}) must be an int or a pair of ints")
    return as_int(name, value[0], minimum), as_int(name, value[1], minimum)


def check_divisible(what: str, size: int, groups: int, blocks: int) -> None:
    """Check that `size` divides into `groups` groups of `blocks` blocks."""
    if size % (groups * blocks):
        rule = f"`groups`·`blocks` (={groups}·{blocks})" if groups > 1 else f"`blocks` (={blocks})"
        raise ValueError(f"{what} (={size}) must be divisible by {rule}")


def check_padding(padding: int | Pair | str, stride: Pair) -> Pair | str:
    """Check `padding`, and return it as a pair or a word that PyTorch knows."""
    if not isinstance(padding, str):
        return as_pair("padding", padding, 0)
    if padding not in ("same", "valid"):
        raise ValueError(f'`padding` (={padding!r}) must be an int, a pair, "same" or "valid"')
    if padding == "same" and stride != (1, 1):
        raise ValueError(f'`padding` (="same") needs `stride` 1, not {stride!r}')
    return padding


def check_tensors(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check for floating-point tensors of one device and dtype (autocast may mix dtypes)."""
    tensors = {"input": input, "weight": weight}
    if bias is not None:
        tensors["bias"] = bias
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor)
            raise TypeError(
                f"`{name}` (a {kind.__module__}.{kind.__qualname__}) must be a torch.Tensor"
            )
        if not tensor.is_floating_point():
            raise TypeError(f"`{name}` (dtype {tensor.dtype}) must be of a floating-point dtype")
    for name, tensor in tensors.items():
        if tensor.device != weight.device:
            raise ValueError(
                f"`{name}` (on {tensor.device}) must be on the device of `weight` ({weight.device})"
            )
        if tensor.dtype != weight.dtype and not _autocast_unites(tensor, weight):
            raise TypeError(
                f"`{name}` (dtype {tensor.dtype}) must have the dtype of `weight` ({weight.dtype})"
            )


def _autocast_unites(*tensors: Tensor) -> bool:
    kind = tensors[0].device.type
    enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return enabled and all(t.dtype != torch.float64 for t in tensors)  # which it leaves alone


def _check_conv_shapes(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Pair | str,
    dilation: Pair,
    groups: int,
    blocks: int,
) -> None:
    if input.ndim not in (3, 4):
        raise ValueError(
            f"`input` (shape {tuple(input.shape)}) must have 4 dimensions (N, C_in, H, W), "
            "or 3 without a batch"
        )
    if weight.ndim != 4:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must have 4 dimensions "
            "(C_out/B, C_in/(G·B), kH, kW)"
        )
    if 0 in input.shape[-2:]:
        raise ValueError(
            f"`input` (shape {tuple(input.shape)}) must have maps of at least one pixel"
        )
    channels = input.shape[-3]
    check_divisible("the channels of `input`", channels, groups, blocks)
    thin = channels // (groups * blocks)
    if weight.shape[1] != thin or weight.shape[0] % groups or 0 in weight.shape:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must be (C_out/B, {thin}, kH, kW) with "
            f"C_out/B divisible by `groups`, for {channels} input channels, "
            f"`groups`={groups} and `blocks`={blocks}"
        )
    _check_bias(weight, bias)
    if padding == "same":
        return
    sides = (0, 0) if isinstance(padding, str) else padding
    padded = [n + 2 * p for n, p in zip(input.shape[-2:], sides, strict=True)]
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if spans[0] > padded[0] or spans[1] > padded[1]:
        raise ValueError(
            f"the kernel spans {spans[0]}x{spans[1]} pixels (`weight` {tuple(weight.shape)}, "
            f"`dilation` {dilation}), more than the padded input's {padded[0]}x{padded[1]}"
        )


def _check_linear_shapes(input: Tensor, weight: Tensor, bias: Tensor | None, blocks: int) -> None:
    if input.ndim == 0:
        raise ValueError("`input` (shape ()) must have at least one dimension (…, in_features)")
    if weight.ndim != 2:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must have 2 dimensions (out/B, in/B)"
        )
    features = input.shape[-1]
    check_divisible("the features of `input`", features, 1, blocks)
    if weight.shape[1] != features // blocks or 0 in weight.shape:
        raise ValueError(
            f"`weight` (shape {tuple(weight.shape)}) must be (out/B, {features // blocks}) "
            f"for {features} input features and `blocks`={blocks}"
        )
    _check_bias(weight, bias)


def _check_bias(weight: Tensor, bias: Tensor | None) -> None:
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"`bias` (shape {tuple(bias.shape)}) must have shape {(weight.shape[0],)}")
