"""The learning-rate curve that a run's settings describe, and what is doubtful about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ..config import OptimizerConfig, chosen_optimizer
from ..errors import ConfigError
from .args import parse_optimizer_args
from .scheduler_classes import class_factors
from .schedules import SCHEDULES, learning_rate_factors, warmup_steps


def run_factors(
    optimizer: OptimizerConfig, total_steps: int, warmup: int, base_lr: float, ends_with_run: bool = False
) -> list[float]:
    """The factor on every learning rate for each optimizer step of a run.

    `lr_scheduler_type` wins over `lr_scheduler`. A class counts the steps after the warm-up, which sd-scripts refuses
    to combine; `total` in its arguments stands for their number. ends_with_run: whether T_max becomes that number
    whatever it was, because the run has been cut short. Raises ConfigError for what the schedule does not take."""
    arguments = _arguments(optimizer, total_steps - warmup)
    if optimizer.lr_scheduler_type.strip():
        if ends_with_run and "T_max" in arguments:
            arguments["T_max"] = total_steps - warmup
        after = class_factors(optimizer.lr_scheduler_type.strip(), arguments, total_steps - warmup, base_lr)
        return [step / warmup for step in range(warmup)] + after
    step_rules = _step_rules(optimizer, arguments)
    return learning_rate_factors(
        optimizer.lr_scheduler,
        total_steps,
        warmup,
        num_cycles=optimizer.lr_scheduler_num_cycles,
        power=optimizer.lr_scheduler_power,
        base_lr=base_lr,
        decay_steps=warmup_steps(optimizer.lr_decay_steps, total_steps),
        timescale=optimizer.lr_scheduler_timescale,
        min_lr_ratio=optimizer.lr_scheduler_min_lr_ratio,
        step_rules=step_rules,
    )


def schedule_warnings(
    optimizer: OptimizerConfig, total_steps: int, warmup: int, factors: Sequence[float]
) -> Iterator[str]:
    """One sentence for each doubtful thing about a run's schedule, with the cure."""
    t_max = _arguments(optimizer, total_steps - warmup).get("T_max") if optimizer.lr_scheduler_type else None
    if t_max is not None and (turn := _turns_back_up(factors, warmup)):
        yield (
            f"under {optimizer.lr_scheduler_type} with T_max={t_max} the learning rate turns back up after step {turn} "
            f"of {total_steps}: T_max counts optimizer steps, not epochs; write T_max=total"
        )
    if optimizer.lr_scheduler_type and optimizer.lr_scheduler != OptimizerConfig().lr_scheduler:
        yield f"lr_scheduler {optimizer.lr_scheduler} does nothing beside lr_scheduler_type; empty one of them"
    if "schedulefree" in chosen_optimizer(optimizer).lower() and len(set(factors[warmup:])) > 1:
        yield (
            f"{chosen_optimizer(optimizer)} averages its weights in place of a schedule; set lr_scheduler to constant, "
            "or constant_with_warmup"
        )


def _arguments(optimizer: OptimizerConfig, steps: int) -> dict:
    return parse_optimizer_args(optimizer.lr_scheduler_args, "lr_scheduler_args", {"total": steps})


def _step_rules(optimizer: OptimizerConfig, arguments: dict) -> str:
    name = SCHEDULES.canonical(optimizer.lr_scheduler)
    allowed = ("step_rules",) if name == "piecewise_constant" else ()
    if unknown := [each for each in arguments if each not in allowed]:
        raise ConfigError(f'the schedule "{name}" has no argument {unknown[0]}; remove it from lr_scheduler_args')
    return str(arguments.get("step_rules", ""))


def _turns_back_up(factors: Sequence[float], warmup: int) -> int | None:
    """The step, from 1, after which the curve rises again, having fallen."""
    has_fallen = False
    for step, (now, after) in enumerate(itertools.pairwise(factors[warmup:]), warmup + 1):
        has_fallen = has_fallen or after < now
        if has_fallen and after > now * (1 + 1e-9):
            return step
    return None
