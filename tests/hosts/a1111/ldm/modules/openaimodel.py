"""The UNet under LDM's names, which sgm's has too."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from .attention import SpatialTransformer


def timestep_embedding(timesteps, width):
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half).to(timesteps.device)
    angles = timesteps[:, None].float() * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _joined(h, skip):
    """A1111 has LDM resize here, so that a picture's sides need only be multiples of 8."""
    return torch.cat(
        [F.interpolate(h, skip.shape[-2:], mode="nearest") if h.shape[-2:] != skip.shape[-2:] else h, skip], dim=1
    )


class TimestepBlock(nn.Module):
    """A layer that is given the timestep's embedding."""


class GroupNorm32(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


class ResBlock(TimestepBlock):
    def __init__(self, channels, emb_channels, out_channels):
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm32(8, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, out_channels))
        last = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.out_layers = nn.Sequential(GroupNorm32(8, out_channels), nn.SiLU(), nn.Dropout(0.0), last)
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)
        self.use_checkpoint = False

    def forward(self, x, emb):
        h = self.in_layers(x) + self.emb_layers(emb)[..., None, None].type(x.dtype)
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class TimestepEmbedSequential(nn.Sequential):
    def forward(self, x, emb, context=None):
        for layer in self:
            if isinstance(layer, TimestepBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class UNetModel(nn.Module):
    """depths: of the transformers on each level, 0 for none. adm_in_channels: of SDXL's vector conditioning."""

    def __init__(self, in_channels, channels, channel_mult, depths, context_dim, use_linear, adm_in_channels=None):
        super().__init__()
        self.model_channels, self.dtype = channels, torch.float32
        emb = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        if adm_in_channels:
            inner = nn.Sequential(nn.Linear(adm_in_channels, emb), nn.SiLU(), nn.Linear(emb, emb))
            self.label_emb = nn.Sequential(inner)

        def block(into, out, depth, *more):
            transformer = [SpatialTransformer(out, depth, context_dim, use_linear)] if depth else []
            return TimestepEmbedSequential(ResBlock(into, emb, out), *transformer, *more)

        width, kept = channels, [channels]
        self.input_blocks = nn.ModuleList([TimestepEmbedSequential(nn.Conv2d(in_channels, width, 3, padding=1))])
        for level, (factor, depth) in enumerate(zip(channel_mult, depths)):
            for _ in range(2):
                self.input_blocks.append(block(width, factor * channels, depth))
                width = factor * channels
                kept.append(width)
            if level < len(channel_mult) - 1:
                self.input_blocks.append(TimestepEmbedSequential(Downsample(width)))
                kept.append(width)
        middle = SpatialTransformer(width, max(1, depths[-1]), context_dim, use_linear)
        self.middle_block = TimestepEmbedSequential(ResBlock(width, emb, width), middle, ResBlock(width, emb, width))
        self.output_blocks = nn.ModuleList()
        for level, (factor, depth) in reversed(list(enumerate(zip(channel_mult, depths)))):
            for number in range(3):
                up = [Upsample(factor * channels)] if level and number == 2 else []
                self.output_blocks.append(block(width + kept.pop(), factor * channels, depth, *up))
                width = factor * channels
        self.out = nn.Sequential(GroupNorm32(8, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, x, timesteps=None, context=None, y=None, **_):
        assert (y is not None) == hasattr(self, "label_emb")
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels))
        emb = emb if y is None else emb + self.label_emb(y)
        h, hs = x.type(self.dtype), []
        for module in self.input_blocks:
            h = module(h, emb, context)
            hs.append(h)
        h = self.middle_block(h, emb, context)
        for module in self.output_blocks:
            h = module(_joined(h, hs.pop()), emb, context)
        return self.out(h.type(x.dtype))
