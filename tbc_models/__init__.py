"""Networks and tools built on tied block convolutions, and the command `tbc`.

Importing this registers the Tied networks with timm: `timm.create_model("tied_resnet50_s")`.
"""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tbc_models.networks.attention import GCB, SE, TiedGCB, TiedSE
    from tbc_models.networks.bottleneck import TiedBottleneck

__all__ = ["GCB", "SE", "TiedBottleneck", "TiedGCB", "TiedSE"]


def __getattr__(name: str) -> Any:
    """Import PyTorch and timm when they are first needed: `tbc --help` does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "bottleneck" if name == "TiedBottleneck" else "attention"
    return getattr(importlib.import_module(f"tbc_models.networks.{module}"), name)


class _RegisterAfterTimm(MetaPathFinder, Loader):
    """Import timm as usual, and register the networks as soon as it is there."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != "timm":
            return None
        self.spec = PathFinder.find_spec(name)
        if self.spec is None or self.spec.loader is None:
            return None
        self.loader, self.spec.loader = self.spec.loader, self
        return self.spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        sys.meta_path.remove(self)
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        importlib.import_module("tbc_models.networks")


if "timm" in sys.modules:
    importlib.import_module("tbc_models.networks")
else:
    sys.meta_path.insert(0, _RegisterAfterTimm())
