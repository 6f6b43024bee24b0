"""Presets adapt the layers that LyCORIS's of the same name adapt; patterns narrow them down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding
from lycoris.kohya import LycorisNetworkKohya, create_network
from transformers import CLIPTextConfig, CLIPTextModel

from trainer_core.config import NetworkConfig, trains_text_encoder
from trainer_core.errors import ConfigError
from trainer_core.families import SD1
from trainer_core.networks import build_network


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    """SD 1.5's structure, thin."""
    return UNet2DConditionModel(
        block_out_channels=(32, 32, 32, 32), cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8
    ).requires_grad_(False)


@pytest.fixture(scope="module")
def text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=64
    )
    return CLIPTextModel(config).requires_grad_(False)


@pytest.fixture
def plain_lycoris(monkeypatch) -> Iterator[None]:
    """LyCORIS without what its presets leave behind in its class, and diffusers' classes by names that it takes right:
    attention by kohya's, and the time embedding, which 4.1.3 mistakes for Anima's, by another."""
    for part in ("UNET_TARGET_REPLACE", "TEXT_ENCODER_TARGET_REPLACE"):
        monkeypatch.setattr(LycorisNetworkKohya, f"{part}_MODULE", [])
        monkeypatch.setattr(LycorisNetworkKohya, f"{part}_NAME", [])
    monkeypatch.setattr(LycorisNetworkKohya, "ENABLE_CONV", True)
    Attention.__name__, TimestepEmbedding.__name__ = "CrossAttention", "TimeEmbedding"
    yield
    Attention.__name__, TimestepEmbedding.__name__ = "Attention", "TimestepEmbedding"


def adapted(unet, text_encoder, **settings) -> set[str]:
    config = NetworkConfig(rank=1, **settings)
    components = {"unet": unet, "te1": text_encoder} if trains_text_encoder(config) else {"unet": unet}
    return {adapter.key for adapter in build_network(config, components, SD1, seed=1).adapters}


@pytest.mark.parametrize(
    "preset",
    ["full", "full-lin", "attn-mlp", "attn-only", "unet-only", "unet-transformer-only", "unet-convblock-only"],
)
def test_a_preset_adapts_what_lycoris_adapts(preset: str, unet, text_encoder, plain_lycoris) -> None:
    theirs = create_network(1.0, 1, 1, None, text_encoder, unet, preset=preset, algo="lora", warn_on_unmatched=False)
    names = {each.lora_name for each in (*theirs.unet_loras, *theirs.text_encoder_loras)}
    expected = {name.replace("lora_te_encoder", "lora_te_text_model_encoder") for name in names}
    assert adapted(unet, text_encoder, preset=preset) == expected


def test_the_ia3_preset_is_keys_values_and_what_leaves_the_feed_forward(unet, text_encoder) -> None:
    found = adapted(unet, text_encoder, preset="ia3")
    assert {key.rpartition("_transformer_blocks_0_")[2] for key in found if key.startswith("lora_unet")} == {
        *("attn1_to_k", "attn1_to_v", "attn2_to_k", "attn2_to_v", "ff_net_2")
    }
    assert {key.rpartition("layers_0_")[2] for key in found if "lora_te_text_model_encoder_layers_0_" in key} == {
        *("self_attn_k_proj", "self_attn_v_proj", "mlp_fc2")
    }


def test_patterns_narrow_a_preset_down(unet, text_encoder) -> None:
    only = adapted(unet, text_encoder, include="*.attn2.to_k, *.attn2.to_v")
    assert only and all(key.endswith(("attn2_to_k", "attn2_to_v")) for key in only)
    no_text = adapted(unet, text_encoder, exclude="text_model.*")
    assert no_text and all(key.startswith("lora_unet_") for key in no_text)
    early = adapted(unet, text_encoder, include=r"re:^down_blocks\.[01]\.", exclude="*.ff.*")
    assert early and all(key.startswith(("lora_unet_down_blocks_0", "lora_unet_down_blocks_1")) for key in early)
    assert not any("_ff_" in key for key in early)


def test_patterns_that_leave_nothing_or_are_malformed_are_refused(unet, text_encoder) -> None:
    with pytest.raises(ConfigError, match="nothing to train: no layer is left"):
        adapted(unet, text_encoder, include="to_q")
    with pytest.raises(ConfigError, match=r'the pattern "re:\(" is no regular expression'):
        adapted(unet, text_encoder, include="re:(")
    with pytest.raises(ConfigError, match='unknown preset "atn-mlp"; did you mean "attn-mlp"'):
        adapted(unet, text_encoder, preset="atn-mlp")


def test_a_unet_only_preset_leaves_the_text_encoder_out() -> None:
    assert not trains_text_encoder(NetworkConfig(preset="unet-transformer-only"))
    assert trains_text_encoder(NetworkConfig(preset="full"))
    assert not trains_text_encoder(NetworkConfig(train_text_encoder=False))


def test_layers_outside_of_a_preset_need_not_be_adaptable(unet, text_encoder) -> None:
    down = unet.down_blocks[0].resnets[0]
    plain, down.conv1 = down.conv1, torch.nn.Conv2d(32, 32, 3, padding=1, groups=2)
    try:
        assert adapted(unet, text_encoder, preset="attn-mlp")
    finally:
        down.conv1 = plain
