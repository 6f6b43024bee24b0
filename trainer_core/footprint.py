"""What a run will take: bytes of an epoch's file, and about how much memory a step needs, before anything is computed.

Weights, adapters, gradients and optimizer state are counted. What a step keeps for its backward pass is reckoned from
the layers' shapes: with attention that keeps no matrix of scores, it is 1.9 to 2.0 times the outputs of all Linear and
Conv2d layers (measured with autograd's saved-tensor hooks on the UNets of SD 1.5 at 512 and 768 pixels, SDXL at 768 and
1024 and the tiny world, in bf16 and fp32). With gradient checkpointing it is 1.5 (SDXL) to 2.4 times (SD 1.5) the
inputs of the blocks, and the inside of one block. Where it was more than there is, a sentence says what helps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from .config import TrainConfig, text_chunks
from .data.batches import Batch
from .families.names import canonical_names
from .networks.targets import is_linear

if TYPE_CHECKING:
    from .hosts.base import Host
    from .networks.network import Network
    from .plan import Plan

_KEPT = 2.0  # bytes kept for each byte that a layer puts out
_TOKENS = 77  # in a chunk of a caption
_PIXELS = 8  # of a picture's side for each of its latent's
# what the allocators of MPS, CPUs and others say
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_LEVEL = re.compile(r"(down|up)_blocks\.(\d+)\.")
_READS_TEXT = re.compile(r"\.attn2\.to_[kv]$")
_ONCE_A_PICTURE = re.compile(r"(^|\.)(time_emb|time_embedding|add_embedding)")
_BLOCK = re.compile(r".*\.(?:resnets|transformer_blocks|layers)\.\d+(?=\.)")
_BLOCK_INPUT = re.compile(r"\.(conv1|attn1\.to_q|self_attn\.q_proj)$")


@dataclass(frozen=True)
class Footprint:
    """Bytes, of one epoch's file and of the device's memory.

    weights: of the base model, on the device while a step is computed. learner: adapters, gradients, optimizer state.
    activations: what the largest batch keeps for its backward pass, an estimate."""

    parameters: int
    file: int
    weights: int
    learner: int
    activations: int

    @property
    def memory(self) -> int:
        """Everything that is on the device in a step, about."""
        return self.weights + self.learner + self.activations

    def __str__(self) -> str:
        return (
            f"a file of about {in_words(self.file)} an epoch; about {in_words(self.memory)} of memory while it trains "
            f"({in_words(self.weights)} model, {in_words(self.learner)} adapters and optimizer, "
            f"{in_words(self.activations)} for the batch)"
        )


def footprint(
    plan: Plan, host: Host, network: Network, learner: int, dtype: torch.dtype, save_dtype: torch.dtype
) -> Footprint:
    """What the run takes, once the host's model is borrowed. learner: bytes of adapters, gradients and optimizer state.
    dtype, save_dtype: of the forward pass and of the files."""
    config = plan.config
    trained = {"unet", *network.parameters_by_component()}
    pixels, captions = largest_batch(batch for window in plan.windows(1) for batch in window)
    return Footprint(
        parameters=network.count_parameters(),
        file=network.file_size(save_dtype),
        weights=host.weight_bytes(),
        learner=learner,
        activations=activation_bytes(
            {name: module for name, module in host.components().items() if name in trained},
            pixels,
            captions,
            text_chunks(config.max_token_length),
            dtype,
            config.gradient_checkpointing,
        ),
    )


def activation_bytes(
    components: Mapping[str, nn.Module],
    latent_pixels: int,
    captions: int,
    chunks: int,
    dtype: torch.dtype,
    checkpointing: bool,
) -> int:
    """About what one batch keeps for its backward pass, by the rule above; a walk over names and shapes.

    components: those that gradients pass through. latent_pixels: of the whole batch. captions: its size. chunks: of 75
    tokens that a caption is read in."""
    tokens = captions * chunks * _TOKENS
    outputs, block_inputs, blocks = 0.0, 0.0, dict[str, float]()
    for component, module in components.items():
        names = canonical_names(component, [path for path, _ in module.named_modules() if path])
        depth = _depth(names.values())
        for path, layer in module.named_modules():
            name = names.get(path, "")
            if not name or not (isinstance(layer, nn.Conv2d) or is_linear(layer)):
                continue
            width, height = layer.weight.shape[:2]
            places = tokens if component != "unet" else _places(name, depth, latent_pixels, captions, tokens)
            outputs += places * width
            if match := _BLOCK.match(name):
                block = f"{component}.{match[0]}"
                blocks[block] = blocks.get(block, 0.0) + places * width
                block_inputs += places * height if _BLOCK_INPUT.search(name) else 0
    kept = block_inputs + max(blocks.values(), default=0.0) if checkpointing else outputs
    return round(_KEPT * kept * dtype.itemsize)


def largest_batch(batches: Iterable[Batch]) -> tuple[int, int]:
    """(latent pixels, captions) of the batch that takes most memory."""
    sizes = [(len(each) * (each.bucket[0] // _PIXELS) * (each.bucket[1] // _PIXELS), len(each)) for each in batches]
    return max(sizes, default=(0, 0))


def too_large(footprint: Footprint, device: torch.device) -> str | None:
    """A warning where the device is a GPU that has less memory than that."""
    if device.type != "cuda":
        return None
    there = torch.cuda.get_device_properties(device).total_memory
    if footprint.memory <= there:
        return None
    return (
        f"a step takes about {in_words(footprint.memory)} of memory and {device} has {in_words(there)}; "
        "turn gradient_checkpointing on, or lower batch_size or resolution"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: CUDA's has a class of its own, other devices' allocators raise a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):  # torch.OutOfMemoryError is newer than 2.1
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def out_of_memory(config: TrainConfig, device: torch.device) -> str:
    """What is said when it was too much: where, the cures that these settings leave, and that nothing is lost."""
    cures = {
        f"lower batch_size (now {config.dataset.batch_size})": config.dataset.batch_size > 1,
        "turn gradient_checkpointing on": not config.gradient_checkpointing,
        f"lower resolution (now {config.dataset.resolution})": True,
    }
    left = " or ".join(cure for cure, is_left in cures.items() if is_left)
    return f"{device} ran out of memory; {left}. What was trained is kept, and the model is as it was"


def in_words(size: int) -> str:
    """1.4 MB for 1_400_000: decimal units, as file managers and drives count."""
    for unit, bytes_in_unit in (("KB", 1e3), ("MB", 1e6)):
        if size < 999.5 * bytes_in_unit:
            return f"{size / bytes_in_unit:.3g} {unit}"
    return f"{size / 1e9:.3g} GB"


def _depth(names: Iterable[str]) -> int:
    """How many resolutions the UNet has."""
    return max((int(match[2]) + 1 for match in map(_LEVEL.match, names) if match), default=1)


def _places(name: str, depth: int, latent_pixels: int, captions: int, tokens: int) -> float:
    """At how many places a layer of the UNet is computed: pixels of its resolution, a caption's tokens, or once."""
    if _ONCE_A_PICTURE.search(name):
        return captions
    if _READS_TEXT.search(name):
        return tokens
    return latent_pixels / 4 ** _level(name, depth)


def _level(name: str, depth: int) -> int:
    """How often the resolution was halved before this layer's output: 0 is the latent's own."""
    match = _LEVEL.match(name)
    if match is None:
        return depth - 1 if name.startswith("mid_block.") else 0
    index = int(match[2])
    if match[1] == "down":
        return index + (".downsamplers." in name)
    return depth - 1 - index - (".upsamplers." in name)
