"""Previews by A1111's own sampler, from conditioning that is already encoded: no prompt cache has a say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import SamplingStopped
from .base import SampleRequest


def sample_latents(
    model: Any, positive: Any, negative: Any, request: SampleRequest, is_cancelled: Callable[[], bool]
) -> Tensor:
    """Scaled latents [1, 4, h, w] by Euler, with the noise that A1111 draws for the seed.

    model: `shared.sd_model`. positive, negative: one picture's, as the model's get_learned_conditioning gives them: a
    tensor [S, D], on SDXL a dictionary of two. Raises SamplingStopped when is_cancelled or A1111's Interrupt asks."""
    from modules import processing, prompt_parser, rng, sd_samplers, shared

    def require_wanted() -> None:
        if is_cancelled() or shared.state.interrupted:
            raise SamplingStopped("the preview was stopped between two steps of its sampler; start the run again")

    def after_a_step(at: dict[str, Any]) -> None:
        show_progress(at)
        require_wanted()

    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=model,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        sampler_name="Euler",
        steps=request.steps,
        cfg_scale=request.cfg,
        width=request.width,
        height=request.height,
    )
    p.rng = rng.ImageRNG((4, request.height // 8, request.width // 8), [request.seed])
    scheduled = [prompt_parser.ScheduledPromptConditioning(request.steps, each) for each in (positive, negative)]
    composed = prompt_parser.ComposableScheduledPromptConditioning([scheduled[0]])
    noise = p.rng.next()
    sampler = sd_samplers.create_sampler(p.sampler_name, model)
    show_progress, sampler.callback_state = sampler.callback_state, after_a_step
    shared.state.skipped = False
    try:
        latents = sampler.sample(
            p,
            noise,
            prompt_parser.MulticondLearnedConditioning(shape=(1,), batch=[[composed]]),
            [[scheduled[1]]],
            image_conditioning=p.txt2img_image_conditioning(noise),
        )
        if shared.state.interrupted:  # A1111's sampler then gives what it has
            require_wanted()
        return latents
    finally:
        shared.state.current_latent = None  # the progress display would decode it later, when the VAE is elsewhere
        p.close()


def as_bytes(pixels: Tensor) -> Tensor:
    """[3, H, W] in [-1, 1] → [H, W, 3] uint8 on the CPU, rounded down as A1111 does."""
    return (((pixels.float() + 1) / 2).clamp(0, 1) * 255).to(torch.uint8).movedim(0, -1).cpu()
