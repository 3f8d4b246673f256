"""Execute the tutorials and rewrite their stored notebooks: `make tutorials`.

People edit the MyST text (`*.md`); the notebook beside it is made from it, outputs included.
Cell ids are stable and no times are recorded, so that executing again changes little.
`--check` executes nothing: it says which notebooks no longer match their text.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from rich.progress import track

HERE = Path(__file__).parent


def notebook_of(text: Path) -> nbformat.NotebookNode:
    """The notebook that a MyST text describes, without outputs."""
    notebook: nbformat.NotebookNode = jupytext.read(text)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{text.stem}-{number:03d}"
    return notebook


def in_step(text: Path) -> bool:
    """Whether the stored notebook has the cells that the text describes."""
    stored = text.with_suffix(".ipynb")
    if not stored.exists():
        return False

    def cells(notebook: nbformat.NotebookNode) -> list[tuple[Any, ...]]:
        return [(c.cell_type, c.source, dict(c.metadata)) for c in notebook.cells]

    return cells(notebook_of(text)) == cells(nbformat.read(stored, 4))


def execute(text: Path) -> None:
    """Execute a text, and store the notebook beside it once all its cells have run."""
    notebook = notebook_of(text)
    resources = {"metadata": {"path": str(HERE)}}
    client = NotebookClient(
        notebook, timeout=600, record_timing=False, coalesce_streams=True, resources=resources
    )
    client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    temporary = text.with_suffix(".ipynb.part")
    nbformat.write(notebook, temporary)
    temporary.replace(text.with_suffix(".ipynb"))


def main() -> None:
    """Execute or check the tutorials named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*", type=Path, metavar="TUTORIAL.md")
    parser.add_argument("--check", action="store_true", help="only compare notebooks and texts")
    arguments = parser.parse_args()
    texts = arguments.texts or sorted(HERE.glob("*.md"))
    if arguments.check:
        stale = [text.name for text in texts if not in_step(text)]
        for name in stale:
            print(f"{name}: its notebook does not match; run `make tutorials`")
        sys.exit(bool(stale))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a warning about frozen modules
    for text in track(texts, "Executing"):
        execute(text)
        print(f"wrote {text.with_suffix('.ipynb').name}")


if __name__ == "__main__":
    main()
