"""LDM and diffusers names are the same modules, for any UNet; text encoders are called alike in every version."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_core.errors import HostError
from trainer_core.families import FAMILIES, SD1, SDXL
from trainer_core.families.names import canonical_names, diffusers_names, file_keys, ldm_names, unet_structure

RESNET = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
ATTENTION = ("norm", "proj_in", "proj_out")
BLOCK = (
    *(f"attn{n}.{proj}" for n in (1, 2) for proj in ("to_q", "to_k", "to_v", "to_out.0")),
    *("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"),
)


def ldm_unet(blocks: list[int], down_depths: list[int], up_depths: list[int], middle: int | None) -> list[str]:
    """Module names of Stability's UNetModel, written after its constructor: depth 0 means no transformer."""
    paths = ["time_embed.0", "time_embed.2", "input_blocks.0.0"]

    def resnet(at: str, skip: bool = False) -> None:
        paths.extend(f"{at}.{name}" for name in (*RESNET, *(["skip_connection"] if skip else [])))

    def attention(at: str, depth: int) -> None:
        paths.extend(f"{at}.{name}" for name in ATTENTION)
        paths.extend(f"{at}.transformer_blocks.{n}.{name}" for n in range(depth) for name in BLOCK)

    number = 1
    for level, count in enumerate(blocks):
        for layer in range(count):
            resnet(f"input_blocks.{number}.0", skip=layer == 0 and level > 0)
            if down_depths[level]:
                attention(f"input_blocks.{number}.1", down_depths[level])
            number += 1
        if level < len(blocks) - 1:
            paths.append(f"input_blocks.{number}.0.op")
            number += 1
    if middle is not None:
        resnet("middle_block.0")
        if middle:
            attention("middle_block.1", middle)
            resnet("middle_block.2")
    number = 0
    for level in reversed(range(len(blocks))):
        for layer in range(blocks[level] + 1):
            resnet(f"output_blocks.{number}.0", skip=True)
            position = 1
            if up_depths[level]:
                attention(f"output_blocks.{number}.1", up_depths[level])
                position = 2
            if level and layer == blocks[level]:
                paths.append(f"output_blocks.{number}.{position}.conv")
            number += 1
    return [*paths, "out.0", "out.2"]


@st.composite
def unets(draw: st.DrawFn) -> list[str]:
    levels = draw(st.integers(1, 5))

    def per_level(strategy: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(strategy, min_size=levels, max_size=levels))

    depths = st.integers(0, 2)
    middle = draw(st.sampled_from([None, 0, 1, 2]))
    return ldm_unet(per_level(st.integers(1, 3)), per_level(depths), per_level(depths), middle)


@settings(max_examples=60, deadline=None)
@given(unets())
def test_every_ldm_name_translates_and_translates_back(paths: list[str]) -> None:
    there = diffusers_names(paths)
    assert list(there) == paths
    assert len(set(there.values())) == len(paths)
    assert ldm_names(there.values()) == {name: path for path, name in there.items()}


@settings(max_examples=30, deadline=None)
@given(unets(), st.randoms())
def test_order_of_the_names_does_not_matter(paths: list[str], random) -> None:
    shuffled = random.sample(paths, len(paths))
    assert diffusers_names(shuffled) == diffusers_names(paths)
    assert unet_structure(shuffled) == unet_structure(diffusers_names(paths).values())


CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
LAYOUTS = {
    "sd15": (2, (1, 1, 1, 0), (1, 1, 1, 1)),
    "two levels, one block each": (1, (1, 0), (1, 1)),
    "sdxl": (2, (0, 2, 10), (1, 2, 10)),
    "vega": (2, (0, 1, 2), (1, 1, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_are_those_of_diffusers_own_models(layout: str) -> None:
    layers, depths, transformers = LAYOUTS[layout]
    with torch.device("meta"):
        model = UNet2DConditionModel(
            block_out_channels=tuple(32 * (n + 1) for n in range(len(depths))),
            down_block_types=tuple(CROSS if depth else PLAIN for depth in depths),
            up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
            layers_per_block=layers,
            transformer_layers_per_block=transformers,
            cross_attention_dim=16,
            attention_head_dim=8,
        )
    parameterized = {path for path, module in model.named_modules() if [*module.parameters(recurse=False)]}
    ldm = ldm_unet([layers] * len(depths), list(depths), list(depths), transformers[-1])
    translated = set(diffusers_names(ldm).values())
    assert translated == parameterized
    assert set(ldm_names(path for path, _ in model.named_modules()).values()) >= set(ldm)


def test_containers_have_no_canonical_name() -> None:
    paths = [
        "input_blocks",
        "input_blocks.1",
        *ldm_unet([1], [1], [1], 1),
        "middle_block",
        "input_blocks.1.0.in_layers",
    ]
    assert not {"input_blocks", "input_blocks.1", "middle_block", "input_blocks.1.0.in_layers"} & set(
        canonical_names("unet", paths)
    )


def test_known_sdxl_and_sd15_names() -> None:
    sd15 = diffusers_names(ldm_unet([2] * 4, [1, 1, 1, 0], [1, 1, 1, 0], 1))
    assert sd15["input_blocks.4.1.transformer_blocks.0.attn1.to_q"] == (
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    )
    assert sd15["input_blocks.3.0.op"] == "down_blocks.0.downsamplers.0.conv"
    assert sd15["output_blocks.2.1.conv"] == "up_blocks.0.upsamplers.0.conv"
    assert sd15["output_blocks.5.2.conv"] == "up_blocks.1.upsamplers.0.conv"
    assert sd15["middle_block.2.out_layers.3"] == "mid_block.resnets.1.conv2"
    sdxl = diffusers_names(ldm_unet([2] * 3, [0, 2, 10], [0, 2, 10], 10))
    assert sdxl["input_blocks.8.1.proj_out"] == "down_blocks.2.attentions.1.proj_out"
    assert sdxl["output_blocks.2.2.conv"] == "up_blocks.0.upsamplers.0.conv"
    assert sdxl["output_blocks.8.0.skip_connection"] == "up_blocks.2.resnets.2.conv_shortcut"


@pytest.mark.parametrize(
    "prefix",
    ["text_model.", "", "transformer.text_model.", "wrapped.transformer.text_model.", "clip_l.transformer.text_model."],
)
def test_text_encoders_are_called_alike_whatever_wraps_them(prefix: str) -> None:
    path = f"{prefix}encoder.layers.11.self_attn.q_proj"
    assert canonical_names("te1", [path]) == {path: "text_model.encoder.layers.11.self_attn.q_proj"}


def test_file_keys_follow_the_family() -> None:
    names = [*diffusers_names(ldm_unet([1, 1], [1, 1], [1, 1], 1)).values()]
    name = "down_blocks.1.attentions.0.proj_in"
    assert file_keys(SD1, "unet", names)[name] == "lora_unet_down_blocks_1_attentions_0_proj_in"
    assert file_keys(SDXL, "unet", names)[name] == "lora_unet_input_blocks_3_1_proj_in"
    fc1 = "text_model.encoder.layers.0.mlp.fc1"
    assert file_keys(SD1, "te1", [fc1])[fc1] == "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert file_keys(SDXL, "te2", [fc1])[fc1] == "lora_te2_text_model_encoder_layers_0_mlp_fc1"


def test_what_is_no_stable_diffusion_unet_is_refused() -> None:
    with pytest.raises(HostError, match="neither input_blocks nor down_blocks"):
        canonical_names("unet", ["double_blocks.0.img_attn.qkv"])
    with pytest.raises(HostError, match=r"middle_block\.1"):
        canonical_names("unet", [*ldm_unet([1], [1], [1], 0), "middle_block.1.qkv"])
    with pytest.raises(HostError, match=r"no input_blocks\.1"):
        canonical_names("unet", ["input_blocks.2.0.op"])


def test_two_text_encoders_in_one_component_are_refused() -> None:
    with pytest.raises(HostError, match="two modules named"):
        canonical_names("te1", ["a.encoder.layers.0.mlp.fc1", "b.encoder.layers.0.mlp.fc1"])


def test_families_are_found_by_name() -> None:
    assert FAMILIES.names() == ("sd1", "sd2", "sdxl")
    assert FAMILIES.get("SDXL") is SDXL
