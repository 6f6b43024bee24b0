"""A model small enough for every test: one attention block, one resnet and their kin under a UNet's names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallUnet(nn.Module):
    """A transformer's and a resnet's layers by diffusers' names, in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList([nn.Module()])
        block = self.down_blocks[0]
        resnet, attention = nn.Module(), nn.Module()
        resnet.conv1, resnet.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        resnet.time_emb_proj = nn.Linear(16, 8)
        resnet.norm1 = nn.GroupNorm(2, 8)
        attention.proj_in = nn.Conv2d(8, 8, 1)
        attention.to_q = nn.Linear(8, 8, bias=False)
        attention.norm = nn.LayerNorm(8)
        inner = nn.Module()
        inner.attn1, inner.ff = nn.Module(), nn.Module()
        inner.attn1.to_v = nn.Linear(8, 8, bias=False)
        inner.ff.net = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Linear(8, 8)])
        attention.transformer_blocks = nn.ModuleList([inner])
        block.resnets, block.attentions = nn.ModuleList([resnet]), nn.ModuleList([attention])
        self.conv_in = nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        resnet, attention = self.down_blocks[0].resnets[0], self.down_blocks[0].attentions[0]
        h = self.conv_in(x)
        h = resnet.conv1(F.silu(resnet.norm1(h))) + resnet.time_emb_proj(emb)[:, :, None, None]
        h = h + resnet.conv2(F.silu(h))
        h = attention.proj_in(h)
        h, inner = attention.norm(h.movedim(1, -1)), attention.transformer_blocks[0]
        h = h + inner.ff.net[2](F.gelu(inner.attn1.to_v(h)))
        return attention.to_q(h).movedim(-1, 1)


class SmallTextEncoder(nn.Module):
    """Two CLIP layers' projections by transformers' names before 5.6."""

    def __init__(self) -> None:
        super().__init__()
        self.text_model = nn.Module()
        self.text_model.encoder = nn.Module()
        self.text_model.encoder.layers = nn.ModuleList([nn.Module(), nn.Module()])
        for layer in self.text_model.encoder.layers:
            layer.self_attn, layer.mlp = nn.Module(), nn.Module()
            layer.self_attn.q_proj = nn.Linear(16, 16)
            layer.mlp.fc1 = nn.Linear(16, 16)
            layer.mlp.fc2 = nn.Linear(16, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.text_model.encoder.layers:
            tokens = tokens + layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.self_attn.q_proj(tokens))))
        return tokens


@pytest.fixture
def components() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "unet": SmallUnet().requires_grad_(False),
        "te1": SmallTextEncoder().requires_grad_(False),
    }
