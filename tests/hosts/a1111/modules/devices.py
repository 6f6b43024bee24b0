"""The CPU, with everything in fp32."""

import contextlib

import torch

cpu = device = torch.device("cpu")
dtype = dtype_unet = dtype_vae = dtype_inference = torch.float32
unet_needs_upcast = fp8 = False


def autocast(disable=False):
    return contextlib.nullcontext()


without_autocast = autocast


def torch_gc():
    pass
