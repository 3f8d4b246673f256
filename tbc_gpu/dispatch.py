"""Choose the algorithm for a layout, kernel, size, dtype and device from measured tables.

`tables/cpu.json` records which algorithm was fastest, on which machine. `tables/cuda.json` is
reasoned until someone measures it on a GPU. `tbc bench tune` measures both. Each class of cases
(dtype, layout, kernel, stride, with or without gradients) has a short list of rules. The first
rule whose conditions all hold is used; the last rule has no conditions. For example::

    {"if": ["blocks > 2", "pixels > 400"], "use": "conv3d"}, {"use": "fold_channels_last"}

Conditions compare these sizes: `blocks` (B), `thin` (C_in/B, the channels that a filter reads),
`filters` (C_out/B), `pixels` (H·W of the input) and `batch` (N).

One rule is not in the tables, and takes precedence over them: on a CPU, inputs of at most
`SMALL` = 4096 numbers use `fold` if they are contiguous, and `gemm` if they are channels-last and
the kernel is 1x1 with stride 1. For other small inputs the table decides.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .algorithms import is_channels_last
from .checks import Pair

AlgorithmName = Literal["fold", "fold_channels_last", "dilated", "conv3d", "gemm", "grouped"]


class Kind(NamedTuple):
    """A class of cases that share one list of rules.

    Attributes:
        dtype: "float32", or "bfloat16" for both 16-bit dtypes.
        layout: "channels_last" or "contiguous".
        kernel: "1x1" or "larger".
        strided: whether the stride is larger than 1.
        training: whether gradients will be computed.
    """

    dtype: str
    layout: str
    kernel: str
    strided: bool
    training: bool


class Condition(NamedTuple):
    """A bound on one of the sizes: ``size > limit`` if `above`, else ``size <= limit``."""

    size: str
    above: bool
    limit: int

    def __str__(self) -> str:
        return f"{self.size} {'>' if self.above else '<='} {self.limit}"


class Rule(NamedTuple):
    """An algorithm, and the conditions that must all hold for it to be used."""

    conditions: tuple[Condition, ...]
    algorithm: str


Table = dict[Kind, tuple[Rule, ...]]
# For so few numbers, calling PyTorch's functions takes longer than the arithmetic, so the algorithm
# with the fewest calls is the fastest. The tables know only larger inputs.
SMALL = 4096


def choose(
    input: Tensor,
    weight: Tensor,
    stride: Pair,
    groups: int,
    blocks: int,
    channels_last: bool | None = None,
) -> str:
    """Return the name of the algorithm for a case: by the rule for small inputs, or by the table.

    It is `grouped` where there is no table (other devices, the meta device, graphs exported for
    other runtimes), for a single block, and for TGC, whose blocks are not neighbours in memory.
    """
    table = _TABLES.get(input.device.type)
    if table is None or blocks == 1 or groups > 1 or torch.compiler.is_exporting():
        return "grouped"
    one_tap = weight.shape[2] == weight.shape[3] == 1
    if channels_last is None:  # the caller may know
        channels_last = is_channels_last(input)
    if input.numel() <= SMALL and input.device.type == "cpu":
        if not channels_last:
            return "fold"
        if one_tap and stride == (1, 1):
            return "gemm"
    rules = table[
        Kind(
            "bfloat16" if _dtype(input).itemsize == 2 else "float32",
            "channels_last" if channels_last else "contiguous",
            "1x1" if one_tap else "larger",
            stride != (1, 1),
            torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad),
        )
    ]
    if len(rules) == 1:
        return rules[0].algorithm
    sizes = {
        "blocks": blocks,
        "thin": weight.shape[1],
        "filters": weight.shape[0],
        "pixels": input.shape[2] * input.shape[3],
        "batch": input.shape[0],
    }
    return first(rules, sizes)


def first(rules: tuple[Rule, ...], sizes: dict[str, int]) -> str:
    """Return the algorithm of the first rule that holds for these sizes."""
    for rule in rules[:-1]:
        if all((sizes[c.size] > c.limit) == c.above for c in rule.conditions):
            return rule.algorithm
    return rules[-1].algorithm  # which has no conditions


def table_file(device: str) -> Path:
    """Return the path of the table of a device, "cpu" or "cuda"."""
    return Path(__file__).parent / "tables" / f"{device}.json"


def read_table(text: str) -> Table:
    """Parse the rules of a table that `tbc bench tune` has written."""
    return {
        Kind(**entry["kind"]): tuple(
            Rule(tuple(map(_condition, rule.get("if", ()))), rule["use"]) for rule in entry["rules"]
        )
        for entry in json.loads(text)["classes"]
    }


def _condition(text: str) -> Condition:
    size, sign, limit = text.split()
    return Condition(size, sign == ">", int(limit))


def _dtype(input: Tensor) -> torch.dtype:
    kind: Any = input.device.type
    if input.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return input.dtype


_TABLES = {
    device: read_table(table_file(device).read_text(encoding="utf-8")) for device in ("cpu", "cuda")
}
