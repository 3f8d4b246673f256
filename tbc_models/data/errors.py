"""What is wrong with a data set, in one line."""

import textwrap


class DataError(ValueError):
    r"""Data that cannot be used.

    Args:
        message: what is wrong, in one line. If a worker of a DataLoader raised the error, PyTorch
            puts a traceback before it; `last_line` removes that.
        option: parameter of `open_data` that would avoid the error, or None.

    Example:
        >>> DataError("CIFAR-10 is not in data", option="download").option
        'download'
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class BadImageError(DataError):
    """A file that is not a readable image.

    Args:
        message: the file, and what is wrong with it.

    Example:
        >>> BadImageError("cat.jpg is truncated or not an image").option
        'skip_bad_images'
    """

    def __init__(self, message: str) -> None:  # a DataLoader raises it anew, from its text alone
        super().__init__(message, option="skip_bad_images")


def last_line(error: BaseException) -> str:
    r"""Return the message of an error without the traceback that a DataLoader puts before it.

    Args:
        error: any exception.

    Returns:
        The last line of its text.

    Example:
        >>> last_line(DataError("Caught DataError in worker process 0\nphotos is empty"))
        'photos is empty'
    """
    last = str(error).rstrip("\n").split("\n")[-1]
    for kind in (DataError, BadImageError):
        last = last.removeprefix(f"{kind.__module__}.{kind.__name__}: ")
    return last


def short(error: Exception) -> str:
    """Describe an exception of another library in a part of a line."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error), 160, placeholder=' …')}"
