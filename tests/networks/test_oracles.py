"""Other people's implementations agree: LyCORIS rebuilds our ΔW from our tensors, PEFT computes our outputs."""

from __future__ import annotations

import peft
import pytest
import torch
from lycoris.modules.locon import LoConModule
from torch import nn

from trainer_core.config import NetworkConfig
from trainer_core.networks import ALGORITHMS
from trainer_core.networks.base import Layer

KINDS = {
    "linear": (lambda: nn.Linear(20, 12), (3, 20)),
    "1x1 conv": (lambda: nn.Conv2d(20, 12, 1), (2, 20, 5, 5)),
    "3x3 conv": (lambda: nn.Conv2d(20, 12, 3, stride=2, padding=1), (2, 20, 7, 7)),
}


def adapted(kind: str):
    torch.manual_seed(3)
    make, shape = KINDS[kind]
    module = make()
    algorithm = ALGORITHMS.get("locon")(NetworkConfig(algo="locon", rank=4, alpha=3))
    layer = Layer(module, *algorithm.size(module))
    weights = {name: torch.randn(each.shape) for name, each in algorithm.init(layer, torch.Generator()).items()}
    return algorithm, layer, weights, torch.randn(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_lycoris_rebuilds_the_same_delta(kind: str) -> None:
    algorithm, layer, weights, x = adapted(kind)
    theirs = LoConModule("x", layer.module, lora_dim=layer.rank, alpha=layer.alpha, bypass_mode=True)
    theirs.lora_down.weight.data, theirs.lora_up.weight.data = weights["lora_down.weight"], weights["lora_up.weight"]
    with torch.no_grad():
        delta = theirs.get_diff_weight(shape=layer.module.weight.shape)[0]
        torch.testing.assert_close(algorithm.delta(layer, weights), delta.view_as(layer.module.weight))
        ours = algorithm.forward(layer, weights, x, layer.module(x), seed=None)
        torch.testing.assert_close(ours, theirs.bypass_forward(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_peft_computes_the_same_output(kind: str) -> None:
    algorithm, layer, weights, x = adapted(kind)
    with torch.no_grad():
        ours = algorithm.forward(layer, weights, x, layer.module(x), seed=None)
        model = nn.Module()
        model.layer = layer.module
        config = peft.LoraConfig(r=layer.rank, lora_alpha=layer.alpha, target_modules=["layer"])  # type: ignore[arg-type]
        theirs = peft.inject_adapter_in_model(config, model).layer
        theirs.lora_A["default"].weight.copy_(weights["lora_down.weight"])
        theirs.lora_B["default"].weight.copy_(weights["lora_up.weight"])
        torch.testing.assert_close(ours, theirs(x), rtol=1e-5, atol=1e-4)
