"""Write files so that a crash leaves either the old file or the new one; find trained weights.

Nothing here imports PyTorch, so that the command line refuses a wrong file at once.
"""

import secrets
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WEIGHTS = "weights.safetensors"
"""The file into which a finished training run saves the weights, beside its checkpoints."""
WEIGHTS_OF_NETWORKS = Path(__file__).parent / "networks" / "weights"
"""The folder of the trained weights that ship with the package, NETWORK.TAG.safetensors."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, and rename it when it is complete.

    At every moment the path names the old file or the new one. A file that exists keeps its
    permissions; a new one gets those that the umask allows.

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
    if path.exists() and not path.is_file():  # a device such as /dev/null holds no old content
        yield path
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    temporary.touch(mode=0o666, exist_ok=False)  # minus the bits that the umask removes
    try:
        mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
        temporary.chmod(0o600)  # nobody else can read a file that is incomplete or private
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


def require_safetensors(file: Path) -> None:
    """Check that a file is a safetensors file, from its first bytes.

    Args:
        file: the file.

    Raises:
        ValueError: if it is not. For a checkpoint, the message names the weights beside it.
        OSError: if it cannot be read.

    Example:
        >>> require_safetensors(Path(__file__))
        Traceback (most recent call last):
        ...
        ValueError: ...files.py is not a safetensors file
    """
    if zipfile.is_zipfile(file):  # as torch.save and Lightning write
        advice = f"{WEIGHTS} is written beside it when its run has finished"
        if file.with_name(WEIGHTS).exists():
            advice = f"use {WEIGHTS} beside it"
        raise ValueError(f"{file} is a PyTorch checkpoint, not a safetensors file: {advice}")
    with file.open("rb") as opened:
        start = opened.read(9)
    if start[8:] != b"{":  # eight bytes are the length of the header, which is JSON
        raise ValueError(f"{file} is not a safetensors file")


def shipped_weights() -> dict[str, Path]:
    """List the trained networks that ship with the package.

    Returns:
        A dict from their names, NETWORK.TAG as timm has them, to the files of their weights.

    Example:
        >>> all(file.is_file() for file in shipped_weights().values())
        True
    """
    return {file.stem: file for file in sorted(WEIGHTS_OF_NETWORKS.glob("*.safetensors"))}


def find_weights(where: str | Path) -> Path:
    """Find a trained network, and check from its first bytes that the file can hold one.

    Args:
        where: a checkpoint, a safetensors file, or the name of a network that ships.

    Returns:
        The file.

    Raises:
        ValueError: if there is neither such a file nor such a name, or the file is of another kind.
        OSError: if the file cannot be read.

    Example:
        >>> find_weights("/no/such/file")
        Traceback (most recent call last):
        ...
        ValueError: /no/such/file does not exist; ...
    """
    file = Path(where)
    if file.is_dir():
        raise ValueError(f"{where} is a folder: name a file in it, such as {file / 'last.ckpt'}")
    if not file.exists():
        names = shipped_weights()
        if str(where) in names:
            return names[str(where)]
        ship = f"those that ship are {', '.join(names)}" if names else "none ship by name"
        raise ValueError(f"{where} does not exist; of trained networks, {ship}")
    if not zipfile.is_zipfile(file):  # as torch.save writes
        try:
            require_safetensors(file)
        except ValueError:
            raise ValueError(
                f"{file} is not a checkpoint of `tbc train`, nor weights that it saved"
            ) from None
    return file
