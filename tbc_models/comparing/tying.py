"""The study of `tbc tie-study`: tie a trained network in several ways, and train each further.

Each row is a training with its own schedule, from the nearest tied weights or from random ones. A
row from tied weights is what `tbc tie --finetune` computes with the same options, so it can be
checked alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tbc_models.comparing.reports import first_difference
from tbc_models.count import measure
from tbc_models.data import Data
from tbc_models.results import machine as describe_machine
from tbc_models.results import read
from tbc_models.training.callbacks import LAST
from tbc_models.training.loading import STREAMS
from tbc_models.training.run import train
from tbc_models.training.settings import Machine, RunError, Settings, prepare
from tbc_models.training.starting import load_trained
from tbc_models.training.trained import open_trained
from tbc_models.training.tying import tie_and_tune, top1_of

Start = Literal["nearest", "taught", "random"]
STARTS: tuple[Start, ...] = ("nearest", "taught", "random")
"""From the nearest tied weights; from these, with the untied network as teacher; from scratch."""
PACKAGES = ("torchvision", "lightning", "timm")


@dataclass(frozen=True)
class Study:
    """What is tied, and how it is trained.

    Attributes:
        source: name or file of the trained network.
        model: name of the network, as registered with timm.
        options: options that timm builds it with.
        size: height and width in pixels of the images that it was trained with.
        data: images to train and test with.
        blocks: numbers of blocks B.
        where: patterns of the layers that are tied.
        epochs: lengths of the trainings.
        recipe: recipe of the trainings.
        seed: seed of all trainings.
        machine: where and how to compute.
    """

    source: str
    model: str
    options: dict[str, Any]
    size: int
    data: Data
    blocks: tuple[int, ...]
    where: tuple[str, ...]
    epochs: tuple[int, ...]
    recipe: str
    seed: int
    machine: Machine

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the trained weights, since a file of the same name may hold others."""
        digest = sha256()
        for name, value in load_trained(self.source).state_dict().items():
            digest.update(name.encode() + value.numpy().tobytes())
        return digest.hexdigest()[:16]

    def settings(self) -> dict[str, Any]:
        """Return everything that the results depend on, except the machine and the software."""
        return {
            "source": Path(self.source).name,
            "weights": self.fingerprint,
            "model": self.model,
            "data": self.data.name,
            "streams": STREAMS,
            "fingerprint": self.data.fingerprint,
            "size": self.size,
            "train": len(self.data.train),
            "test": len(self.data.test),
            "mirror": self.data.mirror,
            "recipe": self.recipe,
            "seed": self.seed,
            "precision": self.machine.precision,
            "channels_last": self.machine.channels_last,
        }

    def cases(self) -> list[dict[str, Any]]:
        """List the trainings, the shortest first."""
        return [
            {"blocks": blocks, "where": where, "start": start, "epochs": epochs}
            for epochs in self.epochs
            for start in STARTS
            for where in self.where
            for blocks in self.blocks
        ]

    def run_settings(self, *, blocks: int, where: str, start: Start, epochs: int) -> Settings:
        """Complete the settings of the training of a case."""
        return prepare(
            self.model,
            self.data,
            self.recipe,
            epochs=epochs,
            seed=self.seed,
            size=self.size,
            options=self.options,
            tie_from="" if start == "random" else self.source,
            teacher=self.source if start == "taught" else "",
            blocks=blocks,
            where=where,
        )


def run_cases(study: Study, have: Sequence[dict[str, Any]], folder: Path) -> Iterator[Any]:
    """Make the trainings that are missing, and yield the row of each.

    Args:
        study: what is tied, and how it is trained.
        have: rows of trainings that need not be repeated.
        folder: folder of the runs; one that was killed resumes there.

    Yields:
        Rows: the case, parameters and MACs of the tied network, and its top-1 at each stage.

    Example:
        >>> from tbc_models.data import open_data
        >>> source = ("resnet20.cifar10", "resnet20", {}, 32)
        >>> ways = {"blocks": (2,), "where": ("layer3*",), "epochs": (1,)}
        >>> options = ways | {"recipe": "small", "seed": 0, "machine": Machine()}
        >>> study = Study(*source, open_data("digits"), **options)
        >>> list(run_cases(study, study.cases(), Path("runs")))
        []
    """
    made = [{key: row[key] for key in ("blocks", "where", "start", "epochs")} for row in have]
    for case in study.cases():
        if case in made:
            continue
        settings = study.run_settings(**case)
        counted = measure(settings.shapes(), settings.size)
        layers = "".join(letter if letter.isalnum() else "_" for letter in case["where"])
        name = f"B{case['blocks']}-{layers}-{case['start']}-{case['epochs']}"
        options: dict[str, Any] = {"resume": True, "say": _say_nothing}
        row = case | {"parameters": counted.parameters, "macs": counted.macs}
        if case["start"] == "random":
            train(settings, study.data, folder / name, study.machine, **options)
            yield row | {"tuned": top1_of(open_trained(folder / name / LAST), study.data)}
        else:
            scores = tie_and_tune(settings, study.data, folder / name, study.machine, **options)
            yield row | scores._asdict()


def study_report(study: Study, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collect the results.

    Args:
        study: what is tied, and how it is trained.
        rows: the rows so far.

    Returns:
        The settings, the costs of the network before it is tied, and the rows.
    """
    plain = study.run_settings(blocks=1, where="*", start="random", epochs=1)
    counted = asdict(measure(plain.shapes(), plain.size))
    return {"settings": study.settings(), "untied": counted, "rows": list(rows)}


def read_rows(file: Path, study: Study) -> list[dict[str, Any]]:
    """Read the rows of a study that is to be resumed.

    Args:
        file: file that `tbc tie-study` wrote.
        study: what is tied now, and how it is trained.

    Returns:
        Its rows.

    Raises:
        RunError: if the file is of another kind, or of a study with other settings or software.
        OSError: if the file cannot be read.
    """
    try:
        found = read(file)
        was, rows = found["settings"] | found["machine"], list(found["rows"])
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{file} holds no results of `tbc tie-study`", option="json") from None
    if differs := first_difference(was, study.settings() | describe_machine(*PACKAGES)):
        raise RunError(f"{file} cannot be resumed: it was made with {differs}", option="json")
    return rows


def _say_nothing(_: str) -> None:
    pass
