"""What ComfyUI makes of a file is what was trained: every key is read, every ΔW is the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .in_comfy import ComfyLoaded
from .loaded import load, on_a_thread
from .registry import check, report

VARIANTS: list[dict[str, Any]] = [
    {"algo": "locon", "use_tucker": True},
    {"algo": "lora", "rs_lora": True, "train_norm": True},
    {"algo": "ia3", "train_on_input": False},
    {"algo": "ia3", "train_on_input": True},
    {"algo": "ia3", "preset": "full"},
    {"algo": "glora", "conv_rank": 4, "conv_alpha": 1.0},
    {"algo": "diag-oft", "constraint": 0.01},
    {"algo": "boft", "constraint": 0.01},
    {"algo": "boft", "rescaled": True},
    {"algo": "dylora", "rs_lora": True},
    {"algo": "full", "train_norm": True},
    {"algo": "locon", "preset": "full"},
    {"algo": "loha", "conv_rank": 4, "use_tucker": True},
    {"algo": "loha", "rank": 4, "rs_lora": True, "preset": "full"},
    {"algo": "lokr", "rank": 4, "factor": 8},
    {"algo": "lokr", "use_tucker": True},
    {"algo": "lokr", "rank": 2, "factor": 8, "decompose_both": True, "rs_lora": True},
    {"algo": "lokr", "factor": 4, "full_matrix": True, "preset": "full"},
    {"algo": "lora", "dora_wd": True},
    {"algo": "lora", "dora_wd": True, "wd_on_output": True},
    {"algo": "locon", "dora_wd": True, "use_tucker": True},
    {"algo": "loha", "dora_wd": True, "conv_rank": 4},
    {"algo": "lokr", "dora_wd": True, "rank": 4, "factor": 8},
]


@check("sd1", "sd2", "sdxl", host="ComfyUI")
def check_files_of_every_algorithm_load_as_they_were_trained(path: Path) -> None:
    from trainer_core.hosts.comfy_ia3 import register_ia3, unregister_ia3
    from trainer_core.networks import ALGORITHMS

    register_ia3()
    loaded = load(path)
    try:
        wrong = [
            f"{settings}: {problem}"
            for settings in ({"algo": name} for name in ALGORITHMS.names())
            for problem in _problems(loaded, settings)
        ]
        wrong += [f"{settings}: {problem}" for settings in VARIANTS for problem in _problems(loaded, settings)]
    finally:
        unregister_ia3()
    assert not wrong, "\n".join(wrong)


@check("sd1", "sdxl", host="ComfyUI")
def check_the_stock_loader_applies_ia3_while_the_pack_is_loaded_and_not_after(path: Path) -> None:
    import comfy.sd
    import torch

    from trainer_core.hosts.comfy_ia3 import register_ia3, unregister_ia3

    loaded = load(path)
    network = on_a_thread(lambda: trained_network(loaded, {"algo": "ia3", "train_on_input": True}))
    tensors = network.state_dict()

    def layers_patched() -> int:
        model, clip = comfy.sd.load_lora_for_models(loaded.model, loaded.clip, tensors, 1.0, 0.5)
        return len(model.patches) + len(clip.patcher.patches)

    register_ia3()
    register_ia3()
    assert layers_patched() == len(network.adapters)
    with torch.inference_mode():
        model, _ = comfy.sd.load_lora_for_models(loaded.model, None, tensors, 0.5, 0.0)
        key = next(key for key in model.patches if key.endswith("attn2.to_k.weight"))
        before = loaded.model.model.state_dict()[key].float().clone()
        patched = _patched(before.clone(), key, model.patches[key])
        change = network.delta_weights()[_file_key(loaded, network, key)]
        torch.testing.assert_close(patched, before + 0.5 * change, rtol=1e-5, atol=1e-6)
    unregister_ia3()
    assert layers_patched() == 0


@check("sd1", host="ComfyUI")
def check_loading_the_pack_adds_ia3_and_nothing_else(path: Path) -> None:
    import asyncio

    from comfy import weight_adapter

    import nodes

    before = list(weight_adapter.adapters)
    try:
        assert asyncio.run(nodes.load_custom_node(str(Path(__file__).resolve().parents[3]))), "the pack does not load"
        assert weight_adapter.adapters[: len(before)] == before
        assert [each.name for each in weight_adapter.adapters[len(before) :]] == ["ia3"]
    finally:
        weight_adapter.adapters[:] = before


@check("sd1", host="ComfyUI")
def check_the_bypass_loader_applies_ia3(path: Path) -> None:
    """It came after 0.3.64; there is nothing to check before."""
    import comfy.sd
    import torch

    from trainer_core.hosts.comfy_ia3 import register_ia3, unregister_ia3

    if not hasattr(comfy.sd, "load_bypass_lora_for_models"):
        report("no bypass loader in this ComfyUI")
        return
    loaded = load(path)
    network = on_a_thread(lambda: trained_network(loaded, {"algo": "ia3", "preset": "full"}))
    register_ia3()
    try:
        with torch.inference_mode():
            model, _ = comfy.sd.load_bypass_lora_for_models(loaded.model, None, network.state_dict(), 0.5, 0.0)
            for injection in model.injections["bypass_lora"]:
                injection.inject(model)
            deltas = network.delta_weights()
            for adapter in network.adapters:
                if adapter.component == "unet":
                    _require_bypassed_as_merged(adapter.layer.module, deltas[adapter.key])
            for injection in model.injections["bypass_lora"]:
                injection.eject(model)
    finally:
        unregister_ia3()


def _require_bypassed_as_merged(module: Any, delta: Any) -> None:
    import torch
    from torch.nn import functional as F

    is_linear = isinstance(module, torch.nn.Linear)
    inputs = module.weight.shape[1]
    x = torch.randn(2, 5, inputs) if is_linear else torch.randn(2, inputs, 6, 6)
    weight = module.weight.float() + 0.5 * delta
    bias = None if module.bias is None else module.bias.float()
    merged = F.linear(x, weight, bias) if is_linear else F.conv2d(x, weight, bias, module.stride, module.padding)
    torch.testing.assert_close(module(x.to(module.weight.dtype)).float(), merged, rtol=0.02, atol=0.02)


def _problems(loaded: ComfyLoaded, settings: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a file of these settings in ComfyUI; nothing for settings that are refused."""
    from trainer_core.errors import ConfigError

    try:
        network = on_a_thread(lambda: trained_network(loaded, settings))
    except ConfigError as refusal:
        report(f"{settings} refused: {refusal}")
        return
    # as files are: fp32 tensors under keys, nothing of ours
    patches, complaints = _read(loaded, network.state_dict())
    yield from complaints[:3]
    weights = {**loaded.model.model.state_dict(), **loaded.clip.cond_stage_model.state_dict()}
    biases = network.delta_biases()
    worst = 0.0
    targets = _key_map(loaded)
    for key, delta in network.delta_weights().items():
        target = targets[key]
        worst = max(worst, _error(weights[target].float(), delta, target, patches))
        if key in biases:
            bias = target.removesuffix("weight") + "bias"
            worst = max(worst, _error(weights[bias].float(), biases[key], bias, patches))
    report(f"{settings}: {worst:.1e} off")
    if worst > 1e-4:
        yield f"ΔW is off by {worst:.1e} of its size"


def _error(weight: Any, delta: Any, key: str, patches: dict[str, Any]) -> float:
    if key not in patches:
        return float("inf")
    change = _patched(weight.clone(), key, [(1.0, patches[key], 1.0, None, None)]) - weight
    return ((change - delta).norm() / delta.norm()).item()


def _patched(weight: Any, key: str, patches: list) -> Any:
    import comfy.lora

    return comfy.lora.calculate_weight(patches, weight, key)


def _read(loaded: ComfyLoaded, tensors: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The patches that ComfyUI's loader makes of a file, and the warnings that it logs on the way."""
    import comfy.lora
    import comfy.lora_convert

    with _warnings() as complaints:
        patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(tensors)), _key_map(loaded))
    return patches, complaints


def _key_map(loaded: ComfyLoaded) -> dict[str, str]:
    import comfy.lora

    found = comfy.lora.model_lora_keys_unet(loaded.model.model, {})
    return comfy.lora.model_lora_keys_clip(loaded.clip.cond_stage_model, found)


def _file_key(loaded: ComfyLoaded, network: Any, weight: str) -> str:
    keys = {adapter.key for adapter in network.adapters}
    return next(key for key, target in _key_map(loaded).items() if target == weight and key in keys)


def trained_network(loaded: Any, settings: dict[str, Any]) -> Any:
    """Adapters on everything that these settings reach, with ΔW ≠ 0."""
    import torch

    from trainer_core.config import NetworkConfig
    from trainer_core.networks import build_network

    host = loaded.host
    components = host.components()
    if settings["algo"] == "norm":
        settings = {**settings, "train_text_encoder": False}
    config = NetworkConfig(**{"rank": 16, "alpha": 4.0, **settings})
    network = build_network(config, components, host.family, seed=3)
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensors in network.parameters_by_component().values():
            for tensor in tensors.values():
                tensor.add_(torch.randn(tensor.shape, generator=dice), alpha=0.05)
    return network


@contextmanager
def _warnings() -> Iterator[list[str]]:
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        yield heard
    finally:
        logging.getLogger().removeHandler(listener)
