"""Bugs planted in the packages are found by the tests that `make test` runs."""

import pytest

from . import mutations
from .mutations import MUTATIONS, Mutation


@pytest.mark.slow
@pytest.mark.parametrize("tests", sorted({m.tests for m in MUTATIONS}), ids=lambda t: t[0])
def test_without_a_bug_the_tests_pass(tests: tuple[str, ...]) -> None:
    with mutations.copied() as root:
        assert mutations.failing(root, tests) == ""


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.file}: {m.what}")
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    assert mutations.attempt(mutation).found_by


def test_every_mutation_can_be_planted() -> None:
    """Edits of the code that they no longer fit are found at once, not by `make test-slow`."""
    assert len(MUTATIONS) >= 20
    with mutations.copied() as root:
        for mutation in MUTATIONS:
            before = (root / mutation.file).read_text()
            mutation.apply(root)
            changed = (root / mutation.file).read_text()
            assert changed != before
            compile(changed, mutation.file, "exec")
            (root / mutation.file).write_text(before)
