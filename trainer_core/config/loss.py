"""What the network learns to predict."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting

PREDICTION_TYPES = ("auto", "epsilon", "v_prediction")


@dataclass(frozen=True)
class LossConfig:
    """What the network learns to predict and how each timestep is weighed."""

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
