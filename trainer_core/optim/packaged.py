"""Optimizers that only packages have, by the names that kohya's users know, and any other by its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import ConfigError
from .base import OPTIMIZERS, Optimizer
from .flat import FlatBuffer
from .installed import class_among, installed_class
from .package_optimizer import PackageOptimizer

# Names → classes, and the options that kohya gives them. Adafactor's own rate is off: see `_adafactor`.
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGDNesterov": ("torch.optim.SGD", {"nesterov": True, "momentum": 0.9}),
    "AdamW8bit": ("bitsandbytes.optim.AdamW8bit", {}),
    "PagedAdamW8bit": ("bitsandbytes.optim.PagedAdamW8bit", {}),
    "Lion8bit": ("bitsandbytes.optim.Lion8bit", {}),
    "PagedLion8bit": ("bitsandbytes.optim.PagedLion8bit", {}),
    "SGDNesterov8bit": ("bitsandbytes.optim.SGD8bit", {"nesterov": True, "momentum": 0.9}),
    "PagedAdamW": ("bitsandbytes.optim.PagedAdamW", {}),
    "PagedAdamW32bit": ("bitsandbytes.optim.PagedAdamW32bit", {}),
    "AdEMAMix8bit": ("bitsandbytes.optim.AdEMAMix8bit", {}),
    "PagedAdEMAMix8bit": ("bitsandbytes.optim.PagedAdEMAMix8bit", {}),
    "ProdigyPlusScheduleFree": ("prodigyplus.ProdigyPlusScheduleFree", {}),
    "AdamWScheduleFree": ("schedulefree.AdamWScheduleFree", {}),
    "RAdamScheduleFree": ("schedulefree.RAdamScheduleFree", {}),
    "SGDScheduleFree": ("schedulefree.SGDScheduleFree", {}),
}

# torch's own that move every element by itself: over one tensor per group they give the same numbers, faster.
_ELEMENTWISE = ("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")


def build_optimizer(name: str, buffer: FlatBuffer, options: Mapping[str, object]) -> Optimizer:
    """The optimizer of that name over the buffer.

    One of OPTIMIZERS (case does not matter), else a class by its bare name from torch.optim or pytorch-optimizer, or by
    its dotted one from any installed package. Raises ConfigError for an unknown name or option, with the nearest known
    one, and for a value out of range."""
    if "." in name:
        return _packaged(installed_class(name, torch.optim.Optimizer, "optimizer"), buffer, options)
    if name in OPTIMIZERS:
        return OPTIMIZERS.get(name)(buffer, options)
    found = class_among(("torch.optim", "pytorch_optimizer"), name, torch.optim.Optimizer, "optimizer")
    if found is None:
        return OPTIMIZERS.get(name)(buffer, options)  # which names the nearest one
    return _packaged(found, buffer, options)


def _packaged(kind: type[torch.optim.Optimizer], buffer: FlatBuffer, options: Mapping[str, object]) -> PackageOptimizer:
    is_torchs = kind.__module__.startswith("torch.optim")
    return PackageOptimizer(buffer, kind, options, is_elementwise=is_torchs and kind.__name__ in _ELEMENTWISE)


def _by_class(dotted: str, kohyas: Mapping[str, Any]) -> Callable[[FlatBuffer, Mapping[str, object]], Optimizer]:
    def build(buffer: FlatBuffer, options: Mapping[str, object]) -> Optimizer:
        kind = installed_class(dotted, torch.optim.Optimizer, "optimizer")
        return _packaged(kind, buffer, {**kohyas, **options})

    return build


for _name, (_dotted, _kohyas) in _CLASSES.items():
    OPTIMIZERS.register(_name)(_by_class(_dotted, _kohyas))


@OPTIMIZERS.register("Adafactor")
def _adafactor(buffer: FlatBuffer, options: Mapping[str, object]) -> Optimizer:
    """transformers' Adafactor with a rate from outside; kohya's default is the rate that it makes itself."""
    own = [name for name in ("relative_step", "warmup_init") if options.get(name)]
    if own:
        raise ConfigError(
            f'"optimizer_args.{own[0]}" lets Adafactor set its own rate, past the schedule; set it to False and give a '
            "learning_rate, e.g. 1e-4"
        )
    kind = installed_class("transformers.optimization.Adafactor", torch.optim.Optimizer, "optimizer")
    return _packaged(kind, buffer, {"relative_step": False, "scale_parameter": False, "warmup_init": False, **options})
