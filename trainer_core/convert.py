"""Trained files in forms that more programs load: a DyLoRA cut to one rank, (IA)³ as differences of whole weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from .config import NetworkConfig
from .errors import RunError
from .families.base import Family
from .families.names import canonical_names, file_keys
from .files.lora_file import load_lora, save_lora
from .networks.dylora import at_rank, cut_alpha
from .networks.ia3 import as_differences

_NOT_OF_A_LORA = ("algo", "block_size", "unit")


def cut_dylora(source: Path, target: Path, rank: int) -> None:
    """Write the plain LoRA of this rank that a DyLoRA file holds, with the effect that it had in training.

    Raises RunError for a file that says it is no DyLoRA, for a rank that was not trained, and if `target` exists."""
    tensors, metadata = load_lora(source)
    options = _network_options(metadata)
    if options.get("algo") == "dylora":  # ours, which writes the block size where it is not the usual one
        block = int(options.get("block_size", NetworkConfig().block_size))
    elif metadata.get("ss_network_module") == "networks.dylora":
        block = int(options.get("unit", 1))
    else:
        raise RunError(f"{source}: was not trained as a DyLoRA, so no part of it stands by itself; choose one that was")
    whole = int(metadata.get("ss_network_dim", rank))
    if rank % block or not 0 < rank <= whole:
        raise RunError(f"{source}: was trained at ranks {block}, {2 * block}, … {whole}; {rank} is none of them")
    save_lora(target, at_rank(tensors, rank), {**metadata, **_as_plain_lora(metadata, options, whole, rank)})


def spell_out_ia3(
    source: Path,
    target: Path,
    components: Mapping[str, nn.Module],
    family: Family,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write an (IA)³ file as differences of the weights of the model that it was trained on; see `as_differences`.

    components: that model's UNet and text encoders. Raises RunError for a file of another kind or of another model, and
    if `target` exists."""
    tensors, metadata = load_lora(source)
    modules = {key: each for name, module in components.items() for key, each in _by_key(name, module, family)}
    differences = as_differences(tensors, modules, dtype)
    save_lora(target, differences, {**metadata, "ss_network_args": json.dumps({"algo": "full"})})


def _by_key(component: str, module: nn.Module, family: Family) -> list[tuple[str, nn.Module]]:
    names = canonical_names(component, [path for path, _ in module.named_modules() if path])
    keys = file_keys(family, component, names.values())
    return [(keys[name], module.get_submodule(path)) for path, name in names.items() if name in keys]


def _as_plain_lora(metadata: Mapping[str, str], options: dict[str, str], whole: int, rank: int) -> dict[str, str]:
    alpha = float(metadata.get("ss_network_alpha", whole)) or whole
    kept = {key: value for key, value in options.items() if key not in _NOT_OF_A_LORA}
    if "conv_dim" in kept:
        conv = int(kept["conv_dim"])
        conv_alpha = float(kept.get("conv_alpha", conv)) or conv
        kept |= {"conv_dim": str(min(rank, conv)), "conv_alpha": f"{cut_alpha(conv_alpha, conv, min(rank, conv)):g}"}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{cut_alpha(alpha, whole, rank):g}",
        "ss_network_args": json.dumps(kept),
    }


def _network_options(metadata: Mapping[str, str]) -> dict[str, str]:
    try:
        options = json.loads(metadata.get("ss_network_args") or "{}")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in options.items()} if isinstance(options, dict) else {}
