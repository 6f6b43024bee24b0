"""Variance-preserving diffusion: how noise is added and what the network is asked to predict.

A process is a table of ᾱ_t (Ho et al. 2020, arXiv:2006.11239) and a parameterization, both of the loaded model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ConfigError


@dataclass(frozen=True)
class Process:
    """A discrete diffusion process.

    prediction: "epsilon" (the noise) or "v_prediction" (velocity; Salimans & Ho 2022, arXiv:2202.00512).
    alphas_cumprod: [T] fp32 in [0, 1], falling; ᾱ of each timestep."""

    prediction: str
    alphas_cumprod: Tensor

    @property
    def num_timesteps(self) -> int:
        """T, 1000 for every Stable Diffusion."""
        return self.alphas_cumprod.shape[0]

    def to(self, device: torch.device | str) -> Process:
        """The same process with its table on the device, moved once so that no step moves it again."""
        return replace(self, alphas_cumprod=self.alphas_cumprod.to(device=device, dtype=torch.float32))

    def noised(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t · latents + √(1−ᾱ_t) · noise, with t [B] in [0, T)."""
        alpha, sigma = self._alpha_sigma(t, latents)
        return alpha * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should output for x_t: the noise, or the velocity √ᾱ·noise − √(1−ᾱ)·latents."""
        if self.prediction == "epsilon":
            return noise
        alpha, sigma = self._alpha_sigma(t, latents)
        return alpha * noise - sigma * latents

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio ᾱ/(1−ᾱ) of each timestep, [B] → [B] ≥ 0; 0 at the last step of a zero-terminal one."""
        alphas = self.alphas_cumprod[t]
        return alphas / (1 - alphas)

    def _alpha_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[t].view(-1, *[1] * (like.dim() - 1))
        return alphas.sqrt(), (1 - alphas).sqrt()


def scaled_linear_alphas(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Tensor:
    """Stable Diffusion's ᾱ table: betas linear in their square root. [steps] fp32."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


def zero_terminal_snr(process: Process) -> Process:
    """The process with √ᾱ shifted and scaled so that the last step is pure noise and the first stays as it was
    (Lin et al. 2023, arXiv:2305.08891, algorithm 1). Raises ConfigError for an epsilon-predicting process, for which
    the last step would teach nothing."""
    if process.prediction == "epsilon":
        raise ConfigError(
            "zero_terminal_snr needs a velocity-predicting model; turn it off or set prediction_type to v_prediction"
        )
    roots = process.alphas_cumprod.double().sqrt()
    shifted = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    return replace(process, alphas_cumprod=(shifted**2).float())
