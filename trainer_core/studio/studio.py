"""The place where a person trains in a UI: a queue of recipes, the run in progress, the runs on disk."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..errors import LazyLoraError, RunError
from ..events import Saved
from ..hosts.venue import Venue
from ..settings import to_json
from .account import saved_curve
from .comparing import differences, sheet
from .deleting import delete
from .keeping import promote, require_new_stem
from .lineup import FAILED, FINISHED, RUNNING, STOPPED, Entry, Lineup
from .recipe_room import Outlook, looked_ahead, measured
from .request import requested
from .runs import NotThere, SavedRun, opaque, run_with, saved_runs
from .turns import ModelChanged, train_in_turns

_LONGEST_TITLE = 200


class Studio:
    """Everything that a tab or an HTTP client shows and asks for; it knows neither. Safe to use from several threads.

    Trains on a thread of its own, which lives as long as something waits in the queue: closed pages and reloaded UIs
    change nothing. Every method raises LazyLoraError, one sentence, for what cannot be done."""

    def __init__(self, venue: Venue):
        self.venue = venue
        self._lineup = Lineup()
        self._newest: Entry | None = None
        self._is_stopping = self._starts_again = False
        self._thread: threading.Thread | None = None
        self._revision = 0
        self._previews: dict[str, Path] = {}  # by their ids, as far as they have been looked up
        self._lock = threading.RLock()

    @property
    def revision(self) -> int:
        """Grows whenever anything in `status` changes."""
        return self._revision

    # The queue

    def enqueue(self, values: Mapping[str, Any], model: str = "", title: str = "") -> str:
        """Put a recipe behind the others, and train it once they are done; gives its id. Starts a queue that rests.

        values: nested settings as `settings.from_json` takes them; output_dir may be left out. model: one of
        `venue.models()`, "" for what the UI has loaded. Raises ConfigError or RunError before anything is queued."""
        config = requested(values, model, self.venue)
        entry = Entry(config, model, title.strip()[:_LONGEST_TITLE] or config.output_name)
        with self._lock:
            self._lineup.add(entry)
            self.start()
        return entry.id

    def start(self) -> None:
        """Train what waits in the queue; while a run is being stopped, once that has ended."""
        with self._lock:
            self._starts_again = self._is_stopping
            if self._thread is None and self._lineup.next_waiting() is not None:
                self._thread = threading.Thread(target=self._work, name="lazylora studio", daemon=True)
                self._thread.start()
            self._changed()

    def stop(self) -> None:
        """End the run within one optimizer step, with its epochs and where it stands kept; the queue waits, too."""
        with self._lock:
            self._is_stopping, self._starts_again = self._thread is not None, False
            self._changed()

    def resume(self, entry_id: str) -> None:
        """Go on, bit for bit, with what was stopped or has failed."""
        with self._lock:
            self._lineup.resume(entry_id)
            self.start()

    def move(self, entry_id: str, position: int) -> None:
        """Put an entry at that place of the list in `status()["queue"]`, counted from 0."""
        with self._lock:
            self._lineup.move(entry_id, position)
            self._changed()

    def remove(self, entry_id: str) -> None:
        """Take an entry out of the list; what it has trained stays on disk. Raises RunError while it trains."""
        with self._lock:
            self._lineup.remove(entry_id)
            self._newest = None if self._newest is not None and self._newest.id == entry_id else self._newest
            self._changed()

    def outlook(self, values: Mapping[str, Any], model: str = "", with_memory: bool = False) -> Outlook:
        """What a run with these settings would be. with_memory: measured on the UI's model, which it waits for; raises
        RunError while that one trains."""
        ahead = looked_ahead(values, model, self.venue)
        if not with_memory:
            return ahead
        if self._thread is not None:
            raise RunError("the model is training; what a run takes can be measured when it is done")
        with self.venue.turn("measuring"):
            return measured(ahead, self.venue.host(model))

    # The run in progress

    def status(self) -> dict[str, Any]:
        """Where everything stands, as JSON values.

        state: idle, waiting (for the UI's model), running or stopping. entry: what trains or trained last, None before
        the first. revision: grows whenever anything here changes."""
        with self._lock:
            entry = self._newest
            account = entry.account if entry is not None else None
            return {
                "state": self._state(),
                "entry": entry.as_json() if entry is not None else None,
                "queue": [each.as_json() for each in self._lineup.entries],
                "step": account.step if account else 0,
                "total_steps": account.total_steps if account else 0,
                "epoch": account.epoch if account else 0,
                "epochs": account.epochs if account else 0,
                "eta_seconds": account.seconds_left if account else None,
                "text": account.text if account else "",
                "announced": list(account.announced) if account else [],
                "warnings": list(account.warnings) if account else [],
                "previews": [opaque(each) for each in account.previews] if account else [],
                "run": opaque(account.folder) if account and account.folder else "",
                "error": entry.said if entry is not None and entry.state == FAILED else "",
                "revision": self._revision,
            }

    def curve(self, entry_id: str | None = None, after: int = 0) -> dict[str, Any]:
        """The numbers of an entry's steps behind `after`, of what trains or trained last without an id.

        measurements: as `telling.as_json`, at most about 2000, evenly spread. spikes: steps at which d·lr leapt.
        turned_back: how often the run went back to an earlier step; when it has grown, ask for all from 0 again."""
        with self._lock:
            entry = self._newest if entry_id is None else self._lineup.get(entry_id)
            if entry is None:
                return {"measurements": [], "spikes": [], "total_steps": 0, "turned_back": 0}
            return entry.account.curve(after)

    # The runs on disk

    def runs(self) -> list[dict[str, Any]]:
        """The runs on disk, newest first: id, name, finished, trigger, and epochs as `epochs` gives them."""
        return [run.as_json() for run in saved_runs(self._roots())]

    def epochs(self, run_id: str) -> list[dict[str, Any]]:
        """A run's saved epochs in order: number, stem (as `<lora:…>` takes it), bytes, previews (their ids)."""
        return self._run(run_id).epochs()

    def run_curve(self, run_id: str, after: int = 0) -> dict[str, Any]:
        """The curve of a run on disk, as `curve`."""
        return saved_curve(self._run(run_id).folder.folder, after)

    def run_settings(self, run_id: str) -> TrainConfig:
        """The settings of a run on disk."""
        return self._run(run_id).config()

    def resume_run(self, run_id: str, model: str = "") -> str:
        """Go on, bit for bit, with a run on disk, its entry first in the queue; gives the entry's id.

        On another model than it was begun on, it becomes a run of its own."""
        run = self._run(run_id)
        values = {**to_json(run.config()), "output_dir": str(run.folder.folder.parent)}
        config = requested(values, model, self.venue)
        with self._lock:
            entry = self._lineup.of_run(run.folder.folder)
            if entry is None:
                entry = Entry(config, model, run.folder.stem, state=STOPPED)
                self._lineup.add(entry)
            self.resume(entry.id)
            return entry.id

    def differences(self, first: str, second: str) -> list[dict[str, Any]]:
        """The settings in which two runs differ: setting (dotted), first, second."""
        return differences(self._run(first), self._run(second))

    def sheet(self, run_ids: Sequence[str]) -> bytes:
        """The previews of all epochs of these runs as one PNG. Raises RunError where there are none."""
        png = io.BytesIO()
        sheet([self._run(each) for each in run_ids]).save(png, "PNG")
        return png.getvalue()

    def preview(self, name: str) -> bytes:
        """A preview picture as PNG; name: its id. Raises NotThere."""
        try:
            if name not in self._previews:
                runs = saved_runs(self._roots())
                paths = (path for run in runs for previews in run.previews().values() for path in previews)
                self._previews = {opaque(path): path for path in paths}
            return self._previews[name].read_bytes()
        except (KeyError, OSError):
            raise NotThere("this preview is not there any more; look at the run again") from None

    def promote(self, run_id: str, number: int, final_name: str, notes: str = "") -> Path:
        """Copy an epoch under a final name beside the runs, with preview and sidecar; gives the LoRA's file.

        Raises RunError where a LoRA is called so already: nothing is ever overwritten."""
        run = self._run(run_id)
        preview = next(iter(run.previews().get(number, [])), None)
        require_new_stem(final_name, self.venue.runs_dir)
        kept = promote(run.epoch_file(number), preview, run.folder.folder.parent, final_name, run.trigger, notes)
        self.venue.epochs_changed()
        return kept

    def delete(self, run_id: str, number: int | None = None) -> None:
        """Delete an epoch with its previews, or the whole run, as far as its files are provably ours.

        Raises RunError while it trains."""
        delete(self._run(run_id), number)
        self.venue.epochs_changed()

    # What goes on inside

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            try:
                self._perform(entry)
            except ModelChanged as error:
                self._end(entry, STOPPED, str(error))
                with self._lock:
                    self._is_stopping = True  # what waits was meant for that model, too
            except LazyLoraError as error:
                self._end(entry, FAILED, str(error))
            except BaseException as error:  # whatever it was, the others in the queue are not to blame
                logging.getLogger(__name__).debug("a run failed", exc_info=True)
                self._end(entry, FAILED, _sentence(error))

    def _next(self) -> Entry | None:
        """The next entry, marked as running; None ends the thread."""
        with self._lock:
            rests = self._is_stopping and not self._starts_again
            self._is_stopping = self._starts_again = False
            entry = None if rests else self._lineup.next_waiting()
            if entry is None:
                self._thread = None
            else:
                entry.state, self._newest = RUNNING, entry
            self._changed()
            return entry

    def _perform(self, entry: Entry) -> None:
        account = entry.account
        for event in train_in_turns(
            entry.config,
            self.venue,
            entry.model,
            entry.title,
            entry.base,
            account.progress,
            lambda: self._is_stopping,
        ):
            with self._lock:
                account.take(event)
                self._changed()
            if isinstance(event, Saved):
                self._tell_of_epoch(entry)
        if account.is_finished:
            self._end(entry, FINISHED, "" if account.steps_taken else "it was trained already")
        else:
            with self._lock:
                self._is_stopping = True  # also where the UI's own button was pressed: the rest waits for a person
            self._end(entry, STOPPED, "stopped; resume goes on from here")

    def _tell_of_epoch(self, entry: Entry) -> None:
        try:
            self.venue.epochs_changed()
        except Exception as error:  # a list that does not refresh is no reason to stop
            entry.account.warn(f"{self.venue.name} did not take note of the new epoch ({error}); refresh its list")

    def _end(self, entry: Entry, state: str, said: str) -> None:
        with self._lock:
            entry.state, entry.said = state, said
            entry.account.has_turn = False
            entry.account.text = said or state
            if state == FINISHED:
                entry.account.forget_curve()
            self._changed()

    def _state(self) -> str:
        if self._thread is None:
            return "idle"
        if self._is_stopping:
            return "stopping"
        return "running" if self._newest is not None and self._newest.account.has_turn else "waiting"

    def _roots(self) -> list[Path]:
        with self._lock:
            used = [Path(each.config.output_dir).expanduser() for each in self._lineup.entries]
        return list(dict.fromkeys([self.venue.runs_dir, *used]))

    def _run(self, run_id: str) -> SavedRun:
        return run_with(run_id, self._roots())

    def _changed(self) -> None:
        self._revision += 1


def _sentence(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
