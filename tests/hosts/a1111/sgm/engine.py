"""SDXL as sgm holds it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from ldm.models.autoencoder import AutoencoderKL
from ldm.models.ddpm import usual_alphas
from ldm.modules.encoders import LAYERS, FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder2
from ldm.modules.openaimodel import timestep_embedding
from torch import nn


class ConcatTimestepEmbedderND(nn.Module):
    def __init__(self, input_key):
        super().__init__()
        self.input_key = input_key

    def forward(self, x):
        return timestep_embedding(x.flatten(), 256).view(len(x), -1)


class GeneralConditioner(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
        texts = [FrozenCLIPEmbedder("hidden", LAYERS - 1), FrozenOpenCLIPEmbedder2()]
        self.embedders = nn.ModuleList([*texts, *map(ConcatTimestepEmbedderND, sizes)])
        for embedder in self.embedders:
            embedder.input_key = getattr(embedder, "input_key", "txt")
            embedder.is_trainable = False

    def forward(self, batch, force_zero_embeddings=()):
        tokens, vector = [], []
        for embedder in self.embedders:
            with nullcontext() if embedder.is_trainable else torch.no_grad():
                found = embedder(batch[embedder.input_key])
            for each in found if isinstance(found, tuple) else (found,):
                each = torch.zeros_like(each) if embedder.input_key in force_zero_embeddings else each
                (tokens if each.ndim == 3 else vector).append(each)
        return {"crossattn": torch.cat(tokens, 2), "vector": torch.cat(vector, 1)}


class SamplingAutoencoder(AutoencoderKL):
    def encode(self, x):
        return super().encode(x).sample()


class OpenAIWrapper(nn.Module):
    conditioning_key = "crossattn"

    def __init__(self, diffusion_model):
        super().__init__()
        self.diffusion_model = diffusion_model

    def forward(self, x, t, c):
        return self.diffusion_model(x, timesteps=t, context=c["crossattn"], y=c["vector"])


class DiffusionEngine(nn.Module):
    depth_model = embedder = None

    def __init__(self, diffusion_model, parameterization):
        super().__init__()
        self.model = OpenAIWrapper(diffusion_model)
        self.conditioner, self.first_stage_model = GeneralConditioner(), SamplingAutoencoder()
        self.scale_factor, self.parameterization, self.cond_stage_key = 0.13025, parameterization, "txt"
        self.alphas_cumprod = usual_alphas()

    def apply_model(self, x, t, cond):
        return self.model(x, t, cond)

    def encode_first_stage(self, x):
        return self.scale_factor * self.first_stage_model.encode(x)

    def get_first_stage_encoding(self, z):
        return z

    def decode_first_stage(self, z):
        return self.first_stage_model.decode(z / self.scale_factor)

    def get_learned_conditioning(self, texts):
        """texts: a prompt_parser.SdConditioning, which knows the picture's size."""
        size = torch.tensor([[texts.height, texts.width]]).repeat(len(texts), 1)
        batch = {"txt": texts, "original_size_as_tuple": size, "target_size_as_tuple": size}
        batch["crop_coords_top_left"] = torch.zeros_like(size)
        is_blank = texts.is_negative_prompt and all(text == "" for text in texts)
        return self.conditioner(batch, ["txt"] if is_blank else [])

    def ema_scope(self):
        return nullcontext()
