"""Which layers of a model get an adapter, of what size, and how each starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import nn

from ..config import NetworkConfig
from ..errors import HostError
from ..families.base import Family
from ..families.names import canonical_names, file_keys
from .adapter import Adapter
from .base import ALGORITHMS, SEED_BITS, Algorithm, Layer, filed_alpha, has_kernel
from .blocks import read_blocks
from .dora import decomposed
from .presets import LOCON, LORA, Preset, chosen_by_patterns, preset_named
from .targets import Target, find_targets


class Builder:
    """What all adapters of a network have in common, and how one is made."""

    def __init__(self, config: NetworkConfig, family: Family, seed: int, device: torch.device | str):
        """Raises ConfigError for an unknown algorithm and settings that cannot be."""
        self._config, self._family, self._seed, self._device = config, family, seed, device
        self.algorithm = _algorithm(config)
        self._norms = self._algorithm_for_norms()
        self._blocks = read_blocks(config, family)
        self._preset = _preset(config, self.algorithm)
        self._is_left_in = chosen_by_patterns(config)

    def adapters(self, component: str, module: nn.Module) -> Iterator[Adapter]:
        """One for each layer of the component that is meant, in the model's own order. Raises HostError for a model
        whose layers are not known by name, or cannot be adapted."""
        names = canonical_names(component, [path for path, _ in module.named_modules() if path])
        if not any(LOCON.has(name) for name in names.values()):
            raise HostError(
                f'no layer of "{component}" is known by name, so nothing of it can be trained; '
                f"load {self._family.title} weights, or switch this component's training off"
            )
        keys = file_keys(self._family, component, names.values())
        for target in find_targets(module, names, self._is_meant):
            key = keys[target.name]
            algorithm = self._norms if target.is_norm else self._for_matrix(target)
            layer = self._layer(algorithm, component, key, target) if algorithm else None
            if algorithm and layer:
                yield self._adapter(algorithm, component, key, layer)

    def _is_meant(self, name: str) -> bool:
        return self._preset.has(name) and self._is_left_in(name)

    def _for_matrix(self, target: Target) -> Algorithm | None:
        is_in = self.algorithm.reaches_matrices and (self._preset.kernels or not has_kernel(target.module))
        return self.algorithm if is_in else None

    def _algorithm_for_norms(self) -> Algorithm | None:
        if self.algorithm.reaches_norms:
            return self.algorithm
        return ALGORITHMS.get("norm")(self._config) if self._config.train_norm else None

    def _layer(self, algorithm: Algorithm, component: str, key: str, target: Target) -> Layer | None:
        """The layer with the adapter's size on it; None where its block is left out."""
        rank, alpha = algorithm.size(target.module)
        if component != "unet":
            return Layer(target.module, rank, alpha, target.name)
        blocks, is_kernel = self._blocks, has_kernel(target.module)
        own_rank = blocks.rank(key, is_kernel, rank)
        if own_rank == 0:
            return None
        own_alpha = blocks.alpha(key, is_kernel)
        if own_rank != rank or own_alpha is not None:
            usual = self._alpha(is_kernel)
            alpha = filed_alpha(usual if own_alpha is None else own_alpha, own_rank, self._config.rs_lora)
        return Layer(target.module, own_rank, alpha, target.name)

    def _alpha(self, is_kernel: bool) -> float:
        own = self._config.conv_alpha if is_kernel else None
        return self._config.alpha if own is None else own

    def _adapter(self, algorithm: Algorithm, component: str, key: str, layer: Layer) -> Adapter:
        start = algorithm.init(layer, torch.Generator().manual_seed(_hashed(f"{self._seed}/{key}")))
        parameters = {suffix: nn.Parameter(each.to(self._device, torch.float32)) for suffix, each in start.items()}
        rate = self._blocks.rate(key) if component == "unet" else 1.0
        return Adapter(key, component, algorithm, layer, parameters, _hashed(key), rate)


def _algorithm(config: NetworkConfig) -> Algorithm:
    algorithm = ALGORITHMS.get(config.algo)(config)
    return decomposed(algorithm, config) if config.dora_wd else algorithm


def _preset(config: NetworkConfig, algorithm: Algorithm) -> Preset:
    name = config.preset or algorithm.usual_preset
    if name:
        return preset_named(name)
    return LOCON if algorithm.reaches_convolutions else LORA


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & SEED_BITS
