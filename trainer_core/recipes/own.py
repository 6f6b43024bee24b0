"""Our own files: settings as JSON, and the run.json of a finished run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..config import TrainConfig
from ..errors import ConfigError
from ..settings import all_settings, checked, from_json, merged, settings_of, to_json
from .report import APPLIED, SKIPPED, UNKNOWN, UNSUPPORTED, Assignments, Entry, ImportReport, flattened

SOURCE = "LazyLoRA settings"
NULL = "null"  # how a file without null, such as TOML, says that an optional setting is left out
RESIDUE = "lazylora"  # in an exported file: what the other program has no word for


def is_own(values: Mapping[str, Any]) -> bool:
    """Whether these are our settings: groups by our names, or a run's record."""
    groups = [each.name for each in settings_of(TrainConfig) if each.is_section]
    return _is_record(values) or any(isinstance(values.get(name), Mapping) for name in groups)


def read_own(values: Mapping[str, Any], skip: Collection[str] = ()) -> ImportReport:
    """Our settings, each checked; what is wrong or unknown is said and left out."""
    settings = values["settings"] if _is_record(values) else values
    known = dict(all_settings(TrainConfig))
    taken = Assignments()
    entries = []
    for path, value in flattened(settings).items():
        if {path, path.rpartition(".")[2]} & set(skip):
            entries.append(Entry(path, value, SKIPPED))
        elif path not in known:
            entries.append(Entry(path, value, UNKNOWN))
        else:
            value = None if value == NULL and known[path].optional else value
            try:
                checked(known[path], value, path.rpartition(".")[0] + ".")
            except ConfigError as error:
                entries.append(Entry(path, value, UNSUPPORTED, why=str(error)))
                continue
            taken.by_path[path] = value
            entries.append(Entry(path, value, APPLIED, f"{path} = {value}"))
    return ImportReport(SOURCE, taken.nested(), tuple(entries))


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings, perhaps only some of them, with every text turned into what it stands for.

    Raises ConfigError as `settings.from_json` does."""
    unnamed = {"output_name": "unnamed", "output_dir": ".", "dataset": {"folder": "."}}
    whole = flattened(to_json(from_json(TrainConfig, merged(unnamed, values))))
    return Assignments({path: whole[path] for path in flattened(values)}).nested()


def _is_record(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("settings"), Mapping) and "key" in values
