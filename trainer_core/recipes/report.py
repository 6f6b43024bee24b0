"""What became of a recipe: every key of somebody else's settings, with what was done with it and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError

APPLIED, TRANSLATED, INERT, UNSUPPORTED = "applied", "translated", "inert", "unsupported"
UNKNOWN, SECRET, SKIPPED = "unknown", "secret", "skipped"

VERDICTS = {
    APPLIED: "taken over as it is, if under another name",
    TRANSLATED: "taken over, in our units or notation",
    INERT: "changes nothing here: switched off, overruled by another key, or done anyway",
    UNSUPPORTED: "asks for something that is not done; nothing stands in for it",
    UNKNOWN: "no setting of that trainer that we know; kept in the report as it was",
    SECRET: "a password or token: not read, not kept, not shown",
    SKIPPED: "left out because you asked for that",
}

_WIDEST = 44
_ESSENTIAL = {"LoRA_type", "network_module", "network_args.algo", "optimizer", "optimizer_type"}


@dataclass(frozen=True)
class Entry:
    """One key as the recipe has it. becomes: our setting and its value, where it became one. why: in a few words."""

    key: str
    value: Any
    verdict: str
    becomes: str = ""
    why: str = ""


@dataclass(frozen=True)
class ImportReport:
    """A recipe in our settings.

    source: the format it was in. values: nested and partial, for `settings.from_json` once the run's name and folders
    are added. entries: one for each key, in the recipe's order. model: the base model that the recipe names."""

    source: str
    values: dict[str, Any]
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()
    model: str = ""

    @property
    def unknown(self) -> dict[str, Any]:
        """Keys that no trainer we know has, with their values as they were."""
        return {each.key: each.value for each in self.entries if each.verdict == UNKNOWN}

    def summary(self) -> str:
        """`kohya GUI JSON, 33 keys: 20 applied, 4 translated, …` in one line."""
        counts = Counter(each.verdict for each in self.entries)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        return f"{self.source}, {len(self.entries)} keys: {said or 'nothing to take over'}"

    def as_text(self) -> str:
        """The whole report as a table for a console or a text node."""
        rows = [_row(entry) for verdict in VERDICTS for entry in self.entries if entry.verdict == verdict]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip() for row in rows]
        return "\n".join([self.summary(), *(f"! {warning}" for warning in self.warnings), *lines])

    def require_essentials(self) -> None:
        """Raise ConfigError where the recipe's adapter or optimizer cannot be had: nothing stands in for them."""
        for entry in self.entries:
            if entry.verdict == UNSUPPORTED and entry.key.strip("-()") in _ESSENTIAL:
                raise ConfigError(f"{entry.key} {entry.value} cannot be done ({entry.why}); choose another there")

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        entries = [dict(vars(each)) for each in self.entries]
        return {"source": self.source, "settings": self.values, "entries": entries, "warnings": list(self.warnings)}


@dataclass
class Assignments:
    """Settings by dotted path, as they come together."""

    by_path: dict[str, Any] = field(default_factory=dict)

    def nested(self) -> dict[str, Any]:
        """`{"network.rank": 8}` → `{"network": {"rank": 8}}`."""
        values: dict[str, Any] = {}
        for path, value in self.by_path.items():
            *sections, leaf = path.split(".")
            target = values
            for section in sections:
                target = target.setdefault(section, {})
            target[leaf] = value
        return values


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"network": {"rank": 8}}` → `{"network.rank": 8}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _row(entry: Entry) -> tuple[str, str, str, str]:
    said = " — ".join(part for part in (entry.becomes and f"→ {entry.becomes}", entry.why) if part)
    value = "" if entry.verdict == SECRET else _shortened(entry.value)
    return entry.verdict, entry.key, value, said


def _shortened(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
