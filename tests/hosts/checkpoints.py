"""Checkpoints with random weights in the real layouts, thin enough that a run on two cores takes seconds.

Every level of the UNets is 320 channels wide, which is all that the hosts' detection asks for; the blocks, their names
and numbers are those of the real models, so that key tables and loaders meet what they meet in life."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = Iterator[tuple[str, tuple[int, ...]]]
_NOISE = 4_194_301  # one pool of normal numbers, read from another place for each tensor: drawing them all is slow


@dataclass(frozen=True)
class UnetLayout:
    """A UNet in the latent-diffusion layout: attention depth per level on the way down, per level on the way up."""

    context: int
    depths: tuple[int, ...]
    middle_depth: int
    linear: bool
    size_channels: int | None = None
    channels: int = 320
    in_channels: int = 4


SD1_UNET = UnetLayout(context=768, depths=(1, 1, 1, 0), middle_depth=1, linear=False)
SD1_INPAINT_UNET = UnetLayout(context=768, depths=(1, 1, 1, 0), middle_depth=1, linear=False, in_channels=9)
SD2_UNET = UnetLayout(context=1024, depths=(1, 1, 1, 0), middle_depth=1, linear=True)
# Segmind-Vega's depths: the smallest that ComfyUI takes for SDXL
SDXL_UNET = UnetLayout(context=2048, depths=(0, 1, 2), middle_depth=1, linear=True, size_channels=2816)


def write_sd1(path: Path, text_layers: int = 12, thin_vae: bool = False, inpaint: bool = False, seed: int = 0) -> Path:
    """A Stable Diffusion 1.5 checkpoint, or its inpainting variant with nine input channels.

    thin_vae: TAESD's layout, a hundred times cheaper than the real one."""
    unet = SD1_INPAINT_UNET if inpaint else SD1_UNET
    shapes = [
        *_prefixed("model.diffusion_model.", _unet(unet)),
        *_prefixed("first_stage_model.", _thin_vae() if thin_vae else _vae()),
        *_prefixed("cond_stage_model.transformer.text_model.", _clip(768, 3072, text_layers)),
    ]
    return _write(path, shapes, seed)


def write_sd2(path: Path, text_layers: int = 24, thin_vae: bool = False, seed: int = 0) -> Path:
    """A Stable Diffusion 2 checkpoint (epsilon-predicting base model)."""
    shapes = [
        *_prefixed("model.diffusion_model.", _unet(SD2_UNET)),
        *_prefixed("first_stage_model.", _thin_vae() if thin_vae else _vae()),
        *_prefixed("cond_stage_model.model.", _open_clip(1024, 4096, text_layers)),
    ]
    return _write(path, shapes, seed)


def write_sdxl(
    path: Path,
    text_layers: tuple[int, int] = (12, 32),
    thin_vae: bool = False,
    velocity: bool = False,
    seed: int = 0,
) -> Path:
    """An SDXL checkpoint; `velocity` marks it as velocity-predicting with zero terminal SNR."""
    shapes = [
        *_prefixed("model.diffusion_model.", _unet(SDXL_UNET)),
        *_prefixed("first_stage_model.", _thin_vae() if thin_vae else _vae()),
        *_prefixed("conditioner.embedders.0.transformer.text_model.", _clip(768, 3072, text_layers[0])),
        *_prefixed("conditioner.embedders.1.model.", _open_clip(1280, 5120, text_layers[1])),
    ]
    marks = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])} if velocity else {}
    return _write(path, shapes, seed, marks)


def _write(path: Path, shapes: list[tuple[str, tuple[int, ...]]], seed: int, marks: dict | None = None) -> Path:
    noise = torch.randn(_NOISE, generator=torch.Generator().manual_seed(seed)).half()
    tensors = {key: _weight(key, shape, noise, place) for place, (key, shape) in enumerate(shapes)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**tensors, **(marks or {})}, str(path))
    return path


def _weight(key: str, shape: tuple[int, ...], noise: torch.Tensor, place: int) -> torch.Tensor:
    """fp16 values that keep activations of order one, so that pictures react to prompt, seed and adapter."""
    size, start = math.prod(shape), (place * 7919) % (len(noise) // 2)
    values = noise[start:].repeat(math.ceil(size / (len(noise) - start)))[:size].view(shape)
    if not shape:
        return torch.tensor(1.0 if key.endswith("scale") else 0.0)
    if "embedding" in key:
        return values * 0.5
    if len(shape) == 1:
        return values * 0.05 + (1.0 if key.endswith("weight") else 0.0)
    return values / math.sqrt(math.prod(shape[1:]))


def _prefixed(prefix: str, shapes: Shapes) -> Shapes:
    for key, shape in shapes:
        yield prefix + key, shape


def _linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    yield name + ".weight", (out, into)
    if bias:
        yield name + ".bias", (out,)


def _conv(name: str, out: int, into: int, kernel: int = 3) -> Shapes:
    yield name + ".weight", (out, into, kernel, kernel)
    yield name + ".bias", (out,)


def _norm(name: str, channels: int) -> Shapes:
    yield name + ".weight", (channels,)
    yield name + ".bias", (channels,)


def _unet(layout: UnetLayout) -> Shapes:
    c, embedding, last = layout.channels, 4 * layout.channels, len(layout.depths) - 1
    yield from _linear("time_embed.0", embedding, c)
    yield from _linear("time_embed.2", embedding, embedding)
    if layout.size_channels:
        yield from _linear("label_emb.0.0", embedding, layout.size_channels)
        yield from _linear("label_emb.0.2", embedding, embedding)
    yield from _conv("input_blocks.0.0", c, layout.in_channels)
    index = 1
    for level, depth in enumerate(layout.depths):
        for _ in range(2):
            yield from _res_block(f"input_blocks.{index}.0", c, c, embedding)
            yield from _transformer(f"input_blocks.{index}.1", layout, depth)
            index += 1
        if level != last:
            yield from _conv(f"input_blocks.{index}.0.op", c, c)
            index += 1
    yield from _res_block("middle_block.0", c, c, embedding)
    yield from _transformer("middle_block.1", layout, layout.middle_depth)
    yield from _res_block("middle_block.2", c, c, embedding)
    index = 0
    for level in reversed(range(last + 1)):
        for block in range(3):
            yield from _res_block(f"output_blocks.{index}.0", c, 2 * c, embedding)
            yield from _transformer(f"output_blocks.{index}.1", layout, layout.depths[level])
            if level and block == 2:
                place = 2 if layout.depths[level] else 1
                yield from _conv(f"output_blocks.{index}.{place}.conv", c, c)
            index += 1
    yield from _norm("out.0", c)
    yield from _conv("out.2", 4, c)


def _res_block(name: str, out: int, into: int, embedding: int) -> Shapes:
    yield from _norm(f"{name}.in_layers.0", into)
    yield from _conv(f"{name}.in_layers.2", out, into)
    yield from _linear(f"{name}.emb_layers.1", out, embedding)
    yield from _norm(f"{name}.out_layers.0", out)
    yield from _conv(f"{name}.out_layers.3", out, out)
    if out != into:
        yield from _conv(f"{name}.skip_connection", out, into, 1)


def _transformer(name: str, layout: UnetLayout, depth: int) -> Shapes:
    if not depth:
        return
    c = layout.channels
    yield from _norm(f"{name}.norm", c)
    for projection in ("proj_in", "proj_out"):
        full = f"{name}.{projection}"
        yield from _linear(full, c, c) if layout.linear else _conv(full, c, c, 1)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, source in (("attn1", c), ("attn2", layout.context)):
            yield from _linear(f"{block}.{attention}.to_q", c, c, bias=False)
            yield from _linear(f"{block}.{attention}.to_k", c, source, bias=False)
            yield from _linear(f"{block}.{attention}.to_v", c, source, bias=False)
            yield from _linear(f"{block}.{attention}.to_out.0", c, c)
        yield from _linear(f"{block}.ff.net.0.proj", 8 * c, c)
        yield from _linear(f"{block}.ff.net.2", c, 4 * c)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _norm(f"{block}.{norm}", c)


def _vae() -> Shapes:
    widths = (128, 256, 512, 512)
    yield from _conv("encoder.conv_in", widths[0], 3)
    into = widths[0]
    for level, out in enumerate(widths):
        for block in range(2):
            yield from _vae_block(f"encoder.down.{level}.block.{block}", out, into)
            into = out
        if level < 3:
            yield from _conv(f"encoder.down.{level}.downsample.conv", out, out)
    yield from _vae_middle("encoder.mid", into)
    yield from _norm("encoder.norm_out", into)
    yield from _conv("encoder.conv_out", 8, into)
    yield from _conv("decoder.conv_in", into, 4)
    yield from _vae_middle("decoder.mid", into)
    for level in reversed(range(4)):
        for block in range(3):
            yield from _vae_block(f"decoder.up.{level}.block.{block}", widths[level], into)
            into = widths[level]
        if level:
            yield from _conv(f"decoder.up.{level}.upsample.conv", into, into)
    yield from _norm("decoder.norm_out", into)
    yield from _conv("decoder.conv_out", 3, into)
    yield from _conv("quant_conv", 8, 8, 1)
    yield from _conv("post_quant_conv", 4, 4, 1)


def _vae_block(name: str, out: int, into: int) -> Shapes:
    yield from _norm(f"{name}.norm1", into)
    yield from _conv(f"{name}.conv1", out, into)
    yield from _norm(f"{name}.norm2", out)
    yield from _conv(f"{name}.conv2", out, out)
    if out != into:
        yield from _conv(f"{name}.nin_shortcut", out, into, 1)


def _vae_middle(name: str, width: int) -> Shapes:
    for block in ("block_1", "block_2"):
        yield from _vae_block(f"{name}.{block}", width, width)
    yield from _norm(f"{name}.attn_1.norm", width)
    for projection in ("q", "k", "v", "proj_out"):
        yield from _conv(f"{name}.attn_1.{projection}", width, width, 1)


def _thin_vae() -> Shapes:
    yield "vae_scale", ()
    yield "vae_shift", ()
    # kinds of layers in order: (c)onvolution, (f)ree of bias, (b)lock; anything else has no weights
    for part, layers, into, out in (("encoder", "cbfbbbfbbbfbbbc", 3, 4), ("decoder", "-c-bbb-fbbb-fbbb-fbc", 4, 3)):
        convolutions = [place for place, kind in enumerate(layers) if kind in "cf"]
        for place, kind in enumerate(layers):
            name = f"taesd_{part}.{place}"
            first, last = place == convolutions[0], place == convolutions[-1]
            if kind == "b":
                for inner in (0, 2, 4):
                    yield from _conv(f"{name}.conv.{inner}", 64, 64)
            elif kind == "c":
                yield from _conv(name, out if last else 64, into if first else 64)
            elif kind == "f":
                yield f"{name}.weight", (64, 64, 3, 3)


def _clip(width: int, inner: int, layers: int) -> Shapes:
    yield "embeddings.token_embedding.weight", (49408, width)
    yield "embeddings.position_embedding.weight", (77, width)
    for index in range(layers):
        layer = f"encoder.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{projection}", width, width)
        yield from _linear(f"{layer}.mlp.fc1", inner, width)
        yield from _linear(f"{layer}.mlp.fc2", width, inner)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _norm(f"{layer}.layer_norm2", width)
    yield from _norm("final_layer_norm", width)


def _open_clip(width: int, inner: int, layers: int) -> Shapes:
    yield "token_embedding.weight", (49408, width)
    yield "positional_embedding", (77, width)
    yield "text_projection", (width, width)
    for index in range(layers):
        layer = f"transformer.resblocks.{index}"
        yield f"{layer}.attn.in_proj_weight", (3 * width, width)
        yield f"{layer}.attn.in_proj_bias", (3 * width,)
        yield from _linear(f"{layer}.attn.out_proj", width, width)
        yield from _linear(f"{layer}.mlp.c_fc", inner, width)
        yield from _linear(f"{layer}.mlp.c_proj", width, inner)
        yield from _norm(f"{layer}.ln_1", width)
        yield from _norm(f"{layer}.ln_2", width)
    yield from _norm("ln_final", width)
