"""Which data set a short text names, such as `mnist` or `imagefolder:photos`.

Nothing here imports PyTorch, so that the command line refuses a wrong name at once.
"""

import hashlib
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tbc_models.data.errors import DataError, short

EMBEDDED = ("mnist", "digits")
PUBLISHED = ("fashion-mnist", "cifar10", "cifar100")
FOLDERS = ("imagefolder", "imagenet")
FORMS = (
    *EMBEDDED,
    *(f"{kind}[:PATH]" for kind in PUBLISHED),
    *(f"{kind}:PATH" for kind in FOLDERS),
)
"""All specifications, as help texts list them."""

_LAYOUT = "it should hold train/CLASS and val/CLASS, or CLASS, each with images"


@dataclass(frozen=True)
class Specification:
    """A data set, and where it is.

    Attributes:
        kind: one of `EMBEDDED`, `PUBLISHED` or `FOLDERS`.
        path: its folder as it was typed, with ~ expanded; None for embedded images, and for
            published ones that are looked for where they usually are.
    """

    kind: str
    path: Path | None

    @property
    def name(self) -> str:
        """The specification with its path resolved, so that it means the same in every folder."""
        return self.kind if self.path is None else f"{self.kind}:{self.path.resolve()}"

    @property
    def label(self) -> str:
        """The kind as a short name, or for your own images that of their folder."""
        if self.path is None or self.kind != "imagefolder":
            return self.kind
        return folder_label(self.path.resolve(), self.kind)

    @property
    def in_files(self) -> bool:
        """Whether every image is a file, to be decoded each time it is used."""
        return self.kind in FOLDERS


def folder_label(path: Path, kind: str) -> str:
    """Name a folder in a word: its own name, and a hash of its path.

    The hash distinguishes folders with the same name, such as a/photos and b/photos.

    Args:
        path: resolved path of the folder.
        kind: kind of the data set, for a path without a name.

    Returns:
        The name.

    Example:
        >>> folder_label(Path("/a/photos"), "coco") == folder_label(Path("/b/photos"), "coco")
        False
    """
    return f"{path.name or kind}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"


def parse_specification(text: str) -> Specification:
    """Find out which data set a text names, and that its folder exists.

    Args:
        text: KIND or KIND:PATH, as `open_data` describes it.

    Returns:
        The kind and the path.

    Raises:
        DataError: if there is no such kind, it needs a path or takes none, or a folder of images
            does not exist or is empty.

    Example:
        >>> parse_specification("cifar10:~/data").label
        'cifar10'
    """
    kind, colon, where = text.partition(":")
    if kind in EMBEDDED:
        if colon:
            raise DataError(f"{kind} is embedded and takes no path: write {kind} alone")
        return Specification(kind, None)
    if kind not in PUBLISHED and kind not in FOLDERS:
        raise DataError(f"{text!r} is not a data set: {_suggestion(text)}")
    if kind in PUBLISHED and not colon:
        return Specification(kind, None)
    if not where:
        alone = f", or {kind} alone" if kind in PUBLISHED else ""
        raise DataError(f"{kind} needs the folder that holds it: write {kind}:PATH{alone}")
    path = Path(where).expanduser()
    if kind in FOLDERS:
        _require_folder(path)
    return Specification(kind, path)


def _require_folder(path: Path) -> None:
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist; {_LAYOUT}")
        if not path.is_dir():
            raise DataError(f"{path} is not a folder; {_LAYOUT}")
        if not any(path.iterdir()):
            raise DataError(f"{path} is empty; {_LAYOUT}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {short(error)}") from None


def _suggestion(text: str) -> str:
    forms = dict(zip((*EMBEDDED, *PUBLISHED, *FOLDERS), FORMS, strict=True))
    if text and Path(text).is_dir():
        return f"did you mean imagefolder:{text}?"
    near = get_close_matches(text.partition(":")[0].lower(), forms, n=2)
    if near:
        return f"did you mean {' or '.join(forms[kind] for kind in near)}?"
    return f"choose one of {', '.join(FORMS)}"
