"""What lycoris-lora makes of our files is what was trained: it knows each one's kind, and rebuilds the same ΔW.

Of each family a UNet and text encoders as diffusers and transformers build them, very thin; SDXL's keys are LDM's."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from lycoris.modules import get_module, make_module
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from trainer_core.config import NetworkConfig
from trainer_core.families import SD1, SD2, SDXL
from trainer_core.networks import Network, build_network

FAMILIES = {"sd1": SD1, "sd2": SD2, "sdxl": SDXL}
CASES: dict[str, dict[str, Any]] = {
    "lora": {"algo": "lora"},
    "locon": {"algo": "locon"},
    "locon, tucker": {"algo": "locon", "use_tucker": True},
    "loha": {"algo": "loha", "rank": 4},
    "loha, tucker": {"algo": "loha", "rank": 4, "use_tucker": True},
    "lokr": {"algo": "lokr", "rank": 2, "factor": 4},
    "lokr, full matrices": {"algo": "lokr", "factor": 4, "full_matrix": True},
    "lokr, both": {"algo": "lokr", "rank": 1, "factor": 4, "decompose_both": True},
    "ia3": {"algo": "ia3"},
    "ia3 on outputs alone": {"algo": "ia3", "train_on_input": False},
    "ia3 everywhere": {"algo": "ia3", "preset": "full"},
    "dylora": {"algo": "dylora"},
    "glora": {"algo": "glora"},
    "diag-oft": {"algo": "diag-oft"},
    "diag-oft, constraint": {"algo": "diag-oft", "constraint": 0.01},
    "boft": {"algo": "boft"},
    "boft, constraint": {"algo": "boft", "constraint": 0.01},
    "boft, rescaled": {"algo": "boft", "rescaled": True},
    "full": {"algo": "full"},
    "norm": {"algo": "norm", "train_text_encoder": False},
    "full and norms": {"algo": "full", "train_norm": True},
}


@cache
def components(family: str) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    levels = 3 if family == "sdxl" else 4
    kinds = ["CrossAttn{}Block2D"] * levels
    kinds[0 if family == "sdxl" else -1] = "{}Block2D"
    unet = UNet2DConditionModel(
        block_out_channels=(16, *(32,) * (levels - 1)),
        down_block_types=tuple(kind.format("Down") for kind in kinds),
        up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)),
        cross_attention_dim=24,
        attention_head_dim=8,
        norm_num_groups=8,
        use_linear_projection=family != "sd1",
    )
    encoders = {"te1": _text_encoder(16), **({"te2": _text_encoder(24)} if family == "sdxl" else {})}
    return {"unet": unet.requires_grad_(False), **encoders}


def _text_encoder(width: int) -> nn.Module:
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "vocab_size": 50}
    return CLIPTextModel(CLIPTextConfig(num_hidden_layers=2, num_attention_heads=2, **sizes)).requires_grad_(False)


def random_network(family: str, settings: dict[str, Any]) -> Network:
    config = NetworkConfig(**{"rank": 12, "alpha": 5.0, **settings})
    network = build_network(config, components(family), FAMILIES[family], seed=1)
    dice = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for adapter in network.adapters:
            for parameter in adapter.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    return network


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_lycoris_rebuilds_what_was_trained(family: str, case: str) -> None:
    network = random_network(family, CASES[case])
    file, deltas, biases = network.state_dict(), network.delta_weights(), network.delta_biases()
    assert {key.partition(".")[0] for key in file} == deltas.keys()
    for adapter in network.adapters:
        kind, parts = get_module(file, adapter.key)
        assert kind is not None, f"{adapter.key}: lycoris-lora knows no such tensors"
        make = ia3_module if kind is IA3Module else make_module
        module = make(kind, parts, adapter.key, adapter.layer.module)
        # get_diff_weight of these two multiplies by alpha / rank twice; their forward takes get_weight
        is_twice = kind in (LohaModule, LokrModule)
        delta, delta_bias = (module.get_weight(module.shape), None) if is_twice else module.get_diff_weight(1.0)
        _require_close(delta.view_as(deltas[adapter.key]), deltas[adapter.key], adapter.key)
        if adapter.key in biases:
            _require_close(delta_bias, biases[adapter.key], adapter.key)


def ia3_module(kind: type[IA3Module], parts: tuple[torch.Tensor, ...], key: str, layer: nn.Module) -> IA3Module:
    """lycoris-lora 4.1.3 cannot load its own (IA)³ files (make_module raises TypeError): by its training class."""
    weight, on_input = parts
    module = kind(key, layer, train_on_input=bool(on_input))
    with torch.no_grad():
        module.weight.copy_(weight)
    return module


def _require_close(theirs: torch.Tensor, ours: torch.Tensor, key: str) -> None:
    error = ((theirs - ours).norm() / ours.norm()).item()
    assert error < 1e-4, f"{key}: {error:.1e} of ΔW's size"
