"""Previews by Forge's own sampler, from conditioning that is already encoded: no prompt cache has a say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import SamplingStopped
from .base import SampleRequest


def sample_latents(
    engine: Any, positive: Any, negative: Any, request: SampleRequest, is_cancelled: Callable[[], bool]
) -> Tensor:
    """Scaled latents [1, 4, h, w] by Euler, with the noise that Forge draws for the seed.

    engine: `shared.sd_model`. positive, negative: one picture's, as the engine's get_learned_conditioning gives them:
    a tensor [S, D], on SDXL a dictionary of two. Raises SamplingStopped when is_cancelled or Forge's Interrupt says
    so."""
    from modules import processing, prompt_parser, rng, sd_samplers, shared

    def stop_if_asked(at: Any = None) -> None:
        if at is not None:
            show_progress(at)
        if is_cancelled() or shared.state.interrupted:
            raise SamplingStopped("the preview was stopped between two steps of its sampler; start the run again")

    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=engine,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        sampler_name="Euler",
        steps=request.steps,
        cfg_scale=request.cfg,
        width=request.width,
        height=request.height,
    )
    p.fill_fields_from_opts()
    p.seeds = [request.seed]
    p.rng = rng.ImageRNG((4, request.height // 8, request.width // 8), p.seeds)
    noise = p.rng.next()
    scheduled = [[prompt_parser.ScheduledPromptConditioning(request.steps, each)] for each in (positive, negative)]
    composed = prompt_parser.ComposableScheduledPromptConditioning(scheduled[0])
    # with cfg 1 Forge leaves the negative prompt out
    opposed = None if request.cfg == 1 else [scheduled[1]]
    sampler = sd_samplers.create_sampler(p.sampler_name, engine)
    show_progress, sampler.callback_state = sampler.callback_state, stop_if_asked
    shared.state.skipped = False
    try:
        with _noise_table(engine):
            latents = sampler.sample(
                p,
                noise,
                prompt_parser.MulticondLearnedConditioning(shape=(1,), batch=[[composed]]),
                opposed,
                image_conditioning=p.txt2img_image_conditioning(noise),
            )
        stop_if_asked()  # interrupted within a step, Forge gives what it has so far
        return latents
    finally:
        shared.state.current_latent = None  # the progress display would decode it later, when the VAE is elsewhere
        p.close()


def as_bytes(pixels: Tensor) -> Tensor:
    """[3, H, W] in [-1, 1] → [H, W, 3] uint8 on the CPU, rounded down as Forge does."""
    return (((pixels.float() + 1) / 2).clamp(0, 1) * 255).to(torch.uint8).movedim(0, -1).cpu()


@contextmanager
def _noise_table(engine: Any) -> Iterator[None]:
    """Forge's own sigmas, rescaled to zero terminal SNR where it does so for a generation."""
    from backend.modules.k_prediction import rescale_zero_terminal_snr_sigmas
    from modules import shared

    predictor = engine.forge_objects.unet.model.predictor
    if shared.opts.sd_noise_schedule != "Zero Terminal SNR" and not getattr(engine.model_config, "ztsnr", False):
        yield
        return
    own = predictor.sigmas
    predictor.set_sigmas(rescale_zero_terminal_snr_sigmas(own))
    try:
        yield
    finally:
        predictor.set_sigmas(own)
