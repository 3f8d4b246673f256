import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

# One thread a process, in kernels and child processes too: pytest starts a process on every core,
# and a second thread in each makes all of them wait for one another, six times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

mpl.use("agg")
settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """The system's Chromium, for the tests of the site."""
    from tests.site import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def home() -> Iterator[str]:
    """The address of the built site."""
    from tests.site import hosted

    with hosted() as address:
        yield address
