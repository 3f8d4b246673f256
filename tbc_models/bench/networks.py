"""Time whole networks against one another: images per second and peak memory."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tbc_models.bench.layers import DTYPES
from tbc_models.bench.timing import Time, interleaved

# Words in the names of operations and kernels; the first kind that matches counts.
KINDS = {
    "copy": (
        *("copy", "aten::cat", "catarray", "fill", "zero"),
        *("memcpy", "memset", "nchwto", "nhwcto"),
    ),
    "convolution": ("conv", "gemm", "addmm", "aten::mm", "fprop", "dgrad", "wgrad"),
    "normalisation": ("batch_norm", "bn_"),
    "activation": ("relu", "clamp", "threshold"),
    "addition": ("add", "sum"),
}
OTHER = "other"
NETWORKS = ("resnet50", "tied_resnet50_s", "tied_resnet50")


@dataclass(frozen=True)
class Speed:
    """The speed of a network.

    Attributes:
        network: name.
        mode: "inference" or "training step".
        compiled: whether it was compiled by `torch.compile`.
        dtype: "float32", or "bfloat16", by autocast.
        batch: images in a batch.
        size: height and width of the images in pixels.
        time: time of one batch.
        ratio: time over that of the first network of the same run.
        peak_mb: peak memory in megabytes (weights, activations, gradients); None if unknown.
        parts: milliseconds of a batch by kind of operation, from a profiler; empty if compiled.
    """

    network: str
    mode: str
    compiled: bool
    dtype: str
    batch: int
    size: int
    time: Time
    ratio: float
    peak_mb: float | None
    parts: dict[str, float]

    @property
    def images_per_second(self) -> float:
        """Images per second."""
        return self.batch * 1e3 / self.time.median

    def record(self) -> dict[str, Any]:
        """Return the speed for a JSON file, the time as [median, low, high] in milliseconds."""
        rate = {"images_per_second": round(self.images_per_second, 1)}
        return asdict(self) | {"time": list(self.time)} | rate


def time_networks(
    names: tuple[str, ...] = NETWORKS,
    *,
    training: bool,
    compiled: bool = False,
    dtype: str = "float32",
    batch: int = 8,
    size: int = 224,
    seconds: float = 3.0,
    device: str = "cpu",
) -> Iterator[Speed]:
    """Time networks against one another, channels-last.

    Args:
        names: registered networks; ratios are to the first.
        training: whether to time a training step (forward, cross-entropy, backward) or inference.
        compiled: whether to compile them with `torch.compile`.
        dtype: "float32", or "bfloat16" by autocast.
        batch: images in a batch.
        size: height and width of the images in pixels.
        seconds: about how long to run each network.
        device: "cpu" or "cuda".

    Yields:
        The speed of each.

    Example:
        >>> of = {"training": False, "batch": 1, "size": 32, "seconds": 0.01}
        >>> [speed.ratio for speed in time_networks(("tied_resnet14_s",), **of)]
        [1.0]
    """
    torch.compiler.reset()  # ResNets share code, and PyTorch limits its compiled variants
    torch.manual_seed(0)
    images = torch.randn(batch, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    of: dict[str, Any] = {"device_type": device, "dtype": DTYPES[dtype]}
    low = dtype != "float32"

    def candidate(name: str) -> tuple[nn.Module, Callable[[], object]]:
        network = timm.create_model(name).to(memory_format=torch.channels_last).to(device)
        network.train(training)
        run = torch.compile(network) if compiled else network

        def infer() -> Tensor:
            with torch.no_grad(), torch.autocast(**of, enabled=low):
                return run(images)  # type: ignore[no-any-return]

        def step() -> None:
            network.zero_grad()
            with torch.autocast(**of, enabled=low):
                loss = F.cross_entropy(run(images), labels)
            loss.backward()

        return network, step if training else infer

    candidates = {name: candidate(name) for name in names}
    functions = {name: function for name, (_, function) in candidates.items()}
    peaks = {
        name: _peak(network, images, function, compiled)
        for name, (network, function) in candidates.items()
    }
    times = interleaved(functions, seconds, device)
    for name, time in times.items():
        mode = "training step" if training else "inference"
        ratio = time.median / times[names[0]].median
        parts = {} if compiled else _parts(functions[name], device)
        yield Speed(name, mode, compiled, dtype, batch, size, time, ratio, peaks[name], parts)


def _parts(function: Callable[[], object], device: str, calls: int = 3) -> dict[str, float]:
    """Return the milliseconds of one call by kind of operation."""
    cuda = device == "cuda"
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        for _ in range(calls):
            function()
    parts = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in profiler.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        kinds = (
            kind for kind, words in KINDS.items() if any(w in event.key.lower() for w in words)
        )
        parts[next(kinds, OTHER)] += spent / calls / 1e3
    return {kind: round(spent, 2) for kind, spent in parts.items()}


def _peak(
    network: nn.Module, images: Tensor, function: Callable[[], object], compiled: bool
) -> float | None:
    """Return the peak memory of one call in megabytes; on a CPU, None if compiled."""
    if images.is_cuda:
        function()
        torch.cuda.synchronize()
        others = torch.cuda.memory_allocated() - _stored(network) - images.nbytes
        torch.cuda.reset_peak_memory_stats()
        function()
        return round((torch.cuda.max_memory_allocated() - others) / 1e6, 1)
    if compiled:
        return None
    # PyTorch has no public way to find the peak memory of a CPU: torch.cuda counts its own devices,
    # and torch.profiler lists allocations without those made before. This tracker needs neither.
    from torch.distributed._tools.mem_tracker import MemTracker

    network.zero_grad()
    tracker = MemTracker()
    tracker.track_external(network, images)
    with tracker:
        function()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    return round(peak / 1e6, 1)


def _stored(network: nn.Module) -> int:
    held = [*network.parameters(), *network.buffers()]
    held += [p.grad for p in network.parameters() if p.grad is not None]
    return sum(t.numel() * t.element_size() for t in held)
