"""The flat buffer in pieces: as large as one kernel likes on a GPU, as small as the cache on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from ..errors import ConfigError
from .flat import FlatBuffer, Group
from .sample import Sample
from .scalars import scalar_dtype

# Measured on a CPU: an optimizer's seven streams of 1 MiB stay in the last-level cache, and a block is long enough that
# torch's overhead per operation does not show. Independent of the number of threads, and so are the sums over a block.
CPU_BLOCK = 1 << 18
# One block holds any common LoRA; the limit bounds the scratch memory of a step to 256 MiB per tensor.
GPU_BLOCK = 1 << 26


@dataclass(frozen=True)
class Stretch:
    """Elements `[start, stop)` of the buffer, all with one rate: lr of the group / the largest lr, in (0, 1]."""

    start: int
    stop: int
    rate: float

    def of(self, flat: Tensor) -> Tensor:
        """This piece of any tensor laid out like the buffer, as a view."""
        return flat[self.start : self.stop]


class Block(SimpleNamespace):
    """Views of one stretch: its parameters, their gradients, and by name each state tensor and each sum.

    A sum is one number that the block adds to a total. picked: where the sampled elements lie within the block, or None
    when all of them are taken."""

    rate: float
    param: Tensor
    grad: Tensor
    picked: Tensor | None

    def sampled(self, values: Tensor) -> Tensor:
        """The elements of a tensor as long as the block that the sample picks."""
        return values if self.picked is None else values.index_select(0, self.picked)


class Blocks:
    """Every block of a buffer, their views made once: slicing costs as much as the arithmetic on a small block."""

    def __init__(
        self,
        buffer: FlatBuffer,
        streams: Mapping[str, Tensor],
        sums: Sequence[str],
        sample: Sample,
        numel: int | None = None,
    ):
        """streams: state tensors, laid out like the buffer or like the sample of it. sums: names of the totals.
        numel: elements per block, by default what suits the device. Raises ConfigError if every group is frozen."""
        self.lr = largest_lr(buffer)
        stretches = stretches_of(buffer, numel)
        self._sums = {name: buffer.params.new_zeros(len(stretches)) for name in sums}
        rates = [stretch.rate for stretch in stretches]
        self._rates = torch.tensor(rates, dtype=scalar_dtype(buffer.device), device=buffer.device)
        self._blocks = tuple(self._block(buffer, streams, sample, *each) for each in enumerate(stretches))
        self._scratch_numel = max(stretch.stop - stretch.start for stretch in stretches)
        self._empty = buffer.params.new_empty

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def __reversed__(self) -> Iterator[Block]:
        return reversed(self._blocks)

    def scratch(self) -> Tensor:
        """An uninitialised fp32 tensor as long as the longest block, for one step."""
        return self._empty(self._scratch_numel)

    def total(self, name: str) -> Tensor:
        """The sum over all blocks, each times its rate: 0-dim fp64 (fp32 on Apple's GPUs)."""
        return torch.dot(self._sums[name].to(self._rates.dtype), self._rates)

    def plain_total(self, name: str) -> Tensor:
        """The sum over all blocks, whatever their rates: 0-dim fp64 (fp32 on Apple's GPUs)."""
        return self._sums[name].sum(dtype=self._rates.dtype)

    def _block(
        self, buffer: FlatBuffer, streams: Mapping[str, Tensor], sample: Sample, index: int, stretch: Stretch
    ) -> Block:
        return Block(
            rate=stretch.rate,
            param=stretch.of(buffer.params),
            grad=stretch.of(buffer.grads),
            picked=sample.picked(stretch.start, stretch.stop),
            **{name: sample.part(flat, stretch.start, stretch.stop) for name, flat in streams.items()},
            **{name: totals[index] for name, totals in self._sums.items()},
        )


def gradient(block: Block, decay: float, out: Tensor | None) -> Tensor:
    """The block's gradient, with `decay` times the parameters added into `out` where there is an `out`.

    The buffer's own gradient stays as backward left it; the packages write coupled decay into it."""
    if out is None:
        return block.grad
    return torch.add(block.grad, block.param, alpha=decay, out=out[: block.param.numel()])


def largest_lr(buffer: FlatBuffer) -> float:
    """The largest group rate, which the others are relative to. Raises ConfigError if every group is frozen."""
    lr = max(group.lr for group in buffer.groups)
    if lr == 0:
        raise ConfigError("every learning rate is 0, so nothing would be trained; give at least one above 0")
    return lr


def stretches_of(buffer: FlatBuffer, numel: int | None = None) -> tuple[Stretch, ...]:
    """The trained part of the buffer in stretches of at most `numel` elements; frozen groups have none."""
    numel = numel or default_block_numel(buffer.device)
    lr = largest_lr(buffer)
    return tuple(
        Stretch(start, min(start + numel, span.stop), span.lr / lr)
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
