"""Every check by its name and kind of checkpoint; a check files itself with `@check`."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Check:
    """A check, and the one host that it is about, "" for every host."""

    run: Callable[[Path], None]
    host: str


CHECKS: dict[str, Check] = {}
_notes: list[str] = []


def check(*kinds: str, host: str = "") -> Callable:
    """File a check under its name and each kind of checkpoint: it is called with that checkpoint's path.

    host: the only one that it is about, "ComfyUI", "Forge" or "A1111"."""

    def file_away(function: Callable[[Path], None]) -> Callable[[Path], None]:
        for kind in kinds:
            CHECKS[f"{function.__name__}[{kind}]"] = Check(function, host)
        return function

    return file_away


def checks_in(host: str) -> list[str]:
    """The names of the checks that run in a host."""
    return [name for name, each in CHECKS.items() if each.host in ("", host)]


def kind_of(name: str) -> str:
    """The kind of checkpoint that a check's name asks for."""
    return name.rpartition("[")[2].removesuffix("]")


def report(note: str) -> None:
    """Put a measured number beside the check's result."""
    _notes.append(note)


def run_check(name: str, path: Path) -> dict[str, Any]:
    _notes.clear()
    started = time.monotonic()
    failure = ""
    try:
        CHECKS[name].run(path)
    except BaseException:
        failure = traceback.format_exc()
    return {"name": name, "failure": failure, "notes": list(_notes), "seconds": round(time.monotonic() - started, 1)}
