"""A recipe before it is trained: where its settings come from, and what a run with them would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..footprint import Footprint, footprint
from ..hosts.venue import Venue
from ..learner import Learner
from ..networks.network import build_network
from ..plan import Plan, make_plan, trained_components
from ..recipes import ImportReport, import_file, import_text
from ..recipes.presets import PRESETS
from ..settings import merged
from .request import requested, require_allowed, require_allowed_pictures

if TYPE_CHECKING:
    from ..hosts.base import Host

_CURVE_POINTS = 200
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Outlook:
    """A run as it would be. footprint: None where no host was at hand to measure on."""

    plan: Plan
    footprint: Footprint | None = None

    def as_json(self) -> dict[str, Any]:
        """Pictures, steps, warnings; lr_curve: [step, factor] pairs, evenly spread; bytes of a file and of memory."""
        plan, taken = self.plan, self.footprint
        return {
            "pictures": len(plan.dataset.examples),
            "steps_per_epoch": plan.steps_per_epoch,
            "epochs": plan.epochs,
            "total_steps": plan.total_steps,
            "lr_curve": lr_curve(plan),
            "warnings": list(plan.warnings),
            "file_bytes": taken.file if taken else None,
            "memory_bytes": taken.memory if taken else None,
        }


def preset_values(name: str) -> dict[str, Any]:
    """A guide's settings, nested and partial. Raises ConfigError for an unknown name."""
    return dict(PRESETS.get(name).values)


def read_recipe(text: str, file: str, preset: str, venue: Venue) -> dict[str, Any]:
    """A preset's settings, those of a file or a text over them, and what became of each of their keys, as JSON values.

    Raises ConfigError for what is no recipe, and for a file that may not be named in this venue."""
    values = preset_values(preset) if preset else {}
    reports: list[ImportReport] = []
    if file:
        reports.append(import_file(require_allowed(file, "file", venue)))
    if text.strip():
        reports.append(import_text(text))
    for report in reports:
        values = merged(values, report.values)
    return {
        "settings": values,
        "summary": "\n".join(report.summary() for report in reports),
        "entries": [entry for report in reports for entry in report.to_json()["entries"]],
        "warnings": [warning for report in reports for warning in report.warnings],
    }


def looked_ahead(values: Mapping[str, Any], model: str, venue: Venue) -> Outlook:
    """What a run with these settings would be, with nothing loaded. Raises LazyLoraError for what cannot be trained."""
    plan = make_plan(requested(values, model, venue))
    require_allowed_pictures(plan.dataset.examples, venue)
    return Outlook(plan)


def measured(outlook: Outlook, host: Host) -> Outlook:
    """The same outlook with what the run takes on this host; adapters are made for that, and thrown away.

    Call it within a turn. Raises LazyLoraError as `train` does for what cannot be trained on it."""
    config = outlook.plan.config
    trained = trained_components(config, list(host.components()))
    modules = {name: module for name, module in host.components().items() if name in trained}
    network = build_network(config.network, modules, host.family, config.seed)
    dtype = _DTYPES.get(config.mixed_precision) or _usual_dtype(host.device)
    save_dtype = _DTYPES[config.save_precision]
    learner = Learner(config, network, dtype).size()
    return Outlook(outlook.plan, footprint(outlook.plan, host, network, learner, dtype, save_dtype))


def lr_curve(plan: Plan) -> list[tuple[int, float]]:
    """The schedule as (step, factor) pairs, steps from 1, about 200 of them, the last one among them."""
    factors = plan.lr_factors
    stride = max(1, len(factors) // _CURVE_POINTS)
    steps = [*range(0, len(factors) - 1, stride), len(factors) - 1] if factors else []
    return [(step + 1, factors[step]) for step in steps]


def _usual_dtype(device: torch.device) -> torch.dtype:
    """What "auto" comes to on most hosts; near enough for an estimate."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16
