"""The runs of `tbc compare`, in processes of their own.

A run depends only on its network, its seed and the settings: it uses one thread, draws the weights
after seeding, and shuffles batches by the seed. So one CPU gives the same accuracies every time,
for any number of processes, and a run that the file already holds need not be repeated. The
networks of a time budget are found by measuring, and belong to the file for the same reason.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch

from tbc_models.bench.timing import ALLOCATOR
from tbc_models.comparing.networks import (
    Ablation,
    Budget,
    Candidate,
    ImageShape,
    Scale,
    ablation,
    build_candidate,
    families,
)
from tbc_models.comparing.times import Timer, families_by_time, timed
from tbc_models.data import Data
from tbc_models.training.classifier import DivergedError
from tbc_models.training.loading import STREAMS
from tbc_models.training.recipes import Recipe
from tbc_models.training.run import fit


@dataclass(frozen=True)
class Plan:
    """What is compared, and how it is trained.

    Attributes:
        data: images to train and test with.
        panels: comparisons to make: the budgets at which networks cost the same, or one ablation.
        seeds: number of seeds; they are 0, 1, 2 and so on.
        recipe: training recipe of every run.
        scale: size of SC; an ablation has only one.
        device: where to train and to measure times, "cpu" or "cuda".
        networks: the networks, as `calibrated` found them or a file holds them; by default those
            that are equal by count.
    """

    data: Data
    panels: tuple[Budget, ...] | tuple[Ablation]
    seeds: int
    recipe: Recipe
    scale: Scale = "small"
    device: str = "cpu"
    networks: tuple[Candidate, ...] = ()

    @cached_property
    def image_shape(self) -> ImageShape:
        """Channels, size and classes of the images."""
        return ImageShape(self.data.channels, self.data.size, len(self.data.classes))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The networks that are compared, the yardstick first."""
        if self.networks:
            return self.networks
        if self.panels in (("splits",), ("mixer",)):
            return tuple(ablation(self.panels[0], self.image_shape))  # type: ignore[arg-type]
        return tuple(families(self.panels, self.image_shape, self.scale))  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        """Return everything that the accuracies depend on, except the machine."""
        plan = {
            "streams": STREAMS,
            "data": self.data.name,
            "fingerprint": self.data.fingerprint,
            "train": len(self.data.train),
            "test": len(self.data.test),
            "mirror": self.data.mirror,
            "panels": list(self.panels),
            "scale": self.scale,
            "device": self.device,
            "seeds": self.seeds,
        }
        return plan | {f"recipe: {name}": value for name, value in asdict(self.recipe).items()}


class RunScore(NamedTuple):
    """The score of one training.

    Attributes:
        network: name of the candidate.
        seed: seed of its weights and batches.
        top1: fraction of the test images whose class is the most probable one.
        loss: mean cross entropy of the test images.
    """

    network: str
    seed: int
    top1: float
    loss: float


class CompareError(ValueError):
    """A comparison that cannot be made or resumed, and why."""


def calibrated(plan: Plan) -> Plan:
    """Find the networks of the time budgets, if the plan lacks them, and measure all times.

    Args:
        plan: what is compared.

    Returns:
        The plan with its networks and their times, which differ slightly in every measurement.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan(open_data("digits"), ("macs",), 1, RECIPES["small"])
        >>> plan = replace(plan, networks=plan.candidates[:1])
        >>> calibrated(plan).candidates[0].times["training"].median
        1.0
    """
    unknown = "inference" in plan.panels and not plan.networks
    known = () if unknown else plan.candidates
    with _processes(1, plan) as pool:
        return replace(plan, networks=pool.submit(_measure_in_worker, known).result())


def run_once(candidate: Candidate, seed: int, plan: Plan) -> RunScore:
    """Train one candidate with one seed, in this process.

    Args:
        candidate: network to train.
        seed: seed of its initial weights and of its batches.
        plan: images and recipe.

    Returns:
        Its score on the test images.

    Raises:
        CompareError: if the loss is not finite.

    Example:
        >>> from dataclasses import replace
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> recipe = replace(RECIPES["small"], epochs=1)
        >>> plan = Plan(open_data("digits"), ("macs",), 2, recipe)
        >>> run_once(plan.candidates[0], 0, plan) == run_once(plan.candidates[0], 0, plan)
        True
    """
    torch.manual_seed(seed)
    network = build_candidate(candidate, plan.image_shape)
    try:
        score = fit(network, plan.data, plan.recipe, seed=seed)
    except DivergedError as error:
        raise CompareError(f"{candidate.name}, seed {seed}: {error}") from None
    return RunScore(candidate.name, seed, round(score.top1, 6), round(score.loss, 6))


def runs(plan: Plan, have: Sequence[RunScore], jobs: int) -> Iterator[RunScore]:
    """Make all runs that are missing, and yield each when it is complete.

    Args:
        plan: what is compared.
        have: runs that need not be repeated.
        jobs: number of processes that train at the same time.

    Yields:
        The runs, those of the first seeds first.

    Raises:
        CompareError: if a loss is not finite.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan(open_data("digits"), ("macs",), 1, RECIPES["small"])
        >>> have = [RunScore(candidate.name, 0, 0.5, 1.0) for candidate in plan.candidates]
        >>> list(runs(plan, have, jobs=1))
        []
    """
    made = {(run.network, run.seed) for run in have}
    wanted = [
        (candidate, seed)
        for seed in range(plan.seeds)
        for candidate in plan.candidates
        if (candidate.name, seed) not in made
    ]
    with _processes(jobs, plan) as pool:
        try:
            waiting = [pool.submit(_run_in_worker, candidate, seed) for candidate, seed in wanted]
            for done in as_completed(waiting):
                yield done.result()
        finally:  # after an error, or when the caller stops asking
            pool.shutdown(cancel_futures=True)


# The plan in a worker process. It holds all images, so it is sent once, when the process starts.
_plan: Plan


def _processes(jobs: int, plan: Plan) -> Executor:
    # glibc reads these when a process starts. To keep freed memory saves a fifth of the time.
    os.environ.update(ALLOCATOR)
    # Spawned, because a forked process would inherit locks and threads of PyTorch.
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(plan,),
    )


def _prepare(plan: Plan) -> None:
    torch.set_num_threads(1)  # sums in a fixed order, and one core for each process
    if plan.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # otherwise `fit` uses a GPU that is there
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _remember(plan)


def _remember(plan: Plan) -> None:
    global _plan
    _plan = plan


def _measure_in_worker(known: Sequence[Candidate]) -> tuple[Candidate, ...]:
    timer = Timer(_plan.image_shape, _plan.device)
    budgets: Any = _plan.panels
    return tuple(timed(known or families_by_time(budgets, timer, _plan.scale), timer))


def _run_in_worker(candidate: Candidate, seed: int) -> RunScore:
    return run_once(candidate, seed, _plan)


def _end_with_the_parent() -> None:
    """Exit if the parent is killed, instead of waiting forever for work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
