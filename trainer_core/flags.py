"""Command-line flags that derive from the settings: `--network.rank 8`, or `--rank 8` where that is unique."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_origin

from .config import TrainConfig
from .settings import Setting, all_settings, range_words

_NEVER_SHORT = {"preset"}  # `--preset` is a guide's settings; network.preset, LyCORIS' layers, keeps its long name


def add_setting_flags(parser: argparse.ArgumentParser, config: type = TrainConfig) -> None:
    """One flag per setting. Values stay text here; `settings.from_json` turns them into numbers and checks them."""
    found = [(path, each) for path, each in all_settings(config) if each.name != "tag_edits"]
    leaves = Counter(path.rpartition(".")[2] for path, _ in found)
    top_level = {path for path, _ in found if "." not in path}
    for path, each in found:
        leaf = path.rpartition(".")[2]
        is_short_unique = leaves[leaf] == 1 and leaf not in top_level | _NEVER_SHORT
        names = [f"--{path}", *([f"--{leaf}"] if is_short_unique else [])]
        parser.add_argument(*names, dest=path, default=argparse.SUPPRESS, help=_help(each), **_shape(each))


def nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """`{"network.rank": 8}` → `{"network": {"rank": 8}}`."""
    values: dict[str, Any] = {}
    for path, value in flags.items():
        *sections, leaf = path.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
        target[leaf] = value
    return values


def _shape(each: Setting) -> dict[str, Any]:
    if each.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(each.type) is tuple:
        return {"action": "append", "metavar": "TEXT"}
    return {"choices": each.choices} if each.choices else {"metavar": each.type.__name__.upper()}


def _help(each: Setting) -> str:
    facts = [range_words(each), each.unit, "" if each.is_required else _default(each)]
    said = ", ".join(fact for fact in facts if fact)
    return f"{each.help} ({said})".replace("%", "%%") if said else each.help.replace("%", "%%")


def _default(each: Setting) -> str:
    return "" if each.default in (None, "", ()) else f"default {each.default}"
