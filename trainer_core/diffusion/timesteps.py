"""Which timesteps are trained: one for each sample, drawn on the device from the step's own generator."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import LossConfig


def draw_timesteps(count: int, loss: LossConfig, generator: torch.Generator) -> Tensor:
    """Timesteps [count] int64 in [min_timestep, max_timestep), on the generator's device.

    uniform is kohya's for Stable Diffusion. sigmoid and shift are kohya's `timestep_sampling` for flow models, laid
    over a discrete range: σ = sigmoid(scale·ξ), and s·σ/(1+(s−1)·σ) of it. stratified gives each sample of the batch a
    stretch of its own, in random order: each alone is uniform, and together they cover the range (the idea is Kingma
    et al. 2021's, arXiv:2107.00630, I.1)."""
    low, high = loss.min_timestep, loss.max_timestep
    if loss.timestep_sampling == "uniform":
        return torch.randint(low, high, (count,), generator=generator, device=generator.device)
    share = (
        _stratified(count, generator) if loss.timestep_sampling == "stratified" else _sigmoid(count, loss, generator)
    )
    return low + (share * (high - low)).long().clamp_(max=high - low - 1)


def _sigmoid(count: int, loss: LossConfig, generator: torch.Generator) -> Tensor:
    share = torch.sigmoid(loss.sigmoid_scale * torch.randn(count, generator=generator, device=generator.device))
    if loss.timestep_sampling == "sigmoid":
        return share
    shift = loss.discrete_flow_shift
    return share * shift / (1 + (shift - 1) * share)


def _stratified(count: int, generator: torch.Generator) -> Tensor:
    order, within = torch.rand(2, count, generator=generator, device=generator.device)
    return (order.argsort() + within) / count
