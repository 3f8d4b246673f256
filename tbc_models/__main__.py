"""`python -m tbc_models` is `tbc`, for what starts modules: torchrun."""

from tbc_models.cli import app

app(prog_name="tbc")
