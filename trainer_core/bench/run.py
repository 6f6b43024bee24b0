"""Everything that the bench measures, with the machine it was measured on, as one JSON object."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from .adapter_step import measure_adapter_steps
from .optimizer_step import measure_optimizer_steps, sd15_lokr_shapes
from .training_step import Subject, measure_training_steps

_PACKAGES = ("torch", "diffusers", "peft", "lycoris-lora", "prodigyopt", "dadaptation")


def run_bench(rounds: int = 5) -> dict[str, Any]:
    """Training steps and optimizer steps, ours and the others', in turns; CUDA where there is one. A time ratio
    below 1 means that ours is faster."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    subject = Subject(width=320, latent=64, batch_size=4, device=device) if device == "cuda" else Subject()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": _machine(device),
        "subject": vars(subject),
        "training_steps": measure_training_steps(subject, rounds),
        "optimizer_steps": measure_optimizer_steps(rounds=rounds),
        "adapter_steps": measure_adapter_steps(rounds, tokens=4096 if device == "cuda" else 256, device=device),
        "optimizer_steps_lokr": measure_optimizer_steps(sd15_lokr_shapes(), rounds=rounds),
    }


def _machine(device: str) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
