"""Those who want the model stand in line: first come, first served, as the other UIs' queues have it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """A lock that is given to whoever has waited longest. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._places: deque[object] = deque()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait until it is one's turn, and keep it for as long as the block lasts."""
        own = object()
        with self._changed:
            self._places.append(own)
            self._changed.wait_for(lambda: self._places[0] is own)
        try:
            yield
        finally:
            with self._changed:
                self._places.remove(own)
                self._changed.notify_all()

    def is_awaited(self) -> bool:
        """Whether somebody stands behind the one whose turn it is."""
        with self._changed:
            return len(self._places) > 1
