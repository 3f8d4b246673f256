"""Random configurations for Hypothesis, small enough for naive loops."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .oracles import Array


@dataclass(frozen=True)
class Conv:
    x: Array
    w: Array
    b: Array
    groups: int
    blocks: int
    options: dict[str, Any]  # stride, padding, dilation


@st.composite
def convs(
    draw: st.DrawFn,
    *,
    groups: st.SearchStrategy[int] = st.integers(1, 3),  # noqa: B008
    blocks: st.SearchStrategy[int] = st.integers(1, 3),  # noqa: B008
    valid: bool = False,
) -> Conv:
    """A float64 case: any stride, padding, dilation, oblong kernels and inputs, batch 0 too."""
    g, b = draw(groups), draw(blocks)
    thin, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, dilation, stride = draw(pairs), draw(pairs), draw(pairs)
    padding: Any = "valid"
    if not valid:
        words = st.sampled_from(["same", "valid"])
        padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)) | words)
    if padding == "same":
        stride = (1, 1)
    sides = (0, 0) if isinstance(padding, str) else padding
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":  # which makes room for any kernel
        spans = [1, 1]
    size = [
        max(1, span - 2 * p) + draw(st.integers(0, 4)) for span, p in zip(spans, sides, strict=True)
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Conv(
        x=rng.standard_normal((draw(st.integers(0, 3)), g * b * thin, *size)),
        w=rng.standard_normal((g * filters, thin, *kernel)),
        b=rng.standard_normal(g * filters),
        groups=g,
        blocks=b,
        options={"stride": stride, "padding": padding, "dilation": dilation},
    )
