"""What is trained: the adapter."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting

PRESETS = (
    "",
    "full",
    "full-lin",
    "attn-mlp",
    "attn-only",
    "unet-only",
    "unet-transformer-only",
    "unet-convblock-only",
    "ia3",
)


@dataclass(frozen=True)
class NetworkConfig:
    """What is trained: the adapter, its size and which parts of the model it is put on."""

    algo: str = setting("lora", help="The adapter; docs/adapters.md says what each changes, its size and who reads it.")
    rank: int = setting(16, help="Size of the adapter (kohya: network_dim).", ge=1, le=1024)
    alpha: float = setting(16.0, help="Strength is alpha / rank; equal to rank means 1.", ge=0)
    conv_rank: int | None = setting(None, help="LoCon: rank on convolutions; as `rank` when left out.", ge=1, le=1024)
    conv_alpha: float | None = setting(None, help="LoCon: alpha on convolutions; as `alpha` when left out.", ge=0)
    dropout: float = setting(0.0, help="Share of the adapter's inner values dropped in a step.", ge=0, le=0.95)
    train_unet: bool = setting(True, help="Put adapters on the UNet.")
    train_text_encoder: bool = setting(True, help="Put adapters on the text encoder(s).")
    preset: str = setting(
        "",
        help="Which layers are adapted, by LyCORIS's names; empty: the algorithm's usual ones.",
        choices=PRESETS,
        advanced=True,
    )
    include: str = setting(
        "",
        help="Only layers whose names match one of these, comma separated: wildcards (`*.attn2.to_k`), or after `re:` "
        "a regular expression found anywhere in the name.",
        advanced=True,
    )
    exclude: str = setting("", help="Never layers whose names match one of these; written as `include`.", advanced=True)
    rank_dropout: float = setting(
        0.0,
        help="Share of the ranks (of the rows, for loha, lokr and DoRA) dropped in a step.",
        ge=0,
        le=0.95,
        advanced=True,
    )
    module_dropout: float = setting(
        0.0, help="Share of the layers whose whole adapter is dropped in a step.", ge=0, le=0.95, advanced=True
    )
    scale_weight_norms: float = setting(
        0.0, help="Longest a layer's ΔW may grow (kohya's max norm, often 1); 0 leaves it.", ge=0, advanced=True
    )
    rs_lora: bool = setting(False, help="Strength is alpha / √rank (rank-stabilised).", advanced=True)
    use_tucker: bool = setting(
        False, help="Decompose the kernels of convolutions too (LyCORIS's Tucker/CP form).", advanced=True
    )
    dora_wd: bool = setting(
        False, help="DoRA: learn the weight's magnitude beside its direction (lora, locon, loha, lokr).", advanced=True
    )
    wd_on_output: bool = setting(
        False,
        help="DoRA: magnitudes of the outputs instead of the inputs, LyCORIS's own default; every UI loads it wrong.",
        advanced=True,
    )
    factor: int = setting(
        -1, help="LoKr: size of the smaller matrix; larger makes smaller files; -1 is the most.", ge=-1, advanced=True
    )
    full_matrix: bool = setting(False, help="LoKr: both matrices whole, whatever the rank.", advanced=True)
    decompose_both: bool = setting(False, help="LoKr: the smaller matrix in low rank too.", advanced=True)
    train_on_input: bool = setting(
        True,
        help="(IA)³: scale what enters a feed-forward's second layer, as LyCORIS's preset ia3, not what leaves it.",
        advanced=True,
    )
    block_size: int = setting(4, help="DyLoRA: ranks that are trained together (kohya: unit).", ge=1, advanced=True)
    constraint: float = setting(0.0, help="OFT, BOFT: how far it may rotate; 0 leaves it.", ge=0, advanced=True)
    rescaled: bool = setting(False, help="OFT, BOFT: learn the outputs' lengths too.", advanced=True)
    train_norm: bool = setting(False, help="Train the normalisation layers too.", advanced=True)
    block_dims: str = setting(
        "", help="A rank for each UNet block, 25 with commas (SDXL: 23); 0 leaves a block out.", advanced=True
    )
    block_alphas: str = setting("", help="An alpha for each UNet block; `alpha` when left out.", advanced=True)
    conv_block_dims: str = setting("", help="As block_dims, for convolutions.", advanced=True)
    conv_block_alphas: str = setting("", help="As block_alphas, for convolutions.", advanced=True)
    down_lr_weight: str = setting(
        "",
        help="Learning-rate factors of the 12 down blocks (SDXL: 9) with commas; or cosine, sine, linear, "
        "reverse_linear or zeros, `+0.25` added to each.",
        advanced=True,
    )
    mid_lr_weight: str = setting("", help="Learning-rate factor of the middle block (SDXL: 3).", advanced=True)
    up_lr_weight: str = setting("", help="As down_lr_weight, for the up blocks.", advanced=True)
    block_lr_zero_threshold: float = setting(
        0.0, help="Blocks whose learning-rate factor is not above this are left out.", ge=0, advanced=True
    )


def trains_text_encoder(network: NetworkConfig) -> bool:
    """Whether text encoders get adapters at all: switched on, and not left out by a preset of the UNet alone."""
    return network.train_text_encoder and not network.preset.startswith("unet-")
