"""Text encoders: transformers' CLIP, and OpenCLIP's with nn.MultiheadAttention."""

from __future__ import annotations

import re
import zlib
from collections import OrderedDict

import torch
from torch import nn

WIDTH, LAYERS, VOCABULARY = 32, 3, 1000
START, END = VOCABULARY - 2, VOCABULARY - 1


def word_ids(text):
    """An id for each word and sign; brackets and backslashes are signs."""
    return [zlib.crc32(word.encode()) % (VOCABULARY - 3) + 1 for word in re.findall(r"\w+|[^\w\s]", text.lower())]


class WordTokenizer:
    bos_token_id, eos_token_id = START, END

    def __call__(self, texts, truncation=False, add_special_tokens=False):
        return {"input_ids": [word_ids(text) for text in texts]}


class ClipTextModel(nn.Module):
    """transformers' CLIPTextModel, whose inner text_model newer versions no longer have."""

    def __init__(self):
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        config = CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            eos_token_id=END,
        )
        model = CLIPTextModel(config)
        self.text_model = getattr(model, "text_model", model)

    def forward(self, input_ids=None, output_hidden_states=None):
        return self.text_model(input_ids=input_ids, output_hidden_states=bool(output_hidden_states))


class FrozenCLIPEmbedder(nn.Module):
    def __init__(self, layer="last", layer_idx=None):
        super().__init__()
        self.tokenizer, self.transformer = WordTokenizer(), ClipTextModel()
        self.layer, self.layer_idx = layer, layer_idx


class ResidualAttentionBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 4)
        self.ls_1 = nn.Identity()
        self.ln_2 = nn.LayerNorm(WIDTH)
        inner, out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.mlp = nn.Sequential(OrderedDict([("c_fc", inner), ("gelu", nn.GELU()), ("c_proj", out)]))
        self.ls_2 = nn.Identity()

    def forward(self, x, attn_mask=None):
        normed = self.ln_1(x)
        x = x + self.ls_1(self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0])
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList(ResidualAttentionBlock() for _ in range(LAYERS))


class OpenClip(nn.Module):
    """open_clip's CLIP without its visual part."""

    def __init__(self):
        super().__init__()
        self.transformer = Transformer()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.empty(77, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.empty(WIDTH, WIDTH))
        self.register_buffer("attn_mask", torch.full((77, 77), float("-inf")).triu(1), persistent=False)


class FrozenOpenCLIPEmbedder(nn.Module):
    """SD 2.x's: what enters the last layer, normalised."""

    layer_idx = 1

    def __init__(self):
        super().__init__()
        self.model = OpenClip()

    def states(self, tokens):
        model = self.model
        x = (model.token_embedding(tokens) + model.positional_embedding).permute(1, 0, 2)
        found = [x]
        for block in model.transformer.resblocks:
            found.append(block(found[-1], attn_mask=model.attn_mask))
        return [each.permute(1, 0, 2) for each in found]

    def encode_with_transformer(self, tokens):
        return self.model.ln_final(self.states(tokens)[-1 - self.layer_idx])


class FrozenOpenCLIPEmbedder2(FrozenOpenCLIPEmbedder):
    """SDXL's second: what enters the last layer, and the pooled vector of the last."""

    layer, return_pooled = "penultimate", True

    def encode_with_transformer(self, tokens):
        states = self.states(tokens)
        last = self.model.ln_final(states[-1])
        pooled = last[torch.arange(len(last)), tokens.argmax(-1)] @ self.model.text_projection
        return {"penultimate": states[-2], "last": states[-1], "pooled": pooled}
