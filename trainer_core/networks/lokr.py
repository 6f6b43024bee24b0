"""LoKr: the Kronecker product of a small and a larger matrix (Yeh et al. 2023, arXiv:2309.14859; LyCORIS `lokr`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig
from ..errors import ConfigError
from .base import ALGORITHMS, BaseAlgorithm, Layer, convolved, dropped, row_mask
from .low_rank import by_column, kaiming_uniform, with_added
from .targets import Adaptable

W1, W1_A, W1_B = "lokr_w1", "lokr_w1_a", "lokr_w1_b"
W2, W2_A, W2_B = "lokr_w2", "lokr_w2_a", "lokr_w2_b"


@dataclass(frozen=True)
class Split:
    """A layer's outputs as a · b and its inputs as c · d, with a ≤ b and c ≤ d: w1 is [a, c] and w2 [b, d, kh, kw]."""

    a: int
    b: int
    c: int
    d: int


@ALGORITHMS.register("lokr", "LoKr")
class LoKr(BaseAlgorithm):
    """ΔW = scale · w1 ⊗ w2. w2 is of low rank, w2_a w2_b, unless the rank is half of its larger side or more; so is w1
    under decompose_both. Where both are whole, alpha has no say and the strength is 1.

    rank_dropout drops rows of ΔW and dropout values of its output, as in LyCORIS (which never rescales)."""

    suffixes: tuple[str, ...] = (W1, W1_A, W1_B, W2, W2_A, W2_B)
    multiplied: tuple[str, ...] = suffixes
    reaches_convolutions = True

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha, the dropouts, factor, full_matrix and decompose_both.

        Raises ConfigError for a factor of 0, and for use_tucker, whose files neither ComfyUI nor LyCORIS can load."""
        super().__init__(config)
        if config.factor == 0:
            raise ConfigError('"network.factor" is 0; give -1, or a number of 1 and more')
        if config.use_tucker:
            raise ConfigError("use_tucker with lokr makes files that ComfyUI and LyCORIS cannot load; switch it off")
        self._factor, self._is_full, self._decomposes_both = config.factor, config.full_matrix, config.decompose_both

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """w1 (w1_a, w1_b) and w2_a ~ Kaiming-uniform(√5); w2, or w2_b, is 0: as LyCORIS draws them."""
        split, rank = self._split(layer.module), layer.rank
        kernel = tuple(layer.module.weight.shape[2:])
        start: dict[str, Tensor] = {}
        if self._has_low_rank_w1(layer):
            start[W1_A] = kaiming_uniform(split.a, rank, generator=generator)
            start[W1_B] = kaiming_uniform(rank, split.c, generator=generator)
        else:
            start[W1] = kaiming_uniform(split.a, split.c, generator=generator)
        if not self._has_low_rank_w2(layer):
            start[W2] = torch.zeros(split.b, split.d, *kernel)
        else:
            start[W2_A] = kaiming_uniform(split.b, rank, generator=generator)
            start[W2_B] = torch.zeros(rank, split.d * layer.module.weight[0, 0].numel())
        return start

    def constants(self, layer: Layer) -> dict[str, Tensor]:
        """alpha, which is the rank where loaders, finding both matrices whole, have none to divide it by."""
        return {"alpha": torch.tensor(float(layer.alpha if self._has_scale(layer) else layer.rank))}

    def delta(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """scale · w1 ⊗ w2, shaped like the layer's weight."""
        w1, w2 = _w1(weights), self._w2(layer, weights)
        whole = torch.kron(w1.view(*w1.shape, *(1,) * (w2.ndim - 2)), w2)
        return self._scale(layer) * whole

    def sum_of_squares(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """scale² · ‖w1‖² · ‖w2‖²."""
        return self._scale(layer) ** 2 * _w1(weights).square().sum() * self._w2(layer, weights).square().sum()

    def column_moments(self, layer: Layer, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(⟨W, ΔW⟩, ‖ΔW‖²) for each input of the layer, fp32 [in]; ‖ΔW‖² is a Kronecker product itself."""
        w1, w2, scale = _w1(weights).float(), self._w2(layer, weights).float(), self._scale(layer)
        squares = torch.kron(w1.square().sum(0), w2.square().sum((0, *range(2, w2.ndim))))
        cross = self.delta(layer, weights).flatten(1).float() * layer.module.weight.detach().flatten(1)
        return by_column(layer, cross), scale**2 * squares

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """y + ΔW x, with w1 and w2 applied in turn to x laid out as c × d: ΔW is never built."""
        x = x.to(next(iter(weights.values())).dtype)
        if isinstance(layer.module, nn.Conv2d):
            added = self._through_convolution(layer, weights, x)
        else:
            inner, last = self._inner_and_last(layer, weights, x)
            if seed is None or not (self.dropout or self.rank_dropout):
                return with_added(layer.module, y, inner, last, self._scale(layer))
            added = F.linear(inner, last * self._scale(layer)).view(y.shape)
        kept = row_mask(layer.module.weight.shape[0], added, self.rank_dropout, seed)
        if kept is not None:
            added = added * (kept.view(-1, 1, 1) if isinstance(layer.module, nn.Conv2d) else kept)
        added = dropped(added, self.dropout, seed)
        return (y.to(added.dtype) + added).to(y.dtype)

    def _inner_and_last(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """All but the last product, [tokens, a, k], and the last factor, [b, k]; k is d, or the rank."""
        split, w1 = self._split(layer.module), _w1(weights)
        h = x.reshape(-1, split.c, split.d)
        if W2 in weights:
            return torch.matmul(w1, h), weights[W2]
        return torch.matmul(w1, F.linear(h, weights[W2_B])), weights[W2_A]

    def _through_convolution(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        module, split, batch = layer.module, self._split(layer.module), x.shape[0]
        assert isinstance(module, nn.Conv2d)
        h = x.reshape(batch * split.c, split.d, *x.shape[2:])
        if W2 in weights:
            h = convolved(module, h, weights[W2])
        else:
            h = convolved(module, h, weights[W2_B].view(-1, split.d, *module.kernel_size))
            h = F.conv2d(h, weights[W2_A][:, :, None, None])
        height, width = h.shape[2:]
        h = torch.matmul(_w1(weights) * self._scale(layer), h.reshape(batch, split.c, -1))
        return h.view(batch, split.a * split.b, height, width)

    def _w2(self, layer: Layer, weights: Mapping[str, Tensor]) -> Tensor:
        """[b, d], on convolutions [b, d, kh, kw]."""
        if W2 in weights:
            return weights[W2]
        return (weights[W2_A] @ weights[W2_B]).view(-1, self._split(layer.module).d, *layer.module.weight.shape[2:])

    def _split(self, module: Adaptable) -> Split:
        out, inputs = module.weight.shape[:2]
        return Split(*factors(out, self._factor), *factors(inputs, self._factor))

    def _has_low_rank_w1(self, layer: Layer) -> bool:
        split = self._split(layer.module)
        return self._decomposes_both and not self._is_full and layer.rank < max(split.a, split.c) / 2

    def _has_low_rank_w2(self, layer: Layer) -> bool:
        split = self._split(layer.module)
        return not self._is_full and layer.rank < max(split.b, split.d) / 2

    def _has_scale(self, layer: Layer) -> bool:
        return self._has_low_rank_w1(layer) or self._has_low_rank_w2(layer)

    def _scale(self, layer: Layer) -> float:
        return layer.scale if self._has_scale(layer) else 1.0


@cache
def factors(dimension: int, factor: int = -1) -> tuple[int, int]:
    """(small, large) with small · large = dimension, as LyCORIS splits it.

    factor: the small one where it divides the dimension (the large one where it is the larger); else, and with -1, the
    divisor up to `factor` that makes the two most alike. 360 → (4, 90) at 4, (15, 24) at 16, (18, 20) at -1."""
    if factor > 0 and dimension % factor == 0:
        return min(factor, dimension // factor), max(factor, dimension // factor)
    limit = dimension if factor < 0 else factor
    small = max(each for each in range(1, int(dimension**0.5) + 1) if dimension % each == 0 and each <= limit)
    return small, dimension // small


def _w1(weights: Mapping[str, Tensor]) -> Tensor:
    return weights[W1] if W1 in weights else weights[W1_A] @ weights[W1_B]
