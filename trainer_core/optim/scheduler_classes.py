"""Any scheduler class of torch as a schedule: run once over an optimizer of its own, before training, and read off."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from ..errors import ConfigError
from .installed import class_among, installed_class

_SETTING = "lr_scheduler_type"


def class_factors(name: str, arguments: Mapping[str, Any], total_steps: int, base_lr: float) -> list[float]:
    """The factor on the learning rate for each optimizer step under `Class(optimizer, **arguments)`.

    name: a class of torch.optim.lr_scheduler, or `module.Class` of any installed package. base_lr: the rate that
    arguments in absolute numbers, such as eta_min, are relative to; every group follows the same curve. Raises
    ConfigError for an unknown class, for arguments that it does not take, and for rates that are no rates."""
    kind = _scheduler_class(name)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr, momentum=0.9)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            factors = _read_off(kind(optimizer, **arguments), optimizer, total_steps)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"{name} does not take these lr_scheduler_args: {error}") from None
    factors = [lr / base_lr for lr in factors]
    if not all(math.isfinite(factor) and factor >= 0 for factor in factors):
        raise ConfigError(f"{name} gives a learning rate that is negative or no number; change lr_scheduler_args")
    return factors


def _scheduler_class(name: str) -> type[LRScheduler]:
    if "." in name:
        return installed_class(name, LRScheduler, _SETTING)
    found = class_among(("torch.optim.lr_scheduler",), name, LRScheduler, _SETTING)
    return found or installed_class(f"torch.optim.lr_scheduler.{name}", LRScheduler, _SETTING)


def _read_off(scheduler: LRScheduler, optimizer: torch.optim.Optimizer, total_steps: int) -> list[float]:
    rates = [float(optimizer.param_groups[0]["lr"])][:total_steps]
    while len(rates) < total_steps:
        optimizer.step()
        scheduler.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates
