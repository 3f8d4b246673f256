"""Tie a trained network and train it further: what it loses at once, and what it wins back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from tbc_models.data import Data
from tbc_models.networks.registry import architecture
from tbc_models.training.callbacks import LAST
from tbc_models.training.launching import Run
from tbc_models.training.run import evaluate, train
from tbc_models.training.settings import Machine, Settings
from tbc_models.training.starting import check_knows, load_trained, recalibrate, start
from tbc_models.training.trained import Trained, open_trained


class TyingScores(NamedTuple):
    """Top-1 on the test images, of one network at four stages.

    Attributes:
        untied: of the trained network, before it is tied.
        at_once: with the nearest tied weights and the old statistics of batch normalisation.
        recalibrated: after these statistics were measured anew (`recalibrate`).
        tuned: after the training.
    """

    untied: float
    at_once: float
    recalibrated: float
    tuned: float


def tie_and_tune(
    settings: Settings,
    data: Data,
    out: Path,
    machine: Machine | None = None,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
    bar: bool = False,
) -> TyingScores:
    """Tie a trained network with the nearest weights, test it, train it, and test it again.

    Args:
        settings: settings of the training, with `tie_from`; and with `blocks`, unless the model is
            tied by design.
        data: the data set that `settings` were prepared for.
        out: folder of the run, as of `train`.
        machine: where and how to compute; by default on one device.
        resume: whether to resume the training from `out`.
        say: called with lines of text.
        bar: whether to show a progress bar of the training.

    Returns:
        The four scores.

    Raises:
        RunError: if the trained network does not know the classes of the data; and what `train`
            raises.

    Example:
        >>> import tempfile
        >>> from tbc_models.data import open_data
        >>> from tbc_models.training.settings import prepare
        >>> folder, digits = Path(tempfile.mkdtemp()), open_data("digits")
        >>> options = {"recipe": "small", "size": 16, "epochs": 1}
        >>> _ = train(prepare("resnet20", digits, **options), digits, folder, say=lambda _: None)
        >>> source = str(folder / "weights.safetensors")
        >>> tied = prepare("resnet20", digits, **options, tie_from=source, blocks=2)
        >>> scores = tie_and_tune(tied, digits, folder / "tied", say=lambda _: None)
        >>> scores._fields
        ('untied', 'at_once', 'recalibrated', 'tuned')
    """
    Run(out, settings, "tbc train", resume=resume)  # refuses a folder before the work is done
    untied, tied = load_trained(settings.tie_from), start(settings)
    check_knows(untied, settings, "trained network")

    def top1(network: nn.Module, of: Settings) -> float:
        return top1_of(Trained(of, network.state_dict()), data)

    as_it_was = replace(settings, model=architecture(untied), blocks=1)
    before, at_once = top1(untied, as_it_was), top1(tied, settings)
    recalibrate(tied, data, settings)
    recalibrated = top1(tied, settings)
    say(
        f"top-1 of the test images: {before:.2%} before it is tied, {at_once:.2%} with the nearest "
        f"tied weights, {recalibrated:.2%} after batch normalisation is measured anew"
    )
    train(settings, data, out, machine, resume=resume, say=say, bar=bar)
    return TyingScores(before, at_once, recalibrated, top1_of(open_trained(out / LAST), data))


def top1_of(trained: Trained, data: Data) -> float:
    """Find the top-1 of a trained network on the test images, in float32 as `tbc evaluate` does.

    Args:
        trained: the trained network.
        data: images for testing.

    Returns:
        The top-1, from 0 to 1.
    """
    return round(evaluate(trained, data).score.top1, 6)  # it is counted in float32
