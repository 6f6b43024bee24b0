"""Every setting of a training run, as frozen dataclasses: kohya's names where people know them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .settings import section, setting

PREDICTION_TYPES = ("auto", "epsilon", "v_prediction")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TAG_OPERATIONS = ("prepend", "append", "remove", "replace")


@dataclass(frozen=True)
class TagEdit:
    """One edit of the captions as training sees them; the caption files stay as they are."""

    operation: str = setting(help="What to do with the tags.", choices=TAG_OPERATIONS)
    tags: str = setting(help="The tags, separated by commas.")
    replacement: str = setting("", help="For replace: what stands in the place of each of the tags.")


@dataclass(frozen=True)
class DatasetConfig:
    """Which pictures are trained on, at which sizes and with which captions."""

    folder: str = setting(help="Folder of pictures, or of kohya's N_name folders (N repeats each).")
    resolution: int = setting(
        512, help="Training area: pictures are brought to about resolution × resolution.", ge=64, le=4096, unit="px"
    )
    batch_size: int = setting(1, help="Pictures per training step; more is smoother and needs more memory.", ge=1)
    enable_bucket: bool = setting(True, help="Keep each picture's aspect ratio, in buckets of like-shaped pictures.")
    min_bucket_reso: int = setting(256, help="Shortest side of a bucket.", ge=64, unit="px", advanced=True)
    max_bucket_reso: int = setting(1024, help="Longest side of a bucket.", ge=64, unit="px", advanced=True)
    bucket_reso_steps: int = setting(64, help="Bucket sides are multiples of this.", ge=8, unit="px", advanced=True)
    bucket_no_upscale: bool = setting(False, help="Never enlarge a picture to fill its bucket.", advanced=True)
    trigger_word: str = setting("", help="Put before every caption; the word that calls the LoRA's subject.")
    tag_edits: tuple[TagEdit, ...] = setting((), help="Edits of the captions as training sees them.", advanced=True)
    shuffle_caption: bool = setting(False, help="Shuffle the comma-separated tags anew each epoch.")
    keep_tokens: int = setting(0, help="Tags at the front that shuffling leaves in place.", ge=0)
    caption_dropout_rate: float = setting(
        0.0, help="Share of steps that see an empty caption instead.", ge=0, le=1, advanced=True
    )
    bad_pictures: str = setting(
        "skip", help="What to do with a file that cannot be read as a picture.", choices=("skip", "stop"), advanced=True
    )


@dataclass(frozen=True)
class NetworkConfig:
    """What is trained: the adapter, its size and which parts of the model it is put on."""

    algo: str = setting("lora", help="The adapter: lora (attention and feed-forward) or locon (convolutions too).")
    rank: int = setting(16, help="Size of the adapter (kohya: network_dim).", ge=1, le=1024)
    alpha: float = setting(16.0, help="Strength is alpha / rank; equal to rank means 1.", ge=0)
    conv_rank: int | None = setting(None, help="LoCon: rank on convolutions; as `rank` when left out.", ge=1, le=1024)
    conv_alpha: float | None = setting(None, help="LoCon: alpha on convolutions; as `alpha` when left out.", ge=0)
    dropout: float = setting(0.0, help="Share of the adapter's inner values dropped in a step.", ge=0, le=0.95)
    train_unet: bool = setting(True, help="Put adapters on the UNet.")
    train_text_encoder: bool = setting(True, help="Put adapters on the text encoder(s).")


@dataclass(frozen=True)
class OptimizerConfig:
    """How the adapter is moved: optimizer, learning rates and their schedule."""

    optimizer: str = setting(
        "Prodigy", help="Prodigy and DAdaptAdam find the learning rate themselves (leave it at 1); AdamW wants one."
    )
    learning_rate: float = setting(1.0, help="A factor for Prodigy and DAdaptAdam, a rate for AdamW (1e-4).", ge=0)
    unet_lr: float | None = setting(None, help="The UNet's own learning rate; 0 freezes it.", ge=0, advanced=True)
    text_encoder_lr: float | None = setting(
        None, help="The text encoder's own learning rate; 0 freezes it.", ge=0, advanced=True
    )
    optimizer_args: str = setting(
        "", help="Further options as key=value, e.g. `weight_decay=0.01 betas=0.9,0.99 safeguard_warmup=True`."
    )
    lr_scheduler: str = setting("cosine", help="How the learning rate changes over the run.")
    lr_warmup_steps: str = setting("0", help="Warm-up: steps (100), a share (0.1) or a percentage (10%).")
    lr_scheduler_num_cycles: int = setting(1, help="cosine_with_restarts: number of cycles.", ge=1, advanced=True)
    lr_scheduler_power: float = setting(1.0, help="polynomial: its power.", ge=0, advanced=True)
    max_grad_norm: float = setting(1.0, help="Longer gradients are cut to this length; 0 leaves them.", ge=0)


@dataclass(frozen=True)
class LossConfig:
    """What the network learns to predict and how each timestep is weighed."""

    prediction_type: str = setting(
        "auto",
        help="What the model predicts; auto takes what the host knows of the checkpoint.",
        choices=PREDICTION_TYPES,
    )
    zero_terminal_snr: bool = setting(
        False, help="Rescale the noise schedule so that the last step is pure noise (velocity models).", advanced=True
    )
    min_snr_gamma: float = setting(0.0, help="Min-SNR weighting: 5 is usual, 0 is off.", ge=0)
    min_timestep: int = setting(0, help="Lowest timestep that is trained.", ge=0, le=999, advanced=True)
    max_timestep: int = setting(1000, help="Timesteps from this one on are not trained.", ge=1, le=1000, advanced=True)


@dataclass(frozen=True)
class SampleConfig:
    """Preview pictures, made by the host's own sampler while training."""

    prompts: tuple[str, ...] = setting((), help="One preview picture each; none means no previews.")
    negative_prompt: str = setting("", help="Negative prompt of the previews.")
    every_n_epochs: int = setting(1, help="Epochs between previews.", ge=1)
    steps: int = setting(20, help="Sampling steps of a preview.", ge=1, le=150)
    cfg: float = setting(7.0, help="Classifier-free guidance of a preview.", ge=1, le=30)
    width: int | None = setting(None, help="Preview width; the training resolution when left out.", ge=64, unit="px")
    height: int | None = setting(None, help="Preview height; the training resolution when left out.", ge=64, unit="px")
    seed: int = setting(42, help="Seed of the previews, the same every epoch so that they compare.", ge=0)


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
    clip_skip: int = setting(
        1,
        help="Text encoder layer counted from the end, as the UIs count; SDXL ignores it.",
        ge=1,
        le=12,
        advanced=True,
    )
    save_precision: str = setting("fp16", help="Number format of the saved files.", choices=("fp16", "bf16", "fp32"))
    seed: int = setting(31337, help="Same seed, same run.", ge=0, le=2**63 - 1)
    training_comment: str = setting("", help="A note that is kept in the files' metadata.", advanced=True)


def group_learning_rate(optimizer: OptimizerConfig, component: str) -> float:
    """The base learning rate of a component (`unet`, `te1`, `te2`): its own where one is set, else the common one."""
    own = optimizer.unet_lr if component == "unet" else optimizer.text_encoder_lr
    return optimizer.learning_rate if own is None else own


def text_chunks(max_token_length: int) -> int:
    """Chunks of 75 tokens that the text encoder reads for a caption."""
    return math.ceil(max_token_length / 75)
