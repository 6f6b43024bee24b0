"""sd-scripts' arguments and what they are here: the one table that every importer, the exporters and the docs use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import notation as say
from .report import INERT, UNSUPPORTED


@dataclass(frozen=True)
class Rule:
    """One argument. setting: ours, by its dotted path; empty where there is none, and then `verdict` says what the
    argument is here. read: sd-scripts' value → ours; write: back again, None where it is not exported. note: in the
    docs and, where the value changes, in the report."""

    argument: str
    setting: str = ""
    read: Callable[[Any], Any] = say.same
    write: Callable[[Any], Any] | None = say.same
    note: str = ""
    verdict: str = ""


def rule_for(argument: str) -> Rule | None:
    """The argument's rule, or None for one that sd-scripts does not have either."""
    return _BY_ARGUMENT.get(argument)


def rules() -> Iterator[Rule]:
    """Every rule, in the table's order."""
    return iter(_BY_ARGUMENT.values())


def _is(argument: str, setting: str, **more: Any) -> Rule:
    return Rule(argument, setting, **more)


def _inert(why: str, *arguments: str) -> list[Rule]:
    return [Rule(argument, verdict=INERT, note=why, write=None) for argument in arguments]


def _unsupported(why: str, *arguments: str) -> list[Rule]:
    return [Rule(argument, verdict=UNSUPPORTED, note=why, write=None) for argument in arguments]


_RULES = [
    # -- the run
    _is("output_name", "output_name"),
    _is("output_dir", "output_dir"),
    _is("max_train_epochs", "max_train_epochs", read=say.every),
    _is("max_train_steps", "max_train_steps", read=say.every, write=say.unless_off, note="ends the run"),
    _is("save_every_n_epochs", "save_every_n_epochs", read=say.every),
    _is("gradient_accumulation_steps", "gradient_accumulation_steps"),
    _is("gradient_checkpointing", "gradient_checkpointing"),
    _is(
        "mixed_precision",
        "mixed_precision",
        read=say.precision,
        write=say.mixed_precision_for_kohya,
        note="no is fp32",
    ),
    _is(
        "save_precision", "save_precision", read=say.precision, write=say.save_precision_for_kohya, note="float is fp32"
    ),
    _is("max_token_length", "max_token_length", write=say.tokens_for_kohya),
    _is("clip_skip", "clip_skip", read=say.clip_layer),
    _is("seed", "seed", read=say.seed, note="0 draws a new seed there"),
    _is("training_comment", "training_comment"),
    _is("log_with", "log_with", write=say.logger_for_kohya),
    _is("logging_dir", "logging_dir"),
    # -- the pictures and their captions
    _is("train_data_dir", "dataset.folder"),
    _is(
        "resolution",
        "dataset.resolution",
        read=say.side,
        write=say.side_for_kohya,
        note="another shape than a square becomes its area",
    ),
    _is("train_batch_size", "dataset.batch_size"),
    _is("enable_bucket", "dataset.enable_bucket"),
    _is("min_bucket_reso", "dataset.min_bucket_reso"),
    _is("max_bucket_reso", "dataset.max_bucket_reso"),
    _is("bucket_reso_steps", "dataset.bucket_reso_steps"),
    _is("bucket_no_upscale", "dataset.bucket_no_upscale"),
    _is("shuffle_caption", "dataset.shuffle_caption"),
    _is("keep_tokens", "dataset.keep_tokens"),
    _is("keep_tokens_separator", "dataset.keep_tokens_separator"),
    _is("secondary_separator", "dataset.secondary_separator"),
    _is("caption_dropout_rate", "dataset.caption_dropout_rate"),
    _is("caption_dropout_every_n_epochs", "dataset.caption_dropout_every_n_epochs"),
    _is("caption_tag_dropout_rate", "dataset.caption_tag_dropout_rate"),
    _is("caption_prefix", "dataset.caption_prefix", note="an exported trigger word stands in it"),
    *(
        _is(name, f"dataset.{name}")
        for name in (
            *("caption_suffix", "enable_wildcard", "token_warmup_min", "token_warmup_step", "weighted_captions"),
        )
    ),
    _is("caption_extension", "dataset.captions", read=say.caption_file, write=None, note="both are read"),
    _is("caption_separator", "dataset.captions", read=say.comma, write=None, note="always a comma"),
    _is("flip_aug", "dataset.flip_aug"),
    _is("alpha_mask", "dataset.alpha_mask"),
    _is("conditioning_data_dir", "dataset.masks_dir", note="where masked_loss takes its masks"),
    _is("reg_data_dir", "dataset.reg_data_dir"),
    # -- the network
    _is("algo", "network.algo", note="of network_module, its algo and conv_dim; or of the GUI's LoRA_type"),
    _is("network_dim", "network.rank"),
    _is("network_alpha", "network.alpha"),
    _is("network_args.conv_dim", "network.conv_rank"),
    _is("network_args.conv_alpha", "network.conv_alpha"),
    _is("network_dropout", "network.dropout"),
    _is("network_args.rank_dropout", "network.rank_dropout"),
    _is("network_args.module_dropout", "network.module_dropout"),
    _is("scale_weight_norms", "network.scale_weight_norms"),
    _is("network_args.preset", "network.preset"),
    _is("network_args.use_tucker", "network.use_tucker"),
    _is("network_args.rs_lora", "network.rs_lora"),
    _is("network_args.dora_wd", "network.dora_wd"),
    _is(
        "network_args.wd_on_output",
        "network.wd_on_output",
        read=say.magnitudes_on_input,
        note="no UI loads magnitudes of the outputs as they were trained: those of the inputs are trained instead",
    ),
    _is("network_args.factor", "network.factor"),
    _is("network_args.full_matrix", "network.full_matrix"),
    _is(
        "network_args.decompose_both",
        "network.decompose_both",
        note='LyCORIS takes the text "False", which kohya\'s GUI sends, for true; here it is false',
    ),
    _is("network_args.train_on_input", "network.train_on_input"),
    _is("network_args.block_size", "network.block_size"),
    _is("network_args.constraint", "network.constraint"),
    _is("network_args.rescaled", "network.rescaled"),
    _is("network_args.train_norm", "network.train_norm"),
    *(
        _is(f"network_args.{name}", f"network.{name}", read=say.as_text)
        for name in (
            *("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
            *("down_lr_weight", "mid_lr_weight", "up_lr_weight"),
        )
    ),
    _is("network_args.block_lr_zero_threshold", "network.block_lr_zero_threshold"),
    _is("network_train_unet_only", "network.train_text_encoder", read=say.inverted, write=None, note="the other way"),
    _is("network_train_text_encoder_only", "network.train_unet", read=say.inverted, write=None, note="the other way"),
    # -- the optimizer
    _is("optimizer_type", "optimizer.optimizer", note="or optimizer.optimizer_type, for a class that has no name here"),
    _is(
        "optimizer_args",
        "optimizer.optimizer_args",
        read=say.arguments_text,
        write=say.arguments_list,
        note="one line of key=value",
    ),
    _is("learning_rate", "optimizer.learning_rate"),
    _is("unet_lr", "optimizer.unet_lr"),
    _is("text_encoder_lr", "optimizer.text_encoder_lr", read=say.learning_rate),
    _is("lr_scheduler", "optimizer.lr_scheduler"),
    _is("lr_scheduler_type", "optimizer.lr_scheduler_type"),
    _is(
        "lr_scheduler_args",
        "optimizer.lr_scheduler_args",
        read=say.arguments_text,
        write=say.arguments_list,
        note="one line of key=value",
    ),
    _is(
        "lr_warmup_steps",
        "optimizer.lr_warmup_steps",
        read=say.warm_up,
        write=say.warm_up_for_kohya,
        note="a fraction is a share of the run, a whole number steps; the GUI's lr_warmup is a percentage",
    ),
    _is("lr_scheduler_num_cycles", "optimizer.lr_scheduler_num_cycles", read=say.every),
    _is("lr_scheduler_power", "optimizer.lr_scheduler_power"),
    _is("lr_scheduler_min_lr_ratio", "optimizer.lr_scheduler_min_lr_ratio"),
    _is("lr_scheduler_timescale", "optimizer.lr_scheduler_timescale"),
    _is("lr_decay_steps", "optimizer.lr_decay_steps"),
    _is("max_grad_norm", "optimizer.max_grad_norm"),
    # -- noise and loss
    _is("v_parameterization", "loss.prediction_type", read=say.is_velocity, write=None, note="on is v_prediction"),
    *(
        _is(name, f"loss.{name}")
        for name in (
            *("zero_terminal_snr", "min_snr_gamma", "min_timestep", "max_timestep", "noise_offset"),
            *("noise_offset_random_strength", "adaptive_noise_scale", "multires_noise_iterations"),
            *("multires_noise_discount", "ip_noise_gamma", "ip_noise_gamma_random_strength"),
            *("debiased_estimation_loss", "scale_v_pred_loss_like_noise_pred", "v_pred_like_loss"),
            *("loss_type", "huber_schedule", "huber_c", "huber_scale", "prior_loss_weight"),
            *("timestep_sampling", "sigmoid_scale", "discrete_flow_shift"),
        )
    ),
    # -- previews
    _is("sample_every_n_epochs", "sample.every_n_epochs", read=say.every),
    _is("sample_prompts", "sample.prompts", read=say.prompt_lines, write=None, note="the lines themselves, not a file"),
    # -- what changes nothing here
    *_inert(
        "the model comes from the UI, or from --model",
        *("pretrained_model_name_or_path", "vae", "v2", "sdxl", "model_list", "tokenizer_cache_dir"),
    ),
    *_inert(
        "latents are always cached, once, on disk and in memory",
        *("cache_latents", "cache_latents_to_disk", "cache_info", "vae_batch_size", "skip_cache_check"),
        *("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "text_encoder_batch_size"),
    ),
    *_inert(
        "the host chooses what its device does best",
        *("xformers", "sdpa", "mem_eff_attn", "highvram", "lowram", "lowvram", "no_half_vae"),
        *("disable_mmap_load_safetensors", "torch_compile", "dynamo_backend", "dynamo_mode", "dynamo_use_fullgraph"),
        *("dynamo_use_dynamic", "cpu_offload_checkpointing", "fp8_base", "fp8_base_unet", "split_attn"),
    ),
    *_inert(
        "adapters are trained in fp32, whatever the model's precision",
        *("full_fp16", "full_bf16", "fp16_master_weights_and_gradients"),
    ),
    *_inert(
        "there are no loader processes: latents and texts are at hand",
        *("max_data_loader_n_workers", "persistent_data_loader_workers"),
    ),
    *_inert(
        "a stopped run goes on by itself",
        *("save_state", "save_state_on_train_end", "save_last_n_epochs_state", "save_last_n_steps_state", "resume"),
        *("initial_epoch", "initial_step", "skip_until_initial_step", "save_state_to_huggingface"),
    ),
    *_inert(
        "belongs to how that program was started",
        *("num_cpu_threads_per_process", "num_processes", "num_machines", "multi_gpu", "gpu_ids", "main_process_port"),
        *("extra_accelerate_launch_args", "config_file", "output_config", "headless", "train_mode"),
        *("console_log_level", "console_log_file", "console_log_simple", "debug_dataset", "log_config"),
        *("ddp_timeout", "ddp_gradient_as_bucket_view", "ddp_static_graph", "deepspeed", "zero_stage"),
        *("offload_optimizer_device", "offload_optimizer_nvme_path", "offload_param_device", "offload_param_nvme_path"),
        *(
            "zero3_init_flag",
            "zero3_save_16bit_model",
            "use_safetensors",
            "train_inpainting",
            "save_as_bool",
            "no_token_padding",
        ),
    ),
    *_inert("optimizer_type says it", "use_8bit_adam", "use_lion_optimizer"),
    *_inert("the name of the folder, after its N_, is the caption of pictures that have none", "class_tokens"),
    *_inert("the metadata is always written", "no_metadata"),
    *_inert("the UI's own sampler makes the previews", "sample_sampler", "sample_at_first"),
    *_inert("LoRA files are always safetensors", "save_model_as"),
    *_inert("ignored by that GUI, too, for a LoRA", "stop_text_encoder_training", "stop_text_encoder_training_pct"),
    *_inert("a word of that GUI that its trainer does not know", "noise_offset_type", "epoch"),
    *_inert("the forward is always the bypass, where it is cheaper", "network_args.bypass_mode"),
    *_inert("which masks there are says it: alpha_mask or masks_dir", "masked_loss"),
    *_inert(
        "said in the file's metadata by the trainer", *(f"metadata_{name}" for name in ("title", "author", "tags"))
    ),
    *_inert(
        "the file's own notes for people",
        *(f"metadata_{name}" for name in ("description", "license", "thumbnail", "merged_from", "trigger_phrase")),
        *(f"metadata_{name}" for name in ("preprocessor", "is_negative_embedding", "usage_hint")),
    ),
    # -- what cannot be had
    *_unsupported(
        "files are saved by epochs: save_every_n_epochs",
        *("save_every_n_steps", "save_n_epoch_ratio", "sample_every_n_steps"),
    ),
    *_unsupported("no epoch file is ever deleted", "save_last_n_epochs", "save_last_n_steps"),
    *_unsupported("the pictures are described there; import that file, too", "dataset_config", "in_json"),
    *_unsupported("repeats are the N of folders named N_name", "num_repeats", "dataset_repeats"),
    *_unsupported("a second list of pictures needs a folder of its own beside the first", "subsets", "datasets"),
    *_unsupported("pictures are seen as they are cached", "color_aug", "random_crop", "face_crop_aug_range"),
    *_unsupported(
        "captions know no such thing here; edit them with Tag Dataset",
        *("custom_attributes", "dataset_class", "resize_interpolation"),
    ),
    *_unsupported(
        "there is no validation set",
        *("validation_split", "validation_seed", "validate_every_n_steps", "validate_every_n_epochs"),
        *("max_validation_steps",),
    ),
    *_unsupported(
        "training goes on from its own run only, never from another LoRA",
        *("network_weights", "dim_from_weights", "base_weights", "base_weights_multiplier"),
    ),
    *_unsupported(
        "no such variant of the adapter",
        *("network_args.use_scalar", "network_args.rank_dropout_scale", "network_args.unbalanced_factorization"),
        *("network_args.loraplus_lr_ratio", "network_args.loraplus_unet_lr_ratio"),
        *("network_args.loraplus_text_encoder_lr_ratio", "network_args.ggpo_sigma", "network_args.ggpo_beta"),
        *("network_args.train_lora_ggpo", "network_args.split_qkv", "network_args.train_t5xxl"),
        *("network_args.train_blocks", "network_args.train_llm_adapter"),
    ),
    *_unsupported(
        "no such wrapper around the optimizer",
        *("optimizer_schedulefree_wrapper", "schedulefree_wrapper_args", "fused_backward_pass", "blocks_to_swap"),
    ),
    *_unsupported("not one of our kinds of noise", "perlin_noise"),
    *_unsupported(
        "only files and TensorBoard are written",
        *("log_prefix", "log_tracker_name", "log_tracker_config", "wandb_run_name"),
    ),
    *_unsupported(
        "nothing is uploaded",
        *("huggingface_repo_id", "huggingface_repo_type", "huggingface_repo_visibility", "huggingface_path_in_repo"),
        *("resume_from_huggingface", "async_upload"),
    ),
    *_unsupported(
        "belongs to another family of models (SD3, Flux, Lumina, HunyuanImage, Anima)",
        *("weighting_scheme", "logit_mean", "logit_std", "mode_scale", "guidance_scale", "model_type", "ae", "clip_l"),
        *("clip_g", "t5xxl", "model_prediction_type", "network_args.enable_all_linear"),
    ),
]
_BY_ARGUMENT = {rule.argument: rule for rule in _RULES}
