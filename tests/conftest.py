import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

mpl.use("agg")
settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
