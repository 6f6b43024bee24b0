"""How much each timestep counts: one factor for each of a process's timesteps, worked out once a run.

s is the signal-to-noise ratio. The rules are kohya's (sd-scripts 48d368fa, `post_process_loss`), but the ratio is that
of the process that is trained: kohya's is the one before zero_terminal_snr."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import LossConfig
from ..errors import ConfigError
from .process import Process

_MOST_SNR = 1000.0  # kohya's bound: the first timesteps' would be far above


def timestep_weights(process: Process, loss: LossConfig) -> Tensor | None:
    """The product of all weightings that are on, [T] fp32 ≥ 0 on the process's device; None when none is.

    Raises ConfigError for a weighting that is not made for what the model predicts."""
    snr = process.snr(torch.arange(process.num_timesteps, device=process.alphas_cumprod.device))
    is_velocity = process.prediction == "v_prediction"
    factors = []
    if loss.min_snr_gamma:
        factors.append(min_snr_weight(snr, loss.min_snr_gamma, is_velocity))
    if loss.scale_v_pred_loss_like_noise_pred:
        _require(is_velocity, "scale_v_pred_loss_like_noise_pred", "velocity")
        factors.append(noise_pred_weight(snr))
    if loss.v_pred_like_loss:
        _require(not is_velocity, "v_pred_like_loss", "epsilon")
        factors.append(1 + loss.v_pred_like_loss / noise_pred_weight(snr))
    if loss.debiased_estimation_loss:
        factors.append(debiased_weight(snr, is_velocity))
    return torch.stack(factors).prod(0) if factors else None


def min_snr_weight(snr: Tensor, gamma: float, is_velocity: bool) -> Tensor:
    """Min-SNR-γ (Hang et al. 2023, arXiv:2303.09556): min(s, γ)/s for epsilon, min(s, γ)/(s+1) for velocity.

    γ = 5 is the paper's. At a zero-terminal process's last timestep the velocity weight is 0."""
    return torch.clamp(snr, max=gamma) / (snr + 1 if is_velocity else snr)


def noise_pred_weight(snr: Tensor) -> Tensor:
    """s/(s+1): makes a velocity loss weigh timesteps as an epsilon loss does. s counts up to 1000."""
    bounded = snr.clamp(max=_MOST_SNR)
    return bounded / (bounded + 1)


def debiased_weight(snr: Tensor, is_velocity: bool) -> Tensor:
    """Debiased estimation (Yu et al. 2023, arXiv:2310.08442): 1/√s for epsilon; 1/(s+1) for velocity, as kohya has it.

    s counts up to 1000."""
    bounded = snr.clamp(max=_MOST_SNR)
    return 1 / (bounded + 1) if is_velocity else bounded.rsqrt()


def _require(fits: bool, setting: str, prediction: str) -> None:
    if not fits:
        raise ConfigError(f"{setting} is for {prediction}-predicting models and this one is not; turn it off")
