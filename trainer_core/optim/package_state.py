"""Between our flat states and the reference packages' `state_dict()`: one dict per parameter, numbered in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import RunError
from .flat import FlatBuffer, Group, Place


def to_package(
    buffer: FlatBuffer,
    group_values: Callable[[Group], dict[str, Any]],
    per_parameter: Callable[[Place], dict[str, Any]],
) -> dict[str, Any]:
    """A package's state dict: what `group_values` and `per_parameter` give, under torch.optim's numbering."""
    number = {(place.group, place.name): index for index, place in enumerate(buffer.places)}
    param_groups = [
        {**group_values(group), "params": [number[place.group, place.name] for place in buffer.places_of(group)]}
        for group in buffer.groups
    ]
    return {"state": dict(enumerate(map(per_parameter, buffer.places))), "param_groups": param_groups}


def from_package(buffer: FlatBuffer, state: Mapping[str, Any], views: Callable[[Place], Mapping[str, Tensor]]) -> None:
    """Copy each parameter's entries into its `views`, which are named like the entries.

    A scalar stands for a tensor of that value, as prodigyopt keeps zeros. Raises RunError if the groups or the sizes
    differ, or an entry is missing."""
    sizes = [len(group["params"]) for group in state["param_groups"]]
    if sizes != [len(buffer.places_of(group)) for group in buffer.groups]:
        raise RunError(f"the optimizer state has groups of {sizes} parameters; it belongs to another network")
    order = [number for group in state["param_groups"] for number in group["params"]]
    for place, number in zip(buffer.places, order, strict=True):
        _take_over(place, state["state"].get(number, {}), views(place))


def _take_over(place: Place, entries: Mapping[str, Any], views: Mapping[str, Tensor]) -> None:
    for name, view in views.items():
        if name not in entries:
            raise RunError(f'the optimizer state has no "{name}" for {place.name}: it is another optimizer\'s')
        value = torch.as_tensor(entries[name])
        if value.numel() not in (1, view.numel()):
            raise RunError(f'"{name}" of {place.name} has {value.numel()} values, not {view.numel()}')
        view.copy_(value if value.ndim == 0 else value.reshape(view.shape))
