"""Trained weights that ship with the package, registered as timm's tags.

`timm.create_model("NETWORK.TAG", pretrained=True)` loads weights/NETWORK.TAG.safetensors, without a
network connection. Such a file is the weights.safetensors of a run of `tbc train`, rounded by
`tbc publish`: it says which images the weights were trained with, and how accurate they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from tbc_models.files import shipped_weights


def with_shipped(configurations: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Replace the configuration of each network of which trained weights ship.

    Args:
        configurations: of networks without trained weights, by their names.

    Returns:
        For `timm.models.generate_default_cfgs`: for each file of trained weights, one by its name
        NETWORK.TAG, of which timm makes a network's first its default; and those given, of
        networks without such a file.

    Example:
        >>> list(with_shipped({"no_such_network": {}}))
        ['no_such_network']
    """
    found = {}
    for name, file in shipped_weights().items():
        network, _, _ = name.partition(".")
        if network in configurations:
            with safe_open(file, framework="pt") as opened:
                options = json.loads(opened.metadata()["options"])
            # JSON has no tuples, which timm's configurations are made of.
            trained = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in options["pretrained_cfg_overlay"].items()
            }
            found[name] = configurations[network] | trained | {"file": str(file)}
    tagged = {name.partition(".")[0] for name in found}
    return found | {name: cfg for name, cfg in configurations.items() if name not in tagged}


class Facts(NamedTuple):
    """What the metadata of published weights says of the network.

    Attributes:
        data: the data set that it was trained and tested on, without a path.
        licence: licence of the weights.
        parameters: number of parameters.
        macs: MACs of convolutions and linear layers for one image.
        images: number of test images.
        correct: number of test images whose true class is the most probable one.
        correct_of_tenth: the same of every tenth test image, from the first one: a quick test.
    """

    data: str
    licence: str
    parameters: int
    macs: int
    images: int
    correct: int
    correct_of_tenth: int


class ShippedNetwork(NamedTuple):
    """Trained weights that ship with the package.

    Attributes:
        name: NETWORK.TAG, as timm has it.
        file: the file of the weights.
        facts: what its metadata says.
    """

    name: str
    file: Path
    facts: Facts


def shipped_networks() -> list[ShippedNetwork]:
    """List the trained networks that ship with the package.

    Returns:
        Their names, files and accuracies, in the order of their names.

    Example:
        >>> all(0 < one.facts.correct <= one.facts.images for one in shipped_networks())
        True
    """
    shipped = []
    for name, file in shipped_weights().items():
        with safe_open(file, framework="pt") as opened:
            facts = Facts(**json.loads(opened.metadata()["facts"]))
        shipped.append(ShippedNetwork(name, file, facts))
    return shipped
