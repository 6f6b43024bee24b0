"""What the host refuses to train, in which words, and that a refusal leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .loaded import borrow, load, on_a_thread, require_same_state
from .registry import check


def require_refusal(attempt: Callable[[], Any], words: str) -> None:
    from trainer_core.errors import HostError

    try:
        attempt()
    except HostError as error:
        assert words in str(error), f"refused in other words: {error}"
    else:
        raise AssertionError(f"not refused: {words}")


def enter(host: Any) -> None:
    with borrow(host):
        pass


@check("sd1_inpaint", host="ComfyUI")
def check_inpainting_models_are_refused(path: Path) -> None:
    require_refusal(lambda: load(path).host.family, "9 channels")


@check("sdxl", host="ComfyUI")
def check_another_familys_text_encoder_is_refused(path: Path) -> None:
    from trainer_core.hosts.comfy import ComfyHost

    big, small = load(path), load(path.with_name("sd1.safetensors"))
    require_refusal(lambda: ComfyHost(big.model, small.clip, big.vae).components(), "does not belong")
    require_refusal(lambda: ComfyHost(small.model, big.clip, big.vae).components(), "does not belong")


@check("sd1", host="ComfyUI")
def check_what_cannot_be_trained_is_refused(path: Path) -> None:
    import torch

    from trainer_core.errors import HostError
    from trainer_core.hosts.comfy import ComfyHost

    loaded = load(path)
    with torch.inference_mode():
        require_refusal(lambda: enter(loaded.host), "inference mode")
    require_refusal(lambda: ComfyHost(loaded.model, None, loaded.vae), "CLIP is missing")

    with torch.inference_mode():
        patched = replace(loaded, model=loaded.model.clone())
        weight = loaded.model.model.diffusion_model.out[2].weight
        patched.model.add_patches({"diffusion_model.out.2.weight": ("diff", (torch.ones_like(weight),))})
    require_refusal(lambda: on_a_thread(lambda: enter(patched.host)), "carries a LoRA")
    tolerant = ComfyHost(patched.model, patched.clip, patched.vae, allow_patched=True)
    on_a_thread(lambda: enter(tolerant))

    on_a_thread(lambda: enter(loaded.host))  # loads the model without the patch
    before = loaded.state()
    layer = loaded.model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q
    kept = layer.weight
    layer.weight = torch.nn.Parameter(kept.detach().to(torch.float8_e4m3fn), requires_grad=False)
    require_refusal(lambda: on_a_thread(lambda: enter(loaded.host)), "quantised weights")
    layer.weight = kept
    require_same_state(before, loaded.state())
    try:
        on_a_thread(lambda: enter(loaded.host))
    except HostError as error:
        raise AssertionError("still refused") from error
