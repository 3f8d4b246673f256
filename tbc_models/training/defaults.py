"""Defaults that help texts show, so nothing here imports PyTorch."""

TEMPERATURE = 4.0
"""Temperature of a teacher. Hinton et al. (2015) recommend 2.5 to 4 for small networks."""

TEACHER_WEIGHT = 0.9
"""Part of the loss that compares with a teacher. Usual for CIFAR; Hinton et al. recommend a larger
weight on the soft targets than on the labels."""
