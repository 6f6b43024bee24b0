"""Which layers get an adapter, by canonical name: kohya's set, LyCORIS's, or a person's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard, Union

import torch
from torch import nn

from ..errors import HostError

Adaptable: TypeAlias = Union[nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm]

_TRAINABLE_ON = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Target:
    """A layer of the base model that gets an adapter, under its canonical name."""

    name: str
    module: Adaptable

    @property
    def is_norm(self) -> bool:
        """Whether it is a normalisation layer."""
        return isinstance(self.module, (nn.LayerNorm, nn.GroupNorm))


def find_targets(component: nn.Module, names: Mapping[str, str], is_meant: Callable[[str], bool]) -> list[Target]:
    """The component's layers of the names that are meant, in the model's own order: Linear (see `is_linear`) and
    Conv2d, and every LayerNorm and GroupNorm that has a weight.

    names: host path → canonical name. Raises HostError for a layer that is meant and that no adapter can be put on:
    quantised, grouped, or of an unknown class."""
    found = []
    for path, module in component.named_modules():
        name = names.get(path, "")
        if not name or not is_meant(name):
            continue
        if isinstance(module, nn.Conv2d) or is_linear(module):
            _require_trainable(name, module)
            found.append(Target(name, module))
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            if module.weight is not None:
                found.append(Target(name, module))
        elif _holds_a_matrix(module):
            raise HostError(
                f"{name} is a {type(module).__name__}, which cannot be adapted; "
                "load the checkpoint unquantised (fp16 or bf16 weights)"
            )
    return found


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether the layer is an nn.Linear, or a host's own class that is one in all but its base, as Forge's is."""
    sizes = getattr(module, "out_features", None), getattr(module, "in_features", None)
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear) or (None not in sizes and weight is not None and weight.shape == sizes)


def _require_trainable(name: str, module: nn.Linear | nn.Conv2d) -> None:
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        raise HostError(f"{name} is a grouped convolution ({module.groups} groups), which no adapter is defined for")
    weight = module.weight
    if weight is None or weight.dtype not in _TRAINABLE_ON or weight.shape != _shape_of_a_plain_weight(module):
        kind = "missing" if weight is None else str(weight.dtype).removeprefix("torch.")
        raise HostError(
            f"{name} has quantised or packed weights ({kind}); load the checkpoint with fp16 or bf16 weights"
        )


def _shape_of_a_plain_weight(module: nn.Linear | nn.Conv2d) -> tuple[int, ...]:
    if isinstance(module, nn.Conv2d):
        return (module.out_channels, module.in_channels, *module.kernel_size)
    return (module.out_features, module.in_features)


def _holds_a_matrix(module: nn.Module) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(tensor.ndim >= 2 for tensor in own)
