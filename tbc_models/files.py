"""Writing files so that a crash loses nothing."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Have a file written under a temporary name, then rename it: it is whole, or not there.

    Args:
        path: the file; one that exists is replaced.

    Yields:
        The name to write to, in the same folder.

    Raises:
        OSError: if the folder does not exist or cannot be written to.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "result.bin") as temporary:
        ...     _ = temporary.write_bytes(b"42")
        >>> [(file.name, file.read_bytes()) for file in folder.iterdir()]
        [('result.bin', b'42')]
    """
    path = path.resolve()  # through links: the file itself is replaced
    if path.exists() and not path.is_file():  # a device, which has nothing to lose
        yield path
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


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
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
