"""A VAE under LDM's names."""

from __future__ import annotations

import torch
from torch import nn


class DiagonalGaussianDistribution:
    def __init__(self, moments):
        self.mean, self.logvar = moments.chunk(2, dim=1)

    def sample(self):
        return self.mean + (0.5 * self.logvar.clamp(-30, 20)).exp() * torch.randn_like(self.mean)

    def mode(self):
        return self.mean


class Encoder(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(3))
        self.conv_out = nn.Conv2d(width, 8, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for each in self.down:
            h = each(nn.functional.silu(h))
        return self.conv_out(h)


class Decoder(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv_in = nn.Conv2d(4, width, 3, padding=1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 4, stride=2, padding=1) for _ in range(3))
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z):
        h = self.conv_in(z)
        for each in self.up:
            h = each(nn.functional.silu(h))
        return self.conv_out(h)


class AutoencoderKL(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def encode(self, x):
        return DiagonalGaussianDistribution(self.quant_conv(self.encoder(x)))

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))
