"""Thin checkpoints with random weights, each with the config that A1111 finds beside it; imported inside A1111."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDTH = 64  # of text encoders
LAYERS = 3
_VAE = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
_TINY_SIGHT = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 14, "image_size": 28}
_CONFIGS = {
    "sd1": "configs/v1-inference.yaml",
    "sd1_inpaint": "configs/v1-inpainting-inference.yaml",
    "sd2": "repositories/stable-diffusion-stability-ai/configs/stable-diffusion/v2-inference.yaml",
    "sd2_velocity": "repositories/stable-diffusion-stability-ai/configs/stable-diffusion/v2-inference-v.yaml",
    "sdxl": "repositories/generative-models/configs/inference/sd_xl_base.yaml",
    "sdxl_velocity": "repositories/generative-models/configs/inference/sd_xl_base.yaml",
}


def write_hub_cache(hub: Path) -> None:
    """transformers' cache with the tokenizer and a thin config of CLIP ViT-L/14, which SD 1.x and SDXL ask for.

    The vocabulary is open_clip's copy of the same."""
    from open_clip.tokenizer import _tokenizer

    model = hub / "models--openai--clip-vit-large-patch14"
    snapshot = model / "snapshots" / "0"
    snapshot.mkdir(parents=True, exist_ok=True)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text("0")
    (hub / "version.txt").write_text("1")
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {marks.get(word, word): number for word, number in _tokenizer.encoder.items()}
    merges = [" ".join(pair) for pair, _ in sorted(_tokenizer.bpe_ranks.items(), key=lambda each: each[1])]
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "projection_dim": WIDTH}
    start, end = "<|startoftext|>", "<|endoftext|>"
    contents: dict[str, Any] = {
        "vocab.json": vocabulary,
        "special_tokens_map.json": {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end},
        "tokenizer_config.json": {"do_lower_case": True, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"},
        "config.json": {"model_type": "clip", "text_config": {**sizes, "intermediate_size": 2 * WIDTH}},
    }
    for name, content in contents.items():
        (snapshot / name).write_text(json.dumps(content), encoding="utf-8")
    (snapshot / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def write_checkpoint(kind: str, folder: Path) -> Path:
    """A checkpoint of one of the kinds, made of A1111's own classes: `folder/kind.safetensors`, and `.yaml` beside."""
    import torch
    from modules import sd_models
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    build = getattr(sd_models, "build_model", None)  # the stand-in's
    model = build(kind) if build else _built_from_config(kind, folder)
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(random_weight(name, weight, dice))
    path = folder / f"{kind}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, str(path))
    return path


def _built_from_config(kind: str, folder: Path) -> Any:
    from ldm.util import instantiate_from_config
    from modules import sd_disable_initialization
    from omegaconf import OmegaConf

    config = OmegaConf.load(_CONFIGS[kind])
    _thin(config.model.params, kind)
    OmegaConf.save(config, folder / f"{kind}.yaml")
    with sd_disable_initialization.DisableInitialization(disable_clip=True):
        return instantiate_from_config(config.model)


def random_weight(name: str, like: Any, dice: Any) -> Any:
    """Values that keep activations of order one, so that pictures react to prompt, seed and adapter."""
    import torch

    noise = torch.randn(like.shape, generator=dice)
    if "embedding" in name:
        return noise * 0.5
    if like.ndim < 2:
        return noise * 0.05 + float(name.endswith("weight"))
    return noise / like[0].numel() ** 0.5


def _thin(params: Any, kind: str) -> None:
    autoencoder: Mapping[str, Any] = params.first_stage_config.params.ddconfig
    _set(autoencoder, **_VAE)
    if not kind.startswith("sdxl"):
        _set(params.unet_config.params, model_channels=64, channel_mult=[1, 1, 2, 2], context_dim=WIDTH)
        if kind.startswith("sd2"):
            _set(params.unet_config.params, num_head_channels=16)
        return
    sizes = {"model_channels": 64, "num_head_channels": 16, "transformer_depth": [0, 1, 2]}
    _set(params.network_config.params, context_dim=2 * WIDTH, adm_in_channels=WIDTH + 6 * 256, **sizes)
    _set(params.conditioner_config.params.emb_models[0].params, layer_idx=LAYERS - 1)
    if kind.endswith("velocity"):
        scaling = params.denoiser_config.params.scaling_config
        _set(scaling, target="sgm.modules.diffusionmodules.denoiser_scaling.VScaling")


def _set(config: Any, **values: Any) -> None:
    for name, value in values.items():
        config[name] = value


def thin_open_clip() -> None:
    """OpenCLIP's two text encoders of SD 2.x and SDXL with few and narrow layers."""
    from open_clip import factory

    text = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 4, "layers": LAYERS}
    for name in ("ViT-H-14", "ViT-bigG-14"):
        factory._MODEL_CONFIGS[name] = {"embed_dim": WIDTH, "vision_cfg": _TINY_SIGHT, "text_cfg": text}
