"""Which layers get an adapter, by canonical name: the set that kohya's sd-scripts adapts by class name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, Union

import torch
from torch import nn

from ..errors import HostError

Adaptable: TypeAlias = Union[nn.Linear, nn.Conv2d]

_ATTENTION = re.compile(r"\.attentions\.\d+\.|^text_model\.encoder\.layers\.\d+\.(self_attn|mlp)\.")
_CONVOLUTIONAL = re.compile(r"\.(resnets|downsamplers|upsamplers)\.\d+\.")
_TRAINABLE_ON = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Target:
    """A layer of the base model that gets an adapter, under its canonical name."""

    name: str
    module: Adaptable


def find_targets(component: nn.Module, names: Mapping[str, str], convolutions: bool) -> list[Target]:
    """The component's layers that get an adapter, in the model's own order.

    names: host path → canonical name. Attention and feed-forward layers always (Linear and 1×1 Conv2d); with
    `convolutions` also every Linear and Conv2d of the UNet's resnets, down- and upsamplers. Raises HostError for one of
    these that no adapter can be put on: quantised, grouped, or of an unknown class."""
    found = []
    for path, module in component.named_modules():
        name = names.get(path, "")
        if not is_target_name(name, convolutions):
            continue
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            _require_trainable(name, module)
            found.append(Target(name, module))
        elif _holds_a_matrix(module):
            raise HostError(
                f"{name} is a {type(module).__name__}, which cannot be adapted; "
                "load the checkpoint unquantised (fp16 or bf16 weights)"
            )
    return found


def is_target_name(name: str, convolutions: bool) -> bool:
    """Whether layers of this canonical name are adapted; `convolutions` adds the UNet's convolutional blocks."""
    return bool(_ATTENTION.search(name) or (convolutions and _CONVOLUTIONAL.search(name)))


def _require_trainable(name: str, module: Adaptable) -> None:
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        raise HostError(f"{name} is a grouped convolution ({module.groups} groups), which no adapter is defined for")
    weight = module.weight
    if weight is None or weight.dtype not in _TRAINABLE_ON or weight.shape != _shape_of_a_plain_weight(module):
        kind = "missing" if weight is None else str(weight.dtype).removeprefix("torch.")
        raise HostError(
            f"{name} has quantised or packed weights ({kind}); load the checkpoint with fp16 or bf16 weights"
        )


def _shape_of_a_plain_weight(module: Adaptable) -> tuple[int, ...]:
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    return (module.out_channels, module.in_channels, *module.kernel_size)


def _holds_a_matrix(module: nn.Module) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return any(tensor.ndim >= 2 for tensor in own)
