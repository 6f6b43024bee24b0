"""A loaded model as a graph holds it: its pictures, its whole state, and a thread to train it on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT_LAYERS = 3
SIDE = 64  # pixels


@dataclass
class Loaded:
    """MODEL, CLIP and VAE as a loader node gives them, and the host that borrows them."""

    model: Any
    clip: Any
    vae: Any

    @property
    def host(self) -> Any:
        from trainer_core.hosts.comfy import ComfyHost

        return ComfyHost(self.model, self.clip, self.vae)


def load(path: Path, text_dtype: Any = None) -> Loaded:
    import torch
    from tiny_loader import load_tiny

    with torch.inference_mode():
        return Loaded(*load_tiny(path, TEXT_LAYERS, text_dtype))


def picture(loaded: Loaded, seed: int = 5) -> Any:
    """Pixels [H, W, 3] made the way a graph makes them: CLIPTextEncode, KSampler, VAEDecode."""
    import torch

    import nodes

    with torch.inference_mode():
        encode = nodes.CLIPTextEncode().encode
        positive, negative = encode(loaded.clip, "a cat on a wall")[0], encode(loaded.clip, "")[0]
        empty = {"samples": torch.zeros(1, 4, SIDE // 8, SIDE // 8)}
        latent = nodes.common_ksampler(
            loaded.model, seed, 2, 3.0, "euler", "normal", positive, negative, empty, denoise=1.0
        )[0]
        return loaded.vae.decode(latent["samples"])[0].clone()


def on_a_thread(work: Callable[[], Any]) -> Any:
    """Run outside inference mode and raise what it raises."""
    outcome: list[Any] = [None, None]

    def run() -> None:
        try:
            outcome[0] = work()
        except BaseException as error:
            outcome[1] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def state_of(loaded: Loaded) -> dict[str, Any]:
    """Everything of the host that training might leave changed, weights included."""
    import torch
    from comfy import model_management

    state: dict[str, Any] = {
        "in_training": getattr(model_management, "in_training", None),
        "throw": model_management.throw_exception_if_processing_interrupted,
        "grad": torch.is_grad_enabled(),
    }
    for part, root in (("model", loaded.model.model), ("clip", loaded.clip.cond_stage_model)):
        for name, module in root.named_modules():
            own = {key: module.__dict__.get(key) for key in ("forward", "comfy_cast_weights")}
            hooks = len(module._forward_hooks), len(module._forward_pre_hooks)
            state[f"{part} {name}"] = (own, hooks, module.training)
        for name, weight in root.named_parameters():
            state[f"{part} {name} flags"] = (weight.requires_grad, weight.dtype, weight.device, weight.grad is None)
            state[f"{part} {name} bytes"] = hash(weight.detach().flatten().view(torch.uint8).numpy().tobytes())
    for part in (loaded.model, loaded.clip.patcher):
        state[f"{type(part.model).__name__} patcher"] = (len(part.patches), len(part.backup), len(part.object_patches))
    return state


def require_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [key for key in before if before[key] != after.get(key)] + [key for key in after if key not in before]
    assert not changed, f"changed: {changed[:5]}"


def all_components(host: Any) -> list[str]:
    return list(host.components())


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def borrow(host: Any, components: list[str] | None = None, **options: Any) -> Any:
    settings = {"precision": "auto", "checkpointing": False, **options}
    return host.borrowed(components or all_components(host), **settings)
