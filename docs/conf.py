"""Sphinx settings: every page shows what its code printed, and asks nothing of other sites."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from jupyter_cache import get_cache
from sphinx.application import Sphinx

import tbc_ref

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "_extensions"))


def address_of_origin() -> str:
    """The web address of the git remote `origin`, or nothing: it may be a folder, or absent."""
    remote = subprocess.run(
        ["git", "remote", "get-url", "origin"],  # noqa: S607 (the git of whoever builds)
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    found = re.fullmatch(r"(?:https://|ssh://git@|git@)([\w.-]+)[:/](.+?)(?:\.git)?/?", remote)
    return f"https://{found[1]}/{found[2]}" if found else ""


# Where the site and its sources live is known to whoever publishes them, and never written here.
html_baseurl = os.environ.get("SITE_URL", "")
repository = os.environ.get("REPOSITORY_URL") or address_of_origin()
branch = os.environ.get("REPOSITORY_BRANCH", "main")

project = "tied-block-conv"
author = "The tied-block-conv developers"
release = version = tbc_ref.__version__
copyright = (  # noqa: A001 (Sphinx's name for it)
    f"2026, the tied-block-conv developers. Version {version}, MIT licence"
)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.katex",
    "notfound.extension",
    "accessibility",
    "command_line",
    "explorer",
    "pictures",
    "source_links",
    "tutorials",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "tutorials/*.ipynb"]
default_role = "code"

# Sphinx reads only what lies below its own folder.
shutil.rmtree(ROOT / "docs" / "tutorials", ignore_errors=True)
(ROOT / "docs" / "tutorials").mkdir()
for tutorial in [*(ROOT / "tutorials").glob("*.md"), *(ROOT / "tutorials").glob("*.ipynb")]:
    shutil.copy2(tutorial, ROOT / "docs" / "tutorials")
os.environ["MATPLOTLIBRC"] = str(ROOT / "tutorials" / "matplotlibrc")

# Other pages with code are executed, and their outputs kept for as long as no file of the packages
# or of the results changes: a second build is quick, and never shows what an older version said.
sources = [path for end in ("py", "json", "safetensors") for path in ROOT.glob(f"tbc_*/**/*.{end}")]
sources += ROOT.glob("docs/_results/*.*")
digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()[:16]
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "docs" / "_build" / "executed" / digest)
# A tutorial is executed once, by `make tutorials`, and `make test` compares its stored outputs with
# another execution. The site shows the stored ones, unless the text has changed since.
for stored in (ROOT / "tutorials").glob("*.ipynb"):
    get_cache(nb_execution_cache_path).cache_notebook_file(
        stored, check_validity=False, overwrite=True
    )
nb_execution_show_tb = True  # a failing cell is a warning, with its traceback; warnings are errors
nb_execution_timeout = 600
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the drawing code"
nb_code_prompt_hide = "Hide the drawing code"
nb_ipywidgets_js: dict[str, str] = {}  # no script from elsewhere
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a kernel's warning about frozen modules

myst_enable_extensions = [
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the descriptions tell shapes and units, which types do not
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
napoleon_use_ivar = True
nitpick_ignore = [  # they stand on another site
    ("py:class", "torch.nn.modules.module.Module"),
    ("py:class", "torch.Tensor"),
    ("py:class", "pathlib.Path"),
    ("py:class", "collections.abc.Callable"),
    ("py:class", "collections.abc.Mapping"),
    ("py:class", "matplotlib.figure.Figure"),
    ("py:class", "numpy.dtype"),
    ("py:class", "numpy.ndarray"),
    ("py:class", "numpy.bool"),
    ("py:class", "numpy.float64"),
    ("py:class", "numpy.int64"),
]
# Not fetched from elsewhere: the extension brings the script, `_static/katex` the style and fonts.
katex_css_path = "katex/katex.min.css"
katex_options = "{throwOnError: false, errorColor: '#e5484d'}"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "Tied Block Convolution"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/favicon.svg"
html_search_scorer = str(ROOT / "docs" / "_static" / "search_scorer.js")
html_show_sphinx = False
html_theme_options = {}
if repository:
    html_theme_options = {
        "source_repository": repository,
        "source_branch": branch,
        "source_directory": "docs/",
        "top_of_page_buttons": ["edit"],
        "footer_icons": [
            {"name": "Repository", "url": repository, "html": "Repository", "class": ""},
            {
                "name": "Licence",
                "url": f"{repository}/blob/{branch}/LICENSE",
                "html": "Licence",
                "class": "",
            },
        ],
    }
html_copy_source = html_show_sourcelink = False
html_use_index = html_domain_indices = False  # the search field finds more
notfound_context = {
    "title": "Page not found",
    "body": "<h1>Page not found</h1>\n<p>There is no page at this address. The menu lists all of "
    "them, and the search field above it looks through their text.</p>",
}
notfound_urls_prefix = "/" + html_baseurl.split("//", 1)[-1].partition("/")[2]
if html_baseurl:
    extensions += ["sphinx_sitemap", "sphinxext.opengraph"]
    sitemap_url_scheme = "{link}"
    ogp_site_url = html_baseurl
    ogp_image = "_static/social.png"


def drop_unused(
    _app: Sphinx,
    _page: str,
    _template: str,
    context: dict[str, Any],
    _doctree: nodes.document | None,
) -> None:
    """Load what only some pages need on those alone: KaTeX weighs 300 KB, sphinx-design 60."""
    body = context.get("body", "")
    needed = {"katex|auto-render": 'class="math' in body, "design": re.search(r"\bsd-", body)}
    for files, need in needed.items():
        if not need:
            for kind in ("script_files", "css_files"):
                kept = [one for one in context[kind] if not re.search(files, str(one))]
                context[kind] = kept


def say_where(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the repository's address where a page says how to clone it."""
    source[0] = source[0].replace("REPOSITORY_URL", repository or "<address of the repository>")


def setup(app: Sphinx) -> None:
    """Connect what belongs to no extension."""
    app.connect("source-read", say_where)
    app.connect("html-page-context", drop_unused)
