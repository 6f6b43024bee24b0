"""A folder of settings files, trained one after another: each in a run folder of its own, none stopping the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import TrainConfig, layered
from .errors import ConfigError, LazyLoraError
from .events import Event, Finished
from .hosts.base import Host
from .recipes import import_file
from .recipes.report import UNKNOWN, UNSUPPORTED, ImportReport
from .settings import from_json
from .train import train

SETTINGS_SUFFIXES = (".json", ".toml", ".py")


@dataclass(frozen=True)
class Started:
    """A settings file's turn has come. number counts from 1."""

    path: Path
    number: int
    total: int
    report: ImportReport


@dataclass(frozen=True)
class Ended:
    """What became of a settings file. state: "finished", "already finished" or "failed"; said: the folder, or why."""

    path: Path
    state: str
    said: str


def settings_files(folder: Path) -> list[Path]:
    """The settings files of a folder in order of their names. Raises ConfigError where there are none."""
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in SETTINGS_SUFFIXES and file.is_file()]
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); give a folder of settings files") from None
    named = sorted(file for file in files if not file.name.startswith("."))
    if not named:
        raise ConfigError(f"{folder}: holds no settings; put {', '.join(SETTINGS_SUFFIXES)} files into it")
    return named


def run_queue(
    files: Sequence[Path], overruling: Mapping[str, Any], model: str, load_host: Callable[[str], Host]
) -> Iterator[Started | Event | Ended]:
    """Train every file's settings in turn; run again, it passes over what is finished and goes on with what is not.

    overruling: settings that win over every file's. model: for all of them; empty takes the one that each file names. A
    file that fails is told of and passed over. No file is moved or deleted."""
    hosts: dict[str, Host] = {}
    for number, path in enumerate(files, start=1):
        try:
            report = import_file(path)
            yield Started(path, number, len(files), report)
            report.require_essentials()
            config = from_json(TrainConfig, layered({"output_name": path.stem}, report.values, overruling))
            host = _host(model or report.model, hosts, load_host)
            for event in train(config, host):
                yield event
                if isinstance(event, Finished):
                    yield Ended(path, "finished" if event.trained_steps else "already finished", str(event.folder))
        except LazyLoraError as error:
            yield Ended(path, "failed", str(error))
        except Exception as error:  # whatever it was, the others in the queue are not to blame
            yield Ended(path, "failed", f"{type(error).__name__}: {error}")


def not_taken_over(report: ImportReport) -> list[str]:
    """A line for each key of a file that asks for something which will not be done."""
    return [
        f"{entry.key} {entry.value}: {entry.verdict}{f' ({entry.why})' if entry.why else ''}"
        for entry in report.entries
        if entry.verdict in (UNSUPPORTED, UNKNOWN)
    ]


def _host(model: str, hosts: dict[str, Host], load_host: Callable[[str], Host]) -> Host:
    if not model:
        raise ConfigError("the file names no base model; give one for all with --model")
    if model not in hosts:
        hosts.clear()  # one model in memory at a time
        hosts[model] = load_host(model)
    return hosts[model]
