"""Labelled images for training and testing: `open_data` opens every data set by its name.

`specification` parses the names, `embedded` has the images that come with Python packages,
`published` those that torchvision reads, and `folders` your own image files and ImageNet. To add a
data set, write a function that returns a `Data`, name it in `specification`, and call it in
`opening`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tbc_models.data.base import Data, Images
    from tbc_models.data.errors import DataError, last_line
    from tbc_models.data.opening import open_data

__all__ = ["Data", "DataError", "Images", "last_line", "open_data"]

_MODULES = {
    "Data": "base",
    "Images": "base",
    "DataError": "errors",
    "last_line": "errors",
    "open_data": "opening",
}


def __getattr__(name: str) -> Any:
    """Import PyTorch only when it is needed: a wrong name is refused without it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the names that are imported when they are needed, too."""
    return sorted({*globals(), *__all__})
