"""A complete Stable Diffusion pipeline with random weights that fits into a test, and drawn pictures to train it on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainer_core.config import TrainConfig
from trainer_core.hosts.diffusers import DiffusersHost
from trainer_core.settings import from_json


def tiny_tokenizer(folder: Path):
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def tiny_pipeline(folder: Path, *, prediction_type: str = "epsilon", xl: bool = False):
    """Random weights in the layout of SD 1.x, or of SDXL with its two text encoders."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(folder)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": 16,
    }
    unet = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "cross_attention_dim": 64 if xl else 32,
    }
    if xl:
        unet |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
            "use_linear_projection": True,
        }
    parts = {
        "unet": diffusers.UNet2DConditionModel(**unet),
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            latent_channels=4,
        ),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
        "tokenizer": tokenizer,
        "scheduler": diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            steps_offset=1,
            clip_sample=False,
        ),
    }
    if xl:
        second = CLIPTextModelWithProjection(CLIPTextConfig(**text))
        return diffusers.StableDiffusionXLPipeline(
            **parts, text_encoder_2=second, tokenizer_2=tokenizer, add_watermarker=False
        )
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


@pytest.fixture
def make_pipeline(tmp_path):
    """`tiny_pipeline` in a temporary folder."""
    return lambda **options: tiny_pipeline(tmp_path / "tokenizer", **options)


@pytest.fixture
def tiny_host(tmp_path) -> DiffusersHost:
    return DiffusersHost(tiny_pipeline(tmp_path / "tokenizer"), model_name="tiny")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Five pictures of two shapes with captions, two repeats each."""
    folder = tmp_path / "dataset" / "2_thing"
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    for number, size in enumerate([(64, 64), (64, 64), (64, 64), (96, 48), (96, 48)]):
        pixels = dice.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a thing, tag{number}, more")
    return folder.parent


@pytest.fixture
def make_config(tmp_path, pictures):
    """A small run's settings; keyword arguments are merged in, sections as dictionaries."""

    def make(**changes) -> TrainConfig:
        values = {
            "output_name": "thing",
            "output_dir": str(tmp_path / "output"),
            "max_train_epochs": 2,
            "save_precision": "fp32",
            "dataset": {"folder": str(pictures), "resolution": 64, "bucket_reso_steps": 8, "batch_size": 2},
            "network": {"rank": 4, "alpha": 2},
            "optimizer": {"optimizer": "AdamW", "learning_rate": 1e-3},
        }
        for key, value in changes.items():
            values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
        return from_json(TrainConfig, values)

    return make
