"""`python -m tbc_models` is `tbc`, for what starts modules: torchrun."""

from .cli import app

app(prog_name="tbc")
