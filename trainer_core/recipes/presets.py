"""The guides' own settings, each with its source and date, and one for people who choose nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..registry import Registry


@dataclass(frozen=True)
class Preset:
    """Settings that somebody found to work.

    source, date: who says so, and when; guides age. when: whom it is for, in a sentence. values: nested and partial,
    for `settings.from_json`. notes: what the guide says beside the numbers, and where they were adapted."""

    name: str
    title: str
    source: str
    date: str
    when: str
    values: dict[str, Any]
    notes: tuple[str, ...] = ()


PRESETS: Registry[Preset] = Registry("preset")

_COSINE_ANNEALING = {"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": "T_max=total"}
_PRODIGY_GUIDE = "“Prodigy Guide for iA3/LoKr”, rentry.co/ProdiAgy"
_PRODIGY_LOSS = {"min_snr_gamma": 3.0, "multires_noise_iterations": 6, "multires_noise_discount": 0.1}
_PRODIGY_RUN = {
    "max_train_epochs": 200,
    "save_every_n_epochs": 10,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": True,
    "seed": 31337,
    "training_comment": "rentry.co/ProdiAgy",
}
_PRODIGY_PICTURES = {
    "batch_size": 1,
    "shuffle_caption": True,
    "keep_tokens": 1,
    "caption_dropout_rate": 0.0,
    "min_bucket_reso": 256,
    "max_bucket_reso": 1024,
}
_T_MAX = (
    "The guide's `T_max=200` counts optimizer steps, after which the rate climbs again; here it is `T_max=total`, "
    "half a wave over the whole run."
)
_DROPPED_BY_THE_GUI = (
    "Its `noise_offset` 0.05 and `adaptive_noise_scale` 0.005 are left out: the GUI drops both while the kind of noise "
    "is Multires."
)
_KEEP_TRYING = (
    "Save every tenth epoch and watch d·lr: where it spikes, cut the run there (`on_spike`), or raise `d_coef` until "
    "it does not. Raise `d_coef` from about 30 pictures on; counter with `weight_decay`."
)

_ALL = (
    Preset(
        name="default",
        title="Prodigy, for people who choose nothing",
        source="LazyLoRA",
        date="2026",
        when="You have some pictures and no wish to read guides. What you get without a preset, too.",
        values={
            "network": {"algo": "lora", "rank": 16, "alpha": 16.0},
            "optimizer": {"optimizer": "Prodigy", "learning_rate": 1.0, "lr_scheduler": "cosine"},
            "max_train_epochs": 10,
            "save_every_n_epochs": 1,
        },
        notes=("Try every epoch: the last is rarely the best. More epochs if all of them look too weak.",),
    ),
    Preset(
        name="dadapt-lazy",
        title="DAdapt lazy",
        source="“Lazy DAdaptation Guide”",
        date="after 25 May 2023",
        when="Any subject, with D-Adaptation (V3) and weight decay as the one knob.",
        values={
            "network": {"algo": "lora", "rank": 32, "alpha": 16.0},
            "optimizer": {
                "optimizer": "DAdaptAdam",
                "optimizer_args": "decouple=True weight_decay=0.4 betas=0.9,0.99",
                "learning_rate": 1.0,
                "unet_lr": 1.0,
                "text_encoder_lr": 1.0,
                "lr_scheduler": "cosine",
                "lr_warmup_steps": "10%",
            },
            "dataset": {"resolution": 512, "batch_size": 6},
            "clip_skip": 2,
            "save_every_n_epochs": 1,
        },
        notes=(
            "Batch size as large as fits: 6 is its figure for a 3060 (12 GB). Repeats 1; steer by epochs.",
            "Weight decay 0.2 to 1: add 0.1 while it overfits before it has learned. Rates 0.5 to 1.",
            "Alpha equal to rank where that is 8 or lower. 600 to 1200 steps at batch 6 for a character; 36 pictures "
            "of 3 characters began to burn after about 2400.",
            'Its warm-up of "0.1" does not say of what; here it is 10% of the run.',
            "clip_skip 2 is for models of NAI's family.",
        ),
    ),
    Preset(
        name="dadapt-tldr",
        title="DAdapt TLDR",
        source="“DAdaptation: The best LORA optimizer for lazy people”",
        date="11 April 2023",
        when="D-Adaptation with a constant rate, so that the share between UNet and text encoder stays as it is.",
        values={
            "network": {"algo": "lora", "rank": 32, "alpha": 32.0},
            "optimizer": {
                "optimizer": "DAdaptAdamPreprint",
                "optimizer_args": "decouple=True weight_decay=0.02",
                "learning_rate": 1.0,
                "unet_lr": 1.0,
                "text_encoder_lr": 0.5,
                "lr_scheduler": "constant_with_warmup",
                "lr_warmup_steps": "10%",
            },
        },
        notes=(
            "The guide names no rank, only alpha equal to it. Warm-up 5 to 10%, weight decay 0.02 to 0.04.",
            "DAdaptAdamPreprint is what kohya's `DAdaptation` was when it was written.",
            "Its trainer took the text encoder's 0.5 for everything (`lr_groups` `legacy_single` does so again); here "
            "the text encoder really learns at half speed. That `decouple` separates the two rates is a mistake: it is "
            "AdamW's kind of weight decay.",
        ),
    ),
    Preset(
        name="dadapt-notes",
        title="DAdapt notes",
        source="“D-Adaptation Experiment Notes”",
        date="spring 2023, undated",
        when="D-Adaptation at half speed and a small rank: the careful one, and the one for 640 and 768 pixels.",
        values={
            "network": {"algo": "lora", "rank": 8, "alpha": 8.0},
            "optimizer": {
                "optimizer": "DAdaptAdamPreprint",
                "optimizer_args": "decouple=True weight_decay=0.6",
                "learning_rate": 0.5,
                "unet_lr": 0.5,
                "text_encoder_lr": 0.25,
                "lr_scheduler": "cosine_with_restarts",
                "lr_scheduler_num_cycles": 9,
            },
            "dataset": {"resolution": 512},
        },
        notes=(
            "0.5 and 0.25 are its universal rates; 1 and 0.5 worked at 512 only. Ranks 1 to 8.",
            "700 steps at 512, 900 at 640, 750 at 768; 350 are too few, more than 1000 gained nothing.",
            "Noise offset above 0.2 spoils D-Adaptation. Velocity models want lower rates.",
            "9 restarts mended what 16, or a constant rate, had destroyed.",
        ),
    ),
    Preset(
        name="adamw-lazy",
        title="AdamW lazy",
        source="“Lazy Training Guide”, rentry.org/lazytrainingguide",
        date="early 2023, undated",
        when="A character to 90%, with clothes and poses free; rates that have been used for years.",
        values={
            "network": {"algo": "lora", "rank": 128, "alpha": 128.0},
            "optimizer": {
                "optimizer": "AdamW",
                "learning_rate": 16e-5,
                "unet_lr": 16e-5,
                "text_encoder_lr": 3e-5,
                "lr_scheduler": "cosine_with_restarts",
                "lr_scheduler_num_cycles": 3,
                "lr_warmup_steps": "10%",
            },
            "dataset": {"resolution": 512, "batch_size": 2, "keep_tokens": 1, "shuffle_caption": False},
            "max_train_epochs": 6,
            "save_every_n_epochs": 1,
        },
        notes=(
            "The guide trains with AdamW8bit, which saves memory and needs the package bitsandbytes; choose it by "
            "name.",
            "About 130 pictures × 5 repeats (folder `5_name`), 900 steps an epoch at batch 2 by its count; the second "
            "epoch is usually the best.",
            "An exact likeness: 1e-4 and more epochs. Looser: UNet 3.5e-4 and fewer repeats. Its rates for “detail” "
            "(UNet 1.5e-5 to 6e-5, text encoder 6e-5 to 8e-5) look transposed.",
        ),
    ),
    Preset(
        name="prodigy-ia3",
        title="Prodigy (IA)³",
        source=_PRODIGY_GUIDE,
        date="July 2023",
        when="A file of 200 KB; the guide's choice for everything.",
        values={
            "network": {"algo": "ia3", "train_on_input": True, "dropout": 0.3, "scale_weight_norms": 1.0},
            "optimizer": {
                "optimizer": "Prodigy",
                "learning_rate": 1.0,
                "unet_lr": 1.0,
                "text_encoder_lr": 1.0,
                **_COSINE_ANNEALING,
            },
            "loss": _PRODIGY_LOSS,
            "dataset": _PRODIGY_PICTURES,
            **_PRODIGY_RUN,
        },
        notes=(
            "May work better without captions (`captions` `none`).",
            "Dropout and scale_weight_norms stand in the guide and do nothing for (IA)³.",
            _T_MAX,
            _DROPPED_BY_THE_GUI,
            _KEEP_TRYING,
        ),
    ),
    Preset(
        name="prodigy-lokr",
        title="Prodigy LoKr",
        source=_PRODIGY_GUIDE,
        date="July 2023",
        when="Characters at 1 to 3 MB, fast, and close to what LoHa gives.",
        values={
            "network": {
                "algo": "lokr",
                "rank": 1024,
                "alpha": 1024.0,
                "conv_rank": 512,
                "conv_alpha": 512.0,
                "preset": "full",
                "dropout": 0.3,
                "scale_weight_norms": 1.0,
            },
            "optimizer": {
                "optimizer": "Prodigy",
                "optimizer_args": "d_coef=1.0 weight_decay=0.050 safeguard_warmup=False use_bias_correction=False",
                "learning_rate": 1.0,
                "unet_lr": 1.0,
                "text_encoder_lr": 1.0,
                **_COSINE_ANNEALING,
            },
            "loss": _PRODIGY_LOSS,
            "dataset": _PRODIGY_PICTURES,
            **_PRODIGY_RUN,
        },
        notes=(
            "Ranks of 1024 and 512 are more than half of LoKr's factors: both matrices are whole.",
            _T_MAX,
            _DROPPED_BY_THE_GUI,
            _KEEP_TRYING,
        ),
    ),
)
for _preset in _ALL:
    PRESETS.register(_preset.name)(_preset)
