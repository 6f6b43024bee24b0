"""A UNet block's own rank, alpha and learning rate, by kohya's numbering of blocks.

SD 1 and 2 have 25: 12 down (0, the input convolution, has no adapter in kohya's sets), the middle, 12 up. SDXL has 23:
the embeddings, 9 input blocks, 3 middle ones, 9 output blocks and the output. (kohya's `networks/lora.py`.)"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..config import NetworkConfig
from ..errors import ConfigError
from ..families.base import Family

_SD_BLOCK = re.compile(r"(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_")
_SDXL_BLOCK = re.compile(r"(input|middle|output)_blocks?_(\d+)_")
_SDXL_FIRST = {"input": 1, "middle": 10, "output": 13}
_CURVES: dict[str, Callable[[float], float]] = {
    "sine": lambda share: math.sin(math.pi * share / 2),
    "cosine": lambda share: math.sin(math.pi * (1 - share) / 2),
    "linear": lambda share: share,
    "reverse_linear": lambda share: 1 - share,
    "zeros": lambda share: 0.0,
}


@dataclass(frozen=True)
class Blocks:
    """What is set block by block; a tuple is empty where nothing is. A rank or rate of 0 leaves the block out."""

    is_sdxl: bool
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    conv_ranks: tuple[int, ...] = ()
    conv_alphas: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()

    def rank(self, key: str, is_kernel: bool, usual: int) -> int:
        """The rank of the layer with this file key; 0 leaves it out. is_kernel: a convolution of more than a pixel."""
        index = self._index(key)
        if index is None:
            return usual
        if self.rates and self.rates[index] == 0:
            return 0
        ranks = self.conv_ranks if is_kernel else self.ranks
        return ranks[index] if ranks else usual

    def alpha(self, key: str, is_kernel: bool) -> float | None:
        """The alpha that is set for the layer with this file key (0: its rank), or None."""
        index = self._index(key)
        alphas = self.conv_alphas if is_kernel else self.alphas
        return None if index is None or not alphas else alphas[index]

    def rate(self, key: str) -> float:
        """The learning-rate factor of the layer with this file key."""
        index = self._index(key)
        return 1.0 if index is None or not self.rates else self.rates[index]

    def _index(self, key: str) -> int | None:
        return block_index(key, self.is_sdxl)


def read_blocks(config: NetworkConfig, family: Family) -> Blocks:
    """The block-wise settings, checked. Raises ConfigError for a list of another length or of something else."""
    is_sdxl = family.name == "sdxl"
    count = 23 if is_sdxl else 25
    ranks = tuple(int(rank) for rank in _numbers("block_dims", config.block_dims, count))
    alphas = _numbers("block_alphas", config.block_alphas, count)
    conv_ranks = tuple(int(rank) for rank in _numbers("conv_block_dims", config.conv_block_dims, count))
    conv_alphas = _numbers("conv_block_alphas", config.conv_block_alphas, count)
    # convolutions follow the other layers where nothing is said of them, as conv_rank follows rank
    if not conv_ranks and config.conv_rank is None:
        conv_ranks = ranks
    if not conv_alphas and config.conv_alpha is None:
        conv_alphas = alphas
    return Blocks(is_sdxl, ranks, alphas, conv_ranks, conv_alphas, _rates(config, is_sdxl))


def block_index(key: str, is_sdxl: bool) -> int | None:
    """kohya's number of the block that a UNet layer's file key lies in; None outside of the blocks."""
    if is_sdxl:
        found = _SDXL_BLOCK.search(key)
        return _SDXL_FIRST[found[1]] + int(found[2]) if found else None
    if "_mid_block_" in key:
        return 12
    found = _SD_BLOCK.search(key)
    if found is None:
        return None
    side, level, kind, place = found[1], int(found[2]), found[3], int(found[4])
    return (1 if side == "down" else 13) + 3 * level + (2 if kind.endswith("samplers") else place)


def _rates(config: NetworkConfig, is_sdxl: bool) -> tuple[float, ...]:
    written = (config.down_lr_weight, config.mid_lr_weight, config.up_lr_weight)
    if not any(written):
        return ()
    names = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
    lengths = (9, 3, 9) if is_sdxl else (12, 1, 12)
    sides = [_weights(name, text, length) for name, text, length in zip(names, written, lengths, strict=True)]
    threshold = config.block_lr_zero_threshold
    rates = tuple(rate if rate > threshold else 0.0 for side in sides for rate in side)
    return (1.0, *rates, 1.0) if is_sdxl else rates


def _weights(name: str, text: str, count: int) -> list[float]:
    curve, _, base = text.partition("+")
    if curve.strip() in _CURVES:
        height = _CURVES[curve.strip()]
        added = _number(name, base) if base else 0.0
        return [height(place / max(count - 1, 1)) + added for place in range(count)]
    return list(_numbers(name, text, count)) or [1.0] * count


def _numbers(name: str, text: str, count: int) -> tuple[float, ...]:
    if not text.strip():
        return ()
    numbers = tuple(_number(name, part) for part in text.split(","))
    if len(numbers) != count:
        raise ConfigError(
            f'"network.{name}" has {len(numbers)} numbers; this model has {count} blocks, give one for each'
        )
    return numbers


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise ConfigError(
            f'"network.{name}" has "{text.strip()}" in it; give numbers of at least 0 with commas between'
        )
    return number
