"""Our settings as another program's file. What it has no word for is kept beside it, so that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..config import TrainConfig
from ..errors import ConfigError
from ..settings import all_settings
from .arguments import Rule, rules
from .kohya_gui import LORA_TYPES, NAMES
from .own import NULL, RESIDUE
from .reading import import_text
from .report import flattened

_LYCORIS = {name for name, is_lycoris in LORA_TYPES.values() if is_lycoris} - {"lora", "locon", "dylora"}
# sd-scripts' Adafactor makes its own rate unless it is told not to
_ADAFACTOR = ("relative_step=False", "scale_parameter=False", "warmup_init=False")
_NOT_OF_THE_GUI = {"log_with", "alpha_mask", "conditioning_data_dir", "zero_terminal_snr", "lr_warmup_steps"}


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
    if ours.get("dataset.trigger_word"):
        ours = {"dataset.caption_prefix": "", **ours}  # there the trigger word is a part of the prefix
    theirs = translate(ours)
    back = flattened(import_text(write({**theirs, RESIDUE: {}})).values) if theirs else {}
    usual = {path: each.default for path, each in all_settings(TrainConfig)}
    meant = {**{path: _as_json(usual[path]) for path in back}, **ours}
    residue = {path: value for path, value in meant.items() if back.get(path, _as_json(usual[path])) != value}
    return write({**theirs, RESIDUE: residue})


def _sd_scripts_arguments(ours: dict[str, Any]) -> dict[str, Any]:
    found = _top_level(ours)
    algo = ours.get("network.algo")
    of_the_network = {"algo": algo} if algo in _LYCORIS else {}
    of_the_network |= _of_the_network(ours)
    if algo is not None:
        found["network_module"] = _module(algo)
    if of_the_network:
        found["network_args"] = [f"{name}={value}" for name, value in of_the_network.items()]
    if "lr_warmup_steps" in found and ours.get("optimizer.lr_scheduler_type"):
        found["lr_warmup_steps"] = 0  # sd-scripts refuses both together
    return found


def _gui_widgets(ours: dict[str, Any]) -> dict[str, Any]:
    widgets_of = {"block_size": "unit", "constraint": "constrain", "preset": "LyCORIS_preset"}
    widgets_of |= {argument: widget for widget, argument in NAMES.items()}
    found = {**_top_level(ours), **_of_the_network(ours)}
    widgets = {widgets_of.get(name, name): value for name, value in found.items() if name not in _NOT_OF_THE_GUI}
    for name in ("optimizer_args", "lr_scheduler_args"):
        if name in widgets:
            widgets[name] = " ".join(widgets[name])
    algo = ours.get("network.algo")
    types = {name: widget for widget, (name, _) in reversed(LORA_TYPES.items())}
    if algo in types:
        widgets["LoRA_type"] = {"locon": "Kohya LoCon"}.get(algo, types[algo])
    widgets |= _gui_warm_up(str(ours.get("optimizer.lr_warmup_steps", "")))
    if ours.get("loss.multires_noise_iterations"):
        widgets["noise_offset_type"] = "Multires"
    return widgets


def _top_level(ours: dict[str, Any]) -> dict[str, Any]:
    """sd-scripts' own arguments, but for the network's."""
    values = {rule.argument: _their_value(rule, ours) for rule in rules() if not _is_of_the_network(rule)}
    found = {name: value for name, value in values.items() if value is not None and name != "algo"}
    if ours.get("optimizer.optimizer_type"):
        found["optimizer_type"] = ours["optimizer.optimizer_type"]
    if trigger := ours.get("dataset.trigger_word"):
        found["caption_prefix"] = f"{trigger}, {ours.get('dataset.caption_prefix', '')}".strip()
    if ours.get("max_train_steps"):
        found.pop("max_train_epochs", None)  # there it would overrule the steps
    if "=total" in str(ours.get("optimizer.lr_scheduler_args", "")):  # a word of ours: sd-scripts cannot read it
        found.pop("lr_scheduler_args", None)
        if str(found.pop("lr_scheduler_type", "")).endswith("CosineAnnealingLR"):
            found["lr_scheduler"] = "cosine"  # the same half wave
    if str(ours.get("optimizer.optimizer", "")).lower() == "adafactor":
        found["optimizer_args"] = [*_ADAFACTOR, *found.get("optimizer_args", [])]  # the last one counts there
    switches = {
        "network_train_unet_only": ours.get("network.train_text_encoder") is False,
        "network_train_text_encoder_only": ours.get("network.train_unet") is False,
        "v_parameterization": ours.get("loss.prediction_type") == "v_prediction",
        "masked_loss": bool(ours.get("dataset.masks_dir") or ours.get("dataset.alpha_mask")),
    }
    return {**found, **{name: True for name, is_on in switches.items() if is_on}}


def _of_the_network(ours: dict[str, Any]) -> dict[str, Any]:
    """The network's arguments, where they are not the usual: LyCORIS takes `decompose_both=False` for true."""
    usual = {path: each.default for path, each in all_settings(TrainConfig)}
    found = {}
    for rule in rules():
        value = _their_value(rule, ours) if _is_of_the_network(rule) else None
        said_anyway = rule.setting == "network.wd_on_output" and ours.get("network.dora_wd")
        if value is not None and (ours[rule.setting] != usual[rule.setting] or said_anyway):
            found[rule.argument.removeprefix("network_args.")] = value
    return found


def _is_of_the_network(rule: Rule) -> bool:
    return rule.argument.startswith("network_args.")


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


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _module(algo: str) -> str:
    if algo in _LYCORIS:
        return "lycoris.kohya"
    return "networks.dylora" if algo == "dylora" else "networks.lora"


def _without_nulls(value: Any) -> Any:
    """TOML has no null."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items()}
    return NULL if value is None else value
