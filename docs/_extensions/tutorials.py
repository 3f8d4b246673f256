"""What the site adds to tutorials: links to notebooks and sources, and how long each takes."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

COLAB = "https://colab.research.google.com/github/"
MINUTES = re.compile(r"^\*About (\d+) minutes\.", re.M)


def insert_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Insert links below a tutorial's title; Colab's only if the repository is on GitHub."""
    if not page.startswith("tutorials/"):
        return
    name = page.removeprefix("tutorials/") + ".ipynb"
    links = [f"{{download}}`Download the notebook <{name}>`"]
    repository, branch = app.config.repository, app.config.branch
    if owner := re.fullmatch(r"https://github\.com/([^/]+/[^/]+)", repository):
        colab = f"{COLAB}{owner[1]}/blob/{branch}/tutorials/{name}"
        folder = owner[1].partition("/")[2]
        first = (
            f"`!git clone -q {repository}`, `!pip install -q './{folder}[tutorials]'`, "
            f"`%cd {folder}/tutorials` and `import sys; sys.path.insert(0, '..')`"
        )
        links.append(f"[Open in Colab]({colab}), and run first: {first}")
    line = "{.tutorial-links}\n" + " · ".join(links)
    source[0] = re.sub(r"^(# .+)$", rf"\1\n\n{line}", source[0], count=1, flags=re.M)


def insert_minutes(app: Sphinx, page: str, source: list[str]) -> None:
    """Add a column to the tables of `learn.md`: the time that each tutorial states."""
    if page != "learn":
        return

    def with_time(row: re.Match[str]) -> str:
        if not (path := re.search(r"\((tutorials/.+?\.md)\)", row[0])):
            return row[0] + ("--:|" if row[0].startswith("|-") else " time |")
        text = Path(app.srcdir) / path[1]
        app.env.note_dependency(str(text))
        stated = MINUTES.search(text.read_text())
        return row[0] + (f" {stated[1]} min |" if stated else " |")

    source[0] = re.sub(r"^\|.*\|$", with_time, source[0], flags=re.M)


def edit_the_original(
    _app: Sphinx,
    page: str,
    _template: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Let the link to edit a tutorial lead to its text, not to the copy in this folder."""
    if page.startswith("tutorials/"):
        context["theme_source_directory"] = ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the settings `repository` (an address, or empty) and `branch`."""
    app.add_config_value("repository", "", "env", str)
    app.add_config_value("branch", "main", "env", str)
    app.connect("source-read", insert_links)
    app.connect("source-read", insert_minutes)
    app.connect("html-page-context", edit_the_original)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
