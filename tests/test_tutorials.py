"""The stored notebooks match their texts, and nbval tells when an output no longer holds."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parent.parent
TEXTS = sorted((ROOT / "tutorials").glob("*.md"))


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own commands)
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_stored_notebooks_match_their_texts(tmp_path: Path) -> None:
    assert len(TEXTS) >= 4
    checked = run("tutorials/build.py", "--check")
    assert checked.returncode == 0, checked.stdout
    stale = tmp_path / TEXTS[0].name
    stale.write_text(TEXTS[0].read_text().replace("blocks=4", "blocks=2"))
    notebook = TEXTS[0].with_suffix(".ipynb")
    stale.with_suffix(".ipynb").write_text(notebook.read_text())
    checked = run("tutorials/build.py", "--check", stale)
    assert checked.returncode == 1
    assert stale.name in checked.stdout


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_tutorials_keep_their_shape(text: Path) -> None:
    source = text.read_text()
    for promise in ("What you will do.", "What you will learn.", "What you need."):
        assert f"**{promise}**" in source
    assert "\n## Exercises\n" in source
    assert "\n## Where next\n" in source
    assert ":tags: [hide-cell]" in source  # the solutions
    stored = nbformat.read(text.with_suffix(".ipynb"), 4)
    assert max(len(c.source.splitlines()) for c in stored.cells if c.cell_type == "code") <= 15
    pictures = sum(
        "image/png" in o.get("data", {}) for c in stored.cells for o in c.get("outputs", [])
    )
    assert pictures >= 3


def test_an_output_that_no_longer_matches_fails(tmp_path: Path) -> None:
    for name, stored in (("right", "2\n"), ("wrong", "3\n"), ("never_executed", None)):
        outputs = [] if stored is None else [new_output("stream", name="stdout", text=stored)]
        cell = new_code_cell("print(1 + 1)", outputs=outputs, execution_count=1)
        nbformat.write(new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
    sanitize = ROOT / "tutorials" / "nbval.cfg"
    result = run(
        *("-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-sanitize-with", sanitize),
        *("-rA", "--tb=no"),
        cwd=tmp_path,
    )
    assert result.returncode == 1, result.stdout
    for outcome, name in (("PASSED", "right"), ("FAILED", "wrong"), ("FAILED", "never_executed")):
        assert re.search(rf"^{outcome} .*{name}.ipynb::Cell 0", result.stdout, re.M), result.stdout
