"""Time one call of a tied layer on a tiny input, where the cost of the call itself dominates."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from tbc_gpu import TiedBlockConv2d
from tbc_models.bench.layers import LAYOUTS
from tbc_models.bench.timing import Time, interleaved

SHAPE = (1, 16, 4, 4)
BLOCKS = 4
CALLS = 100  # timed as one, for a single call is too short for the clock
TIED, GROUPED = "TiedBlockConv2d", "nn.Conv2d"


@dataclass(frozen=True)
class CallRow:
    """The time of one call, for one kernel and layout.

    Attributes:
        kernel_size: k.
        layout: "channels_last" or "contiguous".
        microseconds: of one call of `TiedBlockConv2d` and of `nn.Conv2d` with as many groups.
    """

    kernel_size: int
    layout: str
    microseconds: dict[str, Time]

    @property
    def ratio(self) -> float:
        """Median time of the tied layer, divided by that of the grouped one."""
        return self.microseconds[TIED].median / self.microseconds[GROUPED].median

    def record(self) -> dict[str, Any]:
        """Return the row for a JSON file, each time as [median, low, high]."""
        times = {name: list(time) for name, time in self.microseconds.items()}
        return asdict(self) | {"microseconds": times, "ratio": round(self.ratio, 3)}


def time_calls(seconds: float = 1.0, device: str = "cpu") -> Iterator[CallRow]:
    """Time calls of `TiedBlockConv2d` and of a grouped `nn.Conv2d`, in turn, without gradients.

    Args:
        seconds: about how long to run each layer.
        device: "cpu" or "cuda".

    Yields:
        One row for each kernel (3x3 and 1x1) and memory layout.

    Example:
        >>> [(row.kernel_size, row.layout) for row in time_calls(seconds=0.001)][:2]
        [(3, 'channels_last'), (3, 'contiguous')]
    """
    for kernel_size in (3, 1):
        for layout, memory_format in LAYOUTS.items():
            x = torch.randn(SHAPE, device=device).contiguous(memory_format=memory_format)
            of: Any = {"padding": kernel_size // 2, "device": device}
            tied = TiedBlockConv2d(SHAPE[1], SHAPE[1], kernel_size, blocks=BLOCKS, **of)
            grouped = nn.Conv2d(SHAPE[1], SHAPE[1], kernel_size, groups=BLOCKS, **of)

            def repeated(module: nn.Module, x: torch.Tensor = x) -> Callable[[], object]:
                return lambda: [module(x) for _ in range(CALLS)]

            layers: dict[str, nn.Module] = {TIED: tied, GROUPED: grouped}
            with torch.no_grad():
                functions = {
                    name: repeated(layer.to(memory_format=memory_format))
                    for name, layer in layers.items()
                }
                times = interleaved(functions, seconds, device)
            microseconds = {
                name: Time(*(round(1e3 * t / CALLS, 3) for t in time))
                for name, time in times.items()
            }
            yield CallRow(kernel_size, layout, microseconds)
