"""The adapters of one run: built on a host's model, hooked on while it trains, saved under kohya's names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..config import NetworkConfig, trains_text_encoder
from ..errors import ConfigError, HostError, RunError
from ..families.base import Family
from ..families.names import canonical_names, file_keys
from .base import ALGORITHMS, Algorithm, Layer, drawn_share, filed_alpha, has_kernel
from .blocks import read_blocks
from .dora import decomposed
from .presets import LOCON, LORA, Preset, chosen_by_patterns, preset_named
from .targets import Target, find_targets

_SEED_BITS = (1 << 63) - 1
_MODULE_DROPOUT = 2  # which of a layer's draws it is; see base.varied


@dataclass(frozen=True, eq=False)
class Adapter:
    """One adapted layer: its key in the file, its parameters and the tensors that stand in for them in the forward.

    rate: the factor of its component's learning rate. `seed` is a hash of the key, so that no two layers draw alike.
    `active` is filled by `Network.bind`."""

    key: str
    component: str
    algorithm: Algorithm
    layer: Layer
    parameters: Mapping[str, nn.Parameter]
    seed: int
    rate: float = 1.0
    active: dict[str, Tensor] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The name of those that learn alike: the component's, with the factor where it is not 1."""
        return self.component if self.rate == 1 else f"{self.component} x{self.rate:g}"


@dataclass(frozen=True)
class LearningGroup:
    """Parameters that share a learning rate: `rate` times that of their component. Named as in the file."""

    name: str
    component: str
    rate: float
    parameters: Mapping[str, nn.Parameter]


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
    builder = _Builder(config, family, seed, device)
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
        self._module_dropout = module_dropout
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

    def groups(self) -> list[LearningGroup]:
        """Every parameter once, by what it learns with: a component, or the blocks of one that share a factor."""
        found: dict[str, list[Adapter]] = {}
        for adapter in self.adapters:
            found.setdefault(adapter.group, []).append(adapter)
        return [
            LearningGroup(name, alike[0].component, alike[0].rate, dict(_named_parameters(alike)))
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
                algorithm, module = adapter.algorithm, adapter.layer.module
                if algorithm.changes_input(adapter.layer):
                    hooks.callback(module.register_forward_pre_hook(self._input_hook(adapter)).remove)
                if algorithm.changes_output(adapter.layer):
                    hooks.callback(module.register_forward_hook(self._hook(adapter)).remove)
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
        """The file's tensors under kohya's keys: contiguous copies on the CPU, in `dtype`; alpha, and what an algorithm
        needs precise, stays fp32."""
        found: dict[str, Tensor] = {}
        for adapter in self.adapters:
            with torch.no_grad():
                exported = adapter.algorithm.exported(adapter.layer, adapter.parameters)
            for suffix, tensor in exported.items():
                kind = torch.float32 if suffix in adapter.algorithm.precise else dtype
                found[f"{adapter.key}.{suffix}"] = tensor.detach().to("cpu", kind, copy=True).contiguous()
            constants = adapter.algorithm.constants(adapter.layer)
            found.update((f"{adapter.key}.{suffix}", each) for suffix, each in constants.items())
        return found

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a file that this very network (same model, algorithm, rank and alpha) has written.

        Nothing is changed unless everything fits. Raises RunError naming what is missing, left over or different, and
        for a file from which its algorithm cannot go on."""
        expected = self.state_dict()
        _require_same_keys(expected.keys(), tensors.keys())
        for key, ours in expected.items():
            theirs = tensors[key]
            if theirs.shape != ours.shape:
                raise RunError(
                    f"{key} is {tuple(theirs.shape)}, not {tuple(ours.shape)}: set the rank it was trained with"
                )
        for adapter in self.adapters:
            for suffix, ours in adapter.algorithm.constants(adapter.layer).items():
                theirs = tensors[f"{adapter.key}.{suffix}"]
                if not torch.allclose(theirs.float(), ours.float(), rtol=1e-2):  # alpha may have been saved in bf16
                    raise RunError(f"{adapter.key}.{suffix} is {theirs.item():g}, not {ours.item():g}: set it back")
        with torch.no_grad():
            by_key = _by_key(tensors)
            imported = [each.algorithm.imported(each.layer, by_key[each.key]) for each in self.adapters]
            for adapter, values in zip(self.adapters, imported, strict=True):
                for suffix, parameter in adapter.parameters.items():
                    parameter.copy_(values[suffix])

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
        return sum(parameter.numel() for _, parameter in _named_parameters(self.adapters))

    def file_size(self, dtype: torch.dtype) -> int:
        """Bytes of the saved file, within a few percent, its metadata not counted."""
        header_per_tensor = 150  # key, dtype, shape and offsets as JSON
        return sum(_filed_bytes(each, dtype, header_per_tensor) for each in self.adapters)

    def _hook(self, adapter: Adapter) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        forward, layer, active = adapter.algorithm.forward, adapter.layer, adapter.active

        def add_adapter(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seed = self._seed(adapter)
            return output if self._is_dropped(seed) else forward(layer, active, inputs[0], output, seed)

        return add_adapter

    def _input_hook(self, adapter: Adapter) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        change, layer, active = adapter.algorithm.input, adapter.layer, adapter.active

        def change_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            seed = self._seed(adapter)
            return inputs if self._is_dropped(seed) else (change(layer, active, inputs[0], seed), *inputs[1:])

        return change_input

    def _seed(self, adapter: Adapter) -> int | None:
        return (self._step_seed * 0x9E3779B97F4A7C15 + adapter.seed) & _SEED_BITS if self._is_random else None

    def _is_dropped(self, seed: int | None) -> bool:
        """Whether module_dropout leaves this layer as it is in this step: decided on the host, for no device waits."""
        return (
            bool(self._module_dropout)
            and seed is not None
            and drawn_share(seed, _MODULE_DROPOUT) < self._module_dropout
        )


class _Builder:
    """What all adapters of a network have in common, and how one is made."""

    def __init__(self, config: NetworkConfig, family: Family, seed: int, device: torch.device | str):
        self._config, self._family, self._seed, self._device = config, family, seed, device
        self.algorithm = _algorithm(config)
        self._norms = self._algorithm_for_norms()
        self._blocks = read_blocks(config, family)
        self._preset = _preset(config, self.algorithm)
        self._is_left_in = chosen_by_patterns(config)

    def adapters(self, component: str, module: nn.Module) -> Iterator[Adapter]:
        """One for each layer of the component that is meant, in the model's own order."""
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


def _is_trained(component: str, config: NetworkConfig) -> bool:
    return config.train_unet if component == "unet" else trains_text_encoder(config)


def _named_parameters(adapters: Iterable[Adapter]) -> Iterator[tuple[str, nn.Parameter]]:
    return (
        (f"{adapter.key}.{suffix}", parameter)
        for adapter in adapters
        for suffix, parameter in adapter.parameters.items()
    )


def _filed_bytes(adapter: Adapter, dtype: torch.dtype, header_per_tensor: int) -> int:
    with torch.no_grad():
        exported = adapter.algorithm.exported(adapter.layer, adapter.parameters)
    precise, constants = adapter.algorithm.precise, adapter.algorithm.constants(adapter.layer)
    numbers = sum(each.numel() * (4 if suffix in precise else dtype.itemsize) for suffix, each in exported.items())
    return numbers + (len(exported) + len(constants)) * header_per_tensor


def _by_key(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, suffix = name.partition(".")
        found.setdefault(key, {})[suffix] = tensor
    return found


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
