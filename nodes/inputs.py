"""Node inputs out of the settings' own descriptions, and settings out of what a node was given.

A setting that may be left out (None) has no empty widget in ComfyUI: 0 leaves it out, or -1 where 0 means something,
and its tooltip says which. A list of texts is a text of several lines."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..trainer_core.errors import ConfigError
from ..trainer_core.settings import Setting, checked, settings_of

if TYPE_CHECKING:
    from comfy_api.latest import io

C = TypeVar("C")

_LARGEST_INT = 2**53 - 1  # the frontend's numbers are doubles: it would round anything larger
_LARGEST_FLOAT = 1e6
_RATE_STEP = 1e-6
_SIZE_STEP = 8


def inputs_of(
    config: type,
    *,
    leave_out: Collection[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
    folded: Collection[str] = (),
    prefix: str = "",
    **defaults: Any,
) -> list[io.Input]:
    """A V3 input for each leaf setting of a config class, in its order; ids are the settings' names behind `prefix`.

    choices: what a text setting can be, where a registry knows. folded: settings that count as advanced in this node
    only. defaults: for settings that have none of their own."""
    return [
        _input(
            replace(each, default=defaults.get(each.name, each.default)),
            prefix + each.name,
            (choices or {}).get(each.name, each.choices),
            each.name in folded,
        )
        for each in settings_of(config)
        if not each.is_section and each.name not in leave_out
    ]


def in_saved_order(names: Sequence[str], *inputs: io.Input) -> list[io.Input]:
    """The inputs in the order in which graphs hold their values; those that are not named there behind them."""
    place = {name: number for number, name in enumerate(names)}
    return sorted(inputs, key=lambda each: place.get(each.id, len(place)))


def settings_from(config: type[C], values: Mapping[str, Any], prefix: str = "", **others: Any) -> C:
    """The config from a node's inputs: missing ones keep their defaults, `others` are set as they are.

    Raises ConfigError for a value out of its range and for a missing one that has no default."""
    given = dict(others)
    for each in settings_of(config):
        name = prefix + each.name
        if each.name in others:
            continue
        if name in values:
            given[each.name] = checked(each, _value(each, values[name]))
        elif each.is_required:
            raise ConfigError(f"{name} is missing: {each.help}")
    return config(**given)


def widget(each: Setting, choices: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """What shows the setting: the name of a V3 type ("Int", "Combo" …) and that input's own options."""
    if choices:
        default = each.default if each.default in choices else choices[0]
        return "Combo", {"options": list(choices), "default": default}
    if typing.get_origin(each.type) is tuple:
        return "String", {"multiline": True, "default": "\n".join(each.default)}
    if each.type is bool:
        return "Boolean", {"default": each.default}
    if each.type is str:
        return "String", {"default": "" if each.is_required else each.default}
    return _number(each)


def tooltip(each: Setting) -> str:
    """The setting's help with its unit and, where it can be left out, the number that does so."""
    text = each.help if each.unit in ("", "px") else f"{each.help} ({each.unit})"
    if typing.get_origin(each.type) is tuple:
        text += " One per line."
    return f"{text} {_left_out_by(each)} leaves it out." if each.optional else text


def _input(each: Setting, name: str, choices: Sequence[str], is_folded: bool) -> io.Input:
    from comfy_api.latest import io

    kind, options = widget(each, choices)
    # all optional: the host would show those without a default first, and scripts need not name what they leave alone
    made = getattr(io, kind).Input(name, optional=True, tooltip=tooltip(each), **options)
    if each.advanced or is_folded:
        made.extra_dict = {**made.extra_dict, "advanced": True}  # an argument only in newer versions
    return made


def _number(each: Setting) -> tuple[str, dict[str, Any]]:
    lowest = each.ge if each.ge is not None else -_LARGEST_FLOAT
    options: dict[str, Any] = {"default": each.default, "min": lowest}
    if each.optional:
        options["min"] = _left_out_by(each)
        options["default"] = _left_out_by(each) if each.default is None else each.default
    if each.type is int:
        highest = _LARGEST_INT if each.le is None else min(int(each.le), _LARGEST_INT)
        step = _SIZE_STEP if each.unit == "px" else 1
        whole = {key: int(value) for key, value in options.items()}
        # a field called seed would otherwise be drawn anew for every queued graph, and train anew
        drawn = {"control_after_generate": False} if each.name == "seed" else {}
        return "Int", {**whole, "max": highest, "step": step, **drawn}
    is_rate = each.name == "lr" or each.name.endswith(("_lr", "learning_rate"))
    highest = _LARGEST_FLOAT if each.le is None else each.le
    step = _RATE_STEP if is_rate else 0.01
    # the frontend rounds to the step unless told not to: a typed 3e-7 would become 0, and 0.9999 become 1
    exact = {"max": float(highest), "step": step, "round": False}
    return "Float", {**{key: float(value) for key, value in options.items()}, **exact}


def _left_out_by(each: Setting) -> int:
    return 0 if each.ge is not None and each.ge > 0 else -1


def _value(each: Setting, value: Any) -> Any:
    if typing.get_origin(each.type) is tuple and isinstance(value, str):
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    return None if each.optional and value == _left_out_by(each) else value
