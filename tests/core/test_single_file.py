"""A single-file checkpoint on diffusers, offline: its configs stand in a folder of the same name beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.hosts.checkpoints import SD1_UNET, _clip, _prefixed, _unet, _vae, _write
from trainer_core.config import NetworkConfig
from trainer_core.errors import HostError
from trainer_core.hosts.diffusers import load_host
from trainer_core.networks.network import build_network

WIDTH = 32


def write_checkpoint(path: Path) -> Path:
    """SD 1.5's blocks, thin, under the names that single files use."""
    unet = dataclasses.replace(SD1_UNET, channels=WIDTH, context=WIDTH)
    shapes = [
        *_prefixed("model.diffusion_model.", _unet(unet)),
        *_prefixed("first_stage_model.", _vae()),
        *_prefixed("cond_stage_model.transformer.text_model.", _clip(WIDTH, 2 * WIDTH, 12)),
    ]
    return _write(path, shapes, seed=0)


def write_configs(folder: Path, pipeline) -> None:
    """What stands in a diffusers folder besides the weights."""
    import diffusers
    from transformers import CLIPTextConfig

    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(WIDTH,) * 4, cross_attention_dim=WIDTH, attention_head_dim=8
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    unet.save_config(folder / "unet")
    vae.save_config(folder / "vae")
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=12, num_attention_heads=4
    )
    text.save_pretrained(folder / "text_encoder")
    pipeline.tokenizer.save_pretrained(folder / "tokenizer")
    pipeline.scheduler.save_config(folder / "scheduler")
    parts = {
        "scheduler": ["diffusers", type(pipeline.scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
    }
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0", **parts}
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_single_file_with_its_configs_beside_it_can_be_trained(tmp_path, make_pipeline):
    checkpoint = write_checkpoint(tmp_path / "model.safetensors")
    write_configs(tmp_path / "model", make_pipeline())
    host = load_host(checkpoint, "cpu")
    assert (host.family.name, host.process.prediction, host.model_name) == ("sd1", "epsilon", "model.safetensors")
    network = build_network(NetworkConfig(rank=1), host.components(), host.family, seed=1)
    assert len(network.adapters) == 192 + 72  # kohya's count for SD 1.5


def test_a_single_file_without_configs_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HostError, match="diffusers folder"):
        load_host(write_checkpoint(tmp_path / "model.safetensors"), "cpu")
