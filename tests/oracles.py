"""What the two implementations are held against, written in other ways than either of them."""

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Pair = tuple[int, int]

# Sums of at most some hundred products of numbers around 1: rounding stays far below.
close = partial(assert_allclose, rtol=1e-12, atol=1e-12)


def loops(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair | str = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    blocks: int = 1,
) -> Array:
    """Eq. (4) by nine nested loops over single numbers; pixels outside the image are skipped."""
    n_images, channels, height, width = x.shape
    stored, thin, k_h, k_w = w.shape
    filters = stored // groups  # of one group
    spread = (dilation[0] * (k_h - 1), dilation[1] * (k_w - 1))
    if padding == "same":
        top, left = spread[0] // 2, spread[1] // 2
        h_o, w_o = height, width
    else:
        top, left = (0, 0) if isinstance(padding, str) else padding
        h_o = (height + 2 * top - spread[0] - 1) // stride[0] + 1
        w_o = (width + 2 * left - spread[1] - 1) // stride[1] + 1
    y = np.zeros((n_images, groups * blocks * filters, h_o, w_o), x.dtype)
    everywhere = product(
        range(n_images), range(groups), range(blocks), range(filters), range(h_o), range(w_o)
    )
    for n, g, block, f, p, q in everywhere:
        total = 0.0 if b is None else b[g * filters + f]
        for c, i, j in product(range(thin), range(k_h), range(k_w)):
            row = p * stride[0] + i * dilation[0] - top
            column = q * stride[1] + j * dilation[1] - left
            if 0 <= row < height and 0 <= column < width:
                channel = g * (channels // groups) + block * thin + c
                total += w[g * filters + f, c, i, j] * x[n, channel, row, column]
        y[n, (g * blocks + block) * filters + f, p, q] = total
    return y


def dense_weight(w: Tensor, groups: int, blocks: int) -> Tensor:
    """The standard convolution's weight that does what TGC does: zeros off the diagonal blocks."""
    per_group = w.chunk(groups)
    tiles = [tile for tile in per_group for _ in range(blocks)]
    rows, columns = tiles[0].shape[:2]
    dense = w.new_zeros(rows * len(tiles), columns * len(tiles), *w.shape[2:])
    for k, tile in enumerate(tiles):
        dense[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] = tile
    return dense


def dense_bias(b: Tensor | None, groups: int, blocks: int) -> Tensor | None:
    return None if b is None else torch.cat([p for p in b.chunk(groups) for _ in range(blocks)])


def authors_fold(x: Tensor, w: Tensor, b: Tensor | None, *, groups: int, blocks: int) -> Tensor:
    """TBC and TGC as the authors' code orders them: blocks folded into the batch, then groups."""
    n, c, height, width = x.shape
    folded = x.reshape(n * blocks, c // blocks, height, width)
    y = F.conv2d(folded, w, b, groups=groups)
    return y.reshape(n, blocks * w.shape[0], *y.shape[2:])
