"""The adapters of one run: built on a host's model, hooked on while it trains, saved under kohya's names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..errors import ConfigError, HostError, RunError
from ..families.base import Family
from ..families.names import canonical_names, file_keys
from .base import ALGORITHMS, Algorithm, Layer
from .targets import Target, find_targets

_SEED_BITS = (1 << 63) - 1


@dataclass(frozen=True, eq=False)
class Adapter:
    """One adapted layer: its key in the file, its parameters and the tensors that stand in for them in the forward.

    `seed` is a hash of the key, so that no two layers draw alike. `active` is filled by `Network.bind`."""

    key: str
    component: str
    layer: Layer
    parameters: Mapping[str, nn.Parameter]
    seed: int
    active: dict[str, Tensor] = field(default_factory=dict)


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
    Raises ConfigError for an unknown algorithm or nothing to train, HostError for layers that cannot be adapted."""
    algorithm = ALGORITHMS.get(config.algo)(config)
    chosen = {name: module for name, module in components.items() if _is_trained(name, config)}
    if not chosen:
        raise ConfigError("nothing to train: switch on train_unet or train_text_encoder")
    # hosts run nodes in inference mode; tensors made in it could never be trained
    with torch.inference_mode(False):
        adapters = [
            _new_adapter(algorithm, component, key, target, seed, device)
            for component, module in chosen.items()
            for key, target in _keyed_targets(algorithm, component, module, family)
        ]
    return Network(algorithm, adapters)


class Network:
    """Every adapter of a run. Hooks are only on the base model inside `attached()`; parameters are fp32 masters."""

    def __init__(self, algorithm: Algorithm, adapters: list[Adapter]):
        """Use `build_network`."""
        self.algorithm = algorithm
        self.adapters = tuple(adapters)
        self.is_attached = False
        self._step_seed = 0
        self._is_random = True
        self.bind(None)

    def parameters_by_component(self) -> dict[str, dict[str, nn.Parameter]]:
        """component → name → fp32 parameter; a name is the tensor's key in the file (`lora_te_….lora_up.weight`).

        The parameters' `.data` and `.grad` may be replaced (by views into one flat buffer); shapes must stay."""
        found: dict[str, dict[str, nn.Parameter]] = {}
        for adapter in self.adapters:
            of_component = found.setdefault(adapter.component, {})
            of_component.update((f"{adapter.key}.{suffix}", each) for suffix, each in adapter.parameters.items())
        return found

    def bind(self, weights: Mapping[str, Tensor] | None) -> None:
        """Compute with these tensors instead of the parameters: copies in the compute dtype, one per parameter.

        weights: "component/name" → tensor shaped like that parameter; None: back to the parameters. They are kept,
        not copied, so they may be refreshed in place each step. Raises ValueError for a missing or misshapen one."""
        for adapter in self.adapters:
            for suffix, parameter in adapter.parameters.items():
                tensor = parameter if weights is None else weights.get(f"{adapter.component}/{adapter.key}.{suffix}")
                if tensor is None or tensor.shape != parameter.shape:
                    raise ValueError(f"bind: no tensor of shape {tuple(parameter.shape)} for {adapter.key}.{suffix}")
                adapter.active[suffix] = tensor

    def begin(self, step_seed: int) -> None:
        """Start a step: what is random in the forwards that follow is a function of (step_seed, layer) alone.

        Call it once per batch, and not between a batch's forward and its backward: a block that gradient checkpointing
        recomputes must draw the same dropout mask again. Give every batch of a run another step_seed."""
        self._step_seed = step_seed

    @contextmanager
    def attached(self) -> Iterator[Network]:
        """Put the adapters on the base model as forward hooks; on exit they are off again, whatever happened.

        Nothing else of the base model changes. Raises RuntimeError if this network is attached already."""
        if self.is_attached:
            raise RuntimeError("this network is attached already")
        with ExitStack() as hooks:
            self.is_attached = True
            hooks.callback(setattr, self, "is_attached", False)
            for adapter in self.adapters:
                handle = adapter.layer.module.register_forward_hook(self._hook(adapter))
                hooks.callback(handle.remove)
            yield self

    @contextmanager
    def without_randomness(self) -> Iterator[Network]:
        """For previews: no dropout inside."""
        before, self._is_random = self._is_random, False
        try:
            yield self
        finally:
            self._is_random = before

    def state_dict(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The file's tensors under kohya's keys: contiguous copies on the CPU, in `dtype`; alpha stays fp32."""
        found: dict[str, Tensor] = {}
        for adapter in self.adapters:
            for suffix, parameter in adapter.parameters.items():
                found[f"{adapter.key}.{suffix}"] = parameter.detach().to("cpu", dtype, copy=True).contiguous()
            constants = self.algorithm.constants(adapter.layer)
            found.update((f"{adapter.key}.{suffix}", each) for suffix, each in constants.items())
        return found

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a file that this very network (same model, algorithm, rank and alpha) has written.

        Nothing is changed unless everything fits. Raises RunError naming what is missing, left over or different."""
        expected = self.state_dict()
        _require_same_keys(expected.keys(), tensors.keys())
        for key, ours in expected.items():
            theirs = tensors[key]
            if theirs.shape != ours.shape:
                raise RunError(
                    f"{key} is {tuple(theirs.shape)}, not {tuple(ours.shape)}: set the rank it was trained with"
                )
        for adapter in self.adapters:
            for suffix, ours in self.algorithm.constants(adapter.layer).items():
                theirs = tensors[f"{adapter.key}.{suffix}"]
                if not torch.allclose(theirs.float(), ours.float(), rtol=1e-2):  # alpha may have been saved in bf16
                    raise RunError(f"{adapter.key}.{suffix} is {theirs.item():g}, not {ours.item():g}: set it back")
        with torch.no_grad():
            for name, parameter in self._named_parameters():
                parameter.copy_(tensors[name])

    def delta_weights(self) -> dict[str, Tensor]:
        """Each adapted layer's ΔW by its key, fp32 and shaped like its weight: what the LoRA adds at strength 1."""
        with torch.no_grad():
            return {each.key: self.algorithm.delta(each.layer, each.parameters) for each in self.adapters}

    def count_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for _, parameter in self._named_parameters())

    def file_size(self, dtype: torch.dtype) -> int:
        """Bytes of the saved file, within a few percent, its metadata not counted."""
        header_per_tensor = 150  # key, dtype, shape and offsets as JSON
        tensors = sum(len(each.parameters) + len(self.algorithm.constants(each.layer)) for each in self.adapters)
        return self.count_parameters() * dtype.itemsize + tensors * header_per_tensor

    def _named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for adapter in self.adapters:
            for suffix, parameter in adapter.parameters.items():
                yield f"{adapter.key}.{suffix}", parameter

    def _hook(self, adapter: Adapter) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        forward, layer, active = self.algorithm.forward, adapter.layer, adapter.active

        def add_adapter(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seed = (self._step_seed * 0x9E3779B97F4A7C15 + adapter.seed) & _SEED_BITS if self._is_random else None
            return forward(layer, active, inputs[0], output, seed)

        return add_adapter


def _is_trained(component: str, config: NetworkConfig) -> bool:
    return config.train_unet if component == "unet" else config.train_text_encoder


def _keyed_targets(
    algorithm: Algorithm, component: str, module: nn.Module, family: Family
) -> Iterator[tuple[str, Target]]:
    names = canonical_names(component, [path for path, _ in module.named_modules() if path])
    targets = find_targets(module, names, algorithm.reaches_convolutions)
    if not targets:
        raise HostError(
            f'no layer of "{component}" is known by name, so nothing of it can be trained; '
            f"load {family.title} weights, or switch this component's training off"
        )
    keys = file_keys(family, component, names.values())
    return ((keys[target.name], target) for target in targets)


def _new_adapter(
    algorithm: Algorithm, component: str, key: str, target: Target, seed: int, device: torch.device | str
) -> Adapter:
    layer = Layer(target.module, *algorithm.size(target.module))
    start = algorithm.init(layer, torch.Generator().manual_seed(_hashed(f"{seed}/{key}")))
    parameters = {suffix: nn.Parameter(each.to(device, torch.float32)) for suffix, each in start.items()}
    return Adapter(key, component, layer, parameters, seed=_hashed(key))


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & _SEED_BITS


def _require_same_keys(expected: Collection[str], given: Collection[str]) -> None:
    missing, extra = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if missing or extra:
        counted = ((missing, "missing"), (extra, "unknown"))
        gaps = [f"{len(keys)} {what} (such as {keys[0]})" for keys, what in counted if keys]
        raise RunError(
            f"this file is not of the network that is being trained: {', '.join(gaps)}; "
            "set the model, algorithm and components it was trained with"
        )
