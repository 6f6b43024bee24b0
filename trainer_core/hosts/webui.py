"""A1111 and Forge as a venue: their queue, their progress bar, their folders, and the model that they have loaded."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Host
from .venue import GridRequest, Progress
from .webui_visitors import is_public

if TYPE_CHECKING:
    from PIL.Image import Image

_SECONDS_TO_WAKE_UP = 0.5


def is_forge() -> bool:
    """Whether this process is Forge, which has its own backend where A1111 has LDM's and Stability's."""
    return "backend.memory_management" in sys.modules


class WebuiVenue:
    """A1111 or Forge, whichever this process is; implements `hosts.venue.Venue`."""

    @property
    def name(self) -> str:
        """Forge or A1111."""
        return "Forge" if is_forge() else "A1111"

    @property
    def runs_dir(self) -> Path:
        """The UI's LoRA folder, which it looks through with all that lies below."""
        from modules import shared

        return Path(shared.cmd_opts.lora_dir)

    def allows(self, path: Path) -> bool:
        """Any path while only this machine reaches the UI, as in the UI's own folder fields; on a server that others
        reach, one in a folder of the UI: its data, models, LoRAs, or what --gradio-allowed-path names."""
        if not is_public():
            return True
        place = path.expanduser().resolve()
        return any(place.is_relative_to(folder) for folder in _folders())

    def models(self) -> Sequence[str]:
        """None: the checkpoint that is chosen at the top of the UI's page counts."""
        return ()

    def host(self, model: str = "") -> Host:
        """See `Venue.host`: the checkpoint that is chosen in the UI."""
        if is_forge():
            from .webui_forge import ForgeHost

            return ForgeHost()
        from .webui_ldm import LdmHost

        return LdmHost()

    @contextmanager
    def turn(self, title: str) -> Iterator[WebuiTurn]:
        """See `Venue.turn`: generations in the UI and over its API queue up for one lock, first come, first served."""
        from modules import shared
        from modules.call_queue import queue_lock

        with _handed_on(queue_lock), _reloads_interrupt_nothing(shared.state):
            shared.state.begin(job=title)
            try:
                yield WebuiTurn(shared.state, queue_lock)
            finally:
                shared.state.end()
                shared.total_tqdm.clear()

    def epochs_changed(self) -> None:
        """See `Venue.epochs_changed`. The cards in the UI's Lora tab follow its own Refresh button."""
        # never imported by name: other extensions have modules of that name, too
        networks = sys.modules.get("networks")
        if networks is not None and hasattr(networks, "list_available_networks"):
            networks.list_available_networks()

    def grid(self, request: GridRequest) -> Image:
        """See `Venue.grid`: by the UI's own X/Y/Z plot."""
        from .webui_grid import epoch_grid

        return epoch_grid(request)


class WebuiTurn:
    """The time in which the UI's queue is held; implements `hosts.venue.Turn`."""

    def __init__(self, state: Any, queue_lock: Any):
        """state: modules.shared.state. queue_lock: a modules.fifo_lock.FIFOLock."""
        self._state, self._queue_lock = state, queue_lock
        self._preview: Image | None = None

    def show(self, progress: Progress) -> None:
        """See `Turn.show`: steps are the jobs of the UI's bar, so that a preview's sampler can move it in between."""
        state = self._state
        state.job_count, state.job_no = progress.total_steps, progress.step
        state.sampling_steps = state.sampling_step = 0
        state.textinfo = progress.text
        if progress.preview is not None and progress.preview is not self._preview:
            self._preview = progress.preview
            state.assign_current_image(progress.preview)

    def is_interrupted(self) -> bool:
        """See `Turn.is_interrupted`: Interrupt, pressed once or twice."""
        return bool(self._state.interrupted or getattr(self._state, "stopping_generation", False))

    def is_awaited(self) -> bool:
        """See `Turn.is_awaited`."""
        return len(self._queue_lock._pending_threads) > 0


@contextmanager
def _handed_on(queue_lock: Any) -> Iterator[None]:
    """Hold the UI's queue; on exit wait until whoever is next holds it. Its release only wakes the next one up, who
    stands in no line any more, and until then whoever asks first gets in: that would be the training again."""
    with ExitStack() as afterwards, queue_lock:
        try:
            yield
        finally:
            if queue_lock._pending_threads:
                afterwards.callback(_wait_until_held, queue_lock)


def _wait_until_held(queue_lock: Any) -> None:
    deadline = time.monotonic() + _SECONDS_TO_WAKE_UP
    while not queue_lock._lock.locked() and time.monotonic() < deadline:
        time.sleep(0.001)


@contextmanager
def _reloads_interrupt_nothing(state: Any) -> Iterator[None]:
    """Reload UI presses Interrupt first, so that no generation holds it up; a training holds nothing up and goes on."""
    own = state.interrupt

    def interrupt() -> None:
        if sys._getframe(1).f_code.co_name != "request_restart":
            own()

    state.interrupt = interrupt
    try:
        yield
    finally:
        del state.interrupt


def _folders() -> list[Path]:
    from modules import paths_internal, shared

    named = [paths_internal.data_path, paths_internal.models_path, shared.cmd_opts.lora_dir]
    named += shared.cmd_opts.gradio_allowed_path or []
    return [Path(each).resolve() for each in named if each]
