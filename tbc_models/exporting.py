"""Save networks as files: weights that can be loaded again, and ONNX for other runtimes."""

import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_file, save_model
from torch import Tensor, nn

from tbc_gpu import tie, untie
from tbc_models.files import replacing, require_safetensors
from tbc_models.networks.registry import check_name, create

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch that is accepted, relative to the largest
output. Both compute in float32 but sum in different orders, through up to a hundred layers."""


class MismatchError(ArithmeticError):
    """The outputs of an exported network differ from those of the original."""


def save(
    file: Path,
    model: nn.Module,
    *,
    name: str,
    options: Mapping[str, Any] | None = None,
    blocks: int | None = None,
    where: str = "*",
    weights: str = "nearest",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Save the weights of a network, with what is needed to build it again.

    Args:
        file: safetensors file to write; an existing one is replaced once the new one is complete.
        model: network that timm built or `tbc_gpu.tie` returned.
        name: name of the network before it was tied.
        options: options it was built with, numbers and strings.
        blocks: number of blocks it was tied with; None if it was not tied.
        where: pattern of the layers that were tied.
        weights: how the tied weights were chosen, "nearest" or "random".
        metadata: more for the metadata of the file.

    Raises:
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "tied.safetensors"
        >>> tied = tie(create("resnet18"), blocks=2).model
        >>> save(file, tied, name="resnet18", blocks=2)
        >>> torch.equal(load("resnet18", file).layer1[0].conv1.weight, tied.layer1[0].conv1.weight)
        True
    """
    how = {"network": name, "tied-block-conv": version("tied-block-conv")}
    if options:
        how["options"] = json.dumps(options)
    if blocks is not None:
        how |= {"blocks": str(blocks), "where": where, "weights": weights}
    how |= metadata or {}
    with replacing(file) as temporary:
        try:
            save_model(model, str(temporary), how)
        except SafetensorError as error:
            raise OSError(str(error)) from None
        _sort_header(temporary)


def load(name: str, file: Path) -> nn.Module:
    """Build a network with the weights of a file, tied as the file says.

    Args:
        name: as registered with timm, ours or timm's.
        file: safetensors file that `save` wrote, or with a state dict of the untied network.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: if the name is not registered, or the file does not hold weights of that
            network.
        OSError: if the file cannot be read.

    Example:
        >>> load("resnet18", Path("/no/such/file"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: ...
    """
    check_name(name)
    require_safetensors(file)
    try:
        with safe_open(file, framework="pt") as opened:
            how = opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file: {error}") from None
    if (of := how.get("network", name)) != name:
        raise ValueError(f"{file} has the weights of {of}, not of {name}")
    network = create(name, **json.loads(how.get("options", "{}")))
    if "blocks" in how:
        network = tie(
            network, blocks=int(how["blocks"]), where=how["where"], weights="random"
        ).model
    try:
        load_model(network, file)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"{file} does not fit {name}: {first[0].strip()}") from None
    return network


def round_to_half(weights: Path, file: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Round a file of weights to float16, half its size, as weights ship with the package.

    Args:
        weights: safetensors file that `save` wrote.
        file: safetensors file to write; it says of the network what the other says.
        metadata: more for the metadata of the file.

    Raises:
        ValueError: if a weight is too large for float16, or not finite.
        OSError: if a file cannot be read or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> network = create("tied_resnet14_s")
        >>> save(folder / "weights.safetensors", network, name="tied_resnet14_s")
        >>> round_to_half(folder / "weights.safetensors", folder / "half.safetensors")
        >>> half = load("tied_resnet14_s", folder / "half.safetensors")
        >>> torch.equal(half.conv1.weight, network.conv1.weight.half().float())
        True
    """
    with safe_open(weights, framework="pt") as opened:
        how = {**(opened.metadata() or {}), **(metadata or {})}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.half()
            if not tensors[name].isfinite().all():
                raise ValueError(f"{name} of {weights} has values that float16 does not have")
    with replacing(file) as temporary:
        save_file(tensors, temporary, how)
        _sort_header(temporary)


def _sort_header(file: Path) -> None:
    """Sort the metadata, which safetensors writes in random order: equal weights, equal files."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of eight bytes
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def to_onnx(network: nn.Module, file: Path, size: int) -> float:
    """Write a network as ONNX with a free batch size, once onnxruntime agrees with PyTorch.

    Tied layers are written as group convolutions and block-diagonal linear layers
    (`tbc_gpu.untie`), which every runtime supports.

    Args:
        network: network to export.
        file: file to write; an existing one is replaced only if the comparison passes.
        size: height and width of the images in pixels.

    Returns:
        The largest difference between onnxruntime and PyTorch on random images, relative to the
        largest output. The batch size is not the one that was exported.

    Raises:
        MismatchError: if the difference exceeds `TOLERANCE`; the file is then not written.
        ImportError: if onnx, onnxscript or onnxruntime is not installed.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "network.onnx"
        >>> to_onnx(create("tied_resnet14_s"), file, size=32) < TOLERANCE
        True
    """
    try:
        import onnx  # noqa: F401 (the exporter needs it)
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{error.name} is not installed: run pip install '.[export]' in a clone of the project"
        ) from None
    channels = next(m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    images = torch.randn(3, channels, size, size)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        right = network.eval()(images)
        program: Any = torch.onnx.export(
            untie(network),
            (images[:2],),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            dynamic_shapes=({0: "batch"},),
        )
    expected = [right] if isinstance(right, Tensor) else list(right)
    with replacing(file) as temporary:
        program.save(temporary, external_data=False)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        outputs = session.run(None, {"images": images.numpy()})
        difference = max(  # some networks start with outputs that are all zero
            float((torch.from_numpy(y) - y_right).abs().max()) / (float(y_right.abs().max()) or 1)
            for y, y_right in zip(outputs, expected, strict=True)
        )
        if not difference <= TOLERANCE:  # true for NaN as well
            raise MismatchError(
                f"onnxruntime differs from PyTorch by {difference:.1e} of the largest output, "
                f"more than {TOLERANCE}"
            )
    return difference
