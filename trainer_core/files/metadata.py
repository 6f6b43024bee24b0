"""What a LoRA file says of its training: kohya's `ss_*` keys, which the UIs and tools read, and ModelSpec's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .. import __version__
from ..config import NetworkConfig, TrainConfig, chosen_optimizer
from ..families.base import Family
from ..optim.args import parse_optimizer_args
from ..settings import to_json

# ComfyUI shows no metadata of a file whose header passes 1 MiB; the tensors' own entries may take three quarters of it
MAX_TAG_FREQUENCY_BYTES = 192 * 1024
# our own key: the settings as JSON, so that a LoRA can be trained again; kohya's keys have no word for some of them
SETTINGS_KEY = "lazylora_settings"
_PLACES = {"": ("output_name", "output_dir", "logging_dir"), "dataset": ("folder", "reg_data_dir", "masks_dir")}


@dataclass(frozen=True)
class RunFacts:
    """What the metadata says beyond the settings.

    output_name: the file's stem, which A1111 takes as the LoRA's name. epoch, step: at which the file is saved;
    total_steps, batches_per_epoch: of the whole run. num_train_images: repeats counted. bucket_info, dataset_dirs,
    tag_frequency: as kohya writes them, before they become JSON. prediction: "epsilon" or "v_prediction".
    precision: of the forward pass, "fp16", "bf16" or "fp32". model_hash, vae_hash: SHA-256 of those files where known.
    host: the program that trained, e.g. "ComfyUI 0.3.64"."""

    output_name: str
    epoch: int
    step: int
    total_steps: int
    batches_per_epoch: int
    num_train_images: int
    prediction: str
    started_at: datetime
    finished_at: datetime
    session_id: str = ""
    num_reg_images: int = 0
    bucket_info: Mapping[str, Any] | None = None
    dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reg_dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    precision: str = ""
    model_name: str = ""
    model_hash: str = ""
    vae_name: str = ""
    vae_hash: str = ""
    host: str = ""


def build_metadata(config: TrainConfig, family: Family, facts: RunFacts) -> dict[str, str]:
    """Everything that kohya's trainer would write of this run, all as text; what we do not offer is written as off."""
    entries = {
        **_about_the_run(config, facts),
        **_about_the_model(config, family, facts),
        **_about_the_network(config.network),
        **_about_the_optimizer(config),
        **_about_the_dataset(config, facts),
        **_about_the_loss(config),
    }
    texts = {key: str(value) for key, value in entries.items()}
    return {**texts, **_modelspec(config, family, facts), SETTINGS_KEY: json.dumps(_recipe(config), ensure_ascii=False)}


def capped_tag_frequency(
    frequency: Mapping[str, Mapping[str, int]], max_bytes: int = MAX_TAG_FREQUENCY_BYTES
) -> dict[str, dict[str, int]]:
    """The tag counts, without each folder's rarest tags where all would take more than `max_bytes` in the header."""
    kept = {folder: dict(sorted(tags.items(), key=lambda each: -each[1])) for folder, tags in frequency.items()}
    while (size := _size_in_header(kept)) > max_bytes and any(kept.values()):
        share = min(0.9, max_bytes / size)
        kept = {folder: dict(list(tags.items())[: int(len(tags) * share)]) for folder, tags in kept.items()}
    return kept if _size_in_header(kept) <= max_bytes else {}


def _about_the_run(config: TrainConfig, facts: RunFacts) -> dict[str, Any]:
    return {
        "ss_session_id": facts.session_id,
        "ss_training_started_at": facts.started_at.timestamp(),
        "ss_training_finished_at": facts.finished_at.timestamp(),
        "ss_output_name": facts.output_name,
        "ss_training_comment": config.training_comment or None,
        "ss_num_epochs": _count_epochs(config, facts),
        "ss_epoch": facts.epoch,
        "ss_steps": facts.step,
        "ss_max_train_steps": facts.total_steps,
        "ss_num_batches_per_epoch": facts.batches_per_epoch,
        "ss_gradient_accumulation_steps": config.gradient_accumulation_steps,
        "ss_gradient_checkpointing": config.gradient_checkpointing,
        "ss_mixed_precision": {"fp32": "no", "": config.mixed_precision}.get(facts.precision, facts.precision),
        "ss_full_fp16": False,
        "ss_fp8_base": False,
        "ss_fp8_base_unet": False,
        "ss_lowram": False,
        "ss_cache_latents": True,
        "ss_seed": config.seed,
        "ss_validation_seed": None,
        "ss_validation_split": 0.0,
        "ss_max_validation_steps": None,
        "ss_validate_every_n_epochs": None,
        "ss_validate_every_n_steps": None,
    }


def _count_epochs(config: TrainConfig, facts: RunFacts) -> int:
    """A part of an epoch counts as one, as in kohya's."""
    steps_per_epoch = math.ceil(facts.batches_per_epoch / config.gradient_accumulation_steps)
    return math.ceil(facts.total_steps / steps_per_epoch)


def _about_the_model(config: TrainConfig, family: Family, facts: RunFacts) -> dict[str, Any]:
    is_velocity_sd2 = family.name == "sd2" and _predicts_velocity(facts)
    known = {
        "ss_sd_model_name": facts.model_name,
        "ss_new_sd_model_hash": facts.model_hash,
        "ss_vae_name": facts.vae_name,
        "ss_new_vae_hash": facts.vae_hash,
    }
    return {
        "ss_v2": family.name == "sd2",
        "ss_base_model_version": family.base_model_version + ("_v" if is_velocity_sd2 else ""),
        "ss_clip_skip": None if family.has_sizes else config.clip_skip,
        "ss_max_token_length": None if config.max_token_length == 75 else config.max_token_length,
        **{key: value for key, value in known.items() if value},
    }


def _about_the_network(network: NetworkConfig) -> dict[str, Any]:
    arguments = _network_arguments(network)
    return {
        "ss_network_module": "networks.lora" if _is_kohya_lora(network) else "lycoris.kohya",
        "ss_network_dim": network.rank,
        "ss_network_alpha": network.alpha,
        "ss_network_dropout": network.dropout or None,
        **({"ss_network_args": json.dumps(arguments)} if arguments else {}),
    }


def _network_arguments(network: NetworkConfig) -> dict[str, str]:
    """kohya's network_args, which are text; what the network module does by itself is not among them."""
    algo = {} if _is_kohya_lora(network) else {"algo": network.algo}
    if network.algo == "lora":
        # LyCORIS's own lora reaches convolutions too
        return {**algo, **({"preset": "attn-mlp"} if algo else {}), **_variant(network)}
    conv_rank = network.rank if network.conv_rank is None else network.conv_rank
    conv_alpha = network.alpha if network.conv_alpha is None else network.conv_alpha
    return {**algo, "conv_dim": str(conv_rank), "conv_alpha": str(conv_alpha), **_variant(network)}


def _variant(network: NetworkConfig) -> dict[str, str]:
    """What was chosen beside rank and alpha; kohya and LyCORIS call these as we do."""
    usual = NetworkConfig()
    chosen = {name: value for name, value in vars(network).items() if value != getattr(usual, name)}
    return {name: str(value) for name, value in chosen.items() if name not in _SAID_ELSEWHERE}


def _recipe(config: TrainConfig) -> dict[str, Any]:
    """The settings without names and places, which are nobody else's business."""
    values = to_json(config)
    return {
        key: {name: each for name, each in value.items() if name not in _PLACES.get(key, ())}
        if isinstance(value, dict)
        else value
        for key, value in values.items()
        if key not in _PLACES[""]
    }


_SAID_ELSEWHERE = {
    *("algo", "rank", "alpha", "conv_rank", "conv_alpha", "dropout", "scale_weight_norms"),
    *("train_unet", "train_text_encoder"),
}


def _is_kohya_lora(network: NetworkConfig) -> bool:
    beyond = (network.preset, network.use_tucker, network.rs_lora, network.dora_wd, network.train_norm)
    return network.algo in ("lora", "locon") and not any(beyond)


def _about_the_optimizer(config: TrainConfig) -> dict[str, Any]:
    optimizer = config.optimizer
    arguments = ",".join(f"{key}={value}" for key, value in parse_optimizer_args(optimizer.optimizer_args).items())
    return {
        "ss_optimizer": chosen_optimizer(optimizer) + (f"({arguments})" if arguments else ""),
        "ss_learning_rate": optimizer.learning_rate,
        "ss_unet_lr": optimizer.unet_lr,
        "ss_text_encoder_lr": optimizer.text_encoder_lr,
        "ss_lr_scheduler": optimizer.lr_scheduler,
        "ss_lr_warmup_steps": optimizer.lr_warmup_steps,
        "ss_max_grad_norm": optimizer.max_grad_norm,
        "ss_scale_weight_norms": config.network.scale_weight_norms or None,
    }


def _about_the_dataset(config: TrainConfig, facts: RunFacts) -> dict[str, Any]:
    dataset = config.dataset
    return {
        "ss_num_train_images": facts.num_train_images,
        "ss_num_reg_images": facts.num_reg_images,
        "ss_num_validation_images": 0,
        "ss_batch_size_per_device": dataset.batch_size,
        "ss_total_batch_size": dataset.batch_size * config.gradient_accumulation_steps,
        "ss_resolution": (dataset.resolution, dataset.resolution),
        "ss_enable_bucket": dataset.enable_bucket,
        "ss_bucket_no_upscale": dataset.bucket_no_upscale,
        "ss_min_bucket_reso": dataset.min_bucket_reso if dataset.enable_bucket else None,
        "ss_max_bucket_reso": dataset.max_bucket_reso if dataset.enable_bucket else None,
        "ss_bucket_info": _json(facts.bucket_info),
        "ss_dataset_dirs": _json(facts.dataset_dirs),
        "ss_reg_dataset_dirs": _json(facts.reg_dataset_dirs),
        "ss_tag_frequency": _json(capped_tag_frequency(facts.tag_frequency)),
        "ss_shuffle_caption": dataset.shuffle_caption,
        "ss_keep_tokens": dataset.keep_tokens,
        "ss_caption_dropout_rate": dataset.caption_dropout_rate,
        "ss_caption_dropout_every_n_epochs": dataset.caption_dropout_every_n_epochs,
        "ss_caption_tag_dropout_rate": dataset.caption_tag_dropout_rate,
        "ss_color_aug": False,
        "ss_flip_aug": dataset.flip_aug,
        "ss_random_crop": False,
        "ss_face_crop_aug_range": None,
        "ss_resize_interpolation": None,
    }


def _about_the_loss(config: TrainConfig) -> dict[str, Any]:
    loss = config.loss
    return {
        "ss_loss_type": loss.loss_type,
        "ss_huber_schedule": loss.huber_schedule,
        "ss_huber_scale": loss.huber_scale,
        "ss_huber_c": loss.huber_c,
        "ss_prior_loss_weight": loss.prior_loss_weight,
        "ss_min_snr_gamma": loss.min_snr_gamma or None,
        "ss_debiased_estimation": loss.debiased_estimation_loss,
        "ss_zero_terminal_snr": loss.zero_terminal_snr,
        "ss_noise_offset": loss.noise_offset or None,
        "ss_noise_offset_random_strength": loss.noise_offset_random_strength,
        "ss_adaptive_noise_scale": loss.adaptive_noise_scale or None,
        "ss_multires_noise_iterations": loss.multires_noise_iterations or None,
        "ss_multires_noise_discount": loss.multires_noise_discount,
        "ss_ip_noise_gamma": loss.ip_noise_gamma or None,
        "ss_ip_noise_gamma_random_strength": loss.ip_noise_gamma_random_strength,
    }


def _modelspec(config: TrainConfig, family: Family, facts: RunFacts) -> dict[str, str]:
    """ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec), with kohya's choices where it leaves them open."""
    side, loss = config.dataset.resolution, config.loss
    architecture = family.architecture
    if family.name == "sd2" and _predicts_velocity(facts):
        architecture = "stable-diffusion-v2-768-v"
    stability = "https://github.com/Stability-AI/generative-models"
    optional = {
        "trigger_phrase": config.dataset.trigger_word,
        "description": config.training_comment,
        "encoder_layer": "" if family.has_sizes else str(config.clip_skip or 1),
        "timestep_range": f"{loss.min_timestep},{loss.max_timestep}" if _cuts_timesteps(config) else "",
    }
    entries = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/lora",
        "implementation": stability if family.unet_key_layout == "ldm" else "diffusers",
        "implementation_version": f"lazylora/{__version__}" + (f" ({facts.host})" if facts.host else ""),
        "title": facts.output_name,
        "resolution": f"{side}x{side}",
        "date": facts.finished_at.replace(microsecond=0).isoformat(),
        "prediction_type": "v" if _predicts_velocity(facts) else "epsilon",
        **{key: value for key, value in optional.items() if value},
    }
    return {f"modelspec.{key}": value for key, value in entries.items()}


def _predicts_velocity(facts: RunFacts) -> bool:
    return facts.prediction == "v_prediction"


def _cuts_timesteps(config: TrainConfig) -> bool:
    return config.loss.min_timestep > 0 or config.loss.max_timestep < 1000


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # tags in any script, at their own length


def _size_in_header(value: Any) -> int:
    return len(_json(_json(value)).encode())  # JSON within the header's JSON: every quote takes two bytes
