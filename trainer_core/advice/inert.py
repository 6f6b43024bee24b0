"""Warnings about settings that were changed and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..config import TrainConfig, trains_text_encoder
from ..data.captions import has_chance
from ..networks import ALGORITHMS
from ..settings import all_settings
from .base import Outlook, is_adaptive, optimizer_name, warning

_LOW_RANK = ("lora", "locon", "dylora", "glora", "loha", "lokr")
_ROTATIONS = ("diag-oft", "boft")


@dataclass(frozen=True)
class Inert:
    """A setting that does something only sometimes. why: what stands after "does nothing"; may name `{algo}`,
    `{optimizer}` and `{lr_scheduler}`."""

    setting: str
    matters: Callable[[TrainConfig], bool]
    why: str


def _for(*algorithms: str) -> Callable[[TrainConfig], bool]:
    return lambda config: ALGORITHMS.canonical(config.network.algo) in algorithms


def _for_all_but(*algorithms: str) -> Callable[[TrainConfig], bool]:
    return lambda config: ALGORITHMS.canonical(config.network.algo) not in algorithms


def _reaches_convolutions(config: TrainConfig) -> bool:
    return _for_all_but("lora", "ia3", "full", "norm")(config) or bool(config.network.preset)


def _has_block_rates(config: TrainConfig) -> bool:
    return any((config.network.down_lr_weight, config.network.mid_lr_weight, config.network.up_lr_weight))


_SCALED = "for {algo}; only lora, locon, dylora, glora, loha and lokr are scaled by it"
_ONLY_LOKR, _ONLY_OFT = "for {algo}; it is lokr's", "for {algo}; it is diag-oft's and boft's"
TABLE = (
    Inert("network.conv_rank", _reaches_convolutions, "for {algo}; choose locon to train convolutions"),
    Inert(
        "network.conv_alpha",
        lambda config: _reaches_convolutions(config) and _for(*_LOW_RANK)(config),
        "for {algo}; choose locon to train convolutions",
    ),
    Inert("network.rank", _for_all_but("ia3", "full", "norm"), "for {algo}; ia3, full and norm have no rank"),
    Inert("network.alpha", _for(*_LOW_RANK), _SCALED),
    Inert("network.rs_lora", _for(*_LOW_RANK), _SCALED),
    Inert("network.dropout", _for(*_LOW_RANK), "for {algo}; take module_dropout"),
    Inert("network.rank_dropout", _for(*_LOW_RANK), "for {algo}; take module_dropout"),
    Inert("network.factor", _for("lokr"), _ONLY_LOKR),
    Inert("network.full_matrix", _for("lokr"), _ONLY_LOKR),
    Inert("network.decompose_both", _for("lokr"), _ONLY_LOKR),
    Inert(
        "network.use_tucker",
        lambda config: _for("lora", "locon", "loha", "lokr")(config) and _reaches_convolutions(config),
        "for {algo}; only locon and loha decompose kernels",  # lokr refuses it
    ),
    Inert("network.train_on_input", _for("ia3"), "for {algo}; it is ia3's"),
    Inert("network.block_size", _for("dylora"), "for {algo}; it is dylora's"),
    Inert("network.constraint", _for(*_ROTATIONS), _ONLY_OFT),
    Inert("network.rescaled", _for(*_ROTATIONS), _ONLY_OFT),
    Inert("network.wd_on_output", lambda config: config.network.dora_wd, "while dora_wd is off"),
    Inert(
        "network.scale_weight_norms",
        _for("lora", "locon", "dylora", "loha", "lokr"),
        "for {algo}; only lora, locon, dylora, loha and lokr make ΔW as a product that can be shortened",
    ),
    Inert("network.block_alphas", lambda config: bool(config.network.block_dims), "without block_dims"),
    Inert("network.block_lr_zero_threshold", _has_block_rates, "without down_lr_weight, mid_lr_weight or up_lr_weight"),
    Inert("optimizer.unet_lr", lambda config: config.network.train_unet, "while train_unet is off"),
    Inert(
        "optimizer.text_encoder_lr",
        lambda config: config.network.train_text_encoder,
        "while train_text_encoder is off",
    ),
    Inert(
        "optimizer.lr_scheduler_num_cycles",
        lambda config: "restarts" in config.optimizer.lr_scheduler,
        "for {lr_scheduler}; choose cosine_with_restarts",
    ),
    Inert(
        "optimizer.lr_scheduler_power",
        lambda config: config.optimizer.lr_scheduler == "polynomial",
        "for {lr_scheduler}; it is polynomial's",
    ),
    Inert("loss.noise_offset_random_strength", lambda config: config.loss.noise_offset > 0, "without noise_offset"),
    Inert("loss.adaptive_noise_scale", lambda config: config.loss.noise_offset > 0, "without noise_offset"),
    Inert(
        "loss.multires_noise_discount",
        lambda config: config.loss.multires_noise_iterations > 0,
        "without multires_noise_iterations",
    ),
    Inert(
        "loss.ip_noise_gamma_random_strength", lambda config: config.loss.ip_noise_gamma > 0, "without ip_noise_gamma"
    ),
    Inert(
        "loss.sigmoid_scale",
        lambda config: config.loss.timestep_sampling in ("sigmoid", "shift"),
        "unless timestep_sampling is sigmoid or shift",
    ),
    Inert(
        "loss.discrete_flow_shift",
        lambda config: config.loss.timestep_sampling == "shift",
        "unless timestep_sampling is shift",
    ),
    Inert(
        "loss.scale_v_pred_loss_like_noise_pred",
        lambda config: config.loss.prediction_type != "epsilon",
        "for a model that predicts noise",
    ),
    Inert(
        "loss.v_pred_like_loss",
        lambda config: config.loss.prediction_type != "v_prediction",
        "for a model that predicts velocities",
    ),
    *(
        Inert(
            f"loss.{name}",
            lambda config: config.loss.loss_type in ("huber", "smooth_l1"),
            "unless loss_type is huber or smooth_l1",
        )
        for name in ("huber_schedule", "huber_c", "huber_scale")
    ),
    Inert(
        "loss.prior_loss_weight", lambda config: bool(config.dataset.reg_data_dir), "without regularisation pictures"
    ),
    Inert(
        "dataset.keep_tokens",
        lambda config: (
            config.dataset.shuffle_caption
            or config.dataset.caption_tag_dropout_rate > 0
            or config.dataset.token_warmup_step > 0
        ),
        "while shuffle_caption is off",
    ),
    Inert(
        "dataset.token_warmup_min", lambda config: config.dataset.token_warmup_step > 0, "while token_warmup_step is 0"
    ),
    Inert(
        "dataset.caption_variants",
        lambda config: has_chance(config.dataset) and not trains_text_encoder(config.network),
        "unless captions are shuffled or otherwise left to chance, and the text encoder is not trained",
    ),
    Inert("dataset.bucket_no_upscale", lambda config: config.dataset.enable_bucket, "while enable_bucket is off"),
    *(
        Inert(
            f"dataset.{name}",
            lambda config: config.dataset.captions != "none",
            "without captions",
        )
        for name in ("shuffle_caption", "caption_tag_dropout_rate", "token_warmup_step")
    ),
    Inert(
        "on_spike",
        lambda config: is_adaptive(config.optimizer),
        "with {optimizer}; only Prodigy and D-Adaptation learn a d",
    ),
    Inert("max_train_epochs", lambda config: not config.max_train_steps, "beside max_train_steps, which ends the run"),
    Inert("logging_dir", lambda config: config.log_with != "none", "while log_with is none"),
)


@warning(
    "setting-without-effect",
    looks_at=" ".join(entry.setting for entry in TABLE),
    source="LyCORIS's and sd-scripts' code, where guide 4's blocks hold some such",
)
def setting_without_effect(outlook: Outlook) -> Iterator[str]:
    """A setting was changed that does nothing for the chosen algorithm, optimizer or schedule, or without another one
    that it belongs to."""
    config = outlook.config
    defaults = {path: each.default for path, each in all_settings(TrainConfig)}
    words = {
        "algo": f"algo {config.network.algo}",
        "optimizer": optimizer_name(config.optimizer),
        "lr_scheduler": f"lr_scheduler {config.optimizer.lr_scheduler}",
    }
    for entry in TABLE:
        if _value(config, entry.setting) != defaults[entry.setting] and not entry.matters(config):
            yield f"{entry.setting.rpartition('.')[2]} does nothing {entry.why.format(**words)}"


def _value(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config
