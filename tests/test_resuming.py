"""A run that is killed, stopped or out of disk loses nothing; several processes share it."""

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tbc_models.training.callbacks import read_checkpoint
from tbc_models.training.settings import Settings

from . import runs
from .runs import DIGITS, history, refused, same, tbc


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that begin where the imports are done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.runs"])
    return context


@pytest.fixture(scope="module")
def never_killed(
    processes: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Path, float]:
    """A run with everything that has a state: mixup, RandAugment, warm-up, an average."""
    out: Path = tmp_path_factory.mktemp("never") / "killed"
    chosen = runs.settings(recipe="strong", epochs=3)
    warm = processes.Process(target=time.sleep, args=(0,))  # the imports
    warm.start()
    warm.join()
    start = time.perf_counter()
    process = processes.Process(target=runs.go, args=(chosen, out))
    process.start()
    process.join()
    assert process.exitcode == 0
    return chosen, out, time.perf_counter() - start


@pytest.mark.parametrize(
    "kill", [*(pytest.param(k, marks=pytest.mark.slow) for k in range(10) if k != 5), 5]
)
def test_killed_at_a_random_moment_a_run_ends_as_if_it_never_was(
    kill: int, never_killed: tuple[Settings, Path, float], processes: Any, tmp_path: Path
) -> None:
    chosen, whole, seconds = never_killed
    number = chosen.epochs * chosen.steps
    moments = random.Random(kill)  # noqa: S311
    # In each tenth of the steps, so that ten kills are spread over all of the run; counted in
    # steps and not in seconds, so that a fast run does not end before it is killed.
    step = int((kill + moments.random()) / 10 * number) + 1
    delay = moments.random() / 2 * seconds / number
    print(f"killed {delay:.3f} s after the start of step {step} of {number}")  # noqa: T201
    steps = processes.Value("i", 0)
    process = processes.Process(
        target=runs.go, args=(chosen, tmp_path / "run"), kwargs={"steps": steps}
    )
    process.start()
    while steps.value < step and process.is_alive():
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before it was killed"
    again = processes.Process(
        target=runs.go, args=(chosen, tmp_path / "run"), kwargs={"resume": True}
    )
    again.start()
    again.join()
    assert again.exitcode == 0
    same(whole, tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("half a file", 3),
        pytest.param("before renaming", 1, marks=pytest.mark.slow),
        pytest.param("before renaming", 4, marks=pytest.mark.slow),
        ("between best and last", 1),
        pytest.param("while it draws", 2, marks=pytest.mark.slow),
    ],
)
def test_killed_while_it_writes_a_checkpoint_a_run_keeps_the_one_before(
    moment: runs.Moment,
    number: int,
    never_killed: tuple[Settings, Path, float],
    processes: Any,
    tmp_path: Path,
) -> None:
    chosen, whole, _ = never_killed
    out = tmp_path / "run"
    process = processes.Process(target=runs.go_until, args=(moment, number, chosen, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if moment in ("half a file", "before renaming"):
        assert list(out.glob(".last.ckpt.*")) or list(out.glob(".best.ckpt.*"))  # the half one
    for file in out.glob("*.ckpt"):
        read_checkpoint(file)  # whole
    again = processes.Process(target=runs.go, args=(chosen, out), kwargs={"resume": True})
    again.start()
    again.join()
    assert again.exitcode == 0
    same(whole, out)


def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    written = []
    real = os.fsync

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    told = refused(*DIGITS, "--epochs", 3, "--save-every", 4, "--out", out)
    assert "No space left on device" in told
    assert str(out / "last.ckpt") in told
    _, last = read_checkpoint(out / "last.ckpt")
    assert last["global_step"] > 0
    assert not list(out.glob(".*"))
    monkeypatch.undo()
    tbc(*DIGITS, "--epochs", 3, "--out", out, "--resume")
    tbc(*DIGITS, "--epochs", 3, "--out", tmp_path / "undisturbed")
    same(out, tmp_path / "undisturbed")


def test_a_run_that_diverges_stops_with_its_last_finite_checkpoint(tmp_path: Path) -> None:
    told = refused(
        *DIGITS, "--epochs", 2, "--lr", "1e12", "--save-every", 1, "--out", tmp_path / "run"
    )
    step = re.search(
        r"(?:the loss is (?:nan|inf) at|a weight is not finite after) step (\d+);", told
    )
    assert step is not None, told
    assert f"the last good checkpoint is {tmp_path / 'run' / 'last.ckpt'}" in told
    _, last = read_checkpoint(tmp_path / "run" / "last.ckpt")
    assert last["global_step"] == int(step[1]) - 1
    for name, value in last["state_dict"].items():
        assert value.isfinite().all(), name
    assert told.endswith("; try a lower learning rate with --lr")


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"state_dict": Evil(), "hyper_parameters": {}}, tmp_path / "evil.ckpt")
    assert "is not a checkpoint of `tbc train`" in refused("evaluate", tmp_path / "evil.ckpt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_run_with_a_word(by: signal.Signals, code: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "tbc_models",
        *DIGITS,
        "--epochs",
        "999",
        "--out",
        str(out),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                break
        process.send_signal(by)
        _, told = process.communicate()
    assert process.returncode == code
    assert "Error: stopped after step" in told
    assert f"the last good checkpoint is {out / 'last.ckpt'}; run the command again with" in told
    assert "Traceback" not in told


def test_channels_last_and_bfloat16_learn_too(tmp_path: Path) -> None:
    options = ["--epochs", 2, "--batch-size", 64, "--channels-last", "--precision", "bf16-mixed"]
    told = tbc(*DIGITS, *options, "--out", tmp_path / "run")
    rows = history(tmp_path / "run")
    assert float(rows[1]["train/loss"]) < float(rows[0]["train/loss"])
    assert "Trained" in told


def test_compile_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    tbc(*DIGITS, "--epochs", 1, "--compile", "--out", tmp_path / "run")
    assert compiled == ["SmallImageResNet"]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    # Batch norm would see half a batch in each process; group norm sees every image alone.
    options = [*DIGITS, "--set=norm_layer=groupnorm1", "--recipe", "paper", "--epochs", "1"]
    options += ["--batch-size", "1438"]  # one step with all images
    one, two, torchrun = (tmp_path / name for name in ("one", "two", "torchrun"))
    runs.launched("tbc_models", *options, "--out", str(one))
    told = runs.launched("tbc_models", *options, "--devices", "2", "--out", str(two))
    assert told.count("epoch 1/1") == 1  # by the first process
    runner = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    told = runs.launched(*runner, "-m", "tbc_models", *options, "--out", str(torchrun))
    assert told.count("epoch 1/1") == 1
    alone, *both = (read_checkpoint(out / "last.ckpt")[1] for out in (one, two, torchrun))
    assert alone["global_step"] == 1
    for state in both:
        assert_close(momenta(state), momenta(alone))
        assert_close(state["state_dict"], alone["state_dict"])
    losses = [float(history(out)[0]["test/loss"]) for out in (one, two, torchrun)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def momenta(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """After one step the momentum is the gradient, and the weight decay."""
    (of_sgd,) = state["optimizer_states"]
    return {str(i): of["momentum_buffer"] for i, of in of_sgd["state"].items()}


def assert_close(found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert found.keys() == right.keys()
    for name, value in right.items():
        # 1,438 images are added in another order; twelve layers pass on what that rounds.
        error = (found[name].double() - value.double()).abs().max()
        assert error <= 1e-4 * value.abs().max(), name
