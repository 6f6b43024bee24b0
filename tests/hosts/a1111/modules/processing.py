"""txt2img, one picture at a time."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy
import torch
from modules import (
    devices,
    extra_networks,
    lowvram,
    prompt_parser,
    rng,
    sd_hijack,
    sd_models,
    sd_samplers,
    shared,
)
from PIL import Image


@dataclass
class StableDiffusionProcessingTxt2Img:
    sd_model: Any = None
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    sampler_name: str = "Euler"
    steps: int = 50
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    tiling: bool = False
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    rng: Any = field(default=None, init=False)

    # of the class: the next picture of the same prompt does not encode it again
    cached_c: ClassVar[list] = [None, None]
    cached_uc: ClassVar[list] = [None, None]

    def txt2img_image_conditioning(self, x):
        return x.new_zeros(len(x), 5, 1, 1)

    def get_conds_with_caching(self, function, texts, network_data, cache):
        key = (list(texts), self.steps, self.width, self.height, shared.opts.CLIP_stop_at_last_layers)
        key = (*key, shared.sd_model.sd_checkpoint_info, network_data)
        if cache[0] != key:
            cache[:] = [key, function(shared.sd_model, texts, self.steps)]
        return cache[1]

    def close(self):
        pass


@dataclass
class Processed:
    images: list


def process_images(p):
    sd_models.reload_model_weights()
    sd_hijack.model_hijack.apply_circular(p.tiling)
    with torch.no_grad(), devices.autocast():
        prompts, networks = extra_networks.parse_prompts([p.prompt])
        extra_networks.activate(p, networks)
        names = {kind: [each.items for each in found] for kind, found in networks.items()}
        positive = prompt_parser.SdConditioning(prompts, False, p.width, p.height)
        negative = prompt_parser.SdConditioning([p.negative_prompt], True, p.width, p.height)
        learned, multicond = prompt_parser.get_learned_conditioning, prompt_parser.get_multicond_learned_conditioning
        uc = p.get_conds_with_caching(learned, negative, names, p.cached_uc)
        c = p.get_conds_with_caching(multicond, positive, names, p.cached_c)
        p.rng = rng.ImageRNG((4, p.height // 8, p.width // 8), [p.seed])
        sd_models.apply_alpha_schedule_override(shared.sd_model)
        sampler = sd_samplers.create_sampler(p.sampler_name, shared.sd_model)
        x = p.rng.next()
        latents = sampler.sample(p, x, c, uc, image_conditioning=p.txt2img_image_conditioning(x))
        pixels = shared.sd_model.decode_first_stage(latents.to(devices.dtype_vae))[0]
    if lowvram.is_enabled(shared.sd_model):
        lowvram.send_everything_to_cpu()
    shared.state.nextjob()
    pixels = 255.0 * numpy.moveaxis(((pixels.float() + 1) / 2).clamp(0, 1).numpy(), 0, 2)
    return Processed([Image.fromarray(pixels.astype(numpy.uint8))])
