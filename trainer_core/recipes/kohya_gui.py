"""The settings file of kohya_ss, bmaltais' GUI: a flat JSON of its widgets, often only some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .combining import LYCORIS
from .given import Given, Recipe, is_off, is_unset
from .notation import number, share
from .report import INERT, UNSUPPORTED
from .sd_scripts import argument, command_line, defaults, network_argument

# LoRA_type → the adapter's name here, and whether LyCORIS trains it there.
LORA_TYPES = {
    "Standard": ("lora", False),
    "Kohya LoCon": ("locon", False),
    "Kohya DyLoRA": ("dylora", False),
    "Kohya LoHa": ("loha", False),
    "Kohya LoKr": ("lokr", False),
    "LoCon": ("locon", True),
    "LyCORIS/LoCon": ("locon", True),
    "LyCORIS/LoHa": ("loha", True),
    "LyCORIS/LoKr": ("lokr", True),
    "LyCORIS/iA3": ("ia3", True),
    "LyCORIS/DyLoRA": ("dylora", True),
    "LyCORIS/GLoRA": ("glora", True),
    "LyCORIS/Diag-OFT": ("diag-oft", True),
    "LyCORIS/BOFT": ("boft", True),
    "LyCORIS/Native Fine-Tuning": ("full", True),
}
# The GUI's name → sd-scripts'.
NAMES = {
    "optimizer": "optimizer_type",
    "max_resolution": "resolution",
    "lora_network_weights": "network_weights",
    "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "sdxl_no_half_vae": "no_half_vae",
    "loraplus_lr_ratio": "network_args.loraplus_lr_ratio",
    "loraplus_unet_lr_ratio": "network_args.loraplus_unet_lr_ratio",
    "loraplus_text_encoder_lr_ratio": "network_args.loraplus_text_encoder_lr_ratio",
}
_NETWORK_ARGUMENTS = {
    *("conv_dim", "conv_alpha", "factor", "bypass_mode", "dora_wd", "use_cp", "use_tucker", "use_scalar", "unit"),
    *("rank_dropout_scale", "constrain", "rescaled", "train_norm", "decompose_both", "train_on_input"),
    *("rank_dropout", "module_dropout", "ggpo_sigma", "ggpo_beta", "train_lora_ggpo"),
}
_BY_BLOCK = {
    *("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"),
    *("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
}
# The GUI hands each adapter only what it knows; a key that stands there for another one does nothing.
_ONLY_FOR = {
    "factor": {"lokr"},
    "decompose_both": {"lokr"},
    "use_cp": {"lokr"},
    "unit": {"dylora"},
    "constrain": {"diag-oft"},
    "rescaled": {"diag-oft"},
    "train_on_input": {"ia3"},
    "dora_wd": {"locon", "loha", "lokr"},
    "bypass_mode": {"locon", "loha", "lokr"},
    "use_tucker": {"locon", "loha", "lokr", "dylora", "glora", "diag-oft", "boft"},
}
_OTHER_FAMILIES = ("flux1_", "sd3_", "hunyuan_", "anima_", "lumina_", "t5xxl", "train_double_", "train_single_")
_OTHER_FAMILIES_KEYS = {
    *("apply_t5_attn_mask", "split_mode", "split_qkv", "train_blocks", "train_t5xxl", "mem_eff_save"),
    *("enable_all_linear", "single_blocks_to_swap", "double_blocks_to_swap", "show_timesteps"),
    *("show_timesteps_resolution", "img_attn_dim", "img_mlp_dim", "img_mod_dim", "single_dim", "txt_attn_dim"),
    *("txt_mlp_dim", "txt_mod_dim", "single_mod_dim", "in_dims", "clip_g_dropout_rate", "pos_emb_random_crop_rate"),
    *("save_clip", "save_t5xxl", "model_type", "discrete_flow_shift", "timestep_sampling", "guidance_scale"),
    *("model_prediction_type", "ae", "clip_l", "clip_g", "logit_mean", "logit_std", "mode_scale", "weighting_scheme"),
    *("blocks_to_swap", "cpu_offload_checkpointing", "sd3_checkbox", "flux1_checkbox"),
}


def read_gui(values: Mapping[str, Any]) -> Recipe:
    """The widgets' values in sd-scripts' words, by the GUI's own rules of which overrules which."""
    givens = [given for key, value in values.items() for given in _given(key, value, values)]
    extra = str(values.get("additional_parameters") or "").replace('"', "").split()
    everything = [*givens, *command_line(extra)]
    missing = defaults({"optimizer_type": _old_optimizer(values)}, everything, "the GUI") if _trains(values) else ()
    if _algorithm(values)[1] and "LoRA_type" in values:
        everything.append(LYCORIS)
    note = "a file of that GUI changes only what it names: all other settings keep their values here"
    return Recipe("kohya GUI JSON", (*everything, *missing), (note,))


def is_gui_key(key: str) -> bool:
    """Whether the key is one of the GUI's own that sd-scripts does not have."""
    own = {"LoRA_type", "LyCORIS_preset", "lr_warmup", "additional_parameters", "noise_offset_type", "model_list"}
    return key in NAMES or key in own or key in _NETWORK_ARGUMENTS or key in _BY_BLOCK


def _given(key: str, value: Any, values: Mapping[str, Any]) -> Iterator[Given]:
    special = _SPECIAL.get(key)
    if special is not None:
        yield special(value, values)
    elif key in _NETWORK_ARGUMENTS or key in _BY_BLOCK:
        yield _network_key(key, value, values)
    elif key in _OTHER_FAMILIES_KEYS or key.startswith(_OTHER_FAMILIES):
        verdict, why = (INERT, "off") if is_off(value) else _of_another_family(values)
        yield Given(key, value, key, value, why, verdict)
    elif key != "additional_parameters":
        yield from argument(NAMES.get(key, key), value, key)
    elif is_unset(value):
        yield Given(key, value, key, value)


def _of_another_family(values: Mapping[str, Any]) -> tuple[str, str]:
    families = ("flux1", "sd3", "hunyuan_image", "anima", "lumina")
    if any(not is_off(values.get(f"{name}_checkbox")) for name in families):
        return UNSUPPORTED, "belongs to a family of models that cannot be trained here"
    return INERT, "belongs to a family of models that the file does not train"


def _lora_type(value: Any, _: Mapping[str, Any]) -> Given:
    if str(value) not in LORA_TYPES:
        return Given("LoRA_type", value, "algo", value, "there is no such adapter", UNSUPPORTED)
    return Given("LoRA_type", value, "algo", LORA_TYPES[str(value)][0], "its name here")


def _preset(value: Any, values: Mapping[str, Any]) -> Given:
    if not _algorithm(values)[1]:
        return Given("LyCORIS_preset", value, "network_args.preset", value, "LoRA_type is not LyCORIS'", INERT)
    return Given("LyCORIS_preset", value, "network_args.preset", value)


def _network_key(key: str, value: Any, values: Mapping[str, Any]) -> Given:
    algo, is_lycoris = _algorithm(values)
    given = network_argument(key, value, key)
    if key == "train_on_input" and algo == "ia3" and is_off(value):
        return replace(
            given, verdict=INERT, why="LyCORIS never hears of it: its preset ia3 says which layers scale inputs"
        )
    if algo not in _ONLY_FOR.get(key, {algo}) or (key in _BY_BLOCK and is_lycoris):
        return Given(key, value, given.argument, value, f"does nothing for {values.get('LoRA_type')}", INERT)
    if key.startswith("conv_") and key not in _BY_BLOCK and algo == "lora":
        return Given(key, value, given.argument, value, "a standard LoRA leaves convolutions alone", INERT)
    if key in _BY_BLOCK and is_off(value):
        return Given(key, value, given.argument, None)
    return given


def _warm_up_percent(value: Any, values: Mapping[str, Any]) -> Given:
    percent = number(value)
    if isinstance(percent, str) or percent is None:
        return Given("lr_warmup", value, "lr_warmup_steps", None)
    if not is_off(values.get("lr_warmup_steps")):
        return Given("lr_warmup", value, "(lr_warmup)", value, "lr_warmup_steps overrules it", INERT)
    return Given("lr_warmup", value, "lr_warmup_steps", share(percent / 100), "a percentage in that GUI")


def _warm_up_steps(value: Any, _: Mapping[str, Any]) -> Given:
    verdict, why = (INERT, "off") if is_off(value) else ("", "")
    return Given("lr_warmup_steps", value, "(lr_warmup_steps)" if verdict else "lr_warmup_steps", value, why, verdict)


def _epochs(value: Any, values: Mapping[str, Any]) -> Given:
    if not is_off(values.get("max_train_epochs")):
        return Given("epoch", value, "epoch", value, "max_train_epochs overrules it", INERT)
    if not is_off(values.get("max_train_steps")):
        return Given("epoch", value, "epoch", value, "max_train_steps overrules it", INERT)
    return Given("epoch", value, "max_train_epochs", value)


def _noise(name: str, kind: str) -> Any:
    def read(value: Any, values: Mapping[str, Any]) -> Given:
        chosen = str(values.get("noise_offset_type") or "Original")
        if chosen != kind and not is_off(value):
            return Given(name, value, name, value, f"noise_offset_type is {chosen}: that GUI drops it", INERT)
        if name == "adaptive_noise_scale" and is_off(values.get("noise_offset")):
            return Given(name, value, name, value, "does nothing without noise_offset", INERT)
        return Given(name, value, name, value)

    return read


def _rate(name: str, other: str) -> Any:
    def read(value: Any, values: Mapping[str, Any]) -> Given:
        if is_off(number(value)) and is_off(number(values.get(other))):
            return Given(name, value, name, None, "learning_rate is the rate of all")
        return Given(name, value, name, value)

    return read


_SPECIAL = {
    "LoRA_type": _lora_type,
    "LyCORIS_preset": _preset,
    "lr_warmup": _warm_up_percent,
    "lr_warmup_steps": _warm_up_steps,
    "epoch": _epochs,
    "unet_lr": _rate("unet_lr", "text_encoder_lr"),
    "text_encoder_lr": _rate("text_encoder_lr", "unet_lr"),
    "noise_offset": _noise("noise_offset", "Original"),
    "noise_offset_random_strength": _noise("noise_offset_random_strength", "Original"),
    "adaptive_noise_scale": _noise("adaptive_noise_scale", "Original"),
    "multires_noise_iterations": _noise("multires_noise_iterations", "Multires"),
    "multires_noise_discount": _noise("multires_noise_discount", "Multires"),
}


def _algorithm(values: Mapping[str, Any]) -> tuple[str, bool]:
    return LORA_TYPES.get(str(values.get("LoRA_type") or "Standard"), ("", False))


def _old_optimizer(values: Mapping[str, Any]) -> str:
    return "AdamW8bit" if not is_off(values.get("use_8bit_adam")) else "AdamW"


def _trains(values: Mapping[str, Any]) -> bool:
    return not is_off(values.get("learning_rate")) or not is_off(values.get("unet_lr"))
