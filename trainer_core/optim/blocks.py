"""The flat buffer in pieces: as large as one kernel likes on a GPU, as small as the cache on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from .flat import FlatBuffer, Group

# Measured on a CPU: an optimizer's seven streams of 1 MiB stay in the last-level cache, and a block is long enough that
# torch's overhead per operation does not show. Independent of the number of threads, and so are the sums over a block.
CPU_BLOCK = 1 << 18
# One block holds any common LoRA; the limit bounds the scratch memory of a step to 256 MiB per tensor.
GPU_BLOCK = 1 << 26


@dataclass(frozen=True)
class Block:
    """Elements `[start, stop)` of the buffer, all with one rate: lr of the group / the largest lr, in (0, 1]."""

    start: int
    stop: int
    rate: float

    def of(self, flat: Tensor) -> Tensor:
        """This piece of any tensor laid out like the buffer, as a view."""
        return flat[self.start : self.stop]


def largest_lr(buffer: FlatBuffer) -> float:
    """The largest group rate, which the others are relative to. Raises ConfigError if every group is frozen."""
    lr = max(group.lr for group in buffer.groups)
    if lr == 0:
        raise ConfigError("every learning rate is 0, so nothing would be trained; give at least one above 0")
    return lr


def blocks_of(buffer: FlatBuffer, numel: int | None = None) -> tuple[Block, ...]:
    """The trained part of the buffer in blocks of at most `numel` elements; frozen groups have none."""
    numel = numel or default_block_numel(buffer.device)
    lr = largest_lr(buffer)
    return tuple(
        Block(start, min(start + numel, span.stop), span.lr / lr)
        for span in _spans_of_one_rate(buffer)
        for start in range(span.start, span.stop, numel)
    )


def default_block_numel(device: torch.device) -> int:
    """Elements per block on that device."""
    return CPU_BLOCK if device.type == "cpu" else GPU_BLOCK


def _spans_of_one_rate(buffer: FlatBuffer) -> Iterator[Group]:
    # Neighbours with the same rate take the same numbers, so fewer and larger kernels do.
    pending: Group | None = None
    for group in buffer.groups:
        if pending and pending.lr == group.lr and pending.stop == group.start:
            pending = Group(pending.name, pending.start, group.stop, group.lr)
            continue
        if pending and pending.lr > 0:
            yield pending
        pending = group
    if pending and pending.lr > 0:
        yield pending
