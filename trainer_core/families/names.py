"""One name per module, whatever the host calls it: the UNet's as in diffusers, the text encoders' as in transformers.

ComfyUI and A1111 hold the UNet in Stability's layout ("LDM": `input_blocks.4.1`), diffusers in its own
(`down_blocks.1.attentions.0`). Which is which depends on the number of levels and of blocks per level, so the structure
is read off the names themselves; small and pruned models translate like the full ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from ..errors import HostError
from .base import Family

_LDM_EDGES = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_LDM_RESNET = {
    "": "",
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_DIFFUSERS_RESNET = {theirs: ours for ours, theirs in _LDM_RESNET.items()}
_LDM_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.([a-z_]+)")
_LDM_MIDDLE = re.compile(r"middle_block\.(\d+)\.([a-z_]+)")
_DIFFUSERS_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")
_DIFFUSERS_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)")
_CLIP_MODULE = re.compile(r"(?:^|\.)(embeddings|encoder\.layers|final_layer_norm|text_projection)(\..+)?$")


@dataclass(frozen=True)
class Level:
    """One resolution of a UNet: its resnets, the resnets that an attention block follows, and whether it resamples."""

    resnets: int
    attentions: frozenset[int]
    resamples: bool


@dataclass(frozen=True)
class UnetStructure:
    """How a UNet's blocks are laid out: enough to translate every module name between the two layouts.

    down runs from the highest resolution to the lowest, up back again; the middle alternates resnets and attentions."""

    down: tuple[Level, ...]
    middle_resnets: int
    middle_attentions: int
    up: tuple[Level, ...]


def canonical_names(component: str, module_paths: Iterable[str]) -> dict[str, str]:
    """Each host path with its canonical name, in the order given; paths that have none (plain containers) are left out.

    component: "unet", or a text encoder ("te1", "te2"). module_paths: all of that component's, since the UNet's
    structure is read off them. Raises HostError for a UNet that is built otherwise, and for two modules of one name."""
    paths = list(module_paths)
    named = _unet_names(paths) if component == "unet" else _clip_names(paths)
    _require_distinct(component, named)
    return named


def file_keys(family: Family, component: str, canonical: Iterable[str]) -> dict[str, str]:
    """Each canonical name with its module's key in a LoRA file: `lora_unet_down_blocks_0_attentions_0_proj_in`.

    canonical: all of the component's names, since the LDM layout of SDXL files depends on the whole structure."""
    names = list(canonical)
    in_file = ldm_names(names) if component == "unet" and family.unet_key_layout == "ldm" else {n: n for n in names}
    prefix = family.prefixes[component]
    return {name: f"{prefix}_{there.replace('.', '_')}" for name, there in in_file.items()}


def ldm_names(canonical: Iterable[str]) -> dict[str, str]:
    """A diffusers UNet's module names with their names in the LDM layout; containers are left out."""
    names = list(canonical)
    blocks = {diffusers: ldm for ldm, diffusers in _paired_blocks(_structure_of_diffusers(names))}
    edges = {diffusers: ldm for ldm, diffusers in _LDM_EDGES.items()}
    return _translated(names, edges, blocks, _DIFFUSERS_RESNET)


def diffusers_names(ldm: Iterable[str]) -> dict[str, str]:
    """An LDM UNet's module names with their names in the diffusers layout; containers are left out."""
    names = list(ldm)
    blocks = dict(_paired_blocks(_structure_of_ldm(names)))
    return _translated(names, _LDM_EDGES, blocks, _LDM_RESNET)


def unet_structure(module_paths: Iterable[str]) -> UnetStructure:
    """The layout of a UNet, read off its module names in either layout. Raises HostError if it is built differently."""
    paths = list(module_paths)
    return _structure_of_ldm(paths) if _is_ldm(paths) else _structure_of_diffusers(paths)


def _unet_names(paths: list[str]) -> dict[str, str]:
    if _is_ldm(paths):
        return diffusers_names(paths)
    if not any(path.startswith("down_blocks.") for path in paths):
        raise HostError(
            "this model's UNet has neither input_blocks nor down_blocks: it is no Stable Diffusion UNet; "
            "load an SD 1.x, SD 2.x or SDXL checkpoint"
        )
    return {path: path for path in paths if path}


def _is_ldm(paths: list[str]) -> bool:
    return any(path.startswith("input_blocks.") for path in paths)


def _clip_names(paths: list[str]) -> dict[str, str]:
    found = ((path, _CLIP_MODULE.search(path)) for path in paths)
    return {path: _clip_name(*match.groups("")) for path, match in found if match}


def _clip_name(head: str, rest: str) -> str:
    # transformers 5.6 dropped `text_model.`; files and hosts keep it. The projection stands beside the text model.
    return head + rest if head == "text_projection" else f"text_model.{head}{rest}"


def _require_distinct(component: str, named: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for path, name in named.items():
        if name in first:
            raise HostError(
                f'"{component}" holds two modules named {name} ({first[name]} and {path}); '
                "hand over each network as a component of its own"
            )
        first[name] = path


def _paired_blocks(structure: UnetStructure) -> Iterator[tuple[str, str]]:
    """(LDM, diffusers) prefixes of every resnet, attention block and resampling convolution."""
    number = 1  # input_blocks.0 is conv_in
    for level_number, level in enumerate(structure.down):
        for layer in range(level.resnets):
            yield f"input_blocks.{number}.0", f"down_blocks.{level_number}.resnets.{layer}"
            if layer in level.attentions:
                yield f"input_blocks.{number}.1", f"down_blocks.{level_number}.attentions.{layer}"
            number += 1
        if level.resamples:
            yield f"input_blocks.{number}.0.op", f"down_blocks.{level_number}.downsamplers.0.conv"
            number += 1
    for position, block in enumerate(_middle_blocks(structure)):
        yield f"middle_block.{position}", f"mid_block.{block}"
    number = 0
    for level_number, level in enumerate(structure.up):
        for layer in range(level.resnets):
            yield f"output_blocks.{number}.0", f"up_blocks.{level_number}.resnets.{layer}"
            if layer in level.attentions:
                yield f"output_blocks.{number}.1", f"up_blocks.{level_number}.attentions.{layer}"
            if level.resamples and layer == level.resnets - 1:
                position = 2 if layer in level.attentions else 1
                yield f"output_blocks.{number}.{position}.conv", f"up_blocks.{level_number}.upsamplers.0.conv"
            number += 1


def _middle_blocks(structure: UnetStructure) -> list[str]:
    resnets = (f"resnets.{index}" for index in range(structure.middle_resnets))
    attentions = (f"attentions.{index}" for index in range(structure.middle_attentions))
    return [block for pair in zip_longest(resnets, attentions) for block in pair if block]


def _translated(
    paths: Iterable[str], edges: Mapping[str, str], blocks: Mapping[str, str], resnet: Mapping[str, str]
) -> dict[str, str]:
    translated = {}
    for path in paths:
        if path in edges:
            translated[path] = edges[path]
            continue
        head = next((head for head in _heads(path) if head in blocks), None)
        if head is None:
            continue
        inside = path[len(head) + 1 :]
        if "resnets" in head or "resnets" in blocks[head]:
            if inside not in resnet:
                continue
            inside = resnet[inside]
        translated[path] = f"{blocks[head]}.{inside}".rstrip(".")
    return translated


def _heads(path: str) -> Iterator[str]:
    """The path and its parents, nearest first."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _structure_of_ldm(paths: Iterable[str]) -> UnetStructure:
    blocks: dict[str, dict[int, dict[int, set[str]]]] = {"input_blocks": {}, "output_blocks": {}}
    middle: dict[int, set[str]] = defaultdict(set)
    for path in paths:
        if block := _LDM_BLOCK.match(path):
            stem, number, position, inner = block[1], int(block[2]), int(block[3]), block[4]
            blocks[stem].setdefault(number, {}).setdefault(position, set()).add(inner)
        elif block := _LDM_MIDDLE.match(path):
            middle[int(block[1])].add(block[2])
    down = [(f"input_blocks.{n}", each) for n, each in sorted(blocks["input_blocks"].items()) if n > 0]
    up = [(f"output_blocks.{n}", each) for n, each in sorted(blocks["output_blocks"].items())]
    _require_all_numbers([*blocks["input_blocks"]], "input_blocks")
    _require_all_numbers([*blocks["output_blocks"]], "output_blocks")
    kinds = [_kind(inner, f"middle_block.{position}") for position, inner in sorted(middle.items())]
    return UnetStructure(
        down=tuple(_levels(_layers(down))),
        middle_resnets=kinds.count("resnet"),
        middle_attentions=kinds.count("attention"),
        up=tuple(_levels(_layers(up))),
    )


def _require_all_numbers(numbers: list[int], stem: str) -> None:
    # input_blocks.0 is a lone convolution, which names need not show
    missing = set(range(1 if stem == "input_blocks" else 0, max(numbers, default=0))) - set(numbers)
    if missing:
        raise HostError(f"this UNet has no {stem}.{min(missing)}: give every module name of the UNet, not some of them")


def _layers(blocks: Iterable[tuple[str, Mapping[int, set[str]]]]) -> Iterator[set[str]]:
    """What each numbered block holds: some of "resnet", "attention" and "resample"."""
    for name, positions in blocks:
        yield {_kind(inner, f"{name}.{position}") for position, inner in positions.items()}


def _kind(inner: set[str], block: str) -> str:
    if "in_layers" in inner:
        return "resnet"
    if "transformer_blocks" in inner:
        return "attention"
    if inner & {"op", "conv"}:
        return "resample"
    raise HostError(
        f"this UNet's {block} is neither a resnet, nor a transformer, nor a resampling convolution; "
        "load an SD 1.x, SD 2.x or SDXL checkpoint"
    )


def _levels(layers: Iterable[set[str]]) -> Iterator[Level]:
    """Levels out of consecutive layers: a resampling one, with or without its own resnet, ends a level."""
    resnets, attentions = 0, set()
    for layer in layers:
        if "attention" in layer:
            attentions.add(resnets)
        resnets += "resnet" in layer
        if "resample" in layer:
            yield Level(resnets, frozenset(attentions), resamples=True)
            resnets, attentions = 0, set()
    if resnets:
        yield Level(resnets, frozenset(attentions), resamples=False)


def _structure_of_diffusers(paths: Iterable[str]) -> UnetStructure:
    found: dict[tuple[str, int], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    middle: dict[str, set[int]] = {"resnets": set(), "attentions": set()}
    for path in paths:
        if block := _DIFFUSERS_BLOCK.match(path):
            found[block[1], int(block[2])][block[3]].add(int(block[4]))
        elif block := _DIFFUSERS_MIDDLE.match(path):
            middle[block[1]].add(int(block[2]))
    levels = {
        side: tuple(
            Level(len(kinds["resnets"]), frozenset(kinds["attentions"]), bool(kinds[resampler]))
            for (stem, _), kinds in sorted(found.items())
            if stem == side
        )
        for side, resampler in (("down_blocks", "downsamplers"), ("up_blocks", "upsamplers"))
    }
    return UnetStructure(levels["down_blocks"], len(middle["resnets"]), len(middle["attentions"]), levels["up_blocks"])
