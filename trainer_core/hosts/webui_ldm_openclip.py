"""OpenCLIP's text encoder as LoRA files name it: transformers' module names, and q, k and v as layers of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import HostError


class OpenClipText(nn.Module):
    """A view of an open_clip text encoder: computes the same from the same weights, under the names of transformers.

    open_clip holds q, k and v in one matrix and multiplies with it past every hook; here they are three layers, whose
    weights are views of it. The encoder itself is only read, so there is nothing to give back."""

    def __init__(self, model: Any):
        """model: open_clip's CLIP, whose text encoder stands in it directly. Raises HostError for an unknown build."""
        super().__init__()
        self._model = [model]  # in a list: its parameters are replaced while they are lent, so they are looked up
        self.embeddings = nn.ModuleDict({"token_embedding": model.token_embedding})
        layers = nn.ModuleList([OpenClipLayer(block) for block in model.transformer.resblocks])
        self.encoder = nn.ModuleDict({"layers": layers})
        self.final_layer_norm = model.ln_final

    def forward(self, ids: Tensor) -> list[Tensor]:
        """Token ids [B, S] → what enters the first layer and what leaves each, not normalised: each [B, S, D]."""
        states = [self.embeddings["token_embedding"](ids) + self._model[0].positional_embedding]
        for layer in self.encoder["layers"]:  # type: ignore[attr-defined]
            states.append(layer(states[-1]))
        return states

    def pooled(self, last: Tensor, ids: Tensor) -> Tensor:
        """[B, S, D], the last layer's, and its ids → [B, P]: the projected state at the end token, the largest id."""
        normed = self.final_layer_norm(last)
        at_end = normed[torch.arange(len(normed), device=normed.device), ids.argmax(-1)]
        return at_end @ self._model[0].text_projection


class OpenClipLayer(nn.Module):
    """A pre-norm transformer layer (Radford et al. 2021, arXiv:2103.00020) made of a ResidualAttentionBlock's parts."""

    def __init__(self, block: Any):
        super().__init__()
        _require_known(block)
        self.layer_norm1 = block.ln_1
        self.self_attn = SplitAttention(block.attn)
        self.layer_norm2 = block.ln_2
        self.mlp = Mlp(block.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, D] → the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class SplitAttention(nn.Module):
    """Causal self-attention by an nn.MultiheadAttention's weights, with q, k and v in layers of their own."""

    def __init__(self, fused: nn.MultiheadAttention):
        super().__init__()
        self._heads = fused.num_heads
        self.q_proj, self.k_proj, self.v_proj = (FusedPart(fused, part) for part in range(3))
        self.out_proj = fused.out_proj

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, D] → the same shape."""
        q, k, v = (self._by_head(each(x)) for each in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)


class FusedPart(nn.Linear):
    """One third of an nn.MultiheadAttention's in_proj as a Linear, on the very same numbers, wherever they are now."""

    def __init__(self, fused: nn.MultiheadAttention, part: int):
        """part: 0 for q, 1 for k, 2 for v."""
        nn.Module.__init__(self)
        self._fused = [fused]
        self.in_features = self.out_features = fused.embed_dim
        self._rows = slice(part * fused.embed_dim, (part + 1) * fused.embed_dim)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """[D, D], a view."""
        return self._fused[0].in_proj_weight[self._rows]

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """[D], a view."""
        fused = self._fused[0].in_proj_bias
        return None if fused is None else fused[self._rows]


class Mlp(nn.Module):
    """The feed-forward part under transformers' names."""

    def __init__(self, mlp: Any):
        super().__init__()
        self.fc1, self.activation, self.fc2 = mlp.c_fc, mlp.gelu, mlp.c_proj

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, D] → the same shape."""
        return self.fc2(self.activation(self.fc1(x)))


def _require_known(block: Any) -> None:
    scales = [getattr(block, name, None) for name in ("ls_1", "ls_2")]
    is_plain = all(each is None or isinstance(each, nn.Identity) for each in scales)
    attention = getattr(block, "attn", None)
    is_fused = isinstance(attention, nn.MultiheadAttention) and attention.in_proj_weight is not None
    if not (is_plain and is_fused and hasattr(block, "ln_1") and hasattr(getattr(block, "mlp", None), "c_proj")):
        raise HostError(
            f"the text encoder's {type(block).__name__} is unknown to this version; "
            "load an ordinary checkpoint, or update LazyLoRA"
        )
