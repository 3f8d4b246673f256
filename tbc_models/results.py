"""Files of results: one writer and one reader for everything that a command measures.

A report is a JSON object with the command that made it, the machine that it ran on, and lists of
rows. Rows are written one to a line, so that a change of one shows as one line.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tbc_models.files import write_text

COMMITTED = Path(__file__).parent.parent / "docs" / "_results"


def machine(*packages: str) -> dict[str, Any]:
    """Describe what a result was computed on and with.

    Args:
        packages: packages whose versions matter beside PyTorch's.

    Returns:
        The processor and versions.

    Example:
        >>> list(machine("numpy"))
        ['processor', 'python', 'torch', 'numpy']
    """
    import torch

    known = {"processor": _processor(), "python": platform.python_version()}
    known["torch"] = torch.__version__  # which names the build, as its metadata do not
    return known | {name: version(name) for name in packages}


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def as_json(report: dict[str, Any]) -> str:
    """Write a report as JSON, with one row to a line.

    Args:
        report: numbers, texts, lists and dicts.

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
    """Write a report to a file, which is whole or not there.

    Args:
        file: the file; one that exists is replaced.
        report: numbers, texts, lists and dicts.

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
        >>> read(COMMITTED / "nothing.json")
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    report = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(report, dict):
        raise ValueError(f"{file} must hold a JSON object, not a {type(report).__name__}")
    return report


def committed(name: str) -> dict[str, Any] | None:
    """Read one of this project's own results, which its site is drawn from.

    They are part of a clone of the repository, not of the installed package.

    Args:
        name: of the file in docs/_results, such as "layers-cpu".

    Returns:
        The report; None if it was not measured, or if there is no repository.

    Example:
        >>> committed("layers-abacus") is None
        True
    """
    file = COMMITTED / f"{name}.json"
    return read(file) if file.is_file() else None
