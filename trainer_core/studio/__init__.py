"""What a person does around a run: recipes in a queue, the run in progress, epochs; for any UI, and knowing none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from .studio import Studio

if TYPE_CHECKING:
    from ..hosts.venue import Venue

__all__ = ["Studio", "the_studio"]

_lock = threading.Lock()
_studio: Studio | None = None


def the_studio(venue_factory: Callable[[], Venue]) -> Studio:
    """The process's studio; the first call makes its venue. A UI that reloads its scripts finds the run going on."""
    global _studio
    with _lock:
        if _studio is None:
            _studio = Studio(venue_factory())
        return _studio
