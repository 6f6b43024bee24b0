"""LoRA files under A1111's names, merged into a layer's weights on its next call, and undone on a later one."""

import os
import re

import torch
from modules import devices, sd_models, shared
from torch import nn

available_networks, loaded_networks = {}, []
_RESNET = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "norm1": "in_layers_0",
    "norm2": "out_layers_0",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}


def _inside(kind, rest):
    return _RESNET.get(rest, rest) if kind == "resnets" else rest


def _open_clip(rest):
    return rest.replace("mlp_fc1", "mlp_c_fc").replace("mlp_fc2", "mlp_c_proj").replace("self_attn", "attn")


def convert_diffusers_name_to_compvis(key, is_sd2):
    """kohya's key of a layer → the layer's own name; a key that says LDM's name already stays."""
    if m := re.match(r"lora_unet_conv_in(.*)", key):
        return f"diffusion_model_input_blocks_0_0{m[1]}"
    if m := re.match(r"lora_unet_conv_out(.*)", key):
        return f"diffusion_model_out_2{m[1]}"
    if m := re.match(r"lora_unet_time_embedding_linear_(\d+)(.*)", key):
        return f"diffusion_model_time_embed_{int(m[1]) * 2 - 2}{m[2]}"
    if m := re.match(r"lora_unet_down_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", key):
        number, place = 1 + int(m[1]) * 3 + int(m[3]), int(m[2] == "attentions")
        return f"diffusion_model_input_blocks_{number}_{place}_{_inside(m[2], m[4])}"
    if m := re.match(r"lora_unet_mid_block_(attentions|resnets)_(\d+)_(.+)", key):
        place = 1 if m[1] == "attentions" else int(m[2]) * 2
        return f"diffusion_model_middle_block_{place}_{_inside(m[1], m[3])}"
    if m := re.match(r"lora_unet_up_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", key):
        number, place = int(m[1]) * 3 + int(m[3]), int(m[2] == "attentions")
        return f"diffusion_model_output_blocks_{number}_{place}_{_inside(m[2], m[4])}"
    if m := re.match(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", key):
        return f"diffusion_model_input_blocks_{3 + int(m[1]) * 3}_0_op"
    if m := re.match(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", key):
        return f"diffusion_model_output_blocks_{2 + int(m[1]) * 3}_{2 if int(m[1]) else 1}_conv"
    if m := re.match(r"lora_te_text_model_encoder_layers_(\d+)_(.+)", key):
        if is_sd2:
            return f"model_transformer_resblocks_{m[1]}_{_open_clip(m[2])}"
        return f"transformer_text_model_encoder_layers_{m[1]}_{m[2]}"
    if m := re.match(r"lora_te2_text_model_encoder_layers_(\d+)_(.+)", key):
        return f"1_model_transformer_resblocks_{m[1]}_{_open_clip(m[2])}"
    return key


def assign_network_names_to_compvis_modules(sd_model):
    mapping = {}

    def assign(root, prefix=""):
        for name, module in root.named_modules():
            module.network_layer_name = prefix + name.replace(".", "_")
            mapping[module.network_layer_name] = module

    if sd_model.is_sdxl:
        for number, embedder in enumerate(sd_model.conditioner.embedders):
            if hasattr(embedder, "wrapped"):
                assign(embedder.wrapped, f"{number}_")
    else:
        assign(sd_model.cond_stage_model.wrapped)
    assign(sd_model.model)
    sd_model.network_layer_mapping = mapping


class Network:
    def __init__(self, name, filename):
        self.name, self.filename, self.modules = name, filename, {}
        self.te_multiplier = self.unet_multiplier = 1.0
        mapping, found = shared.sd_model.network_layer_mapping, {}
        self.unmatched = []
        for key, tensor in sd_models.read_state_dict(filename).items():
            layer, _, part = key.partition(".")
            name = self._layer_name(layer, mapping)
            if name is None:
                self.unmatched.append(key)
            else:
                found.setdefault(name, {})[part] = tensor
        for name, tensors in found.items():
            assert set(tensors) <= {"lora_up.weight", "lora_down.weight", "alpha"}, f"{name}: {sorted(tensors)}"
            self.modules[name] = tensors

    def _layer_name(self, layer, mapping):
        name = convert_diffusers_name_to_compvis(layer, "model_transformer_resblocks" in mapping)
        if name in mapping or re.sub(r"_[qkv]_proj$", "", name) in mapping:
            return name
        name = layer.replace("lora_unet", "diffusion_model").replace("lora_te1_text_model", "0_transformer_text_model")
        return name if name in mapping else None

    def updown(self, name, shape):
        tensors = self.modules[name]
        down, up = tensors["lora_down.weight"].float(), tensors["lora_up.weight"].float()
        multiplier = self.te_multiplier if "transformer" in name[:20] else self.unet_multiplier
        scale = tensors["alpha"].item() / len(down)
        return (up.flatten(1) @ down.flatten(1)).reshape(shape) * scale * multiplier


def list_available_networks():
    available_networks.clear()
    for folder, _, names in os.walk(shared.cmd_opts.lora_dir):
        for name in names:
            if name.endswith(".safetensors"):
                available_networks[name.removesuffix(".safetensors")] = os.path.join(folder, name)


def load_networks(names, te_multipliers, unet_multipliers):
    loaded_networks.clear()
    if any(name not in available_networks for name in names):
        list_available_networks()
    for name, te, unet in zip(names, te_multipliers, unet_multipliers):
        if name in available_networks:
            network = Network(name, available_networks[name])
            network.te_multiplier, network.unet_multiplier = te, unet
            loaded_networks.append(network)


def network_restore_weights_from_backup(self):
    weights = getattr(self, "network_weights_backup", None)
    bias = getattr(self, "network_bias_backup", None)
    if weights is None and bias is None:
        return
    is_attention = isinstance(self, nn.MultiheadAttention)
    if weights is not None and is_attention:
        self.in_proj_weight.copy_(weights[0])
        self.out_proj.weight.copy_(weights[1])
    elif weights is not None:
        self.weight.copy_(weights)
    if bias is not None:
        (self.out_proj.bias if is_attention else self.bias).copy_(bias)


def network_apply_weights(self):
    name = getattr(self, "network_layer_name", None)
    if name is None:
        return
    wanted = tuple((each.name, each.te_multiplier, each.unet_multiplier) for each in loaded_networks)
    is_attention = isinstance(self, nn.MultiheadAttention)
    if wanted and getattr(self, "network_weights_backup", None) is None:
        if is_attention:
            kept = (self.in_proj_weight.to(devices.cpu, copy=True), self.out_proj.weight.to(devices.cpu, copy=True))
        else:
            kept = self.weight.to(devices.cpu, copy=True)
        self.network_weights_backup = kept
    if getattr(self, "network_bias_backup", None) is None:  # whether or not anything is wanted
        bias = self.out_proj.bias if is_attention else self.bias
        self.network_bias_backup = None if bias is None else bias.to(devices.cpu, copy=True)
    if getattr(self, "network_current_names", ()) == wanted:
        return
    with torch.no_grad():
        network_restore_weights_from_backup(self)
        for network in loaded_networks:
            parts = [f"{name}_{part}_proj" for part in ("q", "k", "v", "out")]
            if name in network.modules and hasattr(self, "weight"):
                self.weight.copy_(self.weight + network.updown(name, self.weight.shape))
            elif is_attention and all(part in network.modules for part in parts):
                square = self.out_proj.weight.shape
                q, k, v, out = (network.updown(part, square) for part in parts)
                self.in_proj_weight += torch.vstack([q, k, v])
                self.out_proj.weight += out
    self.network_current_names = wanted


def _patched(forward):
    def apply_and_forward(self, *args, **kwargs):
        network_apply_weights(self)
        return forward(self, *args, **kwargs)

    return apply_and_forward


def patch_torch():
    """Every layer in the process passes through here, ours too."""
    for kind in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.MultiheadAttention):
        kind.forward = _patched(kind.forward)
