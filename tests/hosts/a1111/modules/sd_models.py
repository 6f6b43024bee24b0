"""Finds checkpoints, tells their kind from their keys, and loads them as A1111 does."""

import os

from ldm.models.autoencoder import AutoencoderKL
from ldm.models.ddpm import LatentDiffusion
from ldm.modules.encoders import WIDTH, FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder
from ldm.modules.openaimodel import UNetModel
from modules import devices, lowvram, script_callbacks, sd_hijack, shared
from safetensors.torch import load_file
from sgm.engine import DiffusionEngine

checkpoints_list = {}


class CheckpointInfo:
    def __init__(self, filename):
        self.filename = filename
        self.name = self.title = os.path.basename(filename)
        self.name_for_extra = os.path.splitext(self.name)[0]


class SdModelData:
    def __init__(self):
        self.sd_model, self.loaded_sd_models, self.was_loaded_at_least_once = None, [], False

    def get_sd_model(self):
        if self.sd_model is None and not self.was_loaded_at_least_once and checkpoints_list:
            load_model()
        return self.sd_model

    def set_sd_model(self, model):
        self.sd_model = model


model_data = SdModelData()


def list_models():
    checkpoints_list.clear()
    folder = shared.cmd_opts.ckpt_dir
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".safetensors"):
            checkpoints_list[name] = CheckpointInfo(os.path.join(folder, name))


def build_model(kind):
    """A tiny model of the checkpoint's kind: sd1, sd1_inpaint, sd2, sd2_velocity, sdxl or sdxl_velocity."""
    prediction = "v" if kind.endswith("velocity") else "eps"
    if kind.startswith("sdxl"):
        sizes = {"channel_mult": (1, 2, 2), "depths": (0, 1, 2), "adm_in_channels": WIDTH + 6 * 256}
        return DiffusionEngine(UNetModel(4, 32, context_dim=2 * WIDTH, use_linear=True, **sizes), prediction)
    is_sd2, is_inpaint = kind.startswith("sd2"), kind.endswith("inpaint")
    sizes = {"channel_mult": (1, 1, 2, 2), "depths": (1, 1, 1, 0)}
    unet = UNetModel(9 if is_inpaint else 4, 32, context_dim=WIDTH, use_linear=is_sd2, **sizes)
    encoder = FrozenOpenCLIPEmbedder() if is_sd2 else FrozenCLIPEmbedder()
    return LatentDiffusion(unet, AutoencoderKL(), encoder, prediction, "hybrid" if is_inpaint else "crossattn")


def load_model(checkpoint_info=None):
    info = checkpoint_info or next(iter(checkpoints_list.values()))
    if model_data.sd_model is not None:
        model_data.sd_model.to(device="meta")
        model_data.sd_model = None
    model = build_model(info.name_for_extra)
    model.is_sdxl = hasattr(model, "conditioner")
    model.is_sd2 = not model.is_sdxl and hasattr(model.cond_stage_model, "model")
    model.is_sd1 = not model.is_sdxl and not model.is_sd2
    model.is_sd3 = model.is_ssd = False
    model.load_state_dict(load_file(info.filename), strict=True)
    model.alphas_cumprod_original = model.alphas_cumprod
    model.sd_checkpoint_info, model.sd_model_checkpoint = info, info.filename
    shared.opts.sd_model_checkpoint = info.title
    lowvram.apply(model)
    sd_hijack.model_hijack.hijack(model)
    model.eval()
    model_data.set_sd_model(model)
    model_data.was_loaded_at_least_once = True
    script_callbacks.model_loaded_callback(model)
    return model


def reload_model_weights():
    """Loads what the dropdown names, if that is another checkpoint."""
    wanted = checkpoints_list.get(shared.opts.sd_model_checkpoint)
    if wanted is not None and wanted.filename != shared.sd_model.sd_model_checkpoint:
        load_model(wanted)


def apply_alpha_schedule_override(model):
    model.alphas_cumprod = model.alphas_cumprod_original.to(devices.device)
    if shared.opts.use_downcasted_alpha_bar:
        model.alphas_cumprod = model.alphas_cumprod.half()


def read_state_dict(filename):
    return load_file(filename)
