"""What the tests of `tbc compare` share: a fake clock, no training, and the command."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import typer
from torch import nn
from typer.testing import CliRunner

from tbc_models.cli.compare import compare_networks as command
from tbc_models.comparing import runs as compare_runs
from tbc_models.comparing.networks import Candidate, ImageShape, Mode
from tbc_models.comparing.runs import Plan
from tbc_models.comparing.times import Timer
from tbc_models.data import open_data
from tbc_models.training.recipes import RECIPES
from tbc_models.training.run import Score

MNIST, DIGITS = ImageShape(1, 28, 10), ImageShape(1, 8, 10)
PLAN = Plan(open_data("digits"), ("macs",), 3, RECIPES["small"])
app = typer.Typer()
app.command()(command)


class FakeTimer(Timer):
    """A machine on which inference takes as long as the MACs say, and training longer."""

    turns = 0

    def __call__(self, candidates: Sequence[Candidate], mode: Mode) -> list[float]:
        FakeTimer.turns += 1
        per_weight = 0 if mode == "inference" else 50
        return [float(one.macs + per_weight * one.parameters) for one in candidates]


class Trained(list[tuple[int, int]]):
    """Parameters and seed of what would have been trained, up to an error."""

    error: tuple[int, BaseException] | None = None


@pytest.fixture(name="trained")
def fake_training(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Nothing is trained, nor timed."""
    noted = Trained()

    def fit(network: nn.Module, *_: object, seed: int) -> Score:
        if noted.error and len(noted) == noted.error[0]:
            raise noted.error[1]
        parameters = sum(p.numel() for p in network.parameters())
        noted.append((parameters, seed))
        return Score(0.9 + parameters % 7 / 100 + seed % 3 / 1000 * (parameters % 5), 1.0, 0.5)

    def here(_: int, plan: Plan) -> Executor:
        compare_runs._remember(plan)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(compare_runs, "fit", fit)
    monkeypatch.setattr(compare_runs, "_processes", here)
    monkeypatch.setattr(compare_runs, "Timer", FakeTimer)
    return noted


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture(name="closed")
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")
