"""DyLoRA: a LoRA that is good at every rank, as each step trains it at one of them (Valipour et al. 2022,
arXiv:2210.07558; kohya's `networks.dylora`)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..config import NetworkConfig
from ..errors import ConfigError, RunError
from .base import ALGORITHMS, Layer
from .low_rank import DOWN, UP, LowRank


@ALGORITHMS.register("dylora")
class DyLora(LowRank):
    """Every step draws a rank b, a multiple of block_size, for each layer: the first b ranks compute, the last block of
    them learns, at strength alpha/rank · √(rank/b) as in kohya. Saved, previewed and continued as the whole LoRA;
    `at_rank` cuts a smaller one from its file."""

    reaches_convolutions = True

    def __init__(self, config: NetworkConfig):
        """Takes rank, alpha, block_size and the dropouts; not use_tucker, whose kernels between ranks cannot be cut.

        Raises ConfigError for dora_wd, whose lengths are those of the whole rank alone."""
        super().__init__(replace(config, use_tucker=False))
        if config.dora_wd:
            raise ConfigError("dora_wd does not go with dylora, as its ranks are cut apart; switch it off")

    def init(self, layer: Layer, generator: torch.Generator) -> dict[str, Tensor]:
        """As a LoRA. Raises ConfigError for a rank that blocks do not fill."""
        if layer.rank % self.config.block_size:
            raise ConfigError(
                f"{layer.name}: its rank ({layer.rank}) is not a multiple of block_size ({self.config.block_size}); "
                "change one of them"
            )
        return super().init(layer, generator)

    def forward(self, layer: Layer, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, seed: int | None) -> Tensor:
        """A LoRA of the rank that the seed draws; without a seed the whole one."""
        if seed is not None:
            layer, weights = self._cut(layer, weights, seed)
        return super().forward(layer, weights, x, y, seed)

    def _cut(self, layer: Layer, weights: Mapping[str, Tensor], seed: int) -> tuple[Layer, dict[str, Tensor]]:
        size, down, up = self.config.block_size, weights[DOWN], weights[UP]
        # drawn here and not on the device: it decides shapes, and a recomputed forward must draw the same
        below = random.Random(seed).randrange(layer.rank // size) * size
        rank = below + size
        cut = {
            DOWN: torch.cat((down[:below].detach(), down[below:rank])),
            UP: torch.cat((up[:, :below].detach(), up[:, below:rank]), 1),
        }
        return replace(layer, rank=rank, alpha=cut_alpha(layer.alpha, layer.rank, rank)), cut


def cut_alpha(alpha: float, rank: int, new_rank: int) -> float:
    """alpha of the first `new_rank` ranks by themselves, so that alpha / rank is the strength they were trained at."""
    return alpha * math.sqrt(new_rank / rank)


def at_rank(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The plain LoRA of this rank inside a DyLoRA file, with the effect it had in training; smaller layers stay whole.

    tensors: under kohya's keys. rank: a multiple of the block_size it was trained with, up to its rank. Raises RunError
    for tensors that are no LoRA."""
    cut: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name, _, suffix = key.partition(".")
        down = tensors.get(f"{name}.{DOWN}")
        if down is None or suffix not in (DOWN, UP, "alpha"):
            raise RunError(f"{key} belongs to no LoRA, so it cannot be cut to a rank; choose a file of algo dylora")
        whole = down.shape[0]
        kept = min(rank, whole)
        if suffix == "alpha":
            cut[key] = torch.tensor(cut_alpha(tensor.item(), whole, kept))
        else:
            cut[key] = (tensor[:kept] if suffix == DOWN else tensor[:, :kept]).contiguous()
    return cut
