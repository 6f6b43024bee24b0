"""Tells one base model from another without reading all of its gigabytes."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

_SAMPLES = 32


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Hex digest over every parameter's name and shape and evenly spread values of it, as fp32.

    The same weights give the same digest on every device; a fine-tune, which moves all weights, gives another. One
    transfer in all."""
    digest = hashlib.sha256()
    samples = []
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.numel():
            flat = tensor.detach().flatten()
            samples.append(flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].float())
    if samples:
        by_device: dict[torch.device, list] = {}
        for sample in samples:
            by_device.setdefault(sample.device, []).append(sample)
        for parts in by_device.values():
            digest.update(torch.cat(parts).cpu().numpy().tobytes())
    return digest.hexdigest()
