"""The files' keys are those that kohya's sd-scripts writes, one for one.

The expected lists are made here by kohya's own rule, every Linear and Conv2d below modules of certain class names in
the diffusers models; for SDXL from Stability's block layout, written out by hand."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from trainer_core.config import NetworkConfig
from trainer_core.families import SD1, SD2, SDXL
from trainer_core.networks import build_network

TRANSFORMERS = ("Transformer2DModel",)
CONVOLUTIONAL = ("ResnetBlock2D", "Downsample2D", "Upsample2D")


def sd15_unet(**changes) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768, **changes)


def sdxl_unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def text_encoder(layers: int, width: int, heads: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads
    )
    with torch.device("meta"):
        return CLIPTextModel(config)


def adapted(config: NetworkConfig, components, family) -> set[str]:
    network = build_network(config, components, family, seed=0, device="meta")
    keys = [adapter.key for adapter in network.adapters]
    assert len(keys) == len(set(keys))
    return set(keys)


def kohyas_unet_keys(unet: nn.Module, classes: tuple[str, ...]) -> set[str]:
    return {
        f"lora_unet.{name}.{child_name}".replace(".", "_")
        for name, module in unet.named_modules()
        if type(module).__name__ in classes
        for child_name, child in module.named_modules()
        if type(child).__name__ in ("Linear", "Conv2d", "LoRACompatibleLinear", "LoRACompatibleConv")
    }


def kohyas_text_keys(prefix: str, layers: int) -> set[str]:
    inside = ("self_attn_k_proj", "self_attn_v_proj", "self_attn_q_proj", "self_attn_out_proj", "mlp_fc1", "mlp_fc2")
    return {f"{prefix}_text_model_encoder_layers_{layer}_{name}" for layer in range(layers) for name in inside}


def transformer(at: str, depth: int) -> set[str]:
    attention = {f"attn{n}_{proj}" for n in (1, 2) for proj in ("to_q", "to_k", "to_v", "to_out_0")}
    inside = attention | {"ff_net_0_proj", "ff_net_2"}
    blocks = {f"{at}_transformer_blocks_{n}_{name}" for n in range(depth) for name in inside}
    return {f"{at}_proj_in", f"{at}_proj_out"} | blocks


SDXL_TRANSFORMERS = {
    **{"input_blocks_4_1": 2, "input_blocks_5_1": 2, "input_blocks_7_1": 10, "input_blocks_8_1": 10},
    "middle_block_1": 10,
    **{"output_blocks_0_1": 10, "output_blocks_1_1": 10, "output_blocks_2_1": 10},
    **{"output_blocks_3_1": 2, "output_blocks_4_1": 2, "output_blocks_5_1": 2},
}
SDXL_RESNETS = {
    *(f"input_blocks_{n}_0" for n in (1, 2, 4, 5, 7, 8)),
    *("middle_block_0", "middle_block_2"),
    *(f"output_blocks_{n}_0" for n in range(9)),
}
SDXL_WITH_SKIP = {"input_blocks_4_0", "input_blocks_7_0", *(f"output_blocks_{n}_0" for n in range(9))}
SDXL_RESAMPLING = {"input_blocks_3_0_op", "input_blocks_6_0_op", "output_blocks_2_2_conv", "output_blocks_5_2_conv"}


def sdxl_attention_keys() -> set[str]:
    return {f"lora_unet_{key}" for at, depth in SDXL_TRANSFORMERS.items() for key in transformer(at, depth)}


def sdxl_convolution_keys() -> set[str]:
    resnets = {f"{at}_{name}" for at in SDXL_RESNETS for name in ("in_layers_2", "emb_layers_1", "out_layers_3")}
    skips = {f"{at}_skip_connection" for at in SDXL_WITH_SKIP}
    return {f"lora_unet_{key}" for key in resnets | skips | SDXL_RESAMPLING}


def test_sd15_lora_keys() -> None:
    unet = sd15_unet()
    expected = kohyas_unet_keys(unet, TRANSFORMERS) | kohyas_text_keys("lora_te", 12)
    assert len(expected) == 192 + 72
    assert adapted(NetworkConfig(), {"unet": unet, "te1": text_encoder(12, 768, 12)}, SD1) == expected
    for proof in (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_mid_block_attentions_0_proj_in",
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
        "lora_te_text_model_encoder_layers_11_mlp_fc2",
    ):
        assert proof in expected


def test_sd15_locon_keys() -> None:
    unet = sd15_unet()
    expected = kohyas_unet_keys(unet, TRANSFORMERS + CONVOLUTIONAL)
    assert len(expected) == 278
    config = NetworkConfig(algo="locon", train_text_encoder=False)
    assert adapted(config, {"unet": unet, "te1": text_encoder(1, 64, 1)}, SD1) == expected


def test_sd2_keys() -> None:
    unet = sd15_unet(attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
    expected = kohyas_unet_keys(unet, TRANSFORMERS) | kohyas_text_keys("lora_te", 23)
    assert len(expected) == 192 + 138
    assert adapted(NetworkConfig(), {"unet": unet, "te1": text_encoder(23, 1024, 16)}, SD2) == expected


def test_sdxl_lora_keys() -> None:
    components = {"unet": sdxl_unet(), "te1": text_encoder(12, 768, 12), "te2": text_encoder(32, 1280, 20)}
    text = kohyas_text_keys("lora_te1", 12) | kohyas_text_keys("lora_te2", 32)
    unet = sdxl_attention_keys()
    assert (len(unet), len(text)) == (722, 264)
    assert adapted(NetworkConfig(), components, SDXL) == unet | text


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_sdxl_locon_keys_are_the_same_from_either_layout(layout: str) -> None:
    unet = sdxl_unet()
    model = unet if layout == "diffusers" else in_ldm_layout(unet)
    keys = adapted(NetworkConfig(algo="locon"), {"unet": model}, SDXL)
    assert keys == sdxl_attention_keys() | sdxl_convolution_keys()
    assert len(keys) == 788


def in_ldm_layout(unet: nn.Module) -> nn.Module:
    """The same layers in modules nested as ComfyUI and A1111 nest them."""
    from trainer_core.families.names import ldm_names

    layers = dict(unet.named_modules())
    root = nn.Module()
    for name, ldm_name in ldm_names(layers).items():
        if [*layers[name].parameters(recurse=False)]:
            *parents, leaf = ldm_name.split(".")
            at = root
            for parent in parents:
                if parent not in at._modules:
                    at.add_module(parent, nn.Module())
                at = at.get_submodule(parent)
            at.add_module(leaf, layers[name])
    return root
