"""Losses and their weights, by numbers worked out by hand or in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer_core.config import LossConfig
from trainer_core.diffusion.loss import batch_loss, huber_thresholds, pointwise_loss
from trainer_core.diffusion.noise import seeded
from trainer_core.diffusion.objective import Objective, check_loss
from trainer_core.diffusion.process import Process, scaled_linear_alphas, zero_terminal_snr
from trainer_core.diffusion.weights import timestep_weights
from trainer_core.errors import ConfigError

EPSILON = Process("epsilon", scaled_linear_alphas())
VELOCITY = Process("v_prediction", scaled_linear_alphas())
T = np.array([0, 1, 300, 600, 999])
ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
SNR = (ALPHAS / (1 - ALPHAS))[T]
CAPPED = np.minimum(SNR, 1000)


def weights(process, **settings):
    found = timestep_weights(process, LossConfig(**settings))
    return None if found is None else found.double().numpy()[T]


def test_nothing_is_weighed_by_default():
    assert timestep_weights(EPSILON, LossConfig()) is None and huber_thresholds(EPSILON, LossConfig()) is None


def test_these_ratios_meet_both_bounds():
    assert SNR[0] == pytest.approx(1175.4, rel=1e-3) and SNR[-1] == pytest.approx(0.0046816, rel=1e-3)


@pytest.mark.parametrize(
    ("process", "settings", "expected"),
    [
        (EPSILON, {"min_snr_gamma": 5.0}, np.minimum(SNR, 5) / SNR),
        (VELOCITY, {"min_snr_gamma": 5.0}, np.minimum(SNR, 5) / (SNR + 1)),
        (VELOCITY, {"scale_v_pred_loss_like_noise_pred": True}, CAPPED / (CAPPED + 1)),
        (EPSILON, {"v_pred_like_loss": 0.2}, 1 + 0.2 * (CAPPED + 1) / CAPPED),
        (EPSILON, {"debiased_estimation_loss": True}, CAPPED**-0.5),
        (VELOCITY, {"debiased_estimation_loss": True}, 1 / (CAPPED + 1)),
        (
            VELOCITY,
            {"min_snr_gamma": 1.0, "scale_v_pred_loss_like_noise_pred": True, "debiased_estimation_loss": True},
            np.minimum(SNR, 1) / (SNR + 1) * CAPPED / (CAPPED + 1) / (CAPPED + 1),
        ),
        (
            EPSILON,
            {"min_snr_gamma": 5.0, "v_pred_like_loss": 0.1, "debiased_estimation_loss": True},
            np.minimum(SNR, 5) / SNR * (1 + 0.1 * (CAPPED + 1) / CAPPED) * CAPPED**-0.5,
        ),
    ],
)
def test_weights_are_kohyas(process, settings, expected):
    assert weights(process, **settings) == pytest.approx(expected, rel=2e-4)  # ᾱ near 1 has few digits in fp32


def test_a_zero_terminal_process_has_finite_weights():
    process = zero_terminal_snr(VELOCITY)
    for settings in ({"min_snr_gamma": 5.0}, {"debiased_estimation_loss": True}):
        assert np.isfinite(weights(process, **settings)).all()
    assert weights(process, min_snr_gamma=5.0)[-1] == 0
    assert weights(process, debiased_estimation_loss=True)[-1] == 1
    huber = huber_thresholds(process, LossConfig(loss_type="huber"))
    assert huber is not None and float(huber[-1]) == pytest.approx(0.1)


def test_weights_for_the_other_prediction_are_refused():
    with pytest.raises(ConfigError, match="scale_v_pred_loss_like_noise_pred is for velocity"):
        timestep_weights(EPSILON, LossConfig(scale_v_pred_loss_like_noise_pred=True))
    with pytest.raises(ConfigError, match="v_pred_like_loss is for epsilon"):
        timestep_weights(VELOCITY, LossConfig(v_pred_like_loss=0.1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_timestep": 500, "max_timestep": 400}, "swap them"),
        ({"adaptive_noise_scale": 0.005}, "set noise_offset too"),
    ],
)
def test_contradictions_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        check_loss(LossConfig(**changes))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # d = 3 with c = 4: √(9 + 16) = 5;  d = −0.75 with c = 1: √(0.5625 + 1) = 1.25
        ("l2", [9.0, 0.5625]),
        ("l1", [3.0, 0.75]),
        ("smooth_l1", [2.0, 0.5]),
        ("huber", [8.0, 0.5]),
    ],
)
def test_pointwise_losses_by_hand(kind, expected):
    difference = torch.tensor([3.0, -0.75]).view(2, 1, 1, 1)
    found = pointwise_loss(difference, kind, torch.tensor([4.0, 1.0]))
    assert found.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
def test_huber_is_squared_near_nothing_and_linear_far_off(kind):
    c = torch.tensor([0.1])
    near = float(pointwise_loss(torch.full((1, 1, 1, 1), 1e-3), kind, c))
    far = float(pointwise_loss(torch.full((1, 1, 1, 1), 1e3), kind, c))
    per_c = 1.0 if kind == "huber" else 10.0
    assert near == pytest.approx(1e-6 * per_c, rel=0.02) and far == pytest.approx(2e2 * per_c, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", np.full(len(T), 0.1 * 1.5)),
        ("exponential", 1.5 * 0.1 ** (T / 1000)),
        ("snr", 0.9 / (1 + np.sqrt((1 - ALPHAS[T]) / ALPHAS[T])) ** 2 + 0.1),  # kohya leaves huber_scale out here
    ],
)
def test_huber_schedules_are_kohyas(schedule, expected):
    settings = LossConfig(loss_type="smooth_l1", huber_schedule=schedule, huber_c=0.1, huber_scale=1.5)
    found = huber_thresholds(EPSILON, settings)
    assert found is not None and found.numpy()[T] == pytest.approx(expected, rel=1e-4)


def test_the_batch_loss_weighs_samples_not_pixels():
    elements = torch.tensor([[1.0, 9.0], [0.0, 4.0]]).view(2, 1, 1, 2)
    assert batch_loss(elements, None, None) == pytest.approx((5 + 2) / 2)
    assert batch_loss(elements, None, torch.tensor([0.5, 2.0])) == pytest.approx((2.5 + 4) / 2)


def test_a_mask_takes_its_part_out_and_is_not_made_up_for():
    elements = torch.ones(2, 4, 2, 2)
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    assert batch_loss(elements, mask, None) == pytest.approx((1.5 / 4 + 1) / 2)


def test_the_objective_puts_it_together():
    """Everything at once, worked out again in numpy from the same draws."""
    settings = LossConfig(
        noise_offset=0.1, ip_noise_gamma=0.2, min_snr_gamma=5.0, loss_type="huber", huber_schedule="constant"
    )
    latents, prediction = torch.randn(2, 3, 4, 4, 4).unbind(0)
    mask, importance = torch.rand(3, 1, 4, 4), torch.tensor([1.0, 0.5, 1.0])
    objective = Objective(settings, VELOCITY)
    question = objective.question(latents, seeded(3, "cpu"))
    loss = objective.judge(prediction, question, mask, importance)

    generator = seeded(3, "cpu")
    t = torch.randint(0, 1000, (3,), generator=generator).numpy()
    noise, shift, more = (
        torch.randn(s, generator=generator).numpy() for s in [(3, 4, 4, 4), (3, 4, 1, 1), (3, 4, 4, 4)]
    )
    noise = noise + 0.1 * shift
    a, s = (np.sqrt(x)[:, None, None, None] for x in (ALPHAS[t], 1 - ALPHAS[t]))
    z = latents.numpy()
    assert question.t.tolist() == t.tolist()
    assert question.x_t.numpy() == pytest.approx(a * z + s * (noise + 0.2 * more), abs=1e-5)
    assert question.target.numpy() == pytest.approx(a * noise - s * z, abs=1e-5)
    d = prediction.numpy() - (a * noise - s * z)
    elements = 0.2 * (np.sqrt(d**2 + 0.01) - 0.1) * mask.numpy()
    snr = ALPHAS[t] / (1 - ALPHAS[t])
    expected = (elements.mean((1, 2, 3)) * importance.numpy() * np.minimum(snr, 5) / (snr + 1)).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_the_default_objective_is_bit_for_bit_plain_mse_on_plain_noise():
    latents, prediction = torch.randn(2, 3, 4, 4, 4).unbind(0)
    objective = Objective(LossConfig(), EPSILON)
    question = objective.question(latents, seeded(9, "cpu"))
    generator = seeded(9, "cpu")
    t = torch.randint(0, 1000, (3,), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    alphas = EPSILON.alphas_cumprod[t].view(-1, 1, 1, 1)
    assert torch.equal(question.t, t) and torch.equal(question.target, noise)
    assert torch.equal(question.x_t, alphas.sqrt() * latents + (1 - alphas).sqrt() * noise)
    plain = (prediction - noise).square().flatten(1).mean(1).mean()
    assert torch.equal(objective.judge(prediction, question), plain)


class Dispatched(TorchDispatchMode):
    """Notes the name of every kernel that is asked for."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


EVERYTHING = LossConfig(
    noise_offset=0.1,
    noise_offset_random_strength=True,
    adaptive_noise_scale=0.01,
    multires_noise_iterations=10,
    ip_noise_gamma=0.1,
    ip_noise_gamma_random_strength=True,
    timestep_sampling="shift",
    min_snr_gamma=5.0,
    v_pred_like_loss=0.1,
    debiased_estimation_loss=True,
    loss_type="huber",
)


def kernels_of_a_step(settings, size):
    objective = Objective(settings, EPSILON)
    latents, mask, importance = torch.randn(2, 4, size, size), torch.ones(2, 1, size, size), torch.ones(2)
    with Dispatched() as seen:
        question = objective.question(latents, seeded(0, "cpu"))
        objective.judge(question.x_t, question, mask, importance)
    return seen.names


def test_a_step_asks_for_few_kernels_and_never_waits_for_the_device():
    plain, everything = kernels_of_a_step(LossConfig(), 64), kernels_of_a_step(EVERYTHING, 64)
    assert not [name for name in everything if "_local_scalar_dense" in name or "nonzero" in name]
    assert len(plain) <= 20 and len(everything) <= 90
    assert len(kernels_of_a_step(EVERYTHING, 32)) <= len(everything), "not by pixel"


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu():
    objective = Objective(EVERYTHING, EPSILON.to("cuda"))
    latents, mask = torch.randn(2, 4, 64, 64, device="cuda"), torch.ones(2, 1, 64, 64, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        question = objective.question(latents, seeded(0, "cuda"))
        objective.judge(question.x_t, question, mask, mask[:, 0, 0, 0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
