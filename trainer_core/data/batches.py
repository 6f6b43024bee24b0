"""Which pictures are trained together, and when: a pure function of (seed, epoch), so that a resumed run repeats it."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .buckets import Placement, Size


@dataclass(frozen=True)
class Batch:
    """Pictures of one bucket that are trained in one forward pass.

    bucket: (width, height). indices: the pictures' places in the dataset. turns: for each, which of its repeats in
    this epoch it is, from 0, so that the repeats of one picture may see different captions. mirrored: for each, whether
    left and right change places; () is none."""

    bucket: Size
    indices: tuple[int, ...]
    turns: tuple[int, ...]
    mirrored: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def views(self, pictures: int) -> tuple[int, ...]:
        """Each picture's place in a list of the dataset's `pictures` with all of them mirrored behind it."""
        if not self.mirrored:
            return self.indices
        return tuple(index + pictures * flip for index, flip in zip(self.indices, self.mirrored, strict=True))


def epoch_batches(
    placements: Sequence[Placement], repeats: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[Batch]:
    """Every picture `repeats` times, shuffled within its bucket, and the batches shuffled across buckets.

    Batches never mix buckets, and each bucket's last batch may be short: none is dropped (as kohya counts)."""
    dice = random.Random(f"batches of epoch {epoch} from {seed}")
    visits: dict[Size, list[tuple[int, int]]] = {}
    for index, (placement, times) in enumerate(zip(placements, repeats, strict=True)):
        visits.setdefault(placement.bucket, []).extend((index, turn) for turn in range(times))
    batches = []
    for bucket in sorted(visits):
        dice.shuffle(visits[bucket])
        for start in range(0, len(visits[bucket]), batch_size):
            indices, turns = zip(*visits[bucket][start : start + batch_size], strict=True)
            batches.append(Batch(bucket, indices, turns))
    dice.shuffle(batches)
    return batches


def mirrored_at_random(batches: Sequence[Batch], seed: int, epoch: int) -> list[Batch]:
    """The batches with half of the visits mirrored, drawn anew each epoch: kohya's flip_aug."""
    dice = random.Random(f"mirrored in epoch {epoch} from {seed}")
    return [replace(batch, mirrored=tuple(dice.random() < 0.5 for _ in batch.indices)) for batch in batches]


def accumulation_windows(batches: Sequence[Batch], gradient_accumulation_steps: int) -> list[tuple[Batch, ...]]:
    """The batches of each optimizer step; the epoch's last window may be short."""
    size = gradient_accumulation_steps
    return [tuple(batches[start : start + size]) for start in range(0, len(batches), size)]


def count_batches(placements: Sequence[Placement], repeats: Sequence[int], batch_size: int) -> int:
    """Batches per epoch: each bucket's pictures, repeats counted, divided by the batch size and rounded up."""
    visits: Counter[Size] = Counter()
    for placement, times in zip(placements, repeats, strict=True):
        visits[placement.bucket] += times
    return sum(math.ceil(count / batch_size) for count in visits.values())


def count_steps(
    placements: Sequence[Placement], repeats: Sequence[int], batch_size: int, gradient_accumulation_steps: int = 1
) -> int:
    """Optimizer steps per epoch: the epoch's batches by windows of accumulation, rounded up."""
    return math.ceil(count_batches(placements, repeats, batch_size) / gradient_accumulation_steps)
