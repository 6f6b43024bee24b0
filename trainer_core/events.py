"""What a run says while it works. `train()` yields these; a host, the command line and the tests listen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from PIL.Image import Image

    from .footprint import Footprint
    from .plan import Plan


@dataclass(frozen=True)
class Planned:
    """What will happen: sent once, before anything is loaded or computed."""

    plan: Plan


@dataclass(frozen=True)
class Prepared:
    """How much the run will take: sent once, when the model is there and the adapters are built, before any step."""

    footprint: Footprint
    folder: Path  # the run's


@dataclass(frozen=True)
class Cached:
    """One more picture's latents or mask, or one more caption's encoding, is at hand."""

    what: str  # "latents", "masks" or "captions"
    done: int
    total: int


@dataclass(frozen=True)
class Stepped:
    """An optimizer step was issued. Costs no device sync: numbers come later, in `Measured`."""

    step: int  # 1-based
    total_steps: int
    epoch: int  # 1-based


@dataclass(frozen=True)
class Measurement:
    """One optimizer step's numbers.

    `lr` is per group the rate in effect: schedule × learning rate, times d where the optimizer adapts (`d` is None
    where it does not)."""

    step: int
    epoch: int
    loss: float
    grad_norm: float
    lr: dict[str, float]
    d: float | None = None


@dataclass(frozen=True)
class Measured:
    """Numbers of the steps since the last `Measured`, read from the device in one go."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Spiked:
    """The optimizer's d, and with it d·lr, has leapt up after it had settled (guide 4's "cut it off if it spikes")."""

    step: int  # the step that made it leap: the last one with the rate of before
    epoch: int
    rise: float  # how many times as high as before


@dataclass(frozen=True)
class TurnedBack:
    """The run goes on after this step, mostly an earlier one, and ends at another than was planned (`on_spike`)."""

    step: int
    total_steps: int


@dataclass(frozen=True)
class Sampled:
    """A preview picture, by the host's own sampler with the adapters as they are."""

    epoch: int
    prompt: str
    image: Image
    path: Path | None = None


@dataclass(frozen=True)
class Saved:
    """An epoch's LoRA file is complete on disk and may be used."""

    epoch: int
    path: Path
    # the file's tensors as saved, on the CPU, so that a host in this process need not read them again
    state_dict: dict[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is over, with its file and its previews: a good moment to close the stream for a while."""

    epoch: int
    is_last: bool


@dataclass(frozen=True)
class Warned:
    """Something that a person should know and that does not stop the run."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run is complete: its folder and every epoch file in order."""

    folder: Path
    epochs: tuple[tuple[int, Path], ...]
    trained_steps: int  # in this call: 0 when the run had been finished before


Event = Union[
    Planned, Prepared, Cached, Stepped, Measured, Spiked, TurnedBack, Sampled, Saved, EpochEnded, Warned, Finished
]
