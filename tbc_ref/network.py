"""A sequence of layers, and stochastic gradient descent to train it.

One step of learning is four lines:

    y = network.forward(x, training=True)
    loss = nn.cross_entropy(y, labels)
    network.backward(nn.cross_entropy_backward(y, labels))
    sgd.step()
"""

from collections.abc import Callable, Sequence

from .geometry import Array
from .layers import Layer


class Sequential:
    """A network that applies one layer after another.

    Args:
        layers: from the input to the output.

    Example:
        >>> import numpy as np
        >>> from tbc_ref.layers import Linear, ReLU
        >>> rng = np.random.default_rng(0)
        >>> network = Sequential([Linear(4, 8, rng=rng), ReLU(), Linear(8, 2, rng=rng, blocks=2)])
        >>> {name: array.shape for name, array in network.parameters.items()}
        {'0.w': (8, 4), '0.b': (8,), '2.w': (1, 4), '2.b': (1,)}
        >>> network.forward(np.ones((5, 4), "float32")).shape
        (5, 2)
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)
        self.velocities: dict[str, Array] = {}  # of its latest `SGD`; `convert` converts them too

    @property
    def parameters(self) -> dict[str, Array]:
        """All parameters, named by layer number and parameter, such as "0.w"."""
        return self._named("parameters")

    @property
    def gradients(self) -> dict[str, Array]:
        """The derivatives of the loss with respect to each parameter, from the last `backward`."""
        return self._named("gradients")

    def forward(self, x: Array, *, training: bool = False) -> Array:
        """Apply all layers; while training, they keep what `backward` needs."""
        for layer in self.layers:
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy: Array) -> Array:
        """Given ∂L/∂y, apply the chain rule from the last layer to the first, and return ∂L/∂x."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def convert(self, function: Callable[[Array], Array]) -> None:
        """Replace every array by `function` of it, such as `np.float64` or `cupy.asarray`.

        The velocities of its latest `SGD` are converted as well.
        """
        for layer in self.layers:
            layer.convert(function)
        self.velocities.update({name: function(v) for name, v in self.velocities.items()})

    def _named(self, kind: str) -> dict[str, Array]:
        return {
            f"{number}.{name}": array
            for number, layer in enumerate(self.layers)
            for name, array in getattr(layer, kind).items()
        }


class SGD:
    """Stochastic gradient descent with momentum and weight decay, as PyTorch formulates it.

    v ← momentum · v + (dw + weight_decay · w), from v = 0;  w ← w − learning_rate · v.

    Args:
        network: network to train; its parameters are changed in place.
        learning_rate: factor of each step; it may be changed between steps.
        momentum: share of the last step that is added to the next.
        weight_decay: factor of each parameter that is added to its gradient, which shrinks it.

    Raises:
        ValueError: if one of the three numbers is negative.

    Example:
        >>> import numpy as np
        >>> from tbc_ref.layers import Linear
        >>> network = Sequential([Linear(1, 1, rng=np.random.default_rng(0))])
        >>> sgd = SGD(network, learning_rate=0.5)
        >>> _ = network.forward(np.ones((1, 1), "float32"), training=True)
        >>> _ = network.backward(np.ones((1, 1), "float32"))
        >>> sgd.step()
        >>> network.parameters["0.b"]
        array([-0.5], dtype=float32)
    """

    def __init__(
        self,
        network: Sequential,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        numbers = {"momentum": momentum, "weight_decay": weight_decay}
        for name, number in {"learning_rate": learning_rate, **numbers}.items():
            if not number >= 0:
                raise ValueError(f"`{name}` (={number!r}) must not be negative")
        self.network, self.learning_rate = network, learning_rate
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocities = network.velocities = {}

    def step(self) -> None:
        """Update every parameter with the gradients of the last `backward`."""
        gradients = self.network.gradients
        for name, w in self.network.parameters.items():
            if name not in gradients:
                raise RuntimeError("`step` must follow a `backward`")
            v = (
                self.momentum * self.velocities.get(name, 0)
                + gradients[name]
                + self.weight_decay * w
            )
            w -= self.learning_rate * v
            self.velocities[name] = v
