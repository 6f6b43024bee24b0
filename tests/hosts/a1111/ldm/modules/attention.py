"""Transformer blocks under LDM's names."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class CrossAttention(nn.Module):
    def __init__(self, query_dim, context_dim=None, heads=4):
        super().__init__()
        self.heads, self.scale = heads, (query_dim // heads) ** -0.5
        self.to_q = nn.Linear(query_dim, query_dim, bias=False)
        self.to_k = nn.Linear(context_dim or query_dim, query_dim, bias=False)
        self.to_v = nn.Linear(context_dim or query_dim, query_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(query_dim, query_dim), nn.Dropout(0.0))

    def forward(self, x, context=None, mask=None):
        context = x if context is None else context
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    def __init__(self, width, context_dim):
        super().__init__()
        self.attn1 = CrossAttention(width)
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context_dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.checkpoint = True

    def forward(self, x, context=None):
        if self.checkpoint and torch.is_grad_enabled():
            return checkpoint(self._forward, x, context, use_reentrant=True)
        return self._forward(x, context)

    def _forward(self, x, context=None):
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context=context) + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    """use_linear: proj_in and proj_out are Linear (SD 2, SDXL), else 1×1 convolutions."""

    def __init__(self, channels, depth, context_dim, use_linear):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels, eps=1e-6)
        project = (lambda: nn.Linear(channels, channels)) if use_linear else (lambda: nn.Conv2d(channels, channels, 1))
        self.proj_in = project()
        self.transformer_blocks = nn.ModuleList(BasicTransformerBlock(channels, context_dim) for _ in range(depth))
        self.proj_out = project()
        self.use_linear = use_linear

    def forward(self, x, context=None):
        height, x_in = x.shape[2], x
        x = self.norm(x)
        x = x if self.use_linear else self.proj_in(x)
        x = x.flatten(2).transpose(1, 2)
        x = self.proj_in(x) if self.use_linear else x
        for block in self.transformer_blocks:
            x = block(x, context=context)
        x = self.proj_out(x) if self.use_linear else x
        x = x.transpose(1, 2).unflatten(2, (height, -1))
        return (x if self.use_linear else self.proj_out(x)) + x_in
