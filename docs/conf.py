"""Sphinx settings: every page shows what its code printed, and asks nothing of other sites."""

import hashlib
import os
import shutil
from pathlib import Path

from jupyter_cache import get_cache

import tbc_ref

ROOT = Path(__file__).parent.parent

project = "tied-block-conv"
author = "The tied-block-conv developers"
copyright = "2026, the tied-block-conv developers"  # noqa: A001 (Sphinx's name for it)
release = version = tbc_ref.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "tutorials/*.ipynb"]
default_role = "code"

# Sphinx reads only what lies below its own folder.
shutil.rmtree(ROOT / "docs" / "tutorials", ignore_errors=True)
(ROOT / "docs" / "tutorials").mkdir()
for tutorial in [*(ROOT / "tutorials").glob("*.md"), *(ROOT / "tutorials").glob("*.ipynb")]:
    shutil.copy2(tutorial, ROOT / "docs" / "tutorials")

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
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
nb_ipywidgets_js: dict[str, str] = {}  # no script from elsewhere
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # a kernel's warning about frozen modules

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the descriptions tell shapes and units, which types do not
autodoc_member_order = "bysource"
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
# MathJax 3 in one file: version 4 fetches its fonts from elsewhere.
mathjax_path = "mathjax/tex-svg.js"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "Tied Block Convolution"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/favicon.svg"
html_show_sphinx = False
