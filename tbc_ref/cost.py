"""Parameters and multiply-accumulates (MACs) of every operator, as the paper's formulas.

Each function has the name of its operator: `cost.tied_block_conv(64, 64, 3, blocks=4)`.
One MAC is one multiplication and one addition; the paper's "GFlops" are 10⁹ MACs. Biases are
counted separately, because the paper leaves them out, and adding one is not counted as a MAC.
"""

from typing import NamedTuple

from .geometry import Pair, as_int, as_pair, check_divisible


class Cost(NamedTuple):
    """What an operator stores, and what it computes.

    Attributes:
        weights: stored weights.
        biases: stored biases.
        macs: multiply-accumulates for one image (of FC layers: for one sample).
    """

    weights: int
    biases: int
    macs: int

    @property
    def parameters(self) -> int:
        """Number of stored values, weights and biases."""
        return self.weights + self.biases


def standard_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    output_size: int | Pair = 1,
    bias: bool = False,
) -> Cost:
    """Cost of standard convolution (SC), Eq. (1): c_o · c_i · k · k weights.

    Args:
        in_channels: c_i.
        out_channels: c_o.
        kernel_size: k, an int or a (kH, kW) pair.
        output_size: height and width of the output, in pixels.
        bias: whether there is a bias, of c_o values.

    Returns:
        `Cost(weights, biases, macs)`; every weight meets every output position once.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one.

    Example:
        >>> standard_conv(64, 64, 3, output_size=56)
        Cost(weights=36864, biases=0, macs=115605504)
    """
    c_i, c_o, k_h, k_w, positions, _ = _checked(in_channels, out_channels, kernel_size, output_size)
    weights = c_o * c_i * k_h * k_w
    return Cost(weights, c_o if bias else 0, macs=weights * positions)


def group_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int,
    output_size: int | Pair = 1,
    bias: bool = False,
) -> Cost:
    """Cost of group convolution (GC), Eq. (2): G · c_o/G · c_i/G · k · k weights.

    Args:
        in_channels: c_i.
        out_channels: c_o.
        kernel_size: k, an int or a (kH, kW) pair.
        groups: G.
        output_size: height and width of the output, in pixels.
        bias: whether there is a bias, of c_o values.

    Returns:
        `Cost(weights, biases, macs)`; every weight meets every output position once.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the channels are not divisible by `groups`.

    Example:
        >>> group_conv(64, 64, 3, groups=4, output_size=56)
        Cost(weights=9216, biases=0, macs=28901376)
    """
    c_i, c_o, k_h, k_w, positions, (G, _) = _checked(
        in_channels, out_channels, kernel_size, output_size, groups=groups
    )
    weights = G * (c_o // G) * (c_i // G) * k_h * k_w
    return Cost(weights, c_o if bias else 0, macs=weights * positions)


def tied_block_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    blocks: int,
    output_size: int | Pair = 1,
    bias: bool = False,
) -> Cost:
    """Cost of tied block convolution (TBC), Eq. (3): c_o/B · c_i/B · k · k weights.

    Weights fall by B², MACs by B only: every weight is used B times, once in each block.

    Args:
        in_channels: c_i.
        out_channels: c_o.
        kernel_size: k, an int or a (kH, kW) pair.
        blocks: B.
        output_size: height and width of the output, in pixels.
        bias: whether there is a bias, of c_o/B values.

    Returns:
        `Cost(weights, biases, macs)`.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the channels are not divisible by `blocks`.

    Example:
        >>> tied_block_conv(64, 64, 3, blocks=4, output_size=56)
        Cost(weights=2304, biases=0, macs=28901376)
    """
    c_i, c_o, k_h, k_w, positions, (_, B) = _checked(
        in_channels, out_channels, kernel_size, output_size, blocks=blocks
    )
    weights = (c_o // B) * (c_i // B) * k_h * k_w
    return Cost(weights, c_o // B if bias else 0, macs=B * weights * positions)


def tied_block_group_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    *,
    groups: int,
    blocks: int,
    output_size: int | Pair = 1,
    bias: bool = False,
) -> Cost:
    """Cost of tied block group convolution (TGC), Eq. (4).

    It has G · c_o/(G·B) · c_i/(G·B) · k · k weights. They fall by G·B², MACs by G·B: every
    weight is used B times, once in each block.

    Args:
        in_channels: c_i.
        out_channels: c_o.
        kernel_size: k, an int or a (kH, kW) pair.
        groups: G.
        blocks: B, in each group.
        output_size: height and width of the output, in pixels.
        bias: whether there is a bias, of c_o/B values.

    Returns:
        `Cost(weights, biases, macs)`.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the channels are not divisible by G·B.

    Example:
        >>> tied_block_group_conv(64, 64, 3, groups=2, blocks=4, output_size=56)
        Cost(weights=1152, biases=0, macs=14450688)
    """
    c_i, c_o, k_h, k_w, positions, (G, B) = _checked(
        in_channels, out_channels, kernel_size, output_size, groups=groups, blocks=blocks
    )
    weights = G * (c_o // (G * B)) * (c_i // (G * B)) * k_h * k_w
    return Cost(weights, c_o // B if bias else 0, macs=B * weights * positions)


def linear(in_features: int, out_features: int, *, bias: bool = False) -> Cost:
    """Cost of a fully connected layer (FC): SC of 1x1 filters on a 1x1 map.

    Args:
        in_features: c_i.
        out_features: c_o.
        bias: whether there is a bias, of c_o values.

    Returns:
        `Cost(weights, biases, macs)`, MACs for one sample.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one.

    Example:
        >>> linear(2048, 1000, bias=True)
        Cost(weights=2048000, biases=1000, macs=2048000)
    """
    c_i, c_o = _checked_pair(1, 1, in_features=in_features, out_features=out_features)
    return Cost(c_o * c_i, c_o if bias else 0, macs=c_o * c_i)


def tied_block_linear(
    in_features: int, out_features: int, *, blocks: int, bias: bool = False
) -> Cost:
    """Cost of a tied block fully connected layer (TFC): c_o/B · c_i/B weights, each used B times.

    Args:
        in_features: c_i.
        out_features: c_o.
        blocks: B.
        bias: whether there is a bias, of c_o/B values.

    Returns:
        `Cost(weights, biases, macs)`, MACs for one sample.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the features are not divisible by `blocks`.

    Example:
        >>> tied_block_linear(256, 16, blocks=8)
        Cost(weights=64, biases=0, macs=512)
    """
    B = as_int("blocks", blocks, minimum=1)
    c_i, c_o = _checked_pair(1, B, in_features=in_features, out_features=out_features)
    weights = (c_o // B) * (c_i // B)
    return Cost(weights, c_o // B if bias else 0, macs=B * weights)


def _checked(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    output_size: int | Pair,
    groups: int = 1,
    blocks: int = 1,
) -> tuple[int, int, int, int, int, Pair]:
    groups, blocks = as_int("groups", groups, minimum=1), as_int("blocks", blocks, minimum=1)
    c_i, c_o = _checked_pair(groups, blocks, in_channels=in_channels, out_channels=out_channels)
    k_h, k_w = as_pair("kernel_size", kernel_size, minimum=1)
    h_o, w_o = as_pair("output_size", output_size, minimum=0)
    return c_i, c_o, k_h, k_w, h_o * w_o, (groups, blocks)


def _checked_pair(groups: int, blocks: int, **sizes: int) -> Pair:
    into, out = (as_int(name, size, minimum=1) for name, size in sizes.items())
    for name, size in zip(sizes, (into, out), strict=True):
        check_divisible(f"`{name}`", size, groups=groups, blocks=blocks)
    return into, out
