"""A trained run as the hosts hand it on: its epochs, in memory where they were trained in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .errors import RunError
from .events import Finished, Saved
from .files.lora_file import load_lora


@dataclass(frozen=True)
class Epoch:
    """One epoch's LoRA. `label` is its file's stem: what `<lora:…>` takes and what stands over a grid's column."""

    number: int
    path: Path
    _in_memory: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """The file's name without suffix."""
        return self.path.stem

    def state_dict(self) -> dict[str, Tensor]:
        """The LoRA's tensors, from memory when they are there and else from the file. Raises RunError."""
        return dict(self._in_memory) if self._in_memory is not None else load_lora(self.path)[0]


@dataclass(frozen=True)
class TrainedRun:
    """A run's epochs in order."""

    folder: Path
    epochs: tuple[Epoch, ...]

    def epoch(self, number: int) -> Epoch:
        """The epoch of that number; -1 is the newest. Raises RunError, naming what there is."""
        if not self.epochs:
            raise RunError(f"{self.folder}: no epoch was saved yet; train at least one")
        if number == -1:
            return self.epochs[-1]
        for epoch in self.epochs:
            if epoch.number == number:
                return epoch
        saved = ", ".join(str(epoch.number) for epoch in self.epochs)
        raise RunError(f"{self.folder.name} has no epoch {number}; choose one of {saved}")


def collect_run(finished: Finished, saved: Mapping[int, Saved]) -> TrainedRun:
    """The run that a stream of events has ended with: epochs saved in this process keep their tensors at hand."""
    return TrainedRun(
        finished.folder,
        tuple(
            Epoch(number, path, saved[number].state_dict if number in saved else None)
            for number, path in finished.epochs
        ),
    )
