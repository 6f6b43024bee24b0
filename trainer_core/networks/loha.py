"""LoHa: the elementwise product of two low-rank matrices (Hyeon-Woo et al. 2021, arXiv:2108.06098; LyCORIS `loha`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from .base import ALGORITHMS, BaseAlgorithm, Layer, applied, dropped, has_kernel, row_mask
from .low_rank import by_column, low_rank_column_moments, with_added

W1_A, W1_B, W2_A, W2_B, T1, T2 = "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"


@ALGORITHMS.register("loha", "LoHa")
class LoHa(BaseAlgorithm):
    """ΔW = scale · (w1_a w1_b) ∘ (w2_a w2_b); under use_tucker each half is t, w_a and w_b multiplied together.

    rank_dropout drops rows of ΔW and dropout values of its output, as in LyCORIS (which never rescales)."""

    suffixes: tuple[str, ...] = (W1_A, W1_B, W2_A, W2_B, T1, T2)
    multiplied: tuple[str, ...] = suffixes
    reaches_convolutions = True

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha, the dropouts and use_tucker."""
        super().__init__(config)
        self._use_tucker = config.use_tucker

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """w1_a ~ N(0, 0.1), w1_b and w2_b ~ N(0, 1), w2_a = 0; t ~ N(0, 0.1), as LyCORIS draws them.

        w_a [out, rank], w_b [rank, in · kh · kw]; under use_tucker, where there is a kernel, w_a [rank, out], w_b
        [rank, in], t [rank, rank, kh, kw]."""
        out, inputs, *kernel = layer.module.weight.shape
        rank, is_tucker = layer.rank, self._use_tucker and has_kernel(layer.module)
        a = (rank, out) if is_tucker else (out, rank)
        b = (rank, inputs if is_tucker else layer.module.weight[0].numel())
        start = {
            W1_A: torch.empty(a).normal_(std=0.1, generator=generator),
            W1_B: torch.empty(b).normal_(generator=generator),
            W2_A: torch.zeros(a),
            W2_B: torch.empty(b).normal_(generator=generator),
        }
        if is_tucker:
            start |= {t: torch.empty(rank, rank, *kernel).normal_(std=0.1, generator=generator) for t in (T1, T2)}
        return start

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """scale · (w1_a w1_b) ∘ (w2_a w2_b), shaped like the layer's weight."""
        first = _half(weights, W1_A, W1_B, T1)
        second = _half(weights, W2_A, W2_B, T2)
        return (layer.scale * first * second).view(layer.module.weight.shape)

    def column_moments(self, layer: Layer, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(⟨W, ΔW⟩, ‖ΔW‖²) for each input of the layer, fp32 [in]."""
        if is_thin(layer, weights):
            return low_rank_column_moments(layer, *as_low_rank(weights))
        delta = self.delta(layer, weights).flatten(1).float()
        weight = layer.module.weight.detach().flatten(1)
        return by_column(layer, delta * weight), by_column(layer, delta * delta)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + ΔW x. A LoHa of rank r is a LoRA of rank r²; while that is thin it is computed as one, else ΔW is built
        and applied by itself: added to W first, small changes of half-precision weights would be rounded away."""
        module, x = layer.module, x.to(weights[W1_A].dtype)
        drops = seed is not None and bool(self.dropout or self.rank_dropout)
        if is_thin(layer, weights) and not drops:
            down, up = as_low_rank(weights)
            one = (1, 1) if isinstance(module, nn.Conv2d) else ()
            inner = applied(module, x, down.view(-1, *module.weight.shape[1:]))
            return with_added(module, y, inner, up.view(*up.shape, *one), layer.scale)
        delta = self.delta(layer, weights)
        kept = row_mask(delta.shape[0], delta, self.rank_dropout, seed)
        if kept is not None:
            delta = delta * kept.view(-1, *(1,) * (delta.ndim - 1))
        added = dropped(applied(module, x, delta), self.dropout, seed)
        return (y.to(added.dtype) + added).to(y.dtype)


def is_thin(layer: Layer, weights: Mapping[str, Tensor]) -> bool:
    """Whether a LoRA of rank r² costs less than ΔW itself."""
    out, inner = layer.module.weight.shape[0], layer.module.weight[0].numel()
    return T1 not in weights and layer.rank**2 * (out + inner) <= out * inner


def as_low_rank(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(down [r², in · kh · kw], up [out, r²]) with up · down = ΔW / scale: the factors' Khatri-Rao products."""
    down = weights[W1_B].unsqueeze(1) * weights[W2_B]
    up = weights[W1_A].unsqueeze(2) * weights[W2_A].unsqueeze(1)
    return down.flatten(0, 1), up.flatten(1)


def _half(weights: Mapping[str, Tensor], a: str, b: str, t: str) -> Tensor:
    if t not in weights:
        return weights[a] @ weights[b]
    return torch.einsum("ijkl,jr,ip->prkl", weights[t], weights[b], weights[a])
