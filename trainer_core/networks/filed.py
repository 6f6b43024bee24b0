"""Adapters as a file's tensors, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import RunError
from .adapter import Adapter

_HEADER_BYTES = 150  # of each tensor: key, dtype, shape and offsets as JSON


def file_tensors(adapters: Sequence[Adapter], dtype: torch.dtype) -> dict[str, Tensor]:
    """The file's tensors under kohya's keys: contiguous copies on the CPU, in `dtype`; alpha, and what an algorithm
    needs precise, stays fp32."""
    found: dict[str, Tensor] = {}
    for adapter in adapters:
        for suffix, tensor in _exported(adapter).items():
            kind = torch.float32 if suffix in adapter.algorithm.precise else dtype
            found[f"{adapter.key}.{suffix}"] = tensor.detach().to("cpu", kind, copy=True).contiguous()
        constants = adapter.algorithm.constants(adapter.layer)
        found.update((f"{adapter.key}.{suffix}", each) for suffix, each in constants.items())
    return found


@torch.no_grad()
def take_over(adapters: Sequence[Adapter], tensors: Mapping[str, Tensor]) -> None:
    """Set the parameters to what a file of these very adapters says. Nothing is changed unless everything fits.

    Raises RunError naming what is missing, left over or different, and for a file from which its algorithm cannot go
    on."""
    _require_same_shapes(file_tensors(adapters, torch.float32), tensors)
    for adapter in adapters:
        _require_same_constants(adapter, tensors)
    by_key = _by_key(tensors)
    imported = [each.algorithm.imported(each.layer, by_key[each.key]) for each in adapters]
    for adapter, values in zip(adapters, imported, strict=True):
        for suffix, parameter in adapter.parameters.items():
            parameter.copy_(values[suffix])


def file_bytes(adapters: Sequence[Adapter], dtype: torch.dtype) -> int:
    """The file's size within a few percent, its metadata not counted."""
    return sum(_bytes_of(adapter, dtype) for adapter in adapters)


def _bytes_of(adapter: Adapter, dtype: torch.dtype) -> int:
    exported = _exported(adapter)
    precise, constants = adapter.algorithm.precise, adapter.algorithm.constants(adapter.layer)
    numbers = sum(each.numel() * (4 if suffix in precise else dtype.itemsize) for suffix, each in exported.items())
    return numbers + (len(exported) + len(constants)) * _HEADER_BYTES


@torch.no_grad()
def _exported(adapter: Adapter) -> dict[str, Tensor]:
    return adapter.algorithm.exported(adapter.layer, adapter.parameters)


def _require_same_shapes(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    _require_same_keys(expected.keys(), given.keys())
    for key, ours in expected.items():
        theirs = given[key]
        if theirs.shape != ours.shape:
            raise RunError(f"{key} is {tuple(theirs.shape)}, not {tuple(ours.shape)}: set the rank it was trained with")


def _require_same_keys(expected: Collection[str], given: Collection[str]) -> None:
    missing, extra = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if missing or extra:
        counted = ((missing, "missing"), (extra, "unknown"))
        gaps = [f"{len(keys)} {what} (such as {keys[0]})" for keys, what in counted if keys]
        raise RunError(
            f"this file is not of the network that is being trained: {', '.join(gaps)}; "
            "set the model, algorithm and components it was trained with"
        )


def _require_same_constants(adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
    for suffix, ours in adapter.algorithm.constants(adapter.layer).items():
        theirs = tensors[f"{adapter.key}.{suffix}"]
        if not torch.allclose(theirs.float(), ours.float(), rtol=1e-2):  # alpha may have been saved in bf16
            raise RunError(f"{adapter.key}.{suffix} is {theirs.item():g}, not {ours.item():g}: set it back")


def _by_key(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, suffix = name.partition(".")
        found.setdefault(key, {})[suffix] = tensor
    return found
