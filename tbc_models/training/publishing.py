"""Publish the weights of a run: half as large, tested, and with a model card."""

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from safetensors import safe_open
from torch.utils.data import Subset

from tbc_models import exporting
from tbc_models.count import measure
from tbc_models.data import Data
from tbc_models.files import WEIGHTS, write_text
from tbc_models.networks.pretrained import Facts
from tbc_models.training.model_card import write_card
from tbc_models.training.run import evaluate
from tbc_models.training.settings import Machine, RunError, Settings
from tbc_models.training.trained import Trained, open_trained


class Published(NamedTuple):
    """What `publish` writes.

    Attributes:
        weights: the file of the weights, NETWORK.TAG.safetensors.
        card: the model card beside it, NETWORK.TAG.md.
        facts: what both say of the network.
    """

    weights: Path
    card: Path
    facts: Facts


def publish(
    run: Path,
    data: Data,
    out: Path,
    *,
    tag: str,
    licence: str = "MIT",
    machine: Machine | None = None,
) -> Published:
    """Round the weights of a run to float16, test them, and describe them in a model card.

    The same run gives the same two files, byte for byte.

    Args:
        run: folder of a completed run of `train`, or its weights.safetensors.
        data: the data that the run was trained with.
        out: folder that receives both files, created if it does not exist.
        tag: what distinguishes these weights from others of the network, such as "cifar10".
        licence: licence of the weights, by its SPDX identifier.
        machine: where and how to test; by default on one device.

    Returns:
        The two files, and what they say.

    Raises:
        RunError: if the run is not complete, its network has options or tied layers that its name
            does not tell, or if `data` has other images.
        ValueError: if a weight is too large for float16.
        OSError: if a file cannot be read or written.

    Example:
        >>> from tbc_models.data import open_data
        >>> publish(Path("/no/such/run"), open_data("digits"), Path("out"), tag="digits")
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: /no/such/run does not exist...
    """
    if not re.fullmatch(r"\w[\w-]*", tag, re.ASCII):
        raise RunError(f"`tag` (={tag!r}) must consist of letters, digits, _ and -", option="tag")
    weights, settings = open_completed(run)
    _require_same_images(settings, data)
    computed = _machine_of(weights)
    counted = measure(settings.shapes(), settings.size)
    name = f"{settings.model}.{tag}"
    with TemporaryDirectory() as folder:
        half = Path(folder) / WEIGHTS
        exporting.round_to_half(weights, half)
        rounded = open_trained(half)
        images: Any = data.test
        tenth = replace(data, test=Subset(images, range(0, len(images), 10)))
        facts = Facts(
            data=settings.data,
            licence=licence,
            parameters=counted.parameters,
            macs=counted.macs,
            images=len(images),
            correct=_correct(rounded, data, machine),
            correct_of_tenth=_correct(rounded, tenth, machine),
        )
        out.mkdir(parents=True, exist_ok=True)
        file, card = out / f"{name}.safetensors", out / f"{name}.md"
        exporting.round_to_half(half, file, metadata={"facts": json.dumps(facts._asdict())})
    write_text(card, write_card(name, settings, computed, data, facts))
    return Published(file, card, facts)


def open_completed(run: Path) -> tuple[Path, Settings]:
    """Open the weights of a completed run, if the network's name alone tells how to build it.

    Args:
        run: folder of a completed run of `train`, or its weights.safetensors.

    Returns:
        weights.safetensors, and the settings of the run.

    Raises:
        RunError: if the run is not complete, or its network has options or layers tied afterwards.
        OSError: if the file cannot be read.

    Example:
        >>> open_completed(Path("/no/such/run"))
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: /no/such/run does not exist
    """
    if not run.exists():
        raise RunError(f"{run} does not exist")
    weights = run / WEIGHTS if run.is_dir() else run
    if not weights.exists():
        raise RunError(f"{run} has no {WEIGHTS}, which is written when a run is complete")
    if zipfile.is_zipfile(weights):  # as torch.save writes
        raise RunError(f"{weights} is a checkpoint: name the folder of a completed run instead")
    settings = open_trained(weights).settings
    changed = [f"{name}={value}" for name, value in settings.options.items()]
    changed += [f"blocks={settings.blocks}"] if settings.blocks > 1 else []
    if changed:
        raise RunError(
            f"{settings.model} was trained with {', '.join(changed)}: weights are published by the "
            "name of a network alone, so none of its options may be changed"
        )
    return weights, settings


def _require_same_images(settings: Settings, data: Data) -> None:
    kind, _, _ = data.name.partition(":")
    if kind != settings.data:
        raise RunError(
            f"the network was trained on {settings.data}, not on {data.name}", option="data"
        )
    if (len(data.train), data.fingerprint) != (settings.images, settings.fingerprint):
        raise RunError(
            f"the images of {data.name} are not those that the network was trained with",
            option="data",
        )


def _correct(trained: Trained, data: Data, machine: Machine | None) -> int:
    return int(evaluate(trained, data, machine).confusion.trace())


def _machine_of(weights: Path) -> Machine:
    with safe_open(weights, framework="pt") as opened:
        computed = opened.metadata().get("machine")
    if computed is None:
        raise RunError(
            f"{weights} does not say how it was computed: repeat the command of its run with "
            "--resume, which writes it again"
        )
    return Machine(**json.loads(computed))
