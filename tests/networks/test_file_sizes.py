"""How large a file will be is known before training, on weightless models, and is what the guides promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save
from transformers import CLIPTextConfig, CLIPTextModel

from trainer_core.config import NetworkConfig
from trainer_core.families import SD1
from trainer_core.networks import build_network


@pytest.fixture(scope="module")
def sd15() -> dict[str, torch.nn.Module]:
    with torch.device("meta"):
        text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        return {"unet": UNet2DConditionModel(cross_attention_dim=768), "te1": CLIPTextModel(text)}


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        ({"algo": "lokr", "rank": 4}, 1.0, 3.0),  # the guides: 1 to 3 MB
        ({"algo": "lokr", "rank": 4, "factor": 8}, 1.0, 3.5),
        ({"algo": "loha", "rank": 8}, 20, 40),
        ({"algo": "lora", "rank": 8}, 8, 10.5),
        ({"algo": "lora", "rank": 8, "dora_wd": True}, 9, 12),
        ({"algo": "locon", "rank": 8, "conv_rank": 4}, 12, 20),
    ],
    ids=str,
)
def test_a_file_for_sd15_is_as_large_as_promised(settings: dict[str, Any], low: float, high: float, sd15) -> None:
    network = build_network(NetworkConfig(**settings), sd15, SD1, seed=1, device="meta")
    assert low < network.file_size(torch.float16) / 1e6 < high


@pytest.mark.parametrize(
    "settings",
    [
        {"algo": "lokr", "factor": 8},
        {"algo": "loha", "use_tucker": True},
        {"algo": "lora", "dora_wd": True},
        {"algo": "dylora", "block_size": 2},
    ],
    ids=str,
)
def test_the_size_is_that_of_the_file(settings: dict[str, Any], sd15) -> None:
    network = build_network(NetworkConfig(rank=2, **settings), sd15, SD1, seed=1)
    assert network.file_size(torch.float16) == pytest.approx(len(save(network.state_dict(torch.float16))), rel=0.05)
