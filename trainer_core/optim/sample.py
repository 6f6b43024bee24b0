"""Every n-th element of each parameter: what an estimate can be content with (prodigyopt's `slice_p`)."""

from __future__ import annotations

import torch
from torch import Tensor

from .flat import FlatBuffer, Place


class Sample:
    """The elements 0, stride, 2·stride … of every parameter, in buffer order; with stride 1 simply the whole buffer."""

    def __init__(self, buffer: FlatBuffer, stride: int = 1):
        self._buffer = buffer
        self._positions: Tensor | None = None  # int64 [elements of the sample], ascending, on the CPU
        if stride > 1:
            self._positions = torch.cat([torch.arange(place.start, place.stop, stride) for place in buffer.places])

    @property
    def numel(self) -> int:
        """Elements of a tensor that holds the sample."""
        return self._buffer.numel if self._positions is None else self._positions.numel()

    def take(self, flat: Tensor) -> Tensor:
        """A copy of the sampled elements of a tensor that is laid out like the buffer."""
        return flat.clone() if self._positions is None else flat[self._positions.to(flat.device)]

    def part(self, values: Tensor, start: int, stop: int) -> Tensor:
        """What belongs to elements `[start, stop)` of the buffer, in a tensor laid out like it or like the sample."""
        if self._positions is None or values.numel() == self._buffer.numel:
            return values[start:stop]
        return values[self._within(self._positions, start, stop)]

    def of(self, place: Place, values: Tensor) -> Tensor:
        """A parameter's part of such a tensor: a view of the parameter's shape, or a vector of its sample."""
        part = self.part(values, place.start, place.stop)
        return part.view(place.shape) if part.numel() == place.stop - place.start else part

    def picked(self, start: int, stop: int) -> Tensor | None:
        """Where the sampled elements of `[start, stop)` lie, counted from `start`: int64, or None for all of them."""
        if self._positions is None:
            return None
        return (self._positions[self._within(self._positions, start, stop)] - start).to(self._buffer.device)

    def _within(self, positions: Tensor, start: int, stop: int) -> slice:
        first, end = torch.searchsorted(positions, torch.tensor([start, stop])).tolist()
        return slice(first, end)
