"""What is built of tied block convolutions: networks, attention, checks, and the command `tbc`.

Importing this registers the Tied networks with timm: `timm.create_model("tied_resnet50_s")`.
"""

from . import efficientnet, gcnet, resnest, resnet, resnext, senet  # noqa: F401 (they register)
from .attention import GCB, SE, TiedGCB, TiedSE
from .bottleneck import TiedBottleneck

__all__ = ["GCB", "SE", "TiedBottleneck", "TiedGCB", "TiedSE"]
