"""A line of links below the title of each tutorial: its notebook, and the notebook in Colab."""

import re

from sphinx.application import Sphinx

COLAB = "https://colab.research.google.com/github/"


def insert_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Insert the links below the title; Colab's only if the repository is on GitHub."""
    if not page.startswith("tutorials/"):
        return
    name = page.removeprefix("tutorials/") + ".ipynb"
    links = [f"{{download}}`Download the notebook <{name}>`"]
    repository, branch = app.config.repository, app.config.branch
    if owner := re.fullmatch(r"https://github\.com/([^/]+/[^/]+)", repository):
        colab = f"{COLAB}{owner[1]}/blob/{branch}/tutorials/{name}"
        install = f"!pip install 'tied-block-conv[tutorials] @ git+{repository}'"
        links.append(f"[Open in Colab]({colab}), where the first cell to run is `{install}`")
    line = "{.tutorial-links}\n" + " · ".join(links)
    source[0] = re.sub(r"^(# .+)$", rf"\1\n\n{line}", source[0], count=1, flags=re.M)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the settings `repository` (an address, or empty) and `branch`."""
    app.add_config_value("repository", "", "env", str)
    app.add_config_value("branch", "main", "env", str)
    app.connect("source-read", insert_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
