"""The runs of `tbc compare`, each in a process of its own, and the file that they add up to.

A run is a function of its network, its seed and the settings: one thread, weights drawn after the
seed, batches that the seed orders. So one machine gives the same accuracies every time, whatever
the number of processes, and a run that the file has need not be made again.
"""

import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

import torch

from tbc_models.comparing.networks import (
    Ablation,
    Budget,
    Images,
    Network,
    ablation,
    build,
    families,
)
from tbc_models.comparing.statistics import compare_paired, holm, interval
from tbc_models.data import Data, open_data
from tbc_models.results import machine
from tbc_models.training.classifier import DivergedError
from tbc_models.training.recipes import Recipe
from tbc_models.training.run import fit

# Whose versions the accuracies may depend on by a hair.
_PACKAGES = ("torchvision", "lightning", "timm", "scipy")


@dataclass(frozen=True)
class Plan:
    """What is compared, and how it is trained.

    Attributes:
        data: as `open_data` takes it.
        panels: what is equal, "parameters" and "macs" in turn; or one ablation.
        seeds: how many; they are 0, 1, 2 and so on.
        recipe: of every run.
    """

    data: str
    panels: tuple[Budget, ...] | tuple[Ablation]
    seeds: int
    recipe: Recipe

    def networks(self) -> list[Network]:
        """List the networks, the yardstick first."""
        images = images_of(_opened(self.data))
        if self.panels in (("splits",), ("mixer",)):
            return ablation(self.panels[0], images)  # type: ignore[arg-type]
        return families(self.panels, images)  # type: ignore[arg-type]

    def settings(self) -> dict[str, Any]:
        """Tell all that the accuracies depend on, but for the machine."""
        data = _opened(self.data)
        counts = {"train": len(data.train), "test": len(data.test)}
        plan = {"data": self.data, **counts, "panels": list(self.panels), "seeds": self.seeds}
        return plan | {f"recipe: {name}": value for name, value in asdict(self.recipe).items()}


class Run(NamedTuple):
    """One training.

    Attributes:
        network: its name.
        seed: of its weights and batches.
        top1: part of the test images whose class is the most probable one.
        loss: mean cross entropy of the test images.
    """

    network: str
    seed: int
    top1: float
    loss: float


class CompareError(ValueError):
    """A comparison that cannot be made or gone on with, and why.

    Args:
        message: one line.

    Example:
        >>> raise CompareError("TBC B=2, seed 3: the loss is nan at step 5")
        Traceback (most recent call last):
        ...
        tbc_models.comparing.runs.CompareError: TBC B=2, seed 3: the loss is nan at step 5
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


def images_of(data: Data) -> Images:
    """Tell what a network must know of the images.

    Args:
        data: that it is trained on.

    Returns:
        Channels, size and classes.

    Example:
        >>> images_of(open_data("digits"))
        Images(channels=1, size=8, classes=10)
    """
    return Images(data.channels, data.size, len(data.classes))


def train(network: Network, seed: int, plan: Plan) -> Run:
    """Make one run, in this process.

    Args:
        network: what is trained.
        seed: of its first weights and of its batches.
        plan: how it is trained.

    Returns:
        How well it does on the test images.

    Raises:
        CompareError: if the loss is not finite.

    Example:
        >>> from dataclasses import replace
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan("digits", ("macs",), 2, replace(RECIPES["small"], epochs=1))
        >>> train(plan.networks()[0], 0, plan) == train(plan.networks()[0], 0, plan)
        True
    """
    data = _opened(plan.data)
    torch.manual_seed(seed)
    built = build(network, images_of(data))
    try:
        score = fit(built, data, plan.recipe, seed=seed)
    except DivergedError as error:
        raise CompareError(f"{network.name}, seed {seed}: {error}") from None
    return Run(network.name, seed, round(score.top1, 6), round(score.loss, 6))


def runs(plan: Plan, have: Sequence[Run], jobs: int) -> Iterator[Run]:
    """Make all runs that there are not yet, as they come.

    Args:
        plan: what is compared.
        have: runs that need not be made again.
        jobs: processes that train at the same time.

    Yields:
        The runs, those of the first seeds first.

    Raises:
        CompareError: if a loss is not finite.

    Example:
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan("digits", ("macs",), 1, RECIPES["small"])
        >>> have = [Run(network.name, 0, 0.5, 1.0) for network in plan.networks()]
        >>> list(runs(plan, have, jobs=1))
        []
    """
    made = {(run.network, run.seed) for run in have}
    wanted = [
        (network, seed)
        for seed in range(plan.seeds)
        for network in plan.networks()
        if (network.name, seed) not in made
    ]
    with _processes(jobs) as pool:
        try:
            waiting = [pool.submit(train, network, seed, plan) for network, seed in wanted]
            for done in as_completed(waiting):
                yield done.result()
        finally:  # an error, or nobody asks for more
            pool.shutdown(cancel_futures=True)


def report(plan: Plan, made: Sequence[Run], command: str) -> dict[str, Any]:
    """Put together all that is known.

    Args:
        plan: what is compared.
        made: the runs so far.
        command: that asked for them.

    Returns:
        Command, machine, settings, networks, runs, and once every run is there the statistics, for
        a file.

    Example:
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan("digits", ("macs",), 2, RECIPES["small"])
        >>> made = [Run(n.name, seed, 0.9, 1.0) for n in plan.networks() for seed in (0, 1)]
        >>> report(plan, made, "tbc compare")["statistics"][0]["mean"]
        0.9
    """
    networks = plan.networks()
    order = {network.name: i for i, network in enumerate(networks)}
    rows = [run._asdict() for run in sorted(made, key=lambda run: (run.seed, order[run.network]))]
    whole = len(rows) == len(networks) * plan.seeds
    return {
        "command": command,
        "machine": machine(*_PACKAGES),
        "settings": plan.settings(),
        "networks": [asdict(network) | {"panels": list(network.panels)} for network in networks],
        "statistics": [s for panel in plan.panels for s in _statistics(panel, networks, made)]
        if whole
        else [],
        "runs": rows,
    }


def read_runs(text: str, plan: Plan) -> list[Run]:
    """Read the runs of a file that is to be gone on with.

    Args:
        text: of the file.
        plan: what is compared now.

    Returns:
        Its runs.

    Raises:
        CompareError: if it is no file of `tbc compare`, or one with other settings or of another
            machine; the first that differs is named.

    Example:
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan("digits", ("macs",), 2, RECIPES["small"])
        >>> read_runs(as_json(report(plan, [], "tbc compare")), plan)
        []
    """
    try:
        found = json.loads(text)
        was = found["settings"] | found["machine"]
        made = [Run(**row) for row in found["runs"]]
    except (ValueError, KeyError, TypeError):
        raise CompareError("it holds no results of `tbc compare`") from None
    now = plan.settings() | machine(*_PACKAGES)
    for name in now | was:
        if was.get(name) != now.get(name):
            raise CompareError(f"it was made with {name} = {was.get(name)}, not {now.get(name)}")
    return made


def _statistics(
    panel: str, networks: Sequence[Network], made: Sequence[Run]
) -> list[dict[str, Any]]:
    """Compare the networks of a panel with the yardstick, the first of all."""
    top1 = {
        network.name: [run.top1 for run in sorted(made, key=_seed) if run.network == network.name]
        for network in networks
    }
    yardstick, *others = [network for network in networks if panel in network.panels]
    compared = [compare_paired(top1[other.name], top1[yardstick.name]) for other in others]
    corrected = holm([pair.p for pair in compared])
    of_yardstick = interval(top1[yardstick.name])._asdict()
    rows = [{"panel": panel, "network": yardstick.name, **of_yardstick}]
    for other, pair, p in zip(others, compared, corrected, strict=True):
        own = {"panel": panel, "network": other.name, **interval(top1[other.name])._asdict()}
        own |= {"difference": pair.difference._asdict(), "p": pair.p, "p_holm": p}
        rows.append(own)
    return rows


def _seed(run: Run) -> int:
    return run.seed


@cache
def _opened(spec: str) -> Data:
    return open_data(spec)


def _processes(jobs: int) -> Executor:
    # Spawned, for a forked process would inherit locks and threads of PyTorch.
    spawned = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=spawned, initializer=_prepare)


def _prepare() -> None:
    torch.set_num_threads(1)  # sums in one order, and no two processes on one core
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """Stop a process whose parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
