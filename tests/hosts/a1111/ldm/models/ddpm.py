"""SD 1.x and 2.x as LDM holds them."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn


def usual_alphas():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


class DiffusionWrapper(nn.Module):
    def __init__(self, diffusion_model, conditioning_key="crossattn"):
        super().__init__()
        self.diffusion_model, self.conditioning_key = diffusion_model, conditioning_key

    def forward(self, x, t, c_concat=None, c_crossattn=None):
        return self.diffusion_model(x, t, context=torch.cat(c_crossattn, 1))


class LatentDiffusion(nn.Module):
    depth_model = embedder = None

    def __init__(self, diffusion_model, vae, text_encoder, parameterization, conditioning_key):
        super().__init__()
        self.model = DiffusionWrapper(diffusion_model, conditioning_key)
        self.first_stage_model, self.cond_stage_model = vae, text_encoder
        self.scale_factor, self.parameterization, self.cond_stage_key = 0.18215, parameterization, "txt"
        self.register_buffer("alphas_cumprod", usual_alphas())

    def apply_model(self, x, t, cond):
        return self.model(x, t, **cond)

    def encode_first_stage(self, x):
        return self.first_stage_model.encode(x)

    def get_first_stage_encoding(self, posterior):
        return self.scale_factor * posterior.sample()

    def decode_first_stage(self, z):
        return self.first_stage_model.decode(z / self.scale_factor)

    def get_learned_conditioning(self, texts):
        return self.cond_stage_model(texts)

    def ema_scope(self):
        return nullcontext()
