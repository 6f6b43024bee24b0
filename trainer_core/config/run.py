"""A whole run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..settings import section, setting
from .dataset import DatasetConfig
from .loss import LossConfig
from .network import NetworkConfig
from .optimizer import OptimizerConfig
from .sample import SampleConfig

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ON_SPIKE = ("warn", "stop", "cut")


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run."""

    output_name: str = setting(help="Name of the LoRA; epochs are saved as name-000001.safetensors and so on.")
    output_dir: str = setting(help="Folder in which the run's folder is made.")
    dataset: DatasetConfig = setting(help="The pictures and captions.")
    network: NetworkConfig = section(NetworkConfig)
    optimizer: OptimizerConfig = section(OptimizerConfig)
    loss: LossConfig = section(LossConfig)
    sample: SampleConfig = section(SampleConfig)
    max_train_epochs: int = setting(10, help="Epochs: times that every picture is seen, repeats included.", ge=1)
    save_every_n_epochs: int = setting(1, help="Epochs between saved LoRA files; the last is always saved.", ge=1)
    gradient_accumulation_steps: int = setting(1, help="Batches per optimizer step.", ge=1, advanced=True)
    gradient_checkpointing: bool = setting(False, help="Less memory for about a third more time.")
    mixed_precision: str = setting(
        "auto", help="Number format of the forward pass; auto takes what the device does best.", choices=PRECISIONS
    )
    max_token_length: int = setting(
        75, help="Tokens of a caption that are read: 75, 150 or 225.", ge=75, le=225, unit="tokens", advanced=True
    )
    clip_skip: int | None = setting(
        None,
        help="Text encoder layer counted from the end, as the UIs count; left out, it is the one that the loaded model "
        "is used with (ComfyUI: CLIP Set Last Layer), else the last. SDXL ignores it.",
        ge=1,
        le=12,
        advanced=True,
    )
    save_precision: str = setting("fp16", help="Number format of the saved files.", choices=("fp16", "bf16", "fp32"))
    seed: int = setting(31337, help="Same seed, same run.", ge=0, le=2**63 - 1)
    training_comment: str = setting("", help="A note that is kept in the files' metadata.", advanced=True)
    ema_decay: float = setting(
        0.0,
        help="Save and preview a running average of the weights: 0.99 to 0.9999, the longer the run the higher; "
        "0 is off.",
        ge=0,
        le=0.99999,
        advanced=True,
    )
    on_spike: str = setting(
        "warn",
        help="When d·lr leaps up after it had settled: say so; stop with the epoch before; or cut, which goes on from "
        "that epoch with the schedule re-planned to end at the spike.",
        choices=ON_SPIKE,
        advanced=True,
    )
    spike_ratio: float = setting(
        2.0, help="How many times as high d·lr becomes in a leap that counts as a spike.", ge=1.1, le=100, advanced=True
    )
    log_with: str = setting(
        "none",
        help="tensorboard writes its files, too, under kohya's tags.",
        choices=("none", "tensorboard"),
        advanced=True,
    )
    logging_dir: str = setting(
        "", help="TensorBoard's folder, one for each run inside; empty is the run's own folder.", advanced=True
    )
    max_train_steps: int = setting(
        0,
        help="Optimizer steps after which the run ends, amid an epoch if need be, whatever max_train_epochs says; "
        "0 is off.",
        ge=0,
        advanced=True,
    )


def text_chunks(max_token_length: int) -> int:
    """Chunks of 75 tokens that the text encoder reads for a caption."""
    return math.ceil(max_token_length / 75)
