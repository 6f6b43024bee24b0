"""Something of every picture at hand for batches: one tensor for each bucket, a row for each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from .batches import Batch
from .buckets import Size


class BucketRows:
    """Rows of like shape in each bucket, in tensors whose room is taken at once.

    Kept one by one, between the large buffers that decoding takes and frees, ten thousand small tensors hold on to
    many times their own size: the allocator cannot use the gaps beside them."""

    def __init__(
        self,
        buckets: Sequence[Size],
        keys: Sequence[Hashable],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        memory_budget: int | None = None,
    ):
        """buckets: of every view, in the order of `Batch.views`. keys: views of one bucket and key share a row.

        device, dtype: of what `batch` gives. memory_budget: bytes; if all would be more, they wait in the CPU's memory,
        pinned where the device is CUDA. The size of a row follows its bucket's area."""
        self._buckets = buckets
        self._device = torch.device(device)
        self._dtype = dtype
        self._memory_budget = memory_budget
        row_of: dict[tuple[Size, Hashable], int] = {}
        self._counts: Counter[Size] = Counter()
        for place in zip(buckets, keys, strict=True):
            if place not in row_of:
                row_of[place] = self._counts[place[0]]
                self._counts[place[0]] += 1
        self._row_of_view = [row_of[place] for place in zip(buckets, keys)]
        self._rows: dict[Size, Tensor] = {}  # per bucket [N, …]

    def put(self, view: int, value: Tensor) -> None:
        """Keep a view's row, and that of all that share it; every row of a bucket has one shape."""
        bucket = self._buckets[view]
        if bucket not in self._rows:
            self._rows[bucket] = self._room(bucket, value)
        self._rows[bucket][self._row_of_view[view]].copy_(value)

    def batch(self, batch: Batch, pictures: int) -> Tensor:
        """[B, …]: the rows of a batch out of so many pictures, on the device, unsynced."""
        rows = self._rows[batch.bucket]
        # rows are read by Python numbers: an index tensor would have to be copied over, and that waits for the device
        chosen = [rows[self._row_of_view[view]] for view in batch.views(pictures)]
        return torch.stack([row.to(self._device, non_blocking=True) for row in chosen])

    def shape(self, bucket: Size) -> torch.Size:
        """Of one of the bucket's rows, once there is any."""
        return self._rows[bucket].shape[1:]

    def _room(self, bucket: Size, value: Tensor) -> Tensor:
        shape = (self._counts[bucket], *value.shape)
        if self._memory_budget is None or self._all_bytes(bucket, value) <= self._memory_budget:
            return torch.empty(shape, dtype=self._dtype, device=self._device)
        # pinned, a row's copy to the device does not wait
        return torch.empty(shape, dtype=self._dtype, pin_memory=self._device.type == "cuda")

    def _all_bytes(self, bucket: Size, value: Tensor) -> float:
        """Of all rows together, from one row of a bucket."""
        area = sum(width * height * count for (width, height), count in self._counts.items())
        bytes_of_row = value.numel() * torch.empty((), dtype=self._dtype).element_size()
        return bytes_of_row * area / (bucket[0] * bucket[1])
