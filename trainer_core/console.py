"""A run's events on a terminal: one line for what matters, a progress bar with the time left for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from .events import Cached, Finished, Measured, Planned, Prepared, Sampled, Saved, Stepped, TurnedBack, Warned

T = TypeVar("T")


def shown(events: Iterable[T]) -> Iterator[T]:
    """Pass the events on, showing each; what is no event of a run goes by unseen."""
    with _Bars() as bars:
        for event in events:
            bars.show(event)
            yield event


class _Bars:
    def __init__(self) -> None:
        self._bar = None
        self._stage = ""

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, event: object) -> None:
        if isinstance(event, Planned):
            plan = event.plan
            pictures = len(plan.dataset.examples)
            self._say(
                f"{pictures} pictures, {plan.steps_per_epoch} steps an epoch, {plan.epochs} epochs, "
                f"{plan.total_steps} steps in all"
            )
        elif isinstance(event, Prepared):
            self._say(str(event.footprint))
        elif isinstance(event, Warned):
            self._say(f"warning: {event.message}")
        elif isinstance(event, Cached):
            self._advance(f"encoding {event.what}", event.done, event.total)
        elif isinstance(event, Stepped):
            self._advance("training", event.step, event.total_steps)
        elif isinstance(event, Measured) and self._bar is not None:
            last = event.measurements[-1]
            rate = next(iter(last.lr.values()))
            self._bar.set_postfix_str(
                f"epoch {last.epoch}, loss {last.loss:.4f}, learning rate {rate:.3g}", refresh=False
            )
        elif isinstance(event, TurnedBack):
            self._close()  # the next step begins a bar of its own, of another length
            self._say(f"going on after step {event.step}; the run ends with step {event.total_steps}")
        elif isinstance(event, Saved):
            self._say(f"epoch {event.epoch}: {event.path}")
        elif isinstance(event, Sampled) and event.path is not None:
            self._say(f'  "{event.prompt}": {event.path}')
        elif isinstance(event, Finished) and not event.trained_steps:
            self._say(f"already trained: {event.folder}")

    def _advance(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage or self._bar is None:
            self._close()
            self._stage = stage
            self._bar = tqdm(total=total, initial=max(0, done - 1), desc=stage, unit="step", dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def _say(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
