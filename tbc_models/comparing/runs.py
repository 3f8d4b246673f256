"""The runs of `tbc compare`, each in a process of its own, and the report that collects them.

A run depends only on its network, its seed and the settings: it uses one thread, draws the weights
after seeding, and shuffles batches by the seed. So one machine gives the same accuracies every
time, for any number of processes, and a run that the file already holds need not be repeated.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tbc_models.comparing.networks import (
    Ablation,
    Budget,
    Candidate,
    ImageShape,
    ablation,
    build_candidate,
    families,
)
from tbc_models.data import Data
from tbc_models.results import machine, read
from tbc_models.statistics import compare_paired, holm, interval
from tbc_models.training.classifier import DivergedError
from tbc_models.training.loading import STREAMS
from tbc_models.training.recipes import Recipe
from tbc_models.training.run import fit

PACKAGES = ("torchvision", "lightning", "timm", "scipy")
"""Packages whose versions may change the accuracies slightly, in addition to PyTorch's."""


@dataclass(frozen=True)
class Plan:
    """What is compared, and how it is trained.

    Attributes:
        data: images to train and test with.
        panels: comparisons to make: "parameters", "macs" or both, at which networks cost the same;
            or one ablation.
        seeds: number of seeds; they are 0, 1, 2 and so on.
        recipe: training recipe of every run.
    """

    data: Data
    panels: tuple[Budget, ...] | tuple[Ablation]
    seeds: int
    recipe: Recipe

    @cached_property
    def image_shape(self) -> ImageShape:
        """Channels, size and classes of the images."""
        return ImageShape(self.data.channels, self.data.size, len(self.data.classes))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The networks that are compared, the yardstick first."""
        if self.panels in (("splits",), ("mixer",)):
            return tuple(ablation(self.panels[0], self.image_shape))  # type: ignore[arg-type]
        return tuple(families(self.panels, self.image_shape))  # type: ignore[arg-type]

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


def report(plan: Plan, made: Sequence[RunScore]) -> dict[str, Any]:
    """Collect the results.

    Args:
        plan: what is compared.
        made: runs so far, in any order.

    Returns:
        Settings, networks and runs; also the statistics once no run is missing.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan(open_data("digits"), ("macs",), 2, RECIPES["small"])
        >>> names = [candidate.name for candidate in plan.candidates]
        >>> made = [RunScore(name, seed, 0.9, 1.0) for name in names for seed in (0, 1)]
        >>> report(plan, made)["statistics"][0]["mean"]
        0.9
    """
    candidates = plan.candidates
    order = {candidate.name: i for i, candidate in enumerate(candidates)}
    rows = [run._asdict() for run in sorted(made, key=lambda run: (run.seed, order[run.network]))]
    whole = len(rows) == len(candidates) * plan.seeds
    return {
        "settings": plan.settings(),
        "networks": [asdict(one) | {"panels": list(one.panels)} for one in candidates],
        "statistics": [s for panel in plan.panels for s in _statistics(panel, candidates, made)]
        if whole
        else [],
        "runs": rows,
    }


def read_runs(file: Path, plan: Plan) -> list[RunScore]:
    """Read the runs of a comparison that is to be resumed.

    Args:
        file: file that `tbc compare` wrote: a `report`, the command and the machine.
        plan: what is compared now.

    Returns:
        Its runs.

    Raises:
        CompareError: if the file is not from `tbc compare`, or has other settings or another
            machine; the message names the first difference.
        OSError: if the file cannot be read.

    Example:
        >>> import tempfile
        >>> from tbc_models.data import open_data
        >>> from tbc_models.results import write
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan(open_data("digits"), ("macs",), 2, RECIPES["small"])
        >>> file = Path(tempfile.mkdtemp()) / "compare.json"
        >>> write(file, {"machine": machine(*PACKAGES)} | report(plan, []))
        >>> read_runs(file, plan)
        []
    """
    try:
        found = read(file)
        was = found["settings"] | found["machine"]
        made = [RunScore(**row) for row in found["runs"]]
    except (ValueError, KeyError, TypeError):
        raise CompareError(
            f"{file} cannot be resumed: it holds no results of `tbc compare`"
        ) from None
    now = plan.settings() | machine(*PACKAGES)
    if was.get("streams") != STREAMS:
        raise CompareError(
            f"{file} cannot be resumed: another version of this project made it, in which the same "
            "seeds gave other batches and other augmentation"
        )
    for name in now | was:
        if was.get(name) != now.get(name):
            raise CompareError(
                f"{file} cannot be resumed: it was made with {name} = {was.get(name)}, "
                f"not {now.get(name)}"
            )
    return made


def _statistics(
    panel: str, candidates: Sequence[Candidate], made: Sequence[RunScore]
) -> list[dict[str, Any]]:
    """Compare the candidates of a panel with the yardstick, the first of all."""
    top1 = {
        one.name: [run.top1 for run in sorted(made, key=_seed) if run.network == one.name]
        for one in candidates
    }
    yardstick, *others = [one for one in candidates if panel in one.panels]
    compared = [compare_paired(top1[other.name], top1[yardstick.name]) for other in others]
    corrected = holm([pair.p for pair in compared])
    of_yardstick = interval(top1[yardstick.name])._asdict()
    rows = [{"panel": panel, "network": yardstick.name, **of_yardstick}]
    for other, pair, p in zip(others, compared, corrected, strict=True):
        own = {"panel": panel, "network": other.name, **interval(top1[other.name])._asdict()}
        own |= {"difference": pair.difference._asdict(), "p": pair.p, "p_holm": p}
        rows.append(own)
    return rows


def _seed(run: RunScore) -> int:
    return run.seed


# The plan in a worker process. It holds all images, so it is sent once, when the process starts.
_plan: Plan


def _processes(jobs: int, plan: Plan) -> Executor:
    # Spawned, because a forked process would inherit locks and threads of PyTorch.
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(plan,),
    )


def _prepare(plan: Plan) -> None:
    torch.set_num_threads(1)  # sums in a fixed order, and one core for each process
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _remember(plan)


def _remember(plan: Plan) -> None:
    global _plan
    _plan = plan


def _run_in_worker(candidate: Candidate, seed: int) -> RunScore:
    return run_once(candidate, seed, _plan)


def _end_with_the_parent() -> None:
    """Exit if the parent is killed, instead of waiting forever for work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
