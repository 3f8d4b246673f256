"""Write files so that a crash leaves either the old file or the new one, both complete."""

import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, then rename that file: it replaces the old one at once.

    A file that exists keeps its permissions; a new one gets those that the umask allows.

    Args:
        path: the file to write; one that exists is replaced.

    Yields:
        The temporary name, in the same folder.

    Raises:
        OSError: if the folder does not exist or cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "result.bin") as temporary:
        ...     _ = temporary.write_bytes(b"42")
        >>> [(file.name, file.read_bytes()) for file in folder.iterdir()]
        [('result.bin', b'42')]
    """
    path = path.resolve()  # a link stays, and the file that it names is replaced
    if path.exists() and not path.is_file():  # a device such as /dev/null has nothing to lose
        yield path
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    temporary.touch(mode=0o666, exist_ok=False)  # less what the umask takes away
    try:
        mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
        temporary.chmod(0o600)  # nobody else reads half a file, nor a private one
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file as `replacing` does: the old file is replaced at once.

    Args:
        path: the file to write; one that exists is replaced.
        text: its content, stored as UTF-8.

    Raises:
        OSError: if the folder does not exist or cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_text(folder / "result.txt", "42")
        >>> (folder / "result.txt").read_text(), len(list(folder.iterdir()))
        ('42', 1)
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
