"""Name the classes of photographs with a trained network."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tbc_models.data.errors import BadImageError
from tbc_models.data.folders import read_images
from tbc_models.training.recipes import to_evaluate
from tbc_models.training.trained import Trained, open_trained


class Prediction(NamedTuple):
    """The most probable classes of an image.

    Attributes:
        file: the image.
        classes: the most probable classes, the first one first.
        probabilities: their probabilities; those of all classes add up to one.
    """

    file: Path
    classes: list[str]
    probabilities: list[float]


def predict(
    trained: str | Path | Trained,
    images: Sequence[Path],
    *,
    top: int = 5,
    skipped: Callable[[BadImageError], None] | None = None,
) -> Iterator[Prediction]:
    """Name the most probable classes of image files.

    The images are read, cropped and normalised as test images are.

    Args:
        trained: a trained network, as `open_trained` takes it or returns it.
        images: image files. They are converted to grey if the network takes one channel.
        top: number of classes to name; all of them if the network knows fewer.
        skipped: called with the error of each file that is not a readable image. By default the
            first such error is raised.

    Yields:
        A prediction for each image.

    Raises:
        RunError: if there is no such trained network.
        BadImageError: if a file is not a readable image and `skipped` is None; it names the file.
        OSError: if the file of the network cannot be read.

    Example:
        >>> next(predict(Path("/no/such/file"), [Path("photo.jpg")]))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: /no/such/file does not exist; ...
    """
    if not isinstance(trained, Trained):
        trained = open_trained(trained)
    settings = trained.settings
    network = trained.network()
    prepare = to_evaluate(settings.whole_recipe(), settings, settings.size)
    for file, image in read_images(images, skipped):
        prepared = prepare(image.convert("L") if settings.channels == 1 else image)
        with torch.no_grad():
            probabilities = network(prepared[None])[0].softmax(0)
        best = probabilities.topk(min(top, len(settings.classes)))
        classes = [settings.classes[index] for index in best.indices.tolist()]
        yield Prediction(file, classes, best.values.tolist())
