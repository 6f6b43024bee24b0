"""What the network learns to predict."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting

PREDICTION_TYPES = ("auto", "epsilon", "v_prediction")
TIMESTEP_SAMPLINGS = ("uniform", "sigmoid", "shift", "stratified")
LOSS_TYPES = ("l2", "l1", "huber", "smooth_l1")
HUBER_SCHEDULES = ("snr", "exponential", "constant")


@dataclass(frozen=True)
class LossConfig:
    """What the network learns to predict, from which noise, and how each timestep and picture is weighed."""

    prediction_type: str = setting(
        "auto",
        help="What the model predicts; auto takes what the host knows of the checkpoint.",
        choices=PREDICTION_TYPES,
    )
    zero_terminal_snr: bool = setting(
        False, help="Rescale the noise schedule so that the last step is pure noise (velocity models).", advanced=True
    )
    min_snr_gamma: float = setting(0.0, help="Min-SNR weighting: 5 is usual, 0 is off.", ge=0)
    min_timestep: int = setting(0, help="Lowest timestep that is trained.", ge=0, le=999, advanced=True)
    max_timestep: int = setting(1000, help="Timesteps from this one on are not trained.", ge=1, le=1000, advanced=True)
    noise_offset: float = setting(
        0.0, help="Shifts the noise of whole channels, for very dark and bright pictures: 0.05 is usual.", ge=0
    )
    noise_offset_random_strength: bool = setting(
        False, help="Draw the offset's strength between 0 and noise_offset for each batch.", advanced=True
    )
    adaptive_noise_scale: float = setting(
        0.0, help="Adds this times each channel's mean to noise_offset; may be negative.", advanced=True
    )
    multires_noise_iterations: int = setting(
        0, help="Levels of coarser noise that are added (pyramid noise): 6 to 10 are usual, 0 is off.", ge=0, le=32
    )
    multires_noise_discount: float = setting(
        0.3, help="Strength of each coarser level, as a share of the one before.", ge=0, le=1, advanced=True
    )
    ip_noise_gamma: float = setting(
        0.0,
        help="More noise in what the network sees than in what it predicts: 0.1 is the paper's.",
        ge=0,
        advanced=True,
    )
    ip_noise_gamma_random_strength: bool = setting(
        False, help="Draw the strength between 0 and ip_noise_gamma for each batch.", advanced=True
    )
    timestep_sampling: str = setting(
        "uniform",
        help="How timesteps are drawn: uniform; sigmoid prefers the middle; shift prefers noisy ones; "
        "stratified spreads each batch evenly.",
        choices=TIMESTEP_SAMPLINGS,
        advanced=True,
    )
    sigmoid_scale: float = setting(
        1.0, help="sigmoid and shift: spread of the timesteps; smaller keeps to the middle.", ge=0, advanced=True
    )
    discrete_flow_shift: float = setting(
        3.0, help="shift: how far towards noisy timesteps; 1 is sigmoid.", ge=0.01, advanced=True
    )
    debiased_estimation_loss: bool = setting(
        False, help="Weigh noisy timesteps up and clear ones down (debiased estimation).", advanced=True
    )
    scale_v_pred_loss_like_noise_pred: bool = setting(
        False, help="Velocity models: weigh timesteps as an epsilon model's loss does.", advanced=True
    )
    v_pred_like_loss: float = setting(
        0.0, help="Epsilon models: this much of a velocity model's weighing is added.", ge=0, advanced=True
    )
    loss_type: str = setting(
        "l2", help="How far off counts: l2 is squared; huber, smooth_l1 and l1 forgive outliers.", choices=LOSS_TYPES
    )
    huber_schedule: str = setting(
        "snr", help="huber, smooth_l1: how huber_c changes with the timestep.", choices=HUBER_SCHEDULES, advanced=True
    )
    huber_c: float = setting(
        0.1, help="huber, smooth_l1: errors above it count linearly, below it squared.", ge=1e-6, advanced=True
    )
    huber_scale: float = setting(
        1.0, help="huber, smooth_l1: a factor for huber_c; the snr schedule ignores it.", ge=1e-6, advanced=True
    )
    prior_loss_weight: float = setting(
        1.0, help="Weight of the regularisation pictures (reg_data_dir) beside the training pictures.", ge=0
    )
