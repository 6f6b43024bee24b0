"""How far a prediction is from its target: a number for each element, and what becomes of them.

As sd-scripts 48d368fa's `conditional_loss` and `get_huber_threshold_if_needed`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import LossConfig
from .process import Process


def pointwise_loss(difference: Tensor, kind: str, threshold: Tensor | None) -> Tensor:
    """The loss of each element, shaped like `difference`: d² (l2), |d| (l1), 2c(√(d²+c²) − c) (huber: d² near 0, 2c|d|
    far off) or 2(√(d²+c²) − c) (smooth_l1: d²/c near 0, 2|d| far off).

    difference: [B, C, h, w] fp32. kind: config's loss_type. threshold: c of each sample, [B] > 0; only for the last
    two."""
    if kind == "l2":
        return difference.square()
    if kind == "l1":
        return difference.abs()
    assert threshold is not None
    c = threshold.view(-1, 1, 1, 1)
    smooth = 2 * ((difference.square() + c.square()).sqrt() - c)
    return c * smooth if kind == "huber" else smooth


def huber_thresholds(process: Process, loss: LossConfig) -> Tensor | None:
    """c of each timestep, [T] fp32 > 0 on the process's device; None for losses without one.

    constant: huber_c·huber_scale. exponential: falls from huber_scale to huber_c·huber_scale. snr: (1−c)/(1+σ)² + c
    with σ² = (1−ᾱ)/ᾱ, from nearly 1 to huber_c (Khrapov et al. 2024, arXiv:2403.16728); as kohya's, not scaled."""
    if loss.loss_type not in ("huber", "smooth_l1"):
        return None
    alphas = process.alphas_cumprod
    if loss.huber_schedule == "constant":
        return torch.full_like(alphas, loss.huber_c * loss.huber_scale)
    if loss.huber_schedule == "exponential":
        t = torch.arange(process.num_timesteps, device=alphas.device)
        return loss.huber_c ** (t / process.num_timesteps) * loss.huber_scale
    sigmas = ((1 - alphas) / alphas).sqrt()
    return (1 - loss.huber_c) / (1 + sigmas) ** 2 + loss.huber_c


def batch_loss(elements: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
    """The mean of each sample's elements, weighed, then averaged over the batch: a scalar. The order is kohya's.

    elements: [B, C, h, w] fp32. mask: [B, 1, h, w] in [0, 1] or None; what it leaves out counts as no loss, so that a
    sample with a small subject weighs less. weights: [B] or None."""
    per_sample = (elements if mask is None else elements * mask).flatten(1).mean(1)
    return (per_sample if weights is None else per_sample * weights).mean()
