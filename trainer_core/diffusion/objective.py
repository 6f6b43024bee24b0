"""What a batch of latents is turned into to train on, and how the network's answer is judged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import LossConfig
from ..errors import ConfigError
from .loss import batch_loss, huber_thresholds, pointwise_loss
from .noise import input_noise, training_noise
from .process import Process
from .timesteps import draw_timesteps
from .weights import timestep_weights


@dataclass(frozen=True)
class Question:
    """What the network is asked: to predict `target` from x_t at timesteps t.

    x_t, target: [B, C, h, w] fp32. t: [B] int64 in [0, T)."""

    x_t: Tensor
    t: Tensor
    target: Tensor


class Objective:
    """Noise, timesteps and loss of a run as its settings say; every table by timestep is worked out once, here."""

    def __init__(self, loss: LossConfig, process: Process):
        """process: on the device that trains. Raises ConfigError for a weighting that does not fit its prediction."""
        self._loss = loss
        self._process = process
        self._weights = timestep_weights(process, loss)
        self._thresholds = huber_thresholds(process, loss)

    def question(self, latents: Tensor, generator: torch.Generator) -> Question:
        """Latents [B, C, h, w] with noise, all of it drawn from the step's generator, on its device, without a sync."""
        t = draw_timesteps(len(latents), self._loss, generator)
        noise = training_noise(latents, self._loss, generator)
        seen = input_noise(noise, self._loss, generator)
        return Question(self._process.noised(latents, seen, t), t, self._process.target(latents, noise, t))

    def judge(
        self, prediction: Tensor, question: Question, mask: Tensor | None = None, importance: Tensor | None = None
    ) -> Tensor:
        """The batch's loss, a scalar fp32. mask: [B, 1, h, w] in [0, 1]. importance: each sample's own weight, [B]."""
        thresholds = None if self._thresholds is None else self._thresholds[question.t]
        elements = pointwise_loss(prediction.float() - question.target, self._loss.loss_type, thresholds)
        weights = importance
        if self._weights is not None:
            weights = self._weights[question.t] if weights is None else weights * self._weights[question.t]
        return batch_loss(elements, mask, weights)


def check_loss(loss: LossConfig) -> None:
    """Raise ConfigError, with the cure, for settings that contradict each other whatever the model."""
    if loss.min_timestep >= loss.max_timestep:
        raise ConfigError(f"min_timestep {loss.min_timestep} is not below max_timestep {loss.max_timestep}; swap them")
    if loss.adaptive_noise_scale and not loss.noise_offset:
        raise ConfigError("adaptive_noise_scale changes noise_offset, which is 0; set noise_offset too, or set it to 0")
