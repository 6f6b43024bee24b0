"""How the adapter is moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..settings import setting


@dataclass(frozen=True)
class OptimizerConfig:
    """How the adapter is moved: optimizer, learning rates and their schedule."""

    optimizer: str = setting(
        "Prodigy",
        help="Prodigy and the DAdapt ones find the learning rate themselves (leave it at 1); the others want one.",
    )
    learning_rate: float = setting(
        1.0, help="A factor for Prodigy and the DAdapt ones (1), a rate for AdamW (1e-4).", ge=0
    )
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
    optimizer_type: str = setting(
        "",
        help="Any other optimizer, instead of the one above: a name of pytorch-optimizer (CAME) or a class of an "
        "installed package (torch.optim.RAdam).",
        advanced=True,
    )
    lr_groups: str = setting(
        "scaled",
        help="scaled: text encoder, UNet and blocks move at their own rates. legacy_single: all at the text encoder's, "
        "as D-Adaptation did when the old guides were written.",
        choices=("scaled", "legacy_single"),
        advanced=True,
    )
    lr_scheduler_type: str = setting(
        "",
        help="Any other schedule, instead of the one above: a class of torch, e.g. CosineAnnealingLR.",
        advanced=True,
    )
    lr_scheduler_args: str = setting(
        "",
        help="The schedule's arguments as key=value, e.g. `T_max=200` or `T_max=total`; counted in optimizer steps.",
        advanced=True,
    )
    lr_decay_steps: str = setting(
        "0", help="warmup_stable_decay: the fall at the end, written like lr_warmup_steps.", advanced=True
    )
    lr_scheduler_timescale: int | None = setting(
        None,
        help="inverse_sqrt: how slowly it falls, in steps; the warm-up's, or 10000, when left out.",
        ge=1,
        advanced=True,
    )
    lr_scheduler_min_lr_ratio: float = setting(
        0.0,
        help="cosine_with_min_lr, warmup_stable_decay, rex: what the rate ends at, as a share of it.",
        ge=0,
        le=1,
        advanced=True,
    )


def chosen_optimizer(optimizer: OptimizerConfig) -> str:
    """The optimizer's name or class: `optimizer_type` wins over `optimizer`."""
    return optimizer.optimizer_type.strip() or optimizer.optimizer


def learning_rates(optimizer: OptimizerConfig, groups: Sequence[tuple[str, float]]) -> list[float]:
    """The base learning rate of each group, given as (component, rate relative to the component's).

    Under `legacy_single` every group that moves takes the first one's, and the text encoder comes first: what kohya's
    trainer did with D-Adaptation before dadaptation 3.0 (sd-scripts issue 274)."""
    own = [rate * group_learning_rate(optimizer, component) for component, rate in groups]
    if optimizer.lr_groups != "legacy_single":
        return own
    of_text = [lr for (component, _), lr in zip(groups, own, strict=True) if component != "unet"]
    first = next((lr for lr in (*of_text, *own) if lr > 0), 0.0)
    return [first if lr > 0 else 0.0 for lr in own]


def group_learning_rate(optimizer: OptimizerConfig, component: str) -> float:
    """The base learning rate of a component (`unet`, `te1`, `te2`): its own where one is set, else the common one."""
    own = optimizer.unet_lr if component == "unet" else optimizer.text_encoder_lr
    return optimizer.learning_rate if own is None else own
