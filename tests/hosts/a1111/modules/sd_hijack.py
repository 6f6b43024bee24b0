"""What A1111 patches in and into a loaded model: attention, text encoders, token embeddings, tiling."""

import ldm.modules.attention
import ldm.modules.openaimodel
import sgm.modules.attention
import torch
from modules import sd_hijack_clip, sd_hijack_open_clip, sd_unet
from torch import nn

UNet = ldm.modules.openaimodel.UNetModel
UNet.forward = sd_unet.create_unet_forward(UNet.forward)


def sliced_attention(self, x, context=None, mask=None, **_):
    """Slow in backward, as the optimisations for small cards are."""
    context = x if context is None else context
    q, k, v = (
        each.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)
        for each in (self.to_q(x), self.to_k(context), self.to_v(context))
    )
    slices = [(one_q @ one_k.T * self.scale).softmax(-1) @ one_v for one_q, one_k, one_v in zip(q, k, v)]
    return self.to_out(torch.stack(slices).unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2))


class EmbeddingsWithFixes(nn.Module):
    def __init__(self, wrapped, embeddings):
        super().__init__()
        self.wrapped, self.embeddings = wrapped, embeddings

    def forward(self, input_ids):
        fixes, self.embeddings.fixes = self.embeddings.fixes, None
        embedded = self.wrapped(input_ids)
        if not fixes or not any(fixes):
            return embedded
        rows = []
        for of_row, row in zip(fixes, embedded):
            for offset, vectors in of_row:
                row = torch.cat([row[: offset + 1], vectors, row[offset + 1 + len(vectors) :]])
            rows.append(row)
        return torch.stack(rows)


class StableDiffusionModelHijack:
    def __init__(self):
        self.fixes, self.layers, self.clip, self.circular_enabled, self.embedding_db = None, None, None, False, {}

    def hijack(self, model):
        if hasattr(model, "conditioner"):
            embedders = model.conditioner.embedders
            embedders[0] = self._wrapped_clip(embedders[0], sd_hijack_clip.FrozenCLIPEmbedderForSDXLWithCustomWords)
            embedders[1] = self._wrapped_open_clip(embedders[1])
            model.cond_stage_model = model.conditioner
        elif hasattr(model.cond_stage_model, "model"):
            model.cond_stage_model = self._wrapped_open_clip(model.cond_stage_model)
        else:
            wrapper = sd_hijack_clip.FrozenCLIPEmbedderWithCustomWords
            model.cond_stage_model = self._wrapped_clip(model.cond_stage_model, wrapper)
        for module in (ldm.modules.attention, sgm.modules.attention):
            module.CrossAttention.forward = sliced_attention
        self.clip, self.layers = model.cond_stage_model, list(model.modules())

    def apply_circular(self, enable):
        if self.circular_enabled == enable:
            return
        self.circular_enabled = enable
        for layer in self.layers:
            if type(layer) is nn.Conv2d:
                layer.padding_mode = "circular" if enable else "zeros"

    def _wrapped_clip(self, embedder, wrapper):
        embeddings = embedder.transformer.text_model.embeddings
        embeddings.token_embedding = EmbeddingsWithFixes(embeddings.token_embedding, self)
        return wrapper(embedder, self)

    def _wrapped_open_clip(self, embedder):
        embedder.model.token_embedding = EmbeddingsWithFixes(embedder.model.token_embedding, self)
        return sd_hijack_open_clip.FrozenOpenCLIPEmbedderWithCustomWords(embedder, self)


model_hijack = StableDiffusionModelHijack()
