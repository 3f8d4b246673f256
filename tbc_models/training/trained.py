"""Open what a training run leaves: a checkpoint, its weights.safetensors, or weights that ship."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tbc_models.files import find_weights
from tbc_models.training.callbacks import read_checkpoint
from tbc_models.training.settings import Machine, RunError, Settings


class Trained(NamedTuple):
    """A trained network, as `open_trained` reads it.

    Attributes:
        settings: settings of the run that trained it. If the weights were published, the path of
            the data is left out.
        state: its weights by their names. If the run kept an average of the weights, it is that.
    """

    settings: Settings
    state: Mapping[str, Tensor]

    def network(self) -> nn.Module:
        """Build the network with these weights.

        Returns:
            The network, in evaluation mode.

        Raises:
            RunError: if the weights are not those of the network.
        """
        network = self.settings.network()
        try:
            network.load_state_dict(self.state)
        except RuntimeError:
            raise RunError(f"the file does not hold the weights of {self.settings.model}") from None
        return network.eval()


def open_trained(where: str | Path) -> Trained:
    """Open a trained network, without running any code that the file may hold.

    Args:
        where: last.ckpt, best.ckpt or weights.safetensors of a run of `train`, or the name
            NETWORK.TAG of weights that ship with the package. A file takes precedence over a name.

    Returns:
        The settings of its run, and its weights.

    Raises:
        RunError: if there is neither such a file nor such a name, or `train` did not write it.
        OSError: if the file cannot be read.

    Example:
        >>> open_trained("/no/such/file")
        Traceback (most recent call last):
        ...
        tbc_models.training.settings.RunError: /no/such/file does not exist; ...
    """
    try:
        file = find_weights(where)
    except ValueError as error:
        raise RunError(str(error)) from None
    if zipfile.is_zipfile(file):  # as torch.save writes
        settings, content = read_checkpoint(file)
        state = {
            name.removeprefix("network."): value
            for name, value in content["state_dict"].items()
            if name.startswith("network.")
        }
        return Trained(settings, state)
    try:
        with safe_open(file, framework="pt") as opened:
            settings = Settings(**json.loads((opened.metadata() or {})["settings"]))
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise RunError(
            f"{file} does not say how it was trained: give a checkpoint or the "
            "weights.safetensors of a run of `tbc train`"
        ) from None
    return Trained(settings, state)


def describe_training(settings: Settings, machine: Machine) -> dict[str, str]:
    """Describe a run in the metadata of its weights, as `open_trained` reads it.

    The weights can be published: the path of the data is left out, and of other files only the
    names of the folder and of the file are kept.

    Args:
        settings: settings of the run.
        machine: where and how it computed; the number of workers changes nothing.

    Returns:
        Metadata for `exporting.save`.
    """
    described = asdict(settings)
    described["data"], _, _ = settings.data.partition(":")
    for file in ("weights", "tie_from", "teacher"):
        if named := described.get(file):
            described[file] = Path(named).name
    computed = {name: value for name, value in asdict(machine).items() if name != "workers"}
    return {"settings": json.dumps(described), "machine": json.dumps(computed)}
