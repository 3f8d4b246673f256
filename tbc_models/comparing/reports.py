"""The report of `tbc compare`: what its file holds, and how a comparison is resumed from it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tbc_models.comparing.networks import Candidate, Ratio
from tbc_models.comparing.runs import CompareError, Plan, RunScore
from tbc_models.results import machine, read
from tbc_models.statistics import compare_paired, holm, interval
from tbc_models.training.loading import STREAMS

PACKAGES = ("torchvision", "lightning", "timm", "scipy")
"""Packages whose versions may change the accuracies slightly, in addition to PyTorch's."""


def report(plan: Plan, made: Sequence[RunScore]) -> dict[str, Any]:
    """Collect the results.

    Args:
        plan: what is compared.
        made: runs so far, in any order.

    Returns:
        Settings, networks, runs, the number of complete seeds (those with which every network has
        been trained), and the statistics over these seeds.

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
    made = sorted(made, key=lambda run: (run.seed, order[run.network]))
    runs_of = Counter(run.seed for run in made)
    complete = {seed for seed, runs in runs_of.items() if runs == len(candidates)}
    counted = [run for run in made if run.seed in complete]
    return {
        "settings": plan.settings(),
        "complete_seeds": len(complete),
        "networks": [asdict(one) | {"panels": list(one.panels)} for one in candidates],
        "statistics": [s for panel in plan.panels for s in _statistics(panel, candidates, counted)]
        if complete
        else [],
        "runs": [run._asdict() for run in made],
    }


def resumed(file: Path, plan: Plan) -> tuple[Plan, list[RunScore]]:
    """Read the networks and the runs of a comparison that is to be resumed.

    Args:
        file: file that `tbc compare` wrote: a `report`, the command and the machine.
        plan: what is compared now; it may have more seeds than the file. If it has networks, they
            must be those of the file.

    Returns:
        The plan with the file's networks, and the file's runs.

    Raises:
        CompareError: if the file is not from `tbc compare`, or has other settings, another machine
            or other networks; the message names the first difference.
        OSError: if the file cannot be read.

    Example:
        >>> import tempfile
        >>> from tbc_models.data import open_data
        >>> from tbc_models.results import write
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan(open_data("digits"), ("macs",), 2, RECIPES["small"])
        >>> file = Path(tempfile.mkdtemp()) / "compare.json"
        >>> write(file, {"machine": machine_of(plan)} | report(plan, []))
        >>> resumed(file, plan)[1]
        []
    """
    was, networks, made = _read(file)
    now = plan.settings() | machine_of(plan)
    if was.get("streams") != STREAMS:
        raise CompareError(
            f"{file} cannot be resumed: another version of this project made it, in which the same "
            "seeds gave other batches and other augmentation"
        )
    if was.get("seeds", math.inf) < now["seeds"]:
        was = was | {"seeds": now["seeds"]}
    if differs := first_difference(was, now):
        raise CompareError(f"{file} cannot be resumed: it was made with {differs}")
    of_file, of_plan = ({one.name for one in several} for several in (networks, plan.networks))
    if of_plan and (others := of_file ^ of_plan):
        raise CompareError(
            f"{file} cannot be resumed with other networks than its own, such as {min(others)}"
        )
    return replace(plan, networks=networks), made


def networks_of(file: Path, plan: Plan) -> Plan:
    """Take the networks from a file, instead of finding them by measuring.

    Args:
        file: file that `tbc compare` wrote for the same data, budgets and scale.
        plan: what is compared now.

    Returns:
        The plan with the file's networks; `calibrated` measures their times again.

    Raises:
        CompareError: if the file is not from `tbc compare`, or has other data, other budgets or
            another scale; the message names the first difference.
        OSError: if the file cannot be read.

    Example:
        >>> import tempfile
        >>> from tbc_models.data import open_data
        >>> from tbc_models.results import write
        >>> from tbc_models.training.recipes import RECIPES
        >>> plan = Plan(open_data("digits"), ("macs",), 2, RECIPES["small"])
        >>> file = Path(tempfile.mkdtemp()) / "compare.json"
        >>> write(file, {"machine": machine_of(plan)} | report(plan, []))
        >>> networks_of(file, replace(plan, seeds=5)).candidates == plan.candidates
        True
    """
    was, networks, _ = _read(file)
    now = plan.settings()
    of = ("data", "panels", "scale")
    if differs := first_difference({n: was.get(n) for n in of}, {n: now[n] for n in of}):
        raise CompareError(f"{file} has networks for {differs}")
    return replace(plan, networks=networks)


def first_difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Compare the settings of a file with those of a command.

    Args:
        was: settings and machine of the file.
        now: those of the command.

    Returns:
        The first one that differs, in words; None if none does.

    Example:
        >>> first_difference({"seed": 0, "size": 8}, {"seed": 0, "size": 16})
        'size = 8, not 16'
    """
    for name in dict(now) | dict(was):
        if was.get(name) != now.get(name):
            return f"{name} = {was.get(name)}, not {now.get(name)}"
    return None


def machine_of(plan: Plan) -> dict[str, Any]:
    """Describe the machine and the software that the accuracies depend on.

    Args:
        plan: what is compared.

    Returns:
        The processor and the versions, and the GPU if it is used.

    Example:
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.recipes import RECIPES
        >>> list(machine_of(Plan(open_data("digits"), ("macs",), 2, RECIPES["small"])))[:3]
        ['processor', 'python', 'torch']
    """
    about = machine(*PACKAGES)
    return about | {"gpu": torch.cuda.get_device_name()} if plan.device == "cuda" else about


def _read(file: Path) -> tuple[dict[str, Any], tuple[Candidate, ...], list[RunScore]]:
    """Read settings and machine, networks, and runs."""
    try:
        found = read(file)
        return (
            found["settings"] | found["machine"],
            tuple(_candidate(**row) for row in found["networks"]),
            [RunScore(**row) for row in found["runs"]],
        )
    except (ValueError, KeyError, TypeError):
        raise CompareError(f"{file} holds no results of `tbc compare`") from None


def _candidate(panels: list[str], times: dict[str, Any] | None = None, **rest: Any) -> Candidate:
    ratios: Any = {mode: Ratio(*of) for mode, of in (times or {}).items()}
    return Candidate(panels=tuple(panels), times=ratios, **rest)


def _statistics(
    panel: str, candidates: Sequence[Candidate], made: Sequence[RunScore]
) -> list[dict[str, Any]]:
    """Compare the candidates of a panel with the yardstick, the first of all."""
    top1 = {one.name: [run.top1 for run in made if run.network == one.name] for one in candidates}
    yardstick, *others = [one.name for one in candidates if panel in one.panels]
    compared = [_paired(top1[other], top1[yardstick]) for other in others]
    corrected = holm([pair["p"] for pair in compared])
    rows: list[dict[str, Any]] = [{"panel": panel, "network": yardstick} | _mean(top1[yardstick])]
    for other, pair, p in zip(others, compared, corrected, strict=True):
        own = {"panel": panel, "network": other} | _mean(top1[other])
        rows.append(own | pair | {"p_holm": p})
    return rows


def _mean(numbers: list[float]) -> dict[str, float]:
    """Return the mean and, if there are several numbers, its interval."""
    return {"mean": numbers[0]} if len(numbers) == 1 else interval(numbers)._asdict()


def _paired(numbers: list[float], yardstick: list[float]) -> dict[str, Any]:
    """Return the difference and p; for one seed, the difference without an interval, and no p."""
    if len(numbers) == 1:
        return {"difference": {"mean": numbers[0] - yardstick[0]}, "p": None}
    pair = compare_paired(numbers, yardstick)
    return {"difference": pair.difference._asdict(), "p": pair.p}
