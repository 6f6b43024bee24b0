"""Where a stopped run goes on from: weights, optimizer and position in one file, so that they can never be mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import RunError
from .atomic import write_atomically

_FORMAT = 1


@dataclass(frozen=True)
class ResumeState:
    """A run after `step` optimizer steps: its tensors (adapters and optimizer) and the run's key."""

    step: int
    key: str
    tensors: Mapping[str, Tensor]


def save_resume_state(path: Path, state: ResumeState) -> None:
    """Replace the resume file in one move: a kill at any moment leaves the old or the new one. Raises RunError."""
    about = json.dumps({"format": _FORMAT, "step": state.step, "key": state.key})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={"lazylora": about}))


def load_resume_state(path: Path, key: str) -> ResumeState | None:
    """The state of the run with this key, or None when there is none.

    Raises RunError when the file is there but unreadable or of another run: going on from zero in silence would cost
    hours."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["lazylora"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(f"{path}: the resume state cannot be read ({error}); delete it to start the run anew") from None
    if about.get("format") != _FORMAT or about.get("key") != key:
        raise RunError(f"{path}: the resume state belongs to another run or version; delete it to start the run anew")
    return ResumeState(int(about["step"]), key, tensors)
