"""Settings, the progress bar's state and the loaded model, which is loaded when it is first asked for."""

import os
import sys
import time
import types

import torch
from modules.paths_internal import models_path, option

cmd_opts = types.SimpleNamespace(
    lowvram="--lowvram" in sys.argv,
    medvram="--medvram" in sys.argv,
    ckpt_dir=option("--ckpt-dir", os.path.join(models_path, "Stable-diffusion")),
    lora_dir=os.path.join(models_path, "Lora"),
    gradio_allowed_path=[],
    api="--api" in sys.argv,
)
device = torch.device("cpu")
parallel_processing_allowed = True


class Options:
    def __init__(self):
        self.__dict__["data"] = {
            "sd_model_checkpoint": None,
            "CLIP_stop_at_last_layers": 1,
            "sd_noise_schedule": "Default",
            "use_downcasted_alpha_bar": False,
            "sdxl_crop_top": 0,
            "sdxl_crop_left": 0,
            "lora_functional": False,
        }

    def __getattr__(self, name):
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name, value):
        self.data[name] = value


class State:
    skipped = interrupted = stopping_generation = False
    job, textinfo, current_latent, current_image = "", None, None, None
    job_no = job_count = sampling_step = sampling_steps = 0
    time_start = None

    def begin(self, job="(unknown)"):
        self.time_start, self.job, self.job_count, self.job_no = time.time(), job, -1, 0
        self.sampling_step, self.current_latent, self.current_image, self.textinfo = 0, None, None, None
        self.skipped = self.interrupted = self.stopping_generation = False

    def end(self):
        self.job, self.job_count = "", 0

    def interrupt(self):
        self.interrupted = True

    def nextjob(self):
        self.job_no += 1
        self.sampling_step = 0

    def assign_current_image(self, image):
        self.current_image = image


class TotalTqdm:
    def update(self):
        pass

    def clear(self):
        pass


class Shared(types.ModuleType):
    @property
    def sd_model(self):
        from modules import sd_models

        return sd_models.model_data.get_sd_model()

    @sd_model.setter
    def sd_model(self, value):
        from modules import sd_models

        sd_models.model_data.set_sd_model(value)


opts, state, total_tqdm = Options(), State(), TotalTqdm()
sys.modules[__name__].__class__ = Shared
