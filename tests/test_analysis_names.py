"""The public names of the analysis."""

import subprocess
import sys

import pytest

import tbc_models.analysis
from tbc_models.analysis import filter_similarity, grad_cam, guided_backprop


def test_the_public_names_can_be_imported() -> None:
    names = [one.__name__ for one in (filter_similarity, grad_cam, guided_backprop)]
    assert names == tbc_models.analysis.__all__
    with pytest.raises(AttributeError, match="has no attribute 'filter_similarty'"):
        _ = tbc_models.analysis.filter_similarty


def test_pytorch_is_imported_when_it_is_needed() -> None:
    program = "import sys, tbc_models.analysis; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 (our own program)
