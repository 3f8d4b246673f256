"""The Tied networks of the paper, and what they are built of.

`bottleneck` has the tied bottleneck of Fig. 4, `attention` the SE and GCB modules of Fig. 5. Each
of the other modules is a family of networks, registered with timm when this package is imported.
`registry` finds and builds a registered network by its name.
"""

from tbc_models.networks import efficientnet, gcnet, resnest, resnet, resnext, senet

__all__ = ["efficientnet", "gcnet", "resnest", "resnet", "resnext", "senet"]
