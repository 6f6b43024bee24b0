"""What Forge makes of a file is what was trained, or it says that it cannot read it, as docs/adapters.md has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .adapters import VARIANTS, trained_network
from .in_forge import ForgeLoaded
from .loaded import load, on_a_thread
from .registry import check, report

NOT_READ = ("ia3", "diag-oft", "boft")


@check("sd1", "sd2", "sdxl", host="Forge")
def check_files_of_every_algorithm_load_in_forge_as_they_were_trained(path: Path) -> None:
    from trainer_core.networks import ALGORITHMS

    loaded = load(path)
    settings = [{"algo": name} for name in ALGORITHMS.names()] + VARIANTS
    wrong = [f"{each}: {problem}" for each in settings for problem in _problems(loaded, each)]
    assert not wrong, "\n".join(wrong)


def _problems(loaded: ForgeLoaded, settings: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a file of these settings in Forge; nothing for settings that are refused."""
    from backend.patcher.lora import load_lora, model_lora_keys_clip, model_lora_keys_unet

    from trainer_core.errors import ConfigError

    try:
        network = on_a_thread(lambda: trained_network(loaded, settings))
    except ConfigError as refusal:
        report(f"{settings} refused: {refusal}")
        return
    objects = loaded.engine.forge_objects_original
    keys = {**model_lora_keys_unet(objects.unet.model, {}), **model_lora_keys_clip(objects.clip.cond_stage_model, {})}
    patches, unread = load_lora(network.state_dict(), keys)
    if settings["algo"] in NOT_READ:
        if patches:
            yield f"Forge reads {len(patches)} layers of it; say so in docs/adapters.md"
        return
    if unread:
        yield f"not read: {sorted(unread)[:3]}"
    weights = {**objects.unet.model.state_dict(), **objects.clip.cond_stage_model.state_dict()}
    biases = network.delta_biases()
    worst = 0.0
    for key, delta in network.delta_weights().items():
        worst = max(worst, _error(weights, delta, keys[key], patches))
        if key in biases:
            worst = max(worst, _error(weights, biases[key], keys[key].removesuffix("weight") + "bias", patches))
    report(f"{settings}: {worst:.1e} off")
    if worst > 1e-4:
        yield f"ΔW is off by {worst:.1e} of its size"


def _error(weights: dict[str, Any], delta: Any, key: str, patches: dict[str, Any]) -> float:
    from backend.patcher.lora import merge_lora_to_weight

    if key not in patches:
        return float("inf")
    weight = weights[key].float()
    change = merge_lora_to_weight([[1.0, patches[key], 1.0, None, None]], weight, key) - weight
    return ((change - delta).norm() / delta.norm()).item()
