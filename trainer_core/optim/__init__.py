"""Optimizers over one flat buffer, found by name, and learning-rate schedules."""

# The order in which they register is the order in which user interfaces list them.
from . import prodigy  # isort: skip
from . import dadapt_adam  # isort: skip
from . import adamw  # isort: skip
from . import dadapt_adam_preprint, dadapt_lion, dadapt_sgd, dadapt_adagrad, dadapt_adan, lion  # isort: skip
from . import packaged  # isort: skip
from .args import parse_optimizer_args
from .base import OPTIMIZERS, Optimizer
from .flat import FlatBuffer, Group, ParamGroup, Place
from .packaged import build_optimizer
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
    "dadapt_adagrad",
    "dadapt_adam",
    "dadapt_adam_preprint",
    "dadapt_adan",
    "dadapt_lion",
    "dadapt_sgd",
    "learning_rate_factors",
    "lion",
    "packaged",
    "parse_optimizer_args",
    "prodigy",
    "warmup_steps",
]
