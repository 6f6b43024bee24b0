"""Optimizers over one flat buffer, found by name, and learning-rate schedules."""

from . import adamw, dadapt_adam, prodigy
from .args import parse_optimizer_args
from .base import OPTIMIZERS, Optimizer, build_optimizer
from .flat import FlatBuffer, Group, ParamGroup, Place
from .schedules import SCHEDULES, learning_rate_factors, warmup_steps

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "FlatBuffer",
    "Group",
    "Optimizer",
    "ParamGroup",
    "Place",
    "adamw",
    "build_optimizer",
    "dadapt_adam",
    "learning_rate_factors",
    "parse_optimizer_args",
    "prodigy",
    "warmup_steps",
]
