"""Plant bugs in copies of the packages; the tests must find each: `python -m tests.mutations`.

Every mutation is one edit of one line. The line is found by its text, below the definition that it
belongs to, so that code may move without this file. Only the tests that could catch a mutation are
run, and they must pass without it first: all are part of `make test`.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parent.parent
REFERENCE = ("tests/test_reference.py",)
BACKEND = ("tests/test_backend.py", "tests/test_algorithms.py")


class Mutation(NamedTuple):
    """One bug to plant.

    Attributes:
        what: the bug, in words.
        file: path of the file, from the root.
        below: text that stands once in the file, above the line.
        old: text to replace, where it first stands below that.
        new: what replaces it.
        tests: the files of tests that could catch it.
    """

    what: str
    file: str
    below: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Plant the bug in a copy."""
        path = root / self.file
        text = path.read_text()
        if text.count(self.below) != 1:
            raise ValueError(f"{self.below!r} must stand once in {self.file}: {self.what}")
        start = text.index(self.below)
        following = re.search(r"^(?:def|class|@)", text[start + len(self.below) :], re.M)
        end = start + len(self.below) + following.start() if following else len(text)
        if self.old not in text[start:end]:
            raise ValueError(f"{self.old!r} must stand below {self.below!r} in {self.file}")
        path.write_text(text[:start] + text[start:end].replace(self.old, self.new, 1) + text[end:])


def _reference(what: str, file: str, below: str, old: str, new: str) -> Mutation:
    return Mutation(what, f"tbc_ref/{file}", below, old, new, REFERENCE)


def _backend(what: str, file: str, below: str, old: str, new: str) -> Mutation:
    return Mutation(what, f"tbc_gpu/{file}", below, old, new, BACKEND)


_SC, _SC_B = "def standard_conv(", "def standard_conv_backward("
_TBC, _TBC_B = "def tied_block_conv(", "def tied_block_conv_backward("
_FUNCTION = "def convolve("

MUTATIONS = (
    # The reference.
    _reference("flip the sign of y", "conv.py", _SC, "y += xp.matmul", "y -= xp.matmul"),
    _reference("forget the bias", "conv.py", _SC, "y += b[:, None]", "y += 0 * b[:, None]"),
    _reference("swap kernel rows and columns", "conv.py", _SC, "i * k_w + j", "j * k_h + i"),
    _reference("flip the sign of dx", "conv.py", _SC_B, "+= xp.reshape", "-= xp.reshape"),
    _reference("keep only the last tap of dx", "conv.py", _SC_B, "+= xp.reshape", "= xp.reshape"),
    _reference(
        "flip the sign of dw", "conv.py", _SC_B, "xp.sum(xp.matmul(dy", "xp.sum(xp.matmul(-dy"
    ),
    _reference(
        "average db over images",
        "conv.py",
        _SC_B,
        "xp.sum(dy, axis=(0, 2))",
        "xp.sum(dy, axis=(0, 2)) / max(n, 1)",
    ),
    _reference(
        "swap stride and dilation",
        "geometry.py",
        "def geometry(",
        "Geometry(strides, dilations",
        "Geometry(dilations, strides",
    ),
    _reference(
        "pad above instead of left",
        "geometry.py",
        "def inside(",
        "zip(self.before, size",
        "zip(self.before[::-1], size",
    ),
    _reference(
        "round the output size up",
        "geometry.py",
        "def geometry(",
        "(padded[0] - spans[0]) // strides[0] + 1",
        "-((spans[0] - padded[0]) // strides[0]) + 1",
    ),
    _reference(
        "read another group's filters",
        "conv.py",
        "def group_conv(",
        "standard_conv(X[g], W[g]",
        "standard_conv(X[g], W[-1 - g]",
    ),
    _reference("give every group the first bias", "conv.py", "def group_conv(", "b_[g]", "b_[0]"),
    _reference(
        "read the wrong block",
        "tied.py",
        _TBC,
        "in split(x, blocks, axis=1)",
        "in split(x, blocks, axis=1)[::-1]",
    ),
    _reference(
        "drop the sum of dW' over blocks",
        "tied.py",
        _TBC_B,
        "dw=reduce(add, (part.dw for part in parts))",
        "dw=parts[-1].dw",
    ),
    _reference(
        "drop the sum of db over blocks",
        "tied.py",
        _TBC_B,
        "db=reduce(add, (part.db for part in parts))",
        "db=parts[0].db",
    ),
    _reference(
        "take one block's dy for all",
        "tied.py",
        _TBC_B,
        "standard_conv_backward(dY_b",
        "standard_conv_backward(split(dy, blocks, axis=1)[0]",
    ),
    _reference(
        "drop the sum over blocks of TFC",
        "tied.py",
        "def tied_block_linear_backward(",
        "dw=reduce(add, (part.dw for part in parts))",
        "dw=parts[0].dw",
    ),
    _reference(
        "flip the sign of dx",
        "linear.py",
        "def linear_backward(",
        "dx=xp.matmul(dy, w)",
        "dx=-xp.matmul(dy, w)",
    ),
    Mutation(
        "count the MACs of one block only",
        "tbc_ref/cost.py",
        "def tied_block_group_conv(",
        "macs=B * weights",
        "macs=weights",
        ("tests/test_cost.py",),
    ),
    # The backend.
    _backend(
        "drop the dilation",
        "functional.py",
        _FUNCTION,
        "Geometry(stride, (top, left), dilation",
        "Geometry(stride, (top, left), (1, 1)",
    ),
    _backend(
        "swap stride and dilation",
        "functional.py",
        _FUNCTION,
        "Geometry(stride, (top, left), dilation",
        "Geometry(dilation, (top, left), stride",
    ),
    _backend(
        "swap horizontal and vertical padding",
        "functional.py",
        _FUNCTION,
        "(top, left), dilation",
        "(left, top), dilation",
    ),
    _backend(
        "forget the bias",
        "functional.py",
        _FUNCTION,
        "(images, weight, bias, at)",
        "(images, weight, None, at)",
    ),
    _backend(
        "leave the channels in the authors' order",
        "functional.py",
        _FUNCTION,
        "y = _swap(y, blocks, groups)",
        "pass",
    ),
    _backend(
        "skip the stride of 1x1 kernels",
        "functional.py",
        _FUNCTION,
        ":: stride[0], :: stride[1]",
        "::1, ::1",
    ),
    _backend(
        "split TFC's features the other way",
        "functional.py",
        "def tied_block_linear(",
        "F.linear(input.unflatten(-1, (blocks, -1)), weight, bias).flatten(-2)",
        "F.linear(input.unflatten(-1, (-1, blocks)).mT, weight, bias).flatten(-2)",
    ),
    _backend(
        "fold the images into the blocks",
        "algorithms.py",
        "def fold(",
        "y.reshape(n, at.blocks * y.shape[1], *y.shape[2:])",
        "y.reshape(at.blocks, n, y.shape[1], *y.shape[2:]).transpose(0, 1).flatten(1, 2)",
    ),
    _backend(
        "read the neighbouring block",
        "algorithms.py",
        "def dilated(",
        "at.padding[1] * at.blocks)",
        "at.padding[1] * at.blocks + (at.blocks > 1))",
    ),
    _backend(
        "forget the dilation between blocks",
        "algorithms.py",
        "def dilated(",
        "at.dilation[1] * at.blocks if",
        "at.dilation[1] if",
    ),
    _backend(
        "stride along the blocks",
        "algorithms.py",
        "def conv3d(",
        "(*at.stride, 1)",
        "(1, *at.stride)",
    ),
    _backend(
        "put channels before blocks",
        "algorithms.py",
        "def conv3d(",
        "y.permute(0, 2, 3, 4, 1)",
        "y.permute(0, 2, 3, 1, 4)",
    ),
    _backend(
        "repeat the filters of each group in turn",
        "algorithms.py",
        "def _repeat(",
        "[of_group for of_group in filters.chunk(groups) for _ in range(blocks)]",
        "[of_group for _ in range(blocks) for of_group in filters.chunk(groups)]",
    ),
    _backend(
        "order channels as ours, not the authors'",
        "algorithms.py",
        "def authors_channel_order(",
        ".transpose(0, 1).flatten()",
        ".flatten()",
    ),
    _backend(
        "pad on the right what goes left",
        "checks.py",
        "def sides_of(",
        "return left, spread[1] - left",
        "return spread[1] - left, left",
    ),
    _backend(
        "initialise for the dense fan-in",
        "modules.py",
        "def _reset(",
        "math.prod(weight.shape[1:])",
        "math.prod(weight.shape)",
    ),
)


class Outcome(NamedTuple):
    """The result of the tests for one mutation."""

    mutation: Mutation
    found_by: str  # the first test that failed, or nothing
    seconds: float


_QUIET = ("-x", "-q", "-n", "0", "--tb=no", "-rfE", "-m", "not slow", "-p", "no:cacheprovider")


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the code and its tests."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        root.mkdir()
        for name in ("tbc_ref", "tbc_gpu", "tbc_models", "tests"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)
        yield root


def failing(root: Path, tests: tuple[str, ...]) -> str:
    """Run some tests on a copy; return the first that fails, or an empty string.

    Raises:
        RuntimeError: if the tests could not be run at all.
    """
    done = subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, "-m", "pytest", *_QUIET, *tests],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=360,  # as long as all of `make test` may take
    )
    if done.returncode == 0:
        return ""
    lines = done.stdout.splitlines()
    failed = [line.split()[1] for line in lines if line.startswith("FAILED")]
    if done.returncode != 1 or not failed:  # such as an error in the test itself
        raise RuntimeError(done.stdout + done.stderr)
    return failed[0]


def attempt(mutation: Mutation) -> Outcome:
    """Plant one bug and run the tests."""
    begun = time.perf_counter()
    with copied() as root:
        mutation.apply(root)
        return Outcome(mutation, failing(root, mutation.tests), time.perf_counter() - begun)


def main() -> None:
    """Plant every bug and print which test found it."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="bugs at a time")
    jobs = parser.parse_args().jobs
    with copied() as root:  # or the tests could fail without a bug
        for tests in track(sorted({m.tests for m in MUTATIONS}), "Running the tests without a bug"):
            if found_by := failing(root, tests):
                sys.exit(f"{found_by} fails without a bug")
    table = Table("mutation", "file", "found by", "s", box=None)
    with ThreadPoolExecutor(jobs) as pool:
        tries = pool.map(attempt, MUTATIONS)
        outcomes = list(track(tries, "Planting bugs", total=len(MUTATIONS)))
    for mutation, found_by, seconds in outcomes:
        table.add_row(mutation.what, mutation.file, found_by or "NOTHING", f"{seconds:.0f}")
    Console(width=160).print(table)
    found = sum(bool(outcome.found_by) for outcome in outcomes)
    print(f"{found} of {len(outcomes)} mutations found")
    sys.exit(found < len(outcomes))


if __name__ == "__main__":
    main()
