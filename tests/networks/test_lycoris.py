"""lycoris-lora agrees on LoHa, LoKr, Tucker and DoRA: its reloaded file's outputs, and its own modules' gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lycoris.functional.general import factorization
from lycoris.kohya import create_network_from_weights
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from torch import Tensor, nn

from trainer_core.config import NetworkConfig
from trainer_core.errors import ConfigError
from trainer_core.families import SD1
from trainer_core.networks import build_network
from trainer_core.networks.base import ALGORITHMS, Layer
from trainer_core.networks.dora import decomposed
from trainer_core.networks.lokr import factors

KINDS = {
    "linear": (lambda: nn.Linear(24, 40), (3, 5, 24)),
    "1x1 conv": (lambda: nn.Conv2d(24, 40, 1), (2, 24, 5, 5)),
    "3x3 conv": (lambda: nn.Conv2d(24, 40, 3, stride=2, padding=1), (2, 24, 7, 9)),
}
MODULES = {"locon": LoConModule, "loha": LohaModule, "lokr": LokrModule}
SETTINGS: list[dict[str, Any]] = [
    {"algo": "locon"},
    {"algo": "locon", "use_tucker": True},
    {"algo": "loha", "rank": 2},
    {"algo": "loha", "rank": 6},
    {"algo": "loha", "rank": 3, "use_tucker": True},
    {"algo": "lokr", "rank": 2},
    {"algo": "lokr", "rank": 16},
    {"algo": "lokr", "rank": 2, "factor": 4},
    {"algo": "lokr", "rank": 2, "factor": 4, "full_matrix": True},
    {"algo": "lokr", "rank": 1, "decompose_both": True},
]
DORA = [{**each, "dora_wd": True} for each in SETTINGS]
every_kind = pytest.mark.parametrize("kind", KINDS)


def named(settings: dict[str, Any]) -> str:
    return " ".join(str(value) if key in ("algo", "rank") else key for key, value in settings.items())


def adapted(kind: str, settings: dict[str, Any]):
    """A layer with an adapter that changes it, and an input."""
    torch.manual_seed(3)
    make, shape = KINDS[kind]
    module = make().double().requires_grad_(False)
    config = NetworkConfig(**{"rank": 4, "alpha": 3.0, **settings})
    algorithm = ALGORITHMS.get(config.algo)(config)
    if config.dora_wd:
        algorithm = decomposed(algorithm, config)
    layer = Layer(module, *algorithm.size(module))
    start = algorithm.init(layer, torch.Generator().manual_seed(1))
    weights = {name: (each + 0.2 * torch.rand(each.shape)).double().requires_grad_() for name, each in start.items()}
    return algorithm, layer, weights, torch.randn(shape).double().requires_grad_()


def ours(algorithm, layer: Layer, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """What the network's hooks compute."""
    if algorithm.changes_input(layer):
        x = algorithm.input(layer, weights, x, None)
    return algorithm.forward(layer, weights, x, layer.module(x), None)


def theirs(layer: Layer, settings: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    options = {name: value for name, value in settings.items() if name not in ("algo", "rank", "dora_wd")}
    if settings.get("dora_wd"):
        options |= {"weight_decompose": True, "wd_on_out": False}
    module = MODULES[settings["algo"]]("x", layer.module, lora_dim=layer.rank, alpha=layer.alpha, **options).double()
    assert set(weights) <= set(dict(module.named_parameters())) | {"dora_scale"}
    for name, tensor in weights.items():
        owner, _, last = name.rpartition(".")
        assert module.get_parameter(name).shape == tensor.shape if name != "dora_scale" else True
        setattr(module.get_submodule(owner), last, nn.Parameter(tensor.detach().clone()))
    module.apply_to()
    return module


@every_kind
@pytest.mark.parametrize("settings", SETTINGS + DORA, ids=named)
def test_outputs_and_gradients_are_lycoris(kind: str, settings: dict[str, Any]) -> None:
    algorithm, layer, weights, x = adapted(kind, settings)
    hooked = ours(algorithm, layer, weights, x)
    direction = torch.randn_like(hooked)
    our_gradients = torch.autograd.grad((hooked * direction).sum(), [x, *weights.values()])
    reference = theirs(layer, settings, weights)
    rebuilt = reference(x)
    torch.testing.assert_close(hooked, rebuilt, rtol=1e-5, atol=1e-5)
    parameters = [reference.get_parameter(name) for name in weights]
    their_gradients = torch.autograd.grad((rebuilt * direction).sum(), [x, *parameters])
    for name, mine, other in zip(["x", *weights], our_gradients, their_gradients, strict=True):
        scale = other.abs().max() + 1e-3
        torch.testing.assert_close(mine / scale, other / scale, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@every_kind
@pytest.mark.parametrize("settings", DORA, ids=named)
def test_dora_delta_is_what_the_hooks_compute(kind: str, settings: dict[str, Any]) -> None:
    algorithm, layer, weights, x = adapted(kind, settings)
    merged = layer.module.weight + algorithm.delta(layer, weights)
    plain = torch.func.functional_call(layer.module, {"weight": merged}, (x,))
    torch.testing.assert_close(ours(algorithm, layer, weights, x), plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
def test_lycoris_reloads_our_file(settings: dict[str, Any], components) -> None:
    config = NetworkConfig(**{"rank": 4, "alpha": 3.0, **settings})
    network = build_network(config, components, SD1, seed=1)
    for parameters in network.parameters_by_component().values():
        for number, parameter in enumerate(parameters.values()):
            dice = torch.Generator().manual_seed(number)
            parameter.data.add_(torch.randn(parameter.shape, generator=dice), alpha=0.2)
    x, tokens = torch.randn(2, 4, 6, 6), torch.randn(2, 3, 16)
    with network.attached(), torch.no_grad():
        wanted = components["unet"](x, tokens[:, 0]), components["te1"](tokens)
    with torch.no_grad():
        loaded, _ = create_network_from_weights(
            1.0, None, None, components["te1"], components["unet"], weights_sd=network.state_dict()
        )
    assert len(loaded.unet_loras) + len(loaded.text_encoder_loras) == len(network.adapters)
    loaded.apply_to(components["te1"], components["unet"], True, True)
    loaded.eval()
    with torch.no_grad():
        found = components["unet"](x, tokens[:, 0]), components["te1"](tokens)
    for mine, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_dimensions_are_split_as_lycoris_splits_them() -> None:
    for dimension in (*range(1, 70), 127, 128, 250, 320, 360, 512, 640, 768, 1024, 1280, 2048, 2560, 5120, 10240):
        for factor in (-1, 1, 2, 3, 4, 5, 8, 9, 16, 32, 64):
            assert factors(dimension, factor) == factorization(dimension, factor), (dimension, factor)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"algo": "lora", "dora_wd": True, "wd_on_output": True}, "wd_on_output makes files that ComfyUI"),
        ({"algo": "ia3", "dora_wd": True}, "dora_wd goes with lora, locon, loha and lokr, not with ia3"),
        ({"algo": "lokr", "use_tucker": True}, "use_tucker with lokr makes files"),
        ({"algo": "lokr", "factor": 0}, '"network.factor" is 0'),
    ],
)
def test_what_a_host_would_load_wrong_is_refused(settings: dict[str, Any], reason: str, components) -> None:
    with pytest.raises(ConfigError, match=reason):
        build_network(NetworkConfig(**settings), components, SD1, seed=1)


def test_what_lycoris_cannot_reload_of_its_own_is_still_so(components) -> None:
    """DoRA on inputs, the form that the UIs load right: when LyCORIS learns to, the docs may say so."""
    network = build_network(NetworkConfig(algo="lora", rank=4, dora_wd=True), components, SD1, seed=1)
    with pytest.raises(RuntimeError, match="broadcast shape"), torch.no_grad():
        create_network_from_weights(
            1.0, None, None, components["te1"], components["unet"], weights_sd=network.state_dict()
        )
