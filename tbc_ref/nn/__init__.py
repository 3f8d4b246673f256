"""What a small network needs besides the convolutions: activations, norms, pooling, a loss.

Only the operators of the other files are the paper's; these are what its modules (Fig. 4 and 5)
put around them, and what it takes to train, so that whole modules and whole learning can be
checked as well.
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
