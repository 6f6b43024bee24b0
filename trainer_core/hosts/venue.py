"""What a UI that people generate in offers, so that training can live in it: its model, its turn, its folders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from .base import Host


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for the UI's own progress bar. step of total_steps; preview: the newest picture, if any."""

    step: int
    total_steps: int
    text: str
    preview: Image | None = None


@dataclass(frozen=True)
class GridRequest:
    """A grid of epochs by weights of one prompt. epochs: file stems as `<lora:…>` takes them, "" for no LoRA; weights:
    the LoRA's multipliers, a row each."""

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg: float
    width: int
    height: int
    epochs: Sequence[str]
    weights: Sequence[float] = (1.0,)


class Turn(Protocol):
    """The time in which a run has the UI's model for itself."""

    def show(self, progress: Progress) -> None:
        """Drive the UI's own progress display."""
        ...

    def is_interrupted(self) -> bool:
        """Whether somebody has pressed the UI's own stop button since the turn began."""
        ...

    def is_awaited(self) -> bool:
        """Whether a generation waits for this turn to end."""
        ...


class Venue(Protocol):
    """A1111, Forge, or our own standalone page."""

    @property
    def name(self) -> str:
        """Whose place it is, e.g. "Forge"."""
        ...

    @property
    def runs_dir(self) -> Path:
        """Where runs are made: the folder in which the UI finds LoRAs."""
        ...

    def allows(self, path: Path) -> bool:
        """Whether a page or a remote client may name this path, to be read or written, here."""
        ...

    def models(self) -> Sequence[str]:
        """The base models that a run may name; empty where the UI's own choice counts."""
        ...

    def host(self, model: str = "") -> Host:
        """The model to train on, loaded; `model` is one of `models`. Call it within a turn. Raises HostError."""
        ...

    def turn(self, title: str) -> AbstractContextManager[Turn]:
        """Wait for the UI's queue and hold it; on exit the next in the queue has its turn."""
        ...

    def epochs_changed(self) -> None:
        """There are new LoRA files: the UI's lists and the X/Y/Z axis show them without a restart."""
        ...

    def grid(self, request: GridRequest) -> Image:
        """The X/Y/Z picture of epochs by the UI's own sampler; call it outside a turn. Raises HostError."""
        ...
