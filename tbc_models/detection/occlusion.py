"""How good detectors are where objects hide one another: Fig. 7 of the paper, with intervals.

Images are sorted into bins by their occlusion ratio r, Eq. (5) (`tbc_models.data.occlusion`), and
average precision and errors are measured in each. Detectors that differ only in their seed are
grouped, and their values are means over the seeds.

There are two 95 % intervals. The one over images, a bootstrap, says what the same detectors would
give on other images. The one over seeds, by Student's t, says what detectors with other seeds would
give on the same images.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Subset

from tbc_models.data.instances import InstanceData, Progress, without_folders
from tbc_models.data.occlusion import Reading, naming_image, single_objects
from tbc_models.detection.errors import ERRORS, count_errors
from tbc_models.detection.evaluation import coco_evaluations
from tbc_models.detection.matching import average_precisions, match
from tbc_models.detection.run import TrainedDetector
from tbc_models.detection.testing import check_data, detections
from tbc_models.statistics import bootstrap_interval, interval
from tbc_models.training.launching import list_classes
from tbc_models.training.settings import RunError

BINS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85)
"""Edges of the bins of r. The middle of the last one is 0.8, where the paper's figure ends."""

LEAST_IMAGES = 10
"""Fewest images that get an interval. With fewer, resampling says nothing about other images."""

WRONG = tuple(error for error in ERRORS if error != "missed")
"""The errors that are false positives."""

_AT_75 = 5  # IoU 0.75

Samples = dict[str, NDArray[np.float64]]


class _Tested(NamedTuple):
    """What is kept of a detector: for each image, how its detections match, and its errors."""

    matches: dict[str, list[Any]]
    errors: list[dict[str, int]]


def measure_occlusion(
    detectors: Sequence[TrainedDetector],
    data: InstanceData,
    *,
    bins: Sequence[float] = BINS,
    reading: Reading | None = None,
    least_score: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    workers: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the average precision and the errors of detectors against occlusion, Fig. 7.

    Args:
        detectors: what `read_detector` returned. Those that differ only in their seed form a
            group; every other group is compared with that of the first detector.
        data: images for testing; all detectors must know its classes.
        bins: edges of the bins of r in ascending order. A bin includes its lower edge, and the
            last bin both edges. Images outside all bins are left out.
        reading: reading of Eq. (5); by default boxes, each pair once, over the sum of areas.
        least_score: detections with a lower score are left out when errors are counted. Average
            precision counts them all.
        resamples: number of times that the images of each bin are drawn with replacement, at least
            100. The draws are the same for all detectors.
        seed: seed of the draws.
        workers: processes that load images.
        progress: called repeatedly with the number of steps that are done and their total.

    Returns:
        A report with `detectors`, `bins` (the numbers of images and objects and the mean r of
        each), `rows` and `differences`. Each row has the value of one quantity for one detector in
        one bin, the `low` and `high` end of its interval over images, and the value of each seed.
        `differences` are those from the first detector, with the interval over seeds as well. A
        row whose `bin` is null holds the change from the first to the last bin with objects.
        Quantities are "box AP" and "box AP75", the same for masks if all detectors predict them,
        and numbers per image: those that `count_errors` counts, and "false positives", the sum of
        `WRONG`. Values that are not defined in a bin without images or objects are null, and so are
        intervals in bins of fewer than 10 images. Only crowds are left out of r and of the errors:
        objects that Pascal VOC marks as difficult count, and so do detections in Cityscapes' void
        regions.

    Raises:
        RunError: if a detector does not know exactly the classes of the data, two of a group have
            the same seed, masks are needed but the data has none, or no image is in any bin.
        ValueError: if `detectors` is empty, `bins`, `least_score` or `resamples` is out of range,
            or an image has an object without area.
    """
    reading = reading or Reading()
    check_bins(bins)
    if not 0 <= least_score <= 1:
        raise ValueError(f"`least_score` (={least_score}) must be from 0 to 1")
    if resamples < 100:
        raise ValueError(f"`resamples` (={resamples}) must be at least 100")
    if not detectors:
        raise ValueError("`detectors` must hold at least one detector")
    if reading.of == "masks" and not data.masks:
        raise RunError(f"{data.name} has no masks: use its boxes", option="of")
    groups = _group(detectors)
    for detector in detectors:
        check_data(detector, data)
    steps = _Steps(progress, len(data.test) * (1 + len(detectors)))
    images = _sort(data, bins, reading, steps)
    some = replace(data, test=Subset(data.test, images.indices.tolist()))  # type: ignore[arg-type]
    masks = all(detector.settings.masks for detector in detectors)
    tested = {
        name: [_test(detector, some, masks, least_score, workers, steps) for detector in group]
        for name, group in groups.items()
    }
    random = np.random.default_rng(seed)
    report: dict[str, Any] = {
        "data": without_folders(data.name),
        "images": len(images.indices),
        "left out": len(data.test) - len(images.indices),
        "without objects": int((images.objects == 0).sum()),
        "reading": asdict(reading),
        "least_score": least_score,
        "resamples": resamples,
        "detectors": [_described(name, group) for name, group in groups.items()],
        "bins": [],
    }
    samples: dict[str, list[list[Samples]]] = {name: [] for name in groups}
    for place, (low, high) in enumerate(pairwise(bins)):
        own = np.flatnonzero(images.bins == place)
        report["bins"].append(
            {"low": low, "high": high, "images": len(own)}
            | {"objects": int(images.objects[own].sum())}
            | {"r": float(images.ratios[own].mean()) if len(own) else None}
        )
        selections = _selections(len(own), resamples, random)
        for name, group in tested.items():
            samples[name].append([_sample(one, own, selections) for one in group])
    return report | _rows(groups, samples)


def check_bins(bins: Sequence[float]) -> None:
    """Check the edges of bins.

    Args:
        bins: edges of the bins of r.

    Raises:
        ValueError: unless they are two or more ascending finite numbers from 0 upwards.

    Example:
        >>> check_bins([0, 0.1, 0.05])
        Traceback (most recent call last):
        ...
        ValueError: `bins` (=[0, 0.1, 0.05]) must be two or more ascending numbers from 0 upwards
    """
    ascending = all(a < b for a, b in pairwise(bins))
    if len(bins) < 2 or not bins[0] >= 0 or not ascending or not math.isfinite(bins[-1]):
        raise ValueError(
            f"`bins` (={list(bins)}) must be two or more ascending numbers from 0 upwards"
        )


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def add(self, number: int) -> None:
        self.done += number
        if self.progress is not None:
            self.progress(self.done, self.total)


class _Sorted(NamedTuple):
    """The images that lie in some bin."""

    indices: NDArray[np.int64]
    ratios: NDArray[np.float64]
    objects: NDArray[np.int64]
    bins: NDArray[np.int64]


def _sort(data: InstanceData, bins: Sequence[float], reading: Reading, steps: _Steps) -> _Sorted:
    """Compute r of all test images, and put them into bins."""
    number = len(data.test)
    if not number:
        raise RunError(f"{data.name} has no test images")
    ratios, objects = np.zeros(number), np.zeros(number, np.int64)
    for i in range(number):
        target = data.test[i][1]
        with naming_image(target):
            ratios[i] = reading.ratio(target)
        objects[i] = len(single_objects(target))
        steps.add(1)
    places = np.searchsorted(bins, ratios, side="right") - 1
    places[ratios == bins[-1]] = len(bins) - 2
    inside = np.flatnonzero((places >= 0) & (places < len(bins) - 1))
    if not len(inside):
        raise RunError(
            f"no image of {data.name} has r from {bins[0]:g} to {bins[-1]:g}: its r goes from "
            f"{ratios.min():.3f} to {ratios.max():.3f}",
            option="bins",
        )
    return _Sorted(inside, ratios[inside], objects[inside], places[inside])


def _selections(number: int, resamples: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return a selection of each image once, then `resamples` draws with replacement."""
    once = np.ones((1, number), np.int64)
    if number < LEAST_IMAGES:
        return once
    return np.vstack([once, random.multinomial(number, np.full(number, 1 / number), resamples)])


def _group(detectors: Sequence[TrainedDetector]) -> dict[str, list[TrainedDetector]]:
    """Group detectors that differ only in their seed, and name each group by what differs.

    The folder in which the data lay does not count as a difference.
    """
    first = detectors[0].settings
    groups: dict[str, list[TrainedDetector]] = {}
    for one in detectors:
        if one.settings.classes != first.classes:
            raise RunError(
                f"the detector on {first.backbone} knows {list_classes(first.classes)}, and that "
                f"on {one.settings.backbone} {list_classes(one.settings.classes)}: they must agree"
            )
        groups.setdefault(repr(_settings(one) | {"seed": 0}), []).append(one)
    settings = [_settings(group[0]) for group in groups.values()]
    differing = {name for name in settings[0] for s in settings if s[name] != settings[0][name]}
    named = {}
    for own, group in zip(settings, groups.values(), strict=True):
        more = sorted(differing - {"backbone", "seed"})
        name = " ".join([own["backbone"], *(f"{what}={own[what]}" for what in more if own[what])])
        seeds = [one.settings.seed for one in group]
        if len(set(seeds)) < len(seeds):
            raise RunError(f"two detectors on {name} have the seed {max(seeds, key=seeds.count)}")
        named[name] = sorted(group, key=lambda one: one.settings.seed)
    return named


def _settings(one: TrainedDetector) -> dict[str, Any]:
    return asdict(one.settings) | {"data": without_folders(one.settings.data)}


def _described(name: str, group: Sequence[TrainedDetector]) -> dict[str, Any]:
    settings = group[0].settings
    detector: Any = group[0].detector
    return {
        "name": name,
        "detector": settings.detector,
        "backbone": settings.backbone,
        "options": settings.options,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "backbone parameters": sum(p.numel() for p in detector.backbone.body.parameters()),
        "trained on": without_folders(settings.data),
        "epochs": settings.epochs,
        "seeds": [one.settings.seed for one in group],
    }


def _test(
    detector: TrainedDetector,
    data: InstanceData,
    masks: bool,
    least_score: float,
    workers: int,
    steps: _Steps,
) -> _Tested:
    """Detect the objects of all images, and keep what the quantities need."""
    kinds = coco_evaluations(masks)
    tested = _Tested({kind: [] for kind in kinds}, [])
    for found, targets in detections(detector, data, workers=workers):
        for kind, evaluation in kinds.items():
            evaluation.update(found, targets)
            tested.matches[kind].extend(map(match, evaluation.records))
            evaluation.reset()
        for prediction, target in zip(found, targets, strict=True):
            tested.errors.append(count_errors(prediction, target, least_score=least_score))
        steps.add(len(targets))
    return tested


def _sample(tested: _Tested, images: NDArray[np.int64], selections: NDArray[np.int64]) -> Samples:
    """Compute all quantities of one detector in one bin, for each selection of its images."""
    samples: Samples = {}
    for kind, matches in tested.matches.items():
        precisions = average_precisions([matches[i] for i in images], selections)
        samples[f"{kind} AP"] = precisions.mean(axis=1)
        samples[f"{kind} AP75"] = precisions[:, _AT_75]
    for name in tested.errors[0]:
        counts = [tested.errors[i][name] for i in images]
        samples[name] = selections @ counts / len(images) if counts else np.full(1, np.nan)
    samples["false positives"] = np.sum([samples[name] for name in WRONG], axis=0)
    return samples


def _rows(
    groups: dict[str, list[TrainedDetector]], samples: dict[str, list[list[Samples]]]
) -> dict[str, Any]:
    """Average over seeds; compare the first detector with the others; compute all intervals."""
    rows, differences = [], []
    first, *others = groups
    full = [place for place, seeds in enumerate(samples[first]) if _defined(seeds)]
    for name in groups:
        several = len(groups[name]) > 1
        for what in samples[name][0][0]:
            own = {"detector": name, "what": what}
            curve = [[one[what] for one in seeds] for seeds in samples[name]]
            for place, values in enumerate(curve):
                ends = (0, 1 if "AP" in what else np.inf)
                rows.append({**own, "bin": place} | _summary(values, ends))
            if len(full) > 1:
                change = _difference(curve[full[-1]], curve[full[0]], paired=True)
                rows.append({**own, "bin": None} | _summary(change, seeds=several))
    paired = {name: _seeds(groups[name]) == _seeds(groups[first]) for name in others}
    for name in others:
        for what in samples[first][0][0]:
            own = {"detector": name, "minus": first, "what": what}
            between = [
                _difference(
                    [one[what] for one in samples[name][place]],
                    [one[what] for one in samples[first][place]],
                    paired[name],
                )
                for place in range(len(samples[first]))
            ]
            for place, difference in enumerate(between):
                differences.append({**own, "bin": place} | _summary(difference, seeds=paired[name]))
            if len(full) > 1:
                change = _difference(between[full[-1]], between[full[0]], paired=True)
                differences.append({**own, "bin": None} | _summary(change, seeds=paired[name]))
    return {"rows": rows, "differences": differences}


def _seeds(group: Sequence[TrainedDetector]) -> list[int]:
    return [one.settings.seed for one in group]


def _defined(seeds: Sequence[Samples]) -> bool:
    return bool(np.isfinite(seeds[0]["box AP"][0]))


def _difference(
    ours: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]], paired: bool
) -> list[NDArray[np.float64]]:
    """Subtract seed by seed if both have the same seeds, and otherwise the means over seeds."""
    if paired:
        return [a - b for a, b in zip(ours, theirs, strict=True)]
    return [np.mean(ours, axis=0) - np.mean(theirs, axis=0)]


def _summary(
    samples: Sequence[NDArray[np.float64]],
    ends: tuple[float, float] = (-np.inf, np.inf),
    *,
    seeds: bool = False,
) -> dict[str, Any]:
    """Return the mean over seeds and its intervals.

    `samples` has one array for each seed: the value on the images, then on each resample. `ends`
    are the smallest and the largest value that the quantity can have.
    """
    mean = np.mean(samples, axis=0)
    again = mean[1:][np.isfinite(mean[1:])]
    found: dict[str, Any] = {"value": _number(mean[0]), "low": None, "high": None}
    if len(again) and found["value"] is not None:
        interval_of_images = np.clip(bootstrap_interval(mean[0], again), *ends)
        found["low"], found["high"] = map(_number, interval_of_images)
    found["seeds"] = [_number(one[0]) for one in samples]
    if seeds and found["value"] is not None and len(samples) > 1:
        _, low, high = interval(found["seeds"])
        found |= {"seeds_low": _number(low), "seeds_high": _number(high)}
    return found


def _number(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
