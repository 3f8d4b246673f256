"""Trained weights that ship with the package, registered as timm's tags.

`timm.create_model("NETWORK.TAG", pretrained=True)` loads weights/NETWORK.TAG.safetensors, without a
network connection. Such a file is the weights.safetensors of a run of `tbc train`, rounded by
`tbc_models.exporting.round_to_half`: it says which images the weights were trained with.
"""

import json
from collections.abc import Mapping
from typing import Any

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
