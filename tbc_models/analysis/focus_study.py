"""Whether networks look at the object: energy and pointing of Grad-CAM, with controls, Fig. 8.

Every map is compared with three controls on the same objects: a uniform map, the maps that the
same network has of other images, and the maps of the same network with random weights. Networks
that differ only in their seed are averaged.

There are two 95 % intervals, as in `tbc_models.detection.occlusion`: one over images, a bootstrap,
which draws images and not objects, since objects of one image depend on each other; and one over
the seeds of the training, by Student's t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tbc_models.analysis.focus import Floats, energy_of_others, measure_focus
from tbc_models.analysis.gradcam import grad_cam
from tbc_models.statistics import bootstrap_interval, interval

LEAST_IMAGES = 10
"""Fewest images that get an interval."""

_BATCH = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Objects:
    """Objects that networks look at: each has an image, a mask and a class.

    Attributes:
        images: the image of each object as a network sees it, (N, C, H, W) in [0, 1].
        masks: where the object is, (N, H, W) from 0 to 1.
        targets: the index of its class, (N,).
        present: which classes the image shows, (N, classes), bool.
        sources: a number for each photograph or scene; objects of one are drawn together, (N,).
        parts: subsets of the objects by name, each (N,) bool.
    """

    images: Tensor
    masks: Tensor
    targets: Tensor
    present: NDArray[np.bool_]
    sources: NDArray[np.int64]
    parts: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Onlooker:
    """A trained network and its untrained control.

    Attributes:
        name: the same for networks that differ in their seed only.
        network: the trained network.
        normalise: turns images in [0, 1] into its input.
        untrained: builds it with the random weights of a seed.
        seed: seed of its training, or None.
    """

    name: str
    network: nn.Module
    normalise: Callable[[Tensor], Tensor]
    untrained: Callable[[int], nn.Module]
    seed: int | None = None


class _Seen(NamedTuple):
    """What one network shows of each object; NaN where its map is zero everywhere."""

    values: dict[str, Floats]  # energy and pointing
    others: dict[str, Floats]  # the same of the network's maps of other images
    predicted: NDArray[np.int64]
    above: float  # part of the absent classes that score lower than the object's


def study_focus(
    networks: Sequence[Onlooker],
    objects: Objects,
    *,
    controls: int = 5,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure how much of their Grad-CAM networks have on the objects that they explain.

    Args:
        networks: the networks; those of one name are averaged, and the other names are compared
            with the first.
        objects: what they look at. Each map explains the object's class, predicted or not.
        controls: number of untrained networks of each name, with the seeds 0, 1, …
        resamples: number of times that images are drawn with replacement, the same for all.
        seed: seed of the draws.
        progress: called repeatedly with the number of maps that are done and their total.

    Returns:
        A report with `parts` (the numbers of objects and images in each subset, with the mean share
        of the masks), `networks` (how well each recognises the objects, and how many maps are zero
        everywhere), `rows` and `differences`. A row has the value of "energy" or "pointing" of
        "trained", "untrained", "other images" or "uniform" maps, the `low` and `high` end of its
        interval over images, and the value of each seed. `differences` are those of the trained
        network from its three controls, and from the first network (`minus`), over the objects
        where both have maps; where there are seeds, with `seeds_low` and `seeds_high`. The part
        "recognised" holds the objects whose class every trained network predicts.

    Raises:
        ValueError: if `networks` is empty, or `controls` or `resamples` is out of range.
    """
    if not networks:
        raise ValueError("`networks` must hold at least one network")
    if controls < 1 or resamples < 100:
        name, value, least = (
            ("controls", controls, 1) if controls < 1 else ("resamples", resamples, 100)
        )
        raise ValueError(f"`{name}` (={value}) must be at least {least}")
    groups: dict[str, list[Onlooker]] = {}
    for one in networks:
        groups.setdefault(one.name, []).append(one)
    steps = _counter(progress, len(objects.images) * (len(networks) + controls * len(groups)))
    trained, untrained = {}, {}
    for name, group in groups.items():
        group.sort(key=lambda one: -1 if one.seed is None else one.seed)
        trained[name] = [_look(one.network, one, objects, steps) for one in group]
        untrained[name] = [
            _look(group[0].untrained(number), group[0], objects, steps)
            for number in range(controls)
        ]
    all_seen = [seen for own in trained.values() for seen in own]
    recognised = np.all([seen.predicted == objects.targets.numpy() for seen in all_seen], axis=0)
    parts = objects.parts | {"recognised": recognised}
    report: dict[str, Any] = {"controls": controls, "resamples": resamples, "parts": []}
    share = objects.masks.flatten(1).double().mean(1).numpy()
    for part, own in parts.items():
        found = {"name": part, "objects": int(own.sum())}
        found["images"] = len(np.unique(objects.sources[own]))
        found["share"] = float(share[own].mean()) if own.any() else None
        report["parts"].append(found)
    report["networks"] = [
        _described(name, groups[name], trained[name], untrained[name], objects) for name in groups
    ]
    draws = _draw(objects.sources, resamples, seed)
    return report | _rows(groups, trained, untrained, share, parts, draws)


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def add(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, total)

    return add


def _look(
    network: nn.Module, onlooker: Onlooker, objects: Objects, add: Callable[[int], None]
) -> _Seen:
    """Explain all objects with one network."""
    maps, scores = [], []
    device = next(network.parameters(), objects.images).device
    for start in range(0, len(objects.images), _BATCH):
        own = slice(start, start + _BATCH)
        images = onlooker.normalise(objects.images[own]).to(device)
        maps.append(grad_cam(network, images, objects.targets[own]).maps.cpu())
        with torch.no_grad():
            scores.append(network(images).cpu())
        add(len(images))
    every, score = torch.cat(maps), torch.cat(scores).numpy()
    largest = every.amax((1, 2), keepdim=True)
    # As energy of the maps' maxima, pointing has the same controls.
    kinds = {"energy": every, "pointing": ((every == largest) & (largest > 0)).float()}
    nothing = np.full(len(every), np.nan)
    values, others = {}, {}
    for what, kind in kinds.items():
        found = measure_focus(kind, objects.masks)
        values[what] = nothing.copy()
        values[what][found.kept] = found.energy
        others[what] = nothing
        if len(np.unique(objects.sources[found.kept])) > 1:
            others[what] = energy_of_others(kind, objects.masks, objects.sources.tolist())
    rows = np.arange(len(score))
    lower = score < score[rows, objects.targets.numpy()][:, None]
    return _Seen(values, others, score.argmax(1), float(lower[~objects.present].mean()))


def _described(
    name: str,
    group: Sequence[Onlooker],
    trained: Sequence[_Seen],
    untrained: Sequence[_Seen],
    objects: Objects,
) -> dict[str, Any]:
    targets, rows = objects.targets.numpy(), np.arange(len(objects.targets))

    def empty(seen: Sequence[_Seen]) -> list[int]:
        return [int(np.isnan(one.values["energy"]).sum()) for one in seen]

    return {
        "name": name,
        "parameters": sum(p.numel() for p in group[0].network.parameters()),
        "seeds": [one.seed for one in group],
        "predicts the object": [float((one.predicted == targets).mean()) for one in trained],
        "predicts what is present": [
            float(objects.present[rows, one.predicted].mean()) for one in trained
        ],
        "present by chance": float(objects.present.mean()),
        "above absent classes": [one.above for one in trained],
        "empty maps": empty(trained),
        "empty maps, untrained": empty(untrained),
    }


class _Draws(NamedTuple):
    """How often each object is drawn: all once, then its image at random."""

    sources: NDArray[np.int64]  # (N,)
    times: NDArray[np.int64]  # (1 + resamples, N)


def _draw(sources: NDArray[np.int64], resamples: int, seed: int) -> _Draws:
    ids, places = np.unique(sources, return_inverse=True)
    number = len(ids)
    equal = np.full(number, 1 / number)
    drawn = np.random.default_rng(seed).multinomial(number, equal, resamples)
    return _Draws(sources, np.vstack([np.ones(number, np.int64), drawn])[:, places])


def _summary(
    seeds: Sequence[Floats], own: NDArray[np.bool_], draws: _Draws, *, several: bool
) -> dict[str, Any]:
    """Average the seeds for each object, and the objects of a part, with both intervals."""
    values = np.stack(seeds)
    counted = own & ~np.isnan(values).all(0)
    of_seeds = [one[own & ~np.isnan(one)] for one in values]
    found: dict[str, Any] = {"value": None, "low": None, "high": None}
    if counted.any():
        times = draws.times[:, counted]
        totals = times.sum(1)
        drawn = (times @ _mean(seeds)[counted])[totals > 0] / totals[totals > 0]
        found["value"] = float(drawn[0])
        if len(np.unique(draws.sources[counted])) >= LEAST_IMAGES:
            found["low"], found["high"] = bootstrap_interval(found["value"], drawn[1:])
    found["objects"] = int(counted.sum())
    found["seeds"] = [float(one.mean()) if len(one) else None for one in of_seeds]
    known = [value for value in found["seeds"] if value is not None]
    if several and len(known) > 1:
        _, found["seeds_low"], found["seeds_high"] = interval(known)
    return found


def _rows(
    groups: dict[str, list[Onlooker]],
    trained: dict[str, list[_Seen]],
    untrained: dict[str, list[_Seen]],
    share: Floats,
    parts: dict[str, NDArray[np.bool_]],
    draws: _Draws,
) -> dict[str, Any]:
    rows, differences = [], []
    first = next(iter(groups))
    seeds = {name: [one.seed for one in group] for name, group in groups.items()}
    for name in groups:
        several = len(groups[name]) > 1
        for what in ("energy", "pointing"):
            own = [seen.values[what] for seen in trained[name]]
            control = [seen.values[what] for seen in untrained[name]]
            others = [seen.others[what] for seen in trained[name]]
            sources = {"trained": own, "untrained": control, "other images": others}
            minus: dict[str, tuple[list[Floats], bool]] = {
                "uniform": ([values - share for values in own], several),
                "other images": ([a - b for a, b in zip(own, others, strict=True)], several),
                "untrained": ([values - _mean(control) for values in own], several),
            }
            if name != first:
                theirs = [seen.values[what] for seen in trained[first]]
                if paired := seeds[name] == seeds[first]:
                    between = [a - b for a, b in zip(own, theirs, strict=True)]
                else:
                    between = [_mean(own) - _mean(theirs)]
                minus[first] = (between, paired and several)
            for part, inside in parts.items():
                about = {"network": name, "part": part, "what": what}
                for of, values in (sources | {"uniform": [share]}).items():
                    rows.append(about | {"of": of} | _summary(values, inside, draws, several=False))
                for of, (values, with_seeds) in minus.items():
                    found = _summary(values, inside, draws, several=with_seeds)
                    differences.append(about | {"minus": of} | found)
    return {"rows": rows, "differences": differences}


def _mean(seeds: Sequence[Floats]) -> Floats:
    """Average the seeds that have a map of the object; NaN if none has."""
    values = np.stack(seeds)
    defined = ~np.isnan(values)
    number = defined.sum(0)
    return np.where(number > 0, np.where(defined, values, 0).sum(0) / np.maximum(number, 1), np.nan)
