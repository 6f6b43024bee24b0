"""Our own page as a place to train in: its models, its line of those who wait, its folder of runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..demo.run import quiet_libraries
from ..errors import HostError
from ..hosts.diffusers import DiffusersHost, load_host
from ..hosts.venue import GridRequest, Progress, Turn
from .epoch_files import find_epoch
from .epoch_grid import epoch_grid
from .line import Line

if TYPE_CHECKING:
    from PIL.Image import Image


class StandaloneVenue:
    """Implements `hosts.venue.Venue` with diffusers. One model is in memory at a time."""

    name = "the LazyLoRA page"

    def __init__(self, models: Mapping[str, Path], runs_dir: Path, folders: Sequence[Path] | None = None):
        """models: name → place. folders: the only ones that the page may name, besides `runs_dir`; None is all, for a
        page that nobody but the computer's own user can reach."""
        self.runs_dir = runs_dir.expanduser().absolute()
        self._models = dict(models)
        self._folders = None if folders is None else [self.runs_dir, *(each.absolute() for each in folders)]
        self._line = Line()
        self._loading = threading.Lock()
        self._loaded: tuple[str, DiffusersHost] | None = None

    def allows(self, path: Path) -> bool:
        """See `Venue.allows`; links are followed before they are judged."""
        if self._folders is None:
            return True
        place = path.expanduser().absolute().resolve()
        return any(place.is_relative_to(each.resolve()) for each in self._folders)

    def models(self) -> Sequence[str]:
        """The names that were given."""
        return list(self._models)

    def host(self, model: str = "") -> DiffusersHost:
        """See `Venue.host`; without a name the one that is loaded, or the first. Raises HostError."""
        with self._loading:
            name = model or (self._loaded[0] if self._loaded else next(iter(self._models), ""))
            if name not in self._models:
                raise HostError(f'there is no model "{name}" here; start the page with --models FOLDER')
            if self._loaded is None or self._loaded[0] != name:
                self._loaded = None  # before the next one is there: two may not fit
                quiet_libraries()
                host = load_host(self._models[name])
                host.model_name = name
                self._loaded = name, host
            return self._loaded[1]

    @contextmanager
    def turn(self, title: str) -> Iterator[Turn]:
        """See `Venue.turn`; nobody but the page's own grids stands in line."""
        with self._line.place():
            yield _Turn(self._line)

    def epochs_changed(self) -> None:
        """The page looks into the folder itself."""

    def grid(self, request: GridRequest) -> Image:
        """See `Venue.grid`; on the model that the first epoch was trained on."""
        epochs = {stem: find_epoch(stem, self.runs_dir) for stem in request.epochs if stem}
        trained_on = next((each.model for each in epochs.values() if each.model in self._models), "")
        with self.turn("a grid of epochs"):
            return epoch_grid(self.host(trained_on), request, epochs)


class _Turn:
    """Implements `hosts.venue.Turn`; the page shows progress out of the studio, and has no stop button but its own."""

    def __init__(self, line: Line):
        self._line = line

    def show(self, progress: Progress) -> None:
        """Nothing but the page to show it in."""

    def is_interrupted(self) -> bool:
        """Never."""
        return False

    def is_awaited(self) -> bool:
        """Whether a grid waits."""
        return self._line.is_awaited()
