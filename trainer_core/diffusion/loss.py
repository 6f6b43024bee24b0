"""The loss of a batch: squared error, weighed by timestep."""

from __future__ import annotations

import torch
from torch import Tensor

from .process import Process


def weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Mean squared error, averaged per sample, weighed, then averaged over the batch: a scalar in fp32.

    prediction, target: [B, C, h, w]. weights: [B], or None for all ones. The order of the means is kohya's."""
    per_sample = (prediction.float() - target).square().flatten(1).mean(1)
    return (per_sample if weights is None else per_sample * weights).mean()


def min_snr_weights(process: Process, t: Tensor, gamma: float) -> Tensor:
    """Min-SNR-γ weights (Hang et al. 2023, arXiv:2303.09556): min(SNR, γ)/SNR for epsilon, min(SNR, γ)/(SNR+1) for
    velocity, as kohya's min_snr_gamma.

    t: [B] → [B] in [0, 1]. γ = 5 is the paper's. At a zero-terminal process's last step the velocity weight is 0."""
    snr = process.snr(t)
    divisor = snr if process.prediction == "epsilon" else snr + 1
    return torch.clamp(snr, max=gamma) / divisor
