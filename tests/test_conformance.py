"""Public suites that nobody here wrote, run on both implementations."""

import json
from importlib.metadata import version

import pytest

from . import conformance


@pytest.mark.parametrize("name", conformance.SUITES)
def test_both_implementations_agree_with_a_suite_that_others_wrote(name: str) -> None:
    result = conformance.SUITES[name]()
    assert result.failures == []
    assert result.cases >= 10
    # No operator is left out by accident; what a suite has no layers of is in the table too.
    assert set(result.comparisons.values()) != {0}
    stored = json.loads(conformance.RESULTS.read_text())
    (row,) = (row for row in stored["suites"] if row["suite"] == result.suite)
    assert row["failures"] == []
    package, installed = row["source"].partition(",")[0].split()
    if version(package) == installed:  # another version of a suite has other cases
        assert row["comparisons"] == result.comparisons
        assert row["excluded"] == result.excluded
