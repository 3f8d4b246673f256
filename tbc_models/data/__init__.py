"""Images to train and test with: `open_data` opens labelled ones, `open_instances` ones with boxes.

Labelled images: `specification` parses the names, `embedded` has the images that come with Python
packages, `published` those that torchvision reads, and `folders` your own image files and ImageNet.
To add a data set, write a function that returns a `Data`, name it in `specification`, and call it
in `opening`.

Images with instances: `scenes` makes them, `coco`, `voc` and `cityscapes` read them with the checks
of `annotations`, and `instances` says what they have in common and opens them by name. `occlusion`
has Eq. (5).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tbc_models.data.base import Data, Images
    from tbc_models.data.errors import DataError, last_line
    from tbc_models.data.instances import ImagesWithInstances, InstanceData, open_instances
    from tbc_models.data.occlusion import occlusion_ratio, occlusion_ratios
    from tbc_models.data.opening import open_data
    from tbc_models.data.scenes import Scenes

__all__ = [
    "Data",
    "DataError",
    "Images",
    "ImagesWithInstances",
    "InstanceData",
    "Scenes",
    "last_line",
    "occlusion_ratio",
    "occlusion_ratios",
    "open_data",
    "open_instances",
]

_MODULES = {
    "Data": "base",
    "Images": "base",
    "DataError": "errors",
    "last_line": "errors",
    "open_data": "opening",
    "ImagesWithInstances": "instances",
    "InstanceData": "instances",
    "open_instances": "instances",
    "occlusion_ratio": "occlusion",
    "occlusion_ratios": "occlusion",
    "Scenes": "scenes",
}


def __getattr__(name: str) -> Any:
    """Import PyTorch only when it is needed: a wrong name is refused without it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the names that are imported when they are needed, too."""
    return sorted({*globals(), *__all__})
