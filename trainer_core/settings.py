"""One description per setting, from which the JSON codec, node inputs, command-line flags and the docs table derive."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import ConfigError, did_you_mean

C = TypeVar("C")
_MISSING = dataclasses.MISSING


@dataclass(frozen=True)
class Setting:
    """What a person may set: its name, type and range, and one sentence of help.

    type is one of bool, int, float, str, a nested settings dataclass, or `tuple[X, ...]`; `optional` says that
    None is a value too. `ge`/`le` bound numbers inclusively."""

    name: str
    type: Any
    default: Any
    help: str
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    optional: bool = False
    advanced: bool = False

    @property
    def is_section(self) -> bool:
        """Whether the setting is itself a dataclass of settings."""
        return dataclasses.is_dataclass(self.type)

    @property
    def is_required(self) -> bool:
        """Whether the setting has no default."""
        return self.default is _MISSING


def setting(
    default: Any = _MISSING,
    *,
    help: str,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] = (),
    unit: str = "",
    advanced: bool = False,
) -> Any:
    """A dataclass field that carries its own description; `advanced` ones are folded away in user interfaces."""
    described = {"help": help, "ge": ge, "le": le, "choices": choices, "unit": unit, "advanced": advanced}
    return dataclasses.field(default=default, metadata={"setting": described})


def section(config: type[C]) -> C:
    """A dataclass field that holds a nested group of settings, by default at their defaults."""
    described = {"help": (config.__doc__ or "").split("\n")[0]}
    return dataclasses.field(default_factory=config, metadata={"setting": described})


def settings_of(config: type) -> tuple[Setting, ...]:
    """Every setting of a config dataclass, in order."""
    hints = typing.get_type_hints(config)
    return tuple(_described(field, hints[field.name]) for field in dataclasses.fields(config))


def all_settings(config: type, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Every leaf setting with its dotted path: `("network.rank", Setting(...))`."""
    for each in settings_of(config):
        path = prefix + each.name
        if each.is_section:
            yield from all_settings(each.type, path + ".")
        else:
            yield path, each


def from_json(config: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """A config from plain JSON values, checked against each setting's type and range.

    Raises ConfigError naming the dotted path: for an unknown key (with the nearest known one), a missing one, a wrong
    type or a number out of range."""
    known = {each.name: each for each in settings_of(config)}
    for key in values:
        if key not in known:
            raise ConfigError(f'unknown setting "{where}{key}"{did_you_mean(key, known) or "; remove it"}')
    for each in known.values():
        if each.is_required and each.name not in values:
            raise ConfigError(f'the setting "{where}{each.name}" is missing: {each.help}')
    return config(**{name: checked(known[name], value, where) for name, value in values.items()})


def to_json(config: Any) -> dict[str, Any]:
    """The config as plain JSON values; `from_json` gives the same config back."""
    return {each.name: _plain(getattr(config, each.name)) for each in settings_of(type(config))}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested groups of values as one; `above` wins."""
    result = dict(below)
    for key, value in above.items():
        both_are_groups = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both_are_groups else value
    return result


def checked(each: Setting, value: Any, where: str = "") -> Any:
    """The value as the setting's type, or ConfigError with the setting's path, its range and the value given."""
    path = where + each.name
    if value is None and each.optional:
        return None
    if each.is_section:
        return value if isinstance(value, each.type) else from_json(each.type, _mapping(value, path), path + ".")
    if typing.get_origin(each.type) is tuple:
        item_type = typing.get_args(each.type)[0]
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ConfigError(f'"{path}" takes a list, not {value!r}')
        item = dataclasses.replace(each, type=item_type, optional=False)
        return tuple(checked(item, entry, where) for entry in items)
    return _in_range(each, _converted(each, value, path), path)


def _described(field: dataclasses.Field, hint: Any) -> Setting:
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    optional = type(None) in members
    kind = next((member for member in members if member is not type(None)), hint)
    has_factory = field.default_factory is not _MISSING
    default = field.default_factory() if has_factory else field.default  # type: ignore[misc]
    return Setting(field.name, kind, default, optional=optional, **field.metadata["setting"])


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ConfigError(f'"{path}" takes a group of settings, not {value!r}')


def _converted(each: Setting, value: Any, path: str) -> Any:
    wrong = ConfigError(f'"{path}" takes {_a_kind(each.type)}, not {value!r}')
    if each.type is bool:
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise wrong
    if each.type is str:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value)
        raise wrong
    if isinstance(value, bool):
        raise wrong
    if isinstance(value, int) and each.type is int:
        return value  # a 64-bit seed would not survive the way through float
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(number) or (each.type is int and number != int(number)):
        raise wrong
    return int(number) if each.type is int else number


def _in_range(each: Setting, value: Any, path: str) -> Any:
    if each.choices and value not in each.choices:
        hint = did_you_mean(str(value), each.choices) or f"; choose one of {', '.join(each.choices)}"
        raise ConfigError(f'"{path}" cannot be "{value}"{hint}')
    if (each.ge is not None and value < each.ge) or (each.le is not None and value > each.le):
        raise ConfigError(f'"{path}" is {value}; give {range_words(each)}')
    return value


def range_words(each: Setting) -> str:
    """The setting's range in words: `1 to 128`, `at least 0`, or nothing."""
    if each.ge is not None and each.le is not None:
        return f"{each.ge:g} to {each.le:g}"
    if each.ge is not None:
        return f"at least {each.ge:g}"
    return f"at most {each.le:g}" if each.le is not None else ""


def _a_kind(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value
