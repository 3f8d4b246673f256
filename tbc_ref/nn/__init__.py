"""What a small network needs besides convolutions: activations, norms, pooling, a loss.

The paper's operators are in the other files. Its modules (Fig. 4 and 5) and training also need
these functions, so that whole modules and whole training runs can be checked too.
"""

from .activation import relu, relu_backward, sigmoid, sigmoid_backward, softmax, softmax_backward
from .loss import cross_entropy, cross_entropy_backward
from .norm import (
    Statistics,
    batch_norm,
    batch_norm_backward,
    layer_norm,
    layer_norm_backward,
    running_statistics,
)
from .pool import (
    average_pool,
    average_pool_backward,
    flatten,
    flatten_backward,
    max_pool,
    max_pool_backward,
)

__all__ = [
    "Statistics",
    "average_pool",
    "average_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "flatten",
    "flatten_backward",
    "layer_norm",
    "layer_norm_backward",
    "max_pool",
    "max_pool_backward",
    "relu",
    "relu_backward",
    "running_statistics",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
]
