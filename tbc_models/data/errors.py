"""Errors of data sets, and how the errors of other libraries are put into one line."""

import textwrap


class DataError(ValueError):
    """Data that cannot be used.

    Args:
        message: what is wrong, in one line. If a worker of a DataLoader raised the error, PyTorch
            puts a traceback before it; `last_line` removes that.
        option: parameter of `open_data` that would avoid the error, or None.

    Example:
        >>> from tbc_models.data import open_data
        >>> open_data("cifar10:/no/such/folder")
        Traceback (most recent call last):
        ...
        tbc_models.data.errors.DataError: CIFAR-10 is damaged or not in /no/such/folder, which ...
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class BadImageError(DataError):
    """A file that is not a readable image.

    Args:
        message: the file, and what is wrong with it.
    """

    # The message must be the only argument: a DataLoader re-creates a worker's error from it.
    def __init__(self, message: str) -> None:
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


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error; many of timm's assertions have only a type.

    Args:
        error: any exception.

    Returns:
        The first line of its text, or the name of its type if it has none.

    Example:
        >>> first_line(RuntimeError("no kernel\nand a page more")), first_line(AssertionError())
        ('no kernel', 'AssertionError')
    """
    return (str(error) or type(error).__name__).splitlines()[0]


def short(error: Exception) -> str:
    """Describe an exception of another library in a few words, for a longer message."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error), 160, placeholder=' …')}"
