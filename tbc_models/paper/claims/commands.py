"""Commands and pages that claims in several modules share."""

IMAGENET = "tbc train --model {} --data imagenet:/data/imagenet --recipe paper"
"""Trains a network, whose name is put in, as the paper does."""

COCO = "tbc detect train --data coco:/data/coco --detector {} --backbone {} --recipe 2x"
"""Trains a detector on a backbone, whose names are put in."""

OCCLUSION = "tbc detect occlusion runs/plain/last.ckpt runs/tied/last.ckpt --data scenes"
"""Compares a tied and a plain detector where objects hide each other."""

FOCUS = "tbc focus resnet20.cifar10 tbc_resnet20.cifar10 --data coco:/data/coco"
"""Measures how much of a network's map lies on the object."""

SIMILARITY = "tbc similarity resnet20.cifar10 tbc_resnet20.cifar10 --images embedded"
"""Measures how alike filters are, in networks that ship with the project."""

SCENES = "occlusion.md#scenes-where-r-is-chosen"
"""The page on occlusion in scenes of digits."""

CLUSTER = "detection.md#from-imagenet-to-coco-on-a-cluster"
"""The page on training detectors as the paper does."""
