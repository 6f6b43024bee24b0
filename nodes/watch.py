"""A run as the person in front of ComfyUI sees it: progress bar, preview pictures, a line of text, the live curves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..trainer_core.events import (
    Cached,
    Event,
    Finished,
    Measured,
    Measurement,
    Planned,
    Prepared,
    Sampled,
    Saved,
    Spiked,
    Stepped,
    TurnedBack,
    Warned,
)
from ..trainer_core.job import Job
from ..trainer_core.run import TrainedRun, collect_run
from ..trainer_core.telling import Pace, as_json, describe_plan

_PREVIEW_SIDE = 512
_MOST_BYTES = 2 * 2**30  # of epochs kept in memory


def follow(job: Job, show: Callable[[Event], None], raise_if_interrupted: Callable[[], None]) -> TrainedRun:
    """Wait for a started job to end, showing its events; gives the run.

    Whatever is raised meanwhile, by the stop button or by a display that breaks, cancels the job, and is raised once
    the job has kept its state and given the model back."""
    saved: dict[int, Saved] = {}
    finished: Finished | None = None
    try:
        for event in job.events(poll=raise_if_interrupted):
            if isinstance(event, Saved):
                saved[event.epoch] = event
                _forget_oldest(saved)
            if isinstance(event, Finished):
                finished = event
            show(event)
    except BaseException:
        _wind_down(job)
        raise
    if finished is None:
        raise AssertionError("a run that was not cancelled ends with Finished")
    return collect_run(finished, saved)


def _forget_oldest(saved: dict[int, Saved]) -> None:
    """Leave epochs that would take too much memory to their files; the newest stays at hand in any case."""
    sizes = {epoch: sum(tensor.nbytes for tensor in each.state_dict.values()) for epoch, each in saved.items()}
    for epoch in list(sizes)[:-1]:
        if sum(sizes.values()) > _MOST_BYTES:
            del sizes[epoch], saved[epoch]


def _wind_down(job: Job) -> None:
    job.cancel()
    if job.is_alive:
        for _ in job:
            pass


class NodeDisplay:
    """Shows events in the node that trains. Only `send_sync` and the progress bar of the host are used."""

    def __init__(self, node_id: str):
        from comfy.utils import ProgressBar
        from server import PromptServer

        self._server = PromptServer.instance
        self._node_id = node_id
        self._bar = ProgressBar(1)
        self._pace = Pace(0)
        self._last: Measurement | None = None
        self.announced: list[str] = []
        self.warnings: list[str] = []

    def show(self, event: Event) -> None:
        """Show one event. Raises ComfyUI's own exception when the stop button was pressed meanwhile."""
        if isinstance(event, Planned):
            self._pace = Pace(event.plan.epochs)
            self._send("planned", total_steps=event.plan.total_steps)
            self._announce(describe_plan(event.plan))
        elif isinstance(event, Prepared):
            self._announce(str(event.footprint))
        elif isinstance(event, Cached):
            self._say(f"encoding {event.what}: {event.done}/{event.total}")
            self._bar.update_absolute(event.done, event.total)
        elif isinstance(event, Stepped):
            self._say(self._pace.line(event, self._last))
            self._bar.update_absolute(event.step, event.total_steps)
        elif isinstance(event, Measured):
            self._last = event.measurements[-1]
            self._send("measured", measurements=[as_json(each) for each in event.measurements])
        elif isinstance(event, Spiked):
            self._send("spiked", spikes=[event.step])
        elif isinstance(event, TurnedBack):
            self._send("turned_back", step=event.step, total_steps=event.total_steps)
        elif isinstance(event, Sampled):
            self._bar.update_absolute(self._bar.current, self._bar.total, ("JPEG", event.image, _PREVIEW_SIDE))
        elif isinstance(event, Warned):
            logging.warning("LazyLoRA: %s", event.message)
            self.warnings.append(event.message)
            self._send("warned", message=event.message)

    def _announce(self, text: str) -> None:
        """What is said before the first step stays in sight; the line of progress text soon says something else."""
        logging.info("LazyLoRA: %s", text)
        self.announced.append(text)
        self._say(text)
        self._send("announced", text=text)

    def _say(self, text: str) -> None:
        self._server.send_progress_text(text, self._node_id, self._server.client_id)

    def _send(self, kind: str, **data: Any) -> None:
        self._server.send_sync(f"lazylora.{kind}", {"node": self._node_id, **data}, self._server.client_id)
