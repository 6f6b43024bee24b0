"""Our settings as another program's file. What it has no word for is kept beside it, so that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError
from .arguments import Rule, rules
from .kohya_gui import LORA_TYPES, NAMES
from .own import NULL, RESIDUE
from .reading import import_text
from .report import flattened

_LYCORIS = {name for name, is_lycoris in LORA_TYPES.values() if is_lycoris} - {"lora", "locon", "dylora"}
_NOT_OF_THE_GUI = {"log_with", "alpha_mask", "conditioning_data_dir", "zero_terminal_snr"}


def as_settings_json(values: Mapping[str, Any]) -> str:
    """Our settings, nested and perhaps partial, as the JSON that `--config` reads."""
    # a group of ours, if an empty one, tells the file from the flat ones of other programs
    return json.dumps({"network": {}, **values}, indent=2, ensure_ascii=False) + "\n"


def as_sd_scripts_toml(values: Mapping[str, Any]) -> str:
    """A `--config_file` for sd-scripts. Settings that it does not have stand in its section `lazylora`, which
    sd-scripts ignores and our importer reads: importing the export changes nothing."""
    try:
        import tomlkit
    except ImportError:
        raise ConfigError("writing TOML needs the package tomlkit: pip install tomlkit") from None

    return _exported(values, _sd_scripts_arguments, lambda found: tomlkit.dumps(_without_nulls(found)))


def as_kohya_gui_json(values: Mapping[str, Any]) -> str:
    """A settings file for kohya_ss' GUI, and under `lazylora`, which the GUI ignores, what it does not have."""
    return _exported(
        values,
        _gui_widgets,
        lambda found: json.dumps(dict(sorted(found.items())), indent=2, ensure_ascii=False) + "\n",
    )


EXPORTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "json": as_settings_json,
    "sd-scripts": as_sd_scripts_toml,
    "kohya-gui": as_kohya_gui_json,
}


def _exported(
    values: Mapping[str, Any],
    translate: Callable[[dict[str, Any]], dict[str, Any]],
    write: Callable[[dict[str, Any]], str],
) -> str:
    """The other program's file, and in it whatever would come back changed."""
    ours = flattened(values)
    theirs = translate(ours)
    back = flattened(import_text(write({**theirs, RESIDUE: {}})).values) if theirs else {}
    residue = {path: value for path, value in ours.items() if path not in back or back[path] != value}
    return write({**theirs, RESIDUE: residue})


def _sd_scripts_arguments(ours: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    of_the_network: list[str] = []
    for rule in rules():
        value = _their_value(rule, ours)
        if value is None or rule.argument == "algo":
            continue
        if rule.argument.startswith("network_args."):
            of_the_network.append(f"{rule.argument.removeprefix('network_args.')}={value}")
        else:
            found[rule.argument] = value
    algo = ours.get("network.algo")
    if algo is not None:
        found["network_module"] = _module(algo)
        of_the_network += [f"algo={algo}"] if algo in _LYCORIS else []
    if of_the_network:
        found["network_args"] = of_the_network
    if ours.get("network.train_text_encoder") is False:
        found["network_train_unet_only"] = True
    if ours.get("network.train_unet") is False:
        found["network_train_text_encoder_only"] = True
    if ours.get("loss.prediction_type") == "v_prediction":
        found["v_parameterization"] = True
    return found


def _gui_widgets(ours: dict[str, Any]) -> dict[str, Any]:
    widgets: dict[str, Any] = {}
    names = {argument: widget for widget, argument in NAMES.items()}
    for rule in rules():
        value = _their_value(rule, ours)
        if value is None or rule.argument in {"algo", "lr_warmup_steps", *_NOT_OF_THE_GUI}:
            continue
        name = rule.argument.removeprefix("network_args.")
        widgets[{"block_size": "unit", "constraint": "constrain", "preset": "LyCORIS_preset"}.get(name, name)] = value
        if rule.argument in names:
            widgets[names[rule.argument]] = widgets.pop(name)
    if "optimizer_args" in widgets:
        widgets["optimizer_args"] = " ".join(widgets["optimizer_args"])
    if "lr_scheduler_args" in widgets:
        widgets["lr_scheduler_args"] = " ".join(widgets["lr_scheduler_args"])
    algo = ours.get("network.algo")
    types = {name: widget for widget, (name, _) in reversed(LORA_TYPES.items())}
    if algo in types:
        widgets["LoRA_type"] = {"locon": "Kohya LoCon"}.get(algo, types[algo])
    widgets |= _gui_warm_up(str(ours.get("optimizer.lr_warmup_steps", "")))
    if ours.get("loss.multires_noise_iterations"):
        widgets["noise_offset_type"] = "Multires"
    return widgets


def _gui_warm_up(text: str) -> dict[str, Any]:
    if text.endswith("%"):
        return {"lr_warmup": float(text[:-1])}
    return {"lr_warmup_steps": int(text)} if text.isdigit() and int(text) else {}


def _their_value(rule: Rule, ours: dict[str, Any]) -> Any:
    value = ours.get(rule.setting)
    if not rule.setting or rule.write is None or value is None or value == "":
        return None
    try:
        return rule.write(value)
    except (ConfigError, ValueError):
        return None  # not a value that could be run: the residue keeps it


def _module(algo: str) -> str:
    if algo in _LYCORIS:
        return "lycoris.kohya"
    return "networks.dylora" if algo == "dylora" else "networks.lora"


def _without_nulls(value: Any) -> Any:
    """TOML has no null."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items()}
    return NULL if value is None else value
