"""Layers: the operators, each with the arrays that it learns.

Every operator of this package is a pair, `f(x, w, b, **options)` and `f_backward(dy, x, w,
**options)`. A layer is such a pair with arrays to learn. In the forward pass it keeps its input,
because the backward pass needs it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import nn
from .conv import (
    Gradients,
    group_conv,
    group_conv_backward,
    standard_conv,
    standard_conv_backward,
)
from .geometry import Array, Pair, as_int, as_pair, check_divisible
from .linear import linear, linear_backward
from .tied import (
    tied_block_conv,
    tied_block_conv_backward,
    tied_block_group_conv,
    tied_block_group_conv_backward,
    tied_block_linear,
    tied_block_linear_backward,
)

Operator = tuple[Callable[..., Array], Callable[..., Any]]  # with its derivative

CONVOLUTIONS: dict[tuple[str, ...], Operator] = {  # by the counts that exceed one
    (): (standard_conv, standard_conv_backward),
    ("groups",): (group_conv, group_conv_backward),
    ("blocks",): (tied_block_conv, tied_block_conv_backward),
    ("groups", "blocks"): (tied_block_group_conv, tied_block_group_conv_backward),
}


class Layer:
    """An operator and its derivative, with the arrays that it learns.

    Args:
        f: the operator, `f(x, **options)` or `f(x, w, b, **options)`.
        f_backward: its derivative, `f_backward(dy, x, **options)`, which returns dx, or
            `f_backward(dy, x, w, **options)`, which returns `Gradients`.
        parameters: arrays that are learned, `{}` or `{"w": …, "b": …}`; passed by name.
        options: passed on to both functions (`stride`, `blocks`, …).

    Example:
        >>> import numpy as np
        >>> from tbc_ref.nn import sigmoid, sigmoid_backward
        >>> layer = Layer(sigmoid, sigmoid_backward)
        >>> layer.forward(np.asarray([0.0]), training=True), layer.backward(np.asarray([4.0]))
        (array([0.5]), array([1.]))
    """

    def __init__(
        self,
        f: Callable[..., Array],
        f_backward: Callable[..., Any],
        parameters: dict[str, Array] | None = None,
        **options: Any,
    ) -> None:
        self.f, self.f_backward, self.options = f, f_backward, options
        self.parameters = parameters or {}
        self.gradients: dict[str, Array] = {}
        self.x: Array | None = None

    def forward(self, x: Array, *, training: bool = False) -> Array:
        """Apply the operator to `x`; while training, keep `x` for `backward`."""
        self.x = x if training else None
        return self.f(x, **self.parameters, **self.options)

    def backward(self, dy: Array) -> Array:
        """Given ∂L/∂y, return ∂L/∂x, and keep the derivatives for the parameters in `gradients`."""
        if self.x is None:
            raise RuntimeError("`backward` must follow a `forward` with `training=True`")
        if not self.parameters:
            return self.f_backward(dy, self.x, **self.options)
        back: Gradients = self.f_backward(dy, self.x, self.parameters["w"], **self.options)
        self.gradients = {"w": back.dw, "b": back.db}
        return back.dx

    def convert(self, function: Callable[[Array], Array]) -> None:
        """Replace every array that the layer holds by `function` of it."""
        self.parameters = {name: function(array) for name, array in self.parameters.items()}
        self.gradients = {name: function(array) for name, array in self.gradients.items()}
        self.x = None if self.x is None else function(self.x)


class Convolution(Layer):
    """A convolution: SC, or with `groups` GC, with `blocks` TBC, and with both TGC.

    Weights are drawn as He et al. propose for ReLUs: normal, with variance 2 / fan-in. An output of
    a tied layer depends on one block only: its fan-in is C_in/(G·B) · kH · kW. Biases start at 0.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: an int or a (kH, kW) pair.
        rng: generator that draws the weights, which are float32.
        groups: G, the number of groups.
        blocks: B, the number of blocks that share their filters.
        stride: step of the kernel in pixels.
        padding: zeros on each side in pixels, "same" or "valid".
        dilation: distance between the kernel's taps in pixels.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the channels are not divisible by G·B.

    Example:
        >>> import numpy as np
        >>> layer = Convolution(16, 32, 3, rng=np.random.default_rng(0), blocks=4, padding=1)
        >>> layer.parameters["w"].shape
        (8, 4, 3, 3)
        >>> layer.forward(np.ones((1, 16, 5, 5), "float32")).shape
        (1, 32, 5, 5)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        rng: np.random.Generator,
        groups: int = 1,
        blocks: int = 1,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
    ) -> None:
        counts = {
            "groups": as_int("groups", groups, minimum=1),
            "blocks": as_int("blocks", blocks, minimum=1),
        }
        c_i = as_int("in_channels", in_channels, minimum=1)
        c_o = as_int("out_channels", out_channels, minimum=1)
        check_divisible("`in_channels`", c_i, **counts)
        check_divisible("`out_channels`", c_o, **counts)
        kernel = as_pair("kernel_size", kernel_size, minimum=1)
        shape = (c_o // blocks, c_i // (groups * blocks), *kernel)
        several = {name: count for name, count in counts.items() if count > 1}
        f, f_backward = CONVOLUTIONS[tuple(several)]
        options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        super().__init__(f, f_backward, _he(rng, shape), **several, **options)


class Linear(Layer):
    """A fully connected layer: FC, or with `blocks` TFC; drawn as in `Convolution`.

    Args:
        in_features: number of input features.
        out_features: number of output features.
        rng: generator that draws the weights, which are float32.
        blocks: B, the number of blocks that share their weights.

    Raises:
        TypeError: if a count is not an int.
        ValueError: if a count is less than one, or the features are not divisible by `blocks`.

    Example:
        >>> import numpy as np
        >>> layer = Linear(64, 10, rng=np.random.default_rng(0), blocks=2)
        >>> layer.parameters["w"].shape
        (5, 32)
    """

    def __init__(
        self, in_features: int, out_features: int, *, rng: np.random.Generator, blocks: int = 1
    ) -> None:
        blocks = as_int("blocks", blocks, minimum=1)
        size_i = as_int("in_features", in_features, minimum=1)
        size_o = as_int("out_features", out_features, minimum=1)
        check_divisible("`in_features`", size_i, blocks=blocks)
        check_divisible("`out_features`", size_o, blocks=blocks)
        parameters = _he(rng, (size_o // blocks, size_i // blocks))
        if blocks > 1:
            super().__init__(
                tied_block_linear, tied_block_linear_backward, parameters, blocks=blocks
            )
        else:
            super().__init__(linear, linear_backward, parameters)


class BatchNorm(Layer):
    """Batch normalisation with the batch's statistics in training, else with running ones.

    Args:
        channels: C.

    Raises:
        TypeError: if `channels` is not an int.
        ValueError: if `channels` is less than one.

    Example:
        >>> import numpy as np
        >>> layer = BatchNorm(1)
        >>> x = np.asarray([1.0, 3.0], "float32").reshape(2, 1, 1, 1)
        >>> layer.forward(x, training=True).ravel().round(3)
        array([-1.,  1.], dtype=float32)
        >>> layer.statistics.mean.round(3)
        array([0.2], dtype=float32)
    """

    def __init__(self, channels: int) -> None:
        c = as_int("channels", channels, minimum=1)
        parameters = {"w": np.ones(c, np.float32), "b": np.zeros(c, np.float32)}
        super().__init__(nn.batch_norm, nn.batch_norm_backward, parameters)
        self.statistics = nn.Statistics(np.zeros(c, np.float32), np.ones(c, np.float32))

    def forward(self, x: Array, *, training: bool = False) -> Array:
        """Normalise `x`; while training, keep it for `backward` and update `statistics`."""
        if training:
            y = super().forward(x, training=True)
            self.statistics = nn.running_statistics(x, self.statistics)
            return y
        self.x = None
        return self.f(x, **self.parameters, statistics=self.statistics)

    def convert(self, function: Callable[[Array], Array]) -> None:
        """Replace every array that the layer holds by `function` of it."""
        super().convert(function)
        self.statistics = nn.Statistics(*map(function, self.statistics))


class ReLU(Layer):
    """The rectified linear unit.

    Example:
        >>> import numpy as np
        >>> ReLU().forward(np.asarray([-1.0, 2.0]))
        array([0., 2.])
    """

    def __init__(self) -> None:
        super().__init__(nn.relu, nn.relu_backward)


class AveragePool(Layer):
    """Average pooling.

    Args:
        kernel_size: height and width of the window in pixels.
        stride: step of the window in pixels; None: its size.
        padding: pixels of padding on each side.

    Example:
        >>> import numpy as np
        >>> AveragePool(2).forward(np.ones((1, 3, 28, 28))).shape
        (1, 3, 14, 14)
    """

    def __init__(
        self, kernel_size: int | Pair, *, stride: int | Pair | None = None, padding: int | Pair = 0
    ) -> None:
        super().__init__(
            nn.average_pool,
            nn.average_pool_backward,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
        )


class MaxPool(Layer):
    """Max pooling.

    Args:
        kernel_size: height and width of the window in pixels.
        stride: step of the window in pixels; None: its size.
        padding: pixels of padding on each side.

    Example:
        >>> import numpy as np
        >>> MaxPool(2).forward(np.ones((1, 3, 28, 28))).shape
        (1, 3, 14, 14)
    """

    def __init__(
        self, kernel_size: int | Pair, *, stride: int | Pair | None = None, padding: int | Pair = 0
    ) -> None:
        super().__init__(
            nn.max_pool,
            nn.max_pool_backward,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
        )


class Flatten(Layer):
    """Reshape each sample into one row, before a `Linear`.

    Example:
        >>> import numpy as np
        >>> Flatten().forward(np.ones((5, 2, 3, 3))).shape
        (5, 18)
    """

    def __init__(self) -> None:
        super().__init__(nn.flatten, nn.flatten_backward)


def _he(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Array]:
    """Draw weights with variance 2 / fan-in; biases are zero."""
    deviation = math.sqrt(2 / math.prod(shape[1:]))
    return {
        "w": deviation * rng.standard_normal(shape, dtype=np.float32),
        "b": np.zeros(shape[0], np.float32),
    }
