"""What filters respond to, and what a network looks at.

Public are `guided_backprop`, the image that a filter responds to; `filter_similarity`, how alike
the filters of a layer are (Figs. 1 and 9); and `grad_cam`, where a network finds its class, Fig. 8.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tbc_models.analysis.gradcam import grad_cam
    from tbc_models.analysis.guided import guided_backprop
    from tbc_models.analysis.similarity import filter_similarity

__all__ = ["filter_similarity", "grad_cam", "guided_backprop"]

_MODULES = {
    "filter_similarity": "similarity",
    "grad_cam": "gradcam",
    "guided_backprop": "guided",
}


def __getattr__(name: str) -> Any:
    """Import PyTorch when it is first needed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"tbc_models.analysis.{_MODULES[name]}"), name)
