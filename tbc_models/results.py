"""Files of results: one writer and one reader for everything that the commands measure.

A report is a JSON object with the command that made it, the machine that it ran on, and lists of
rows. Each row is on a line of its own, so that a changed row is one changed line.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tbc_models.files import write_text

COMMITTED = Path(__file__).parent.parent / "docs" / "_results"
"""The project's own results. The folder is part of its repository, not of the installed package."""


def machine(*packages: str) -> dict[str, Any]:
    """Describe the machine and the software that a result was computed with.

    Args:
        packages: packages whose versions are included, in addition to PyTorch's.

    Returns:
        The processor and the versions.

    Example:
        >>> list(machine("numpy"))
        ['processor', 'python', 'torch', 'numpy']
    """
    import torch

    known = {"processor": _processor(), "python": platform.python_version()}
    known["torch"] = torch.__version__  # unlike its metadata, this includes the build
    return known | {name: version(name) for name in packages}


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def as_json(report: dict[str, Any]) -> str:
    """Format a report as JSON, with one row per line.

    Args:
        report: numbers, strings, lists and dicts.

    Returns:
        The text.

    Example:
        >>> print(as_json({"command": "tbc compare", "rows": [{"seed": 0}, {"seed": 1}]}), end="")
        {"command": "tbc compare",
         "rows": [
          {"seed": 0},
          {"seed": 1}]}
    """
    lines = []
    for name, value in report.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value)
            text = f"[\n  {rows}]"
        lines.append(f"{json.dumps(name)}: {text}")
    return "{" + ",\n ".join(lines) + "}\n"


def write(file: Path, report: dict[str, Any]) -> None:
    """Write a report to a file, which replaces an older one only when it is complete.

    Args:
        file: the file to write.
        report: numbers, strings, lists and dicts.

    Raises:
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "result.json"
        >>> write(file, {"rows": [1, 2]})
        >>> read(file)
        {'rows': [1, 2]}
    """
    write_text(file, as_json(report))


def read(file: Path) -> dict[str, Any]:
    """Read a report.

    Args:
        file: a JSON file.

    Returns:
        The report.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not a JSON object.

    Example:
        >>> read(Path("nothing.json"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    report = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(report, dict):
        raise ValueError(f"{file} must hold a JSON object, not a {type(report).__name__}")
    return report


def committed(name: str) -> dict[str, Any] | None:
    """Read one of the project's own results, from which its site is generated.

    Args:
        name: name of the file in docs/_results, such as "layers-cpu".

    Returns:
        The report; None if this was not measured yet.

    Raises:
        FileNotFoundError: if the package does not run from a clone of the repository.

    Example:
        >>> committed("layers-abacus") is None
        True
    """
    if not COMMITTED.is_dir():
        raise FileNotFoundError(
            f"{COMMITTED} does not exist: the project's own results are part of its repository, "
            "not of the installed package"
        )
    file = COMMITTED / f"{name}.json"
    return read(file) if file.is_file() else None
