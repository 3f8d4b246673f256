"""Files that are replaced at once, with the permissions that they should have."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tbc_models.files import replacing, write_text


@pytest.fixture
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize(
    ("_umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)], indirect=["_umask"]
)
@pytest.mark.usefixtures("_umask")
def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path: Path, expected: int) -> None:
    write_text(tmp_path / "new.txt", "new")
    assert mode(tmp_path / "new.txt") == expected


@pytest.mark.parametrize("old", [0o600, 0o640, 0o666, 0o755, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, old: int) -> None:
    file = tmp_path / "old.txt"
    file.write_text("old")
    file.chmod(old)
    with replacing(file) as temporary:
        assert mode(temporary) == 0o600  # nobody else reads it while it is written
        temporary.write_text("new")
    assert (file.read_text(), mode(file)) == ("new", old)
