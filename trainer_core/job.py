"""Runs a training on its own thread: the hosts call us inside torch's inference mode, which is thread-local."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from .events import Event


class Job:
    """A stream of events produced on a thread of its own; iterate it, cancel it, pause it.

    The stream is closed on its own thread, so its `finally` blocks (the host's restoration, the resume state) have run
    before iteration ends."""

    def __init__(self, stream: Callable[[], Iterator[Event]]):
        """stream: makes the events, e.g. `lambda: train(config, host)`; called on the job's thread."""
        self._stream = stream
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="lazylora", daemon=True)

    def start(self) -> Job:
        """Begin; returns itself."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ask the run to stop before its next optimizer step; what was trained is kept."""
        self._cancelled.set()
        self._running.set()

    def pause(self) -> None:
        """Hold the run after its present step until `unpause`."""
        self._running.clear()

    def unpause(self) -> None:
        """Let a paused run go on."""
        self._running.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is still at work."""
        return self._thread.is_alive()

    def events(self, poll: Callable[[], None] = lambda: None, every: float = 0.1) -> Iterator[Event]:
        """The events as they come, until the run has ended and cleaned up; its error, if any, is raised here.

        poll: called at least every `every` seconds; a place to look at the host's stop button and `cancel`."""
        while True:
            poll()
            try:
                event = self._events.get(timeout=every)
            except queue.Empty:
                continue
            if event is None:
                break
            yield event
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __iter__(self) -> Iterator[Event]:
        return self.events()

    def _work(self) -> None:
        try:
            self._produce()
        except BaseException as error:
            self._error = error
        finally:
            self._events.put(None)

    def _produce(self) -> None:
        stream = self._stream()
        try:
            for event in stream:
                self._events.put(event)
                self._running.wait()
                if self._cancelled.is_set():
                    break
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()
