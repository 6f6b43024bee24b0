"""The learning rate over a run, as one factor per optimizer step, all computed before the first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..errors import ConfigError
from ..registry import Registry


@dataclass(frozen=True)
class Curve:
    """What shapes a schedule. Lengths are optimizer steps; base_lr only matters to polynomial, whose end is a rate."""

    total_steps: int
    warmup_steps: int = 0
    num_cycles: int = 1
    power: float = 1.0
    base_lr: float = 1.0
    lr_end: float = 1e-7
    decay_steps: int = 0
    timescale: int | None = None
    min_lr_ratio: float = 0.0
    step_rules: str = ""


SCHEDULES: Registry[Callable[[int, Curve], float]] = Registry("schedule")


def learning_rate_factors(
    name: str,
    total_steps: int,
    warmup_steps: int = 0,
    num_cycles: int = 1,
    power: float = 1.0,
    base_lr: float = 1.0,
    lr_end: float = 1e-7,
    decay_steps: int = 0,
    timescale: int | None = None,
    min_lr_ratio: float = 0.0,
    step_rules: str = "",
) -> list[float]:
    """The factor on every learning rate for each of `total_steps` optimizer steps, in [0, 1].

    The numbers are those of diffusers' and transformers' `get_scheduler` (diffusers.optimization), which sd-scripts
    uses. So a warm-up begins at 0, and `cosine` is half a wave whatever num_cycles, which only cosine_with_restarts
    reads. polynomial falls to the rate `lr_end`, hence to the factor lr_end / base_lr. warmup_stable_decay falls in the
    last decay_steps, cosine_with_min_lr and rex over the whole run, all three to min_lr_ratio; inverse_sqrt falls by
    the timescale; piecewise_constant reads step_rules, as in `1:10,0.1:20,0.01` (see their functions).

    Raises ConfigError for an unknown name and for lengths that contradict each other."""
    curve = Curve(
        total_steps,
        warmup_steps,
        num_cycles,
        power,
        base_lr,
        lr_end,
        decay_steps,
        timescale,
        min_lr_ratio,
        step_rules,
    )
    factor_at = SCHEDULES.get(name)
    _check(SCHEDULES.canonical(name), curve)
    return [_warmed_up(step, curve, factor_at) for step in range(total_steps)]


def warmup_steps(value: str | float, total: int) -> int:
    """Steps of warm-up from the way it is written: `100` steps, `0.1` or `"10%"` of the total, rounded down.

    A whole number means steps and a fraction below 1 a share, given as a number or as text. Raises ConfigError for
    anything else, `1.0` and `2.5` included, which might mean either."""
    text = str(value).strip()
    try:
        if text.endswith("%"):
            return _share(Fraction(text[:-1].strip()) / 100, total, text)
        if isinstance(value, bool) or "/" in text:
            raise ValueError
        number = Fraction(text)
    except ValueError:
        raise ConfigError(
            f'the warm-up "{text}" is no length; write steps (100), a share (0.1) or a percentage (10%)'
        ) from None
    if text.lstrip("+-").isdigit():
        return _steps(int(text), total)
    if number >= 1:
        raise ConfigError(f"the warm-up {text} could be steps or a share; write steps without a point (100), or 10%")
    return _share(number, total, text)


def _steps(steps: int, total: int) -> int:
    if not 0 <= steps <= total:
        raise ConfigError(f"a warm-up of {steps} steps does not fit into a run of {total}; give 0 to {total}, or 10%")
    return steps


def _share(share: Fraction, total: int, text: str) -> int:
    if not 0 <= share <= 1:
        raise ConfigError(f"the warm-up {text} is not a part of the run; give 0 to 1, or 0% to 100%")
    return math.floor(share * total)


def _check(name: str, curve: Curve) -> None:
    if curve.total_steps < 0:
        raise ConfigError(f"a run cannot have {curve.total_steps} steps")
    if not 0 <= curve.warmup_steps <= curve.total_steps:
        raise ConfigError(
            f"a warm-up of {curve.warmup_steps} steps does not fit into a run of {curve.total_steps}; shorten it"
        )
    if name == "constant" and curve.warmup_steps > 0:
        raise ConfigError('the schedule "constant" has no warm-up; choose constant_with_warmup, or a warm-up of 0')
    if name == "warmup_stable_decay" and curve.warmup_steps + curve.decay_steps > curve.total_steps:
        raise ConfigError(
            f"a warm-up of {curve.warmup_steps} and a decay of {curve.decay_steps} steps do not fit into a run of "
            f"{curve.total_steps}; shorten lr_decay_steps"
        )
    if name == "piecewise_constant":
        _rules(curve.step_rules)
    if name == "cosine_with_restarts" and curve.num_cycles < 1:
        raise ConfigError(f"cosine_with_restarts needs at least 1 cycle, not {curve.num_cycles}")
    if name == "polynomial" and not curve.base_lr > curve.lr_end:
        raise ConfigError(
            f"polynomial falls to a rate of {curve.lr_end:g}, but the learning rate is {curve.base_lr:g}; raise it"
        )


def _warmed_up(step: int, curve: Curve, factor_at: Callable[[int, Curve], float]) -> float:
    if step >= curve.warmup_steps:
        return factor_at(step, curve)
    risen = step / curve.warmup_steps
    # transformers lets this one schedule rise from where it will end
    return _above(curve.min_lr_ratio, risen) if factor_at is warmup_stable_decay else risen


def _progress(step: int, curve: Curve) -> float:
    """How much of the time after the warm-up is over, 0 to 1."""
    return (step - curve.warmup_steps) / max(1, curve.total_steps - curve.warmup_steps)


@SCHEDULES.register("constant")
@SCHEDULES.register("constant_with_warmup")
def constant(step: int, curve: Curve) -> float:
    """Always the full rate."""
    return 1.0


@SCHEDULES.register("linear")
def linear(step: int, curve: Curve) -> float:
    """A straight line from the full rate to 0."""
    return max(0.0, (curve.total_steps - step) / max(1, curve.total_steps - curve.warmup_steps))


@SCHEDULES.register("cosine")
def cosine(step: int, curve: Curve) -> float:
    """Half a cosine wave from the full rate to 0."""
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * _progress(step, curve))))


@SCHEDULES.register("cosine_with_restarts")
def cosine_with_restarts(step: int, curve: Curve) -> float:
    """`num_cycles` half waves, each from the full rate to 0."""
    progress = _progress(step, curve)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((curve.num_cycles * progress) % 1.0))))


@SCHEDULES.register("polynomial")
def polynomial(step: int, curve: Curve) -> float:
    """From the full rate to `lr_end` along (1 − progress)^power."""
    fall = (curve.base_lr - curve.lr_end) * (1 - _progress(step, curve)) ** curve.power
    return (fall + curve.lr_end) / curve.base_lr


@SCHEDULES.register("inverse_sqrt")
def inverse_sqrt(step: int, curve: Curve) -> float:
    """√(timescale / (steps after the warm-up + timescale)); the timescale is the warm-up's length, or 10000."""
    timescale = curve.timescale or curve.warmup_steps or 10_000
    return 1.0 / math.sqrt((step + timescale - curve.warmup_steps) / timescale)


@SCHEDULES.register("cosine_with_min_lr")
def cosine_with_min_lr(step: int, curve: Curve) -> float:
    """`num_cycles` half waves in one, as sd-scripts counts them, between the full rate and min_lr_ratio of it."""
    return _above(curve.min_lr_ratio, 0.5 * (1.0 + math.cos(math.pi * curve.num_cycles * _progress(step, curve))))


@SCHEDULES.register("warmup_stable_decay")
def warmup_stable_decay(step: int, curve: Curve) -> float:
    """The full rate, and in the last decay_steps `num_cycles` half waves down to min_lr_ratio of it."""
    progress = (step - (curve.total_steps - curve.decay_steps)) / max(1, curve.decay_steps)
    if progress < 0:
        return 1.0
    return _above(curve.min_lr_ratio, 0.5 * (1.0 + math.cos(math.pi * curve.num_cycles * progress)))


@SCHEDULES.register("piecewise_constant")
def piecewise_constant(step: int, curve: Curve) -> float:
    """Factors in turn: step_rules `1:10,0.1:20,0.01` is 1 below step 10, 0.1 below step 20, then 0.01 (diffusers)."""
    limits, last = _rules(curve.step_rules)
    return next((factor for limit, factor in limits if step < limit), last)


@SCHEDULES.register("rex")
def rex(step: int, curve: Curve) -> float:
    """Longer near the full rate than a line, to min_lr_ratio of it (Chen et al. 2021, arXiv:2107.04197)."""
    left = 1 - _progress(step, curve)
    return _above(curve.min_lr_ratio, left / (0.5 + 0.5 * left))


def _above(floor: float, factor: float) -> float:
    return max(0.0, factor * (1.0 - floor) + floor)


def _rules(step_rules: str) -> tuple[list[tuple[int, float]], float]:
    *parts, last = step_rules.split(",")
    try:
        pairs = [part.split(":") for part in parts]
        return sorted((int(limit), float(factor)) for factor, limit in pairs), float(last)
    except ValueError:
        raise ConfigError(
            f'piecewise_constant reads step_rules, not "{step_rules}"; write lr_scheduler_args as '
            "step_rules='1:100,0.1:200,0.01'"
        ) from None
