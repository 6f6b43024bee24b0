"""How the adapter is moved."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting


@dataclass(frozen=True)
class OptimizerConfig:
    """How the adapter is moved: optimizer, learning rates and their schedule."""

    optimizer: str = setting(
        "Prodigy", help="Prodigy and DAdaptAdam find the learning rate themselves (leave it at 1); AdamW wants one."
    )
    learning_rate: float = setting(1.0, help="A factor for Prodigy and DAdaptAdam, a rate for AdamW (1e-4).", ge=0)
    unet_lr: float | None = setting(None, help="The UNet's own learning rate; 0 freezes it.", ge=0, advanced=True)
    text_encoder_lr: float | None = setting(
        None, help="The text encoder's own learning rate; 0 freezes it.", ge=0, advanced=True
    )
    optimizer_args: str = setting(
        "", help="Further options as key=value, e.g. `weight_decay=0.01 betas=0.9,0.99 safeguard_warmup=True`."
    )
    lr_scheduler: str = setting("cosine", help="How the learning rate changes over the run.")
    lr_warmup_steps: str = setting("0", help="Warm-up: steps (100), a share (0.1) or a percentage (10%).")
    lr_scheduler_num_cycles: int = setting(1, help="cosine_with_restarts: number of cycles.", ge=1, advanced=True)
    lr_scheduler_power: float = setting(1.0, help="polynomial: its power.", ge=0, advanced=True)
    max_grad_norm: float = setting(1.0, help="Longer gradients are cut to this length; 0 leaves them.", ge=0)


def group_learning_rate(optimizer: OptimizerConfig, component: str) -> float:
    """The base learning rate of a component (`unet`, `te1`, `te2`): its own where one is set, else the common one."""
    own = optimizer.unet_lr if component == "unet" else optimizer.text_encoder_lr
    return optimizer.learning_rate if own is None else own
