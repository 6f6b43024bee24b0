"""The adapters of one run: built on a host's model, hooked on while it trains, saved under kohya's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..config import NetworkConfig, trains_text_encoder
from ..errors import ConfigError
from ..families.base import Family
from .adapter import Adapter, LearningGroup, named_parameters
from .base import Algorithm
from .building import Builder
from .filed import file_bytes, file_tensors, take_over
from .hooks import Hooks


def build_network(
    config: NetworkConfig,
    components: Mapping[str, nn.Module],
    family: Family,
    seed: int,
    device: torch.device | str = "cpu",
) -> Network:
    """Adapters for the layers of the chosen components that the algorithm targets; ΔW is 0 at the start.

    components: "unet", "te1", "te2" → the host's modules, which stay untouched until `attached`. Each adapter's start
    follows from (seed, its key) alone: no global random state, no dependence on the order of the modules.
    Raises ConfigError for an unknown algorithm, settings that cannot be or nothing to train, HostError for layers that
    cannot be adapted."""
    builder = Builder(config, family, seed, device)
    chosen = {name: module for name, module in components.items() if _is_trained(name, config)}
    if not chosen:
        raise ConfigError("nothing to train: switch on train_unet or train_text_encoder")
    # hosts run nodes in inference mode; tensors made in it could never be trained
    with torch.inference_mode(False):
        adapters = [each for component, module in chosen.items() for each in builder.adapters(component, module)]
    if not adapters:
        raise ConfigError("nothing to train: no layer is left by preset, include, exclude and the blocks; widen them")
    if config.train_norm and not any(each.algorithm.reaches_norms for each in adapters):
        raise ConfigError("train_norm finds no norm among the chosen layers; choose another preset, or switch it off")
    return Network(builder.algorithm, adapters, config.module_dropout)


class Network:
    """Every adapter of a run. Hooks are only on the base model inside `attached()`; parameters are fp32 masters."""

    def __init__(self, algorithm: Algorithm, adapters: list[Adapter], module_dropout: float = 0.0):
        """Use `build_network`."""
        self.algorithm = algorithm
        self.adapters = tuple(adapters)
        self._hooks = Hooks(self.adapters, module_dropout)
        self.bind(None)

    def parameters_by_component(self) -> dict[str, dict[str, nn.Parameter]]:
        """component → name → fp32 parameter; a name is the tensor's key in the file (`lora_te_….lora_up.weight`).

        The parameters' `.data` and `.grad` may be replaced (by views into one flat buffer); shapes must stay."""
        found: dict[str, dict[str, nn.Parameter]] = {}
        for adapter in self.adapters:
            found.setdefault(adapter.component, {}).update(named_parameters([adapter]))
        return found

    def groups(self) -> list[LearningGroup]:
        """Every parameter once, by what it learns with: a component, or the blocks of one that share a factor."""
        found: dict[str, list[Adapter]] = {}
        for adapter in self.adapters:
            found.setdefault(adapter.group, []).append(adapter)
        return [
            LearningGroup(name, alike[0].component, alike[0].rate, dict(named_parameters(alike)))
            for name, alike in found.items()
        ]

    def bind(self, weights: Mapping[str, Tensor] | None) -> None:
        """Compute with these tensors instead of the parameters: copies in the compute dtype, one per parameter.

        weights: "group/name" → tensor shaped like that parameter; None: back to the parameters. They are kept, not
        copied, so they may be refreshed in place each step. Where an algorithm needs fp32, the parameter itself stays.
        Raises ValueError for a missing or misshapen one."""
        for adapter in self.adapters:
            for suffix, parameter in adapter.parameters.items():
                tensor = parameter if weights is None else weights.get(f"{adapter.group}/{adapter.key}.{suffix}")
                if tensor is None or tensor.shape != parameter.shape:
                    raise ValueError(f"bind: no tensor of shape {tuple(parameter.shape)} for {adapter.key}.{suffix}")
                adapter.active[suffix] = parameter if suffix in adapter.algorithm.precise else tensor

    def begin(self, step_seed: int) -> None:
        """Start a step: what is random in the forwards that follow is a function of (step_seed, layer) alone.

        Call it once per batch, and not between a batch's forward and its backward: a block that gradient checkpointing
        recomputes must draw the same dropout mask again. Give every batch of a run another step_seed."""
        self._hooks.step_seed = step_seed

    @property
    def is_attached(self) -> bool:
        """Whether the hooks are on the base model."""
        return self._hooks.are_on

    @contextmanager
    def attached(self) -> Iterator[Network]:
        """Put the adapters on the base model as forward hooks; on exit they are off again, whatever happened.

        Nothing else of the base model changes. Raises RuntimeError if this network is attached already."""
        with self._hooks.on():
            yield self

    @contextmanager
    def without_randomness(self) -> Iterator[Network]:
        """For previews: no dropout inside."""
        with self._hooks.without_randomness():
            yield self

    def state_dict(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """See `file_tensors`."""
        return file_tensors(self.adapters, dtype)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a file that this very network (same model, algorithm, rank and alpha) has written.

        Nothing is changed unless everything fits. Raises RunError naming what is missing, left over or different, and
        for a file from which its algorithm cannot go on."""
        take_over(self.adapters, tensors)

    def delta_weights(self) -> dict[str, Tensor]:
        """Each adapted layer's ΔW by its key, fp32 and shaped like its weight: what the LoRA adds at strength 1."""
        with torch.no_grad():
            return {each.key: each.algorithm.delta(each.layer, each.parameters) for each in self.adapters}

    def delta_biases(self) -> dict[str, Tensor]:
        """Δbias, fp32, by key, of the layers whose bias is trained too."""
        with torch.no_grad():
            found = {each.key: each.algorithm.delta_bias(each.layer, each.parameters) for each in self.adapters}
        return {key: delta for key, delta in found.items() if delta is not None}

    def count_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for _, parameter in named_parameters(self.adapters))

    def file_size(self, dtype: torch.dtype) -> int:
        """Bytes of the saved file, within a few percent, its metadata not counted."""
        return file_bytes(self.adapters, dtype)


def _is_trained(component: str, config: NetworkConfig) -> bool:
    return config.train_unet if component == "unet" else trains_text_encoder(config)
