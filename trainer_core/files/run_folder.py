"""A run is a folder: named by the user, keyed by the hash of what determines it, so that it can be found again.

<output_dir>/<name>/run.json                 the key, the settings, whether it is finished
                    <name>-000001.safetensors …  one file per saved epoch, never overwritten
                    resume.state             where to go on from; gone when the run is finished
                    events.jsonl             every step's numbers
                    samples/                 preview pictures
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import RunError
from .atomic import write_atomically

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
_LONGEST_NAME = 120
# A run may be closed on another thread than the one that opened it; before filelock 3.11 no lock belonged to a thread.
_FOR_ANY_THREAD: dict[str, Any] = (
    {"thread_local": False} if "thread_local" in signature(FileLock.__init__).parameters else {}
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. `stem` is the start of its epoch files' names, the same as the folder's own."""

    folder: Path
    key: str

    @property
    def stem(self) -> str:
        """What the run's epoch files begin with."""
        return self.folder.name

    @property
    def resume_file(self) -> Path:
        """Where an unfinished run goes on from; not named .safetensors, as the UIs would list it among the LoRAs."""
        return self.folder / "resume.state"

    @property
    def events_file(self) -> Path:
        """Every step's numbers, one JSON object a line."""
        return self.folder / "events.jsonl"

    def epoch_stem(self, epoch: int) -> str:
        """The name, without suffix, of an epoch's file (kohya's six digits): what `<lora:…>` takes."""
        return f"{self.stem}-{epoch:06d}"

    def epoch_file(self, epoch: int) -> Path:
        """The file of an epoch, counted from 1."""
        return self.folder / f"{self.epoch_stem(epoch)}.safetensors"

    def epochs(self) -> tuple[tuple[int, Path], ...]:
        """The epochs on disk, in order."""
        pattern = re.compile(re.escape(self.stem) + r"-(\d{6})\.safetensors")
        found = ((pattern.fullmatch(path.name), path) for path in self.folder.iterdir())
        return tuple(sorted((int(match[1]), path) for match, path in found if match))

    def sample_file(self, epoch: int, number: int) -> Path:
        """The file of an epoch's preview picture; numbers count the prompts from 0."""
        return self.folder / "samples" / f"{self.epoch_stem(epoch)}-{number:02d}.png"

    def is_finished(self) -> bool:
        """Whether the run was trained to its end and its epoch files are still there."""
        record = _record(self.folder) or {}
        saved = {path.name for _, path in self.epochs()}
        return bool(record.get("finished")) and saved >= set(record["finished"])

    def spiked_step(self) -> int:
        """The step whose spike of d·lr the run keeps away from (`on_spike`); 0 while there is none."""
        return int((_record(self.folder) or {}).get("spiked_step", 0))

    def keep_away_from(self, spiked_step: int) -> None:
        """Write down that the run keeps away from the spike at this step, for every later session of it."""
        record = _record(self.folder) or {"key": self.key}
        _write_record(self.folder, {**record, "spiked_step": spiked_step})

    def finish(self) -> None:
        """Mark the run as complete and drop what only an unfinished one needs."""
        record = _record(self.folder) or {"key": self.key}
        _write_record(self.folder, {**record, "finished": [path.name for _, path in self.epochs()]})
        self.resume_file.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread out of the folder. Raises RunError when one is at work in it."""
        try:
            with FileLock(self.folder / ".lock", timeout=0, **_FOR_ANY_THREAD):
                yield
        except Timeout:
            raise RunError(
                f"{self.folder}: another training is writing to this run; wait for it or choose another output_name"
            ) from None


def run_key(determining: Mapping[str, Any]) -> str:
    """A hex digest of everything that determines a run: JSON values in, the same digest for the same values."""
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def open_run_folder(output_dir: str | Path, name: str, key: str, described: Mapping[str, Any]) -> RunFolder:
    """The folder of the run with this key: the one that has it already, or a new one called `name`, `name-2` and so on.

    described: JSON values that are kept in run.json for people. Raises RunError for an unusable name or an unwritable
    folder."""
    check_name(name)
    root = Path(output_dir).expanduser().absolute()
    for folder in _candidates(root, name):
        record = _record(folder)
        if record is None and not _is_taken(folder):
            return _created(folder, key, described)
        if record is not None and record.get("key") == key:
            _require_writable(folder)
            return RunFolder(folder, key)
    raise AssertionError("the candidates never end")


def check_name(name: str) -> None:
    """Raise RunError unless the name can be a file's name on every system, and no path."""
    bad = _FORBIDDEN.search(name)
    if bad:
        raise RunError(f'output_name "{name}" holds "{bad[0]!s}"; use letters, digits, spaces, - and _')
    if not name.strip() or name != name.strip() or name.startswith(".") or name.endswith("."):
        raise RunError(f'output_name "{name}" cannot name a file; use letters, digits, - and _')
    if name.split(".")[0].upper() in _RESERVED:
        raise RunError(f'output_name "{name}" is reserved on Windows; choose another')
    if len(name.encode()) > _LONGEST_NAME:
        raise RunError(f'output_name "{name[:20]}…" is too long; use at most {_LONGEST_NAME} bytes')


def _candidates(root: Path, name: str) -> Iterator[Path]:
    yield root / name
    number = 2
    while True:
        yield root / f"{name}-{number}"
        number += 1


def _is_taken(folder: Path) -> bool:
    """Whether something of somebody else's is there: a run without a record may not claim another's files."""
    return folder.is_file() or (folder.is_dir() and any(folder.glob("*.safetensors")))


def _created(folder: Path, key: str, described: Mapping[str, Any]) -> RunFolder:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    _require_writable(folder)
    _write_record(folder, {"key": key, **described})
    return RunFolder(folder, key)


def _require_writable(folder: Path) -> None:
    probe = folder / ".writable"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> RunError:
    reason = error.strerror or type(error).__name__
    return RunError(f"{folder}: the output folder cannot be written ({reason}); choose another output_dir")


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False)
    write_atomically(folder / "run.json", lambda path: path.write_text(text, encoding="utf-8"))
