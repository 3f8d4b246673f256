"""Public suites that nobody here wrote, run on both implementations."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from . import conformance


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the command finds; in a process of its own, as PyTorch's test tools freeze its flags."""
    file = tmp_path_factory.mktemp("conformance") / "found.json"
    command = [sys.executable, "-m", "tests.conformance", "--json", str(file)]
    done = subprocess.run(  # noqa: S603 (our own command)
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    assert file.exists(), done.stdout + done.stderr
    assert (done.returncode == 0) == all(" 0 failed" in line for line in done.stdout.splitlines())
    return {row["suite"]: row for row in json.loads(file.read_text())["suites"]}


@pytest.mark.parametrize("name", conformance.SUITES)
def test_both_implementations_agree_with_a_suite_that_others_wrote(
    name: str, suites: dict[str, dict[str, Any]]
) -> None:
    found = suites[name]
    assert found["failures"] == []
    assert found["cases"] >= 10
    stored = {row["suite"]: row for row in json.loads(conformance.RESULTS.read_text())["suites"]}
    assert stored[name]["failures"] == []
    package, installed = stored[name]["source"].partition(",")[0].split()
    if version(package) == installed:  # another version of a suite has other cases
        assert found["comparisons"] == stored[name]["comparisons"]
        assert found["excluded"] == stored[name]["excluded"]


def test_every_operator_meets_every_suite_of_layers(suites: dict[str, dict[str, Any]]) -> None:
    operators = ("SC", "GC", "TBC", "TGC", "FC", "TFC")
    expected = {f"{package}, {o}" for package in ("tbc_ref", "tbc_gpu") for o in operators}
    for name, suite in suites.items():
        if name != "PyTorch's error inputs":
            assert set(suite["comparisons"]) == expected
