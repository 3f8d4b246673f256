"""Writing files so that a crash loses nothing."""

import os
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it: it is whole, or not there.

    Args:
        path: the file; one that exists is replaced.
        text: its content, stored as UTF-8.

    Raises:
        OSError: if the folder does not exist or cannot be written to.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_text(folder / "result.txt", "42")
        >>> (folder / "result.txt").read_text(), len(list(folder.iterdir()))
        ('42', 1)
    """
    path = path.resolve()  # through links: the file itself is replaced
    if path.exists() and not path.is_file():  # a device, which has nothing to lose
        path.write_text(text, encoding="utf-8")
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
