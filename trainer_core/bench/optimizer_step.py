"""What an optimizer step costs: our flat optimizers against the packages, on the same tensors, turn by turn."""

from __future__ import annotations

import contextlib
import importlib
import io
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..optim import FlatBuffer, ParamGroup, build_optimizer

Shapes = Sequence[tuple[int, ...]]

# The class that each of ours stands for. Both sides run the package's defaults at a usual rate.
PACKAGES = {
    "AdamW": "torch.optim.AdamW",
    "Lion": "lion_pytorch.Lion",
    "Prodigy": "prodigyopt.Prodigy",
    "DAdaptAdam": "dadaptation.DAdaptAdam",
    "DAdaptAdamPreprint": "dadaptation.experimental.DAdaptAdamPreprint",
    "DAdaptLion": "dadaptation.DAdaptLion",
    "DAdaptSGD": "dadaptation.DAdaptSGD",
    "DAdaptAdaGrad": "dadaptation.DAdaptAdaGrad",
    "DAdaptAdan": "dadaptation.DAdaptAdan",
    "DAdaptAdanIP": "dadaptation.experimental.DAdaptAdanIP",
}
LEARNING_RATES = {name: 1e-4 if name in ("AdamW", "Lion") else 1.0 for name in PACKAGES}
_DISTRIBUTIONS = {"lion_pytorch": "lion-pytorch"}


def sd15_lora_shapes(rank: int = 32) -> list[tuple[int, ...]]:
    """The tensors of a LoRA on Stable Diffusion 1.5's UNet and text encoder: 264 modules, 528 tensors.

    At rank 32 they have 18.9 million elements."""
    return [shape for inputs, outputs in _sd15_layers() for shape in ((rank, inputs), (outputs, rank))]


def sd15_lokr_shapes(factor: int = 8, rank: int = 4) -> list[tuple[int, ...]]:
    """The tensors of a LoKr on the same layers: w1 [factor, factor], and w2 as two matrices of that rank; 792 tensors.

    At factor 8 and rank 4 they have 0.3 million elements."""
    return [
        shape
        for inputs, outputs in _sd15_layers()
        for shape in ((factor, factor), (outputs // factor, rank), (rank, inputs // factor))
    ]


def _sd15_layers() -> list[tuple[int, int]]:
    layers: list[tuple[int, int]] = []
    for channels in (320,) * 5 + (640,) * 5 + (1280,) * 6:
        layers += [(channels, channels)] * 8  # self-attention, cross-attention's q and out, the two projections
        layers += [(768, channels)] * 2 + [(channels, 8 * channels), (4 * channels, channels)]
    return layers + ([(768, 768)] * 4 + [(768, 3072), (3072, 768)]) * 12


def tiny_shapes(tensors: int = 792) -> list[tuple[int, ...]]:
    """As many tensors as a LoKr with factor 8 has, 8 × 8 each: what is left is the cost of launching."""
    return [(8, 8)] * tensors


def measure_optimizer_steps(
    shapes: Shapes | None = None, rounds: int = 7, device: str | torch.device | None = None
) -> list[dict[str, Any]]:
    """One row per optimizer and implementation: operations, syncs and the median milliseconds of a step.

    shapes: of the parameters, by default SD 1.5 at rank 32. rounds: timed steps of each, ours and the package's in
    turns so that both meet the same conditions; the first two steps of each are not timed. device: CUDA where there is
    one, else the CPU.

    `kernels` are operations that reach a kernel (a fused or foreach call counts once). `syncs` are reads of a device
    value by the host, torch's own step counters, which lie on the CPU, left out. `time_ratio` is ours / the package's.
    Packages that are not installed have no row."""
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # one optimizer after the other: the states of all of them together would fill the memory
    rows = [row for name in PACKAGES for row in _measured(name, shapes or sd15_lora_shapes(), rounds, place)]
    return [*_with_ratios(rows)]


class CountedOperations(TorchDispatchMode):
    """Counts the operations inside `with` that reach a kernel (views do not), and the host's reads of tensor values.

    ignored: tensors whose reads do not count."""

    def __init__(self, ignored: Sequence[Tensor] = ()):
        super().__init__()
        self._ignored = {tensor.data_ptr() for tensor in ignored}
        self.kernels, self.syncs = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal"):
            self.syncs += args[0].data_ptr() not in self._ignored
        elif name not in ("view", "slice", "select", "split", "unbind", "alias", "detach", "as_strided", "expand"):
            self.kernels += 1
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Contender:
    optimizer: str
    implementation: str
    tensors: int
    elements: int
    step: Callable[[], Any]
    host_counters: Callable[[], list[Tensor]] = list


def _measured(name: str, shapes: Shapes, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    contenders = [*_contenders(name, shapes, device)]
    counts = [_counted(each) for each in contenders]
    milliseconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, times in zip(contenders, milliseconds, strict=True):
            times.append(_timed(contender.step, device))
    return [
        {
            "optimizer": contender.optimizer,
            "implementation": contender.implementation,
            "device": device.type,
            "threads": torch.get_num_threads(),
            "tensors": contender.tensors,
            "elements": contender.elements,
            "kernels": count.kernels,
            "syncs": count.syncs,
            "milliseconds": statistics.median(times),
        }
        for contender, count, times in zip(contenders, counts, milliseconds, strict=True)
    ]


def _contenders(name: str, shapes: Shapes, device: torch.device) -> Iterator[_Contender]:
    yield _ours(name, shapes, device)
    with contextlib.suppress(ImportError):
        yield _the_packages(name, shapes, device)


def _ours(name: str, shapes: Shapes, device: torch.device) -> _Contender:
    parameters = _parameters(shapes, device)
    optimizer = build_optimizer(name, FlatBuffer([ParamGroup("unet", parameters, LEARNING_RATES[name])]), {})
    return _Contender(name, "ours", *_size(parameters), lambda: optimizer.step(1.0))


def _the_packages(name: str, shapes: Shapes, device: torch.device) -> _Contender:
    parameters = _parameters(shapes, device)
    package = PACKAGES[name].partition(".")[0]
    distribution = _DISTRIBUTIONS.get(package, package)
    with contextlib.redirect_stdout(io.StringIO()):  # they print
        optimizer = _package_class(name)(list(parameters.values()), lr=LEARNING_RATES[name])

    def host_counters() -> list[Tensor]:
        steps = [state.get("step") for state in optimizer.state.values()]
        return [step for step in steps if isinstance(step, Tensor) and step.device.type == "cpu"]

    return _Contender(
        name, f"{distribution} {version(distribution)}", *_size(parameters), optimizer.step, host_counters
    )


def _package_class(name: str) -> Callable[..., torch.optim.Optimizer]:
    module, _, kind = PACKAGES[name].rpartition(".")
    return getattr(importlib.import_module(module), kind)


def _parameters(shapes: Shapes, device: torch.device) -> dict[str, nn.Parameter]:
    """LoRA's start, every second tensor zero, with gradients; the same for every contender."""
    generator = torch.Generator().manual_seed(0)
    parameters = {}
    for index, shape in enumerate(shapes):
        start = torch.zeros(shape) if index % 2 else torch.randn(shape, generator=generator) * 0.02
        parameters[str(index)] = nn.Parameter(start.to(device))
        parameters[str(index)].grad = (torch.randn(shape, generator=generator) * 1e-3).to(device)
    return parameters


def _size(parameters: Mapping[str, nn.Parameter]) -> tuple[int, int]:
    return len(parameters), sum(parameter.numel() for parameter in parameters.values())


def _counted(contender: _Contender) -> CountedOperations:
    contender.step()  # makes the state
    with CountedOperations(contender.host_counters()) as count:
        contender.step()
    return count


def _timed(step: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1e3


def _with_ratios(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    packages = {row["optimizer"]: row["milliseconds"] for row in rows if row["implementation"] != "ours"}
    for row in rows:
        if row["implementation"] == "ours" and row["optimizer"] in packages:
            yield {**row, "time_ratio": row["milliseconds"] / packages[row["optimizer"]]}
        else:
            yield row
