"""A training that shares the UI's model: it trains in turns, and between epochs lets go of it for whoever waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import TrainConfig
from ..errors import HostError
from ..events import Cached, EpochEnded, Event, Planned, Sampled, Saved, Stepped
from ..hosts.venue import Progress, Turn, Venue
from ..train import train
from .request import require_allowed_pictures

if TYPE_CHECKING:
    from ..hosts.base import Host


@dataclass(frozen=True)
class TurnAwaited:
    """The run waits until the UI's model is free."""


@dataclass(frozen=True)
class TurnTaken:
    """The run has the UI's model."""


class ModelChanged(HostError):
    """The UI has loaded another model than the run was begun on."""


@dataclass
class BaseModel:
    """What a run was begun on, so that it never goes on with another."""

    fingerprints: tuple[str, str] | None = None
    name: str = ""

    def require(self, host: Host) -> None:
        """Remember the model of the run's first turn. Raises ModelChanged where a later one's differs."""
        found = host.fingerprint(), host.vae_fingerprint()
        if self.fingerprints is None:
            self.fingerprints, self.name = found, host.model_name
        elif self.fingerprints != found:
            what = "VAE" if self.fingerprints[0] == found[0] else "model"
            began = f" ({self.name})" if self.name else ""
            raise ModelChanged(
                f"another {what} is loaded than the one that the run was begun on{began}; everything is kept: "
                "load that one again and resume"
            )


def train_in_turns(
    config: TrainConfig,
    venue: Venue,
    model: str,
    title: str,
    base: BaseModel,
    progress: Callable[[], Progress],
    is_stopped: Callable[[], bool],
) -> Iterator[Event | TurnAwaited | TurnTaken]:
    """Train as `train` does, bit for bit, however often somebody's generation comes in between.

    Ends early, with everything kept, once is_stopped says so or the UI's own stop button was pressed. progress: where
    the run stands, for the UI's display. Raises LazyLoraError as `train` does, and ModelChanged."""
    yield TurnAwaited()
    while True:
        with venue.turn(title) as turn:
            if is_stopped():
                return
            host = venue.host(model)
            base.require(host)
            yield TurnTaken()
            if (yield from _one_turn(config, host, venue, turn, progress, is_stopped)):
                return
            yield TurnAwaited()


def _one_turn(
    config: TrainConfig,
    host: Host,
    venue: Venue,
    turn: Turn,
    progress: Callable[[], Progress],
    is_stopped: Callable[[], bool],
) -> Iterator[Event]:
    """Train until the run is over, stopped, or somebody waits; says whether there is nothing left to do."""

    def is_cancelled() -> bool:
        return is_stopped() or turn.is_interrupted()

    with closing(train(config, host, is_cancelled)) as events:
        for event in events:
            if isinstance(event, Planned):
                require_allowed_pictures(event.plan.dataset.examples, venue)
            yield event
            if isinstance(event, (Cached, Stepped, Sampled, Saved)):
                turn.show(progress())
            if is_cancelled():
                return True
            if isinstance(event, EpochEnded) and not event.is_last and turn.is_awaited():
                return False
    return True
