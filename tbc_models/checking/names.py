"""What can be checked, by name. `tbc check --help` lists these without importing PyTorch."""

from enum import StrEnum


class Operator(StrEnum):
    """The operators, as the paper abbreviates them."""

    SC = "SC"
    GC = "GC"
    TBC = "TBC"
    TGC = "TGC"
    FC = "FC"
    TFC = "TFC"


class DType(StrEnum):
    """The dtypes of the PyTorch backend.

    The reference has float32 and float64. For the 16-bit dtypes it computes in float64 with the
    numbers that the backend gets.
    """

    float64 = "float64"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"

    @property
    def is_half(self) -> bool:
        """Whether a number has 16 bits."""
        return self in (DType.float16, DType.bfloat16)

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next number."""
        import torch

        return torch.finfo(getattr(torch, self)).eps
