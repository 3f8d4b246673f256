"""The Tied networks of the paper and their building blocks.

`bottleneck` has the tied bottleneck of Fig. 4, and `attention` the SE and GCB modules of Fig. 5.
`resnet`, `resnext`, `senet`, `gcnet`, `resnest`, `efficientnet` and `cifar` are families of
networks; they are registered with timm when this package is imported. `registry` finds and builds a
registered network by its name, `pretrained` registers trained weights that ship, and `minimum_size`
makes a network refuse images that are too small.
"""

from tbc_models.networks import cifar, efficientnet, gcnet, resnest, resnet, resnext, senet

__all__ = ["cifar", "efficientnet", "gcnet", "resnest", "resnet", "resnext", "senet"]
