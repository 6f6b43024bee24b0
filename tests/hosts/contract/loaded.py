"""A checkpoint that a real host has loaded, as the checks see it, and a thread to train it on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

TEXT_LAYERS = 3
SIDE = 64  # pixels


class Loaded(Protocol):
    """A model in a real host, and the host's own ways with it, which ours are measured by."""

    @property
    def host(self) -> Any:
        """A `hosts.base.Host` of this model, made anew."""
        ...

    visible: float  # how strong random adapters have to be to show in a picture

    def picture(self, seed: int = 5) -> Any:
        """Pixels [H, W, 3] in [0, 1], made the way a person makes them in this host."""
        ...

    def picture_with(self, tensors: dict[str, Any]) -> Any:
        """The same picture with a LoRA file of these tensors, loaded by the host's own loader."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything of the host that training might leave changed, weights included."""
        ...

    def encoded_images(self, pixels: Any) -> Any:
        """The host's own latents of [B, 3, H, W] in [-1, 1], scaled."""
        ...

    def denoised(self, x: Any, sigma: Any, cond: Any) -> Any:
        """What the sampler's wrapper around the UNet makes of a σ-scaled x [B, 4, h, w]."""
        ...

    def sigmas(self, t: Any) -> Any:
        """The noise levels of timesteps t [B]."""
        ...

    def predicted_plainly(self, call: Callable[..., Any], captions: list[str], x_t: Any, t: Any) -> Any:
        """The prediction by the host's modules in their own way: each is called as call(component, *args, **kwargs).

        SDXL's pictures are 128 pixels high and wide."""
        ...

    def interrupt(self, pressed: bool) -> None:
        """Press the host's own cancel, or take it back."""
        ...


class Place(Protocol):
    """A real host in whose process the checks run."""

    def load(self, path: Path, exactly: bool = False) -> Loaded:
        """Load a checkpoint as the host does, afresh. exactly: in fp32, so that W + ΔW is not rounded."""
        ...


_place: list[Place] = []


def use(place: Place) -> None:
    """From now on checks run in this host."""
    _place[:] = [place]


def load(path: Path, exactly: bool = False) -> Any:
    """A freshly loaded checkpoint in the host that is used."""
    return _place[0].load(path, exactly)


def on_a_thread(work: Callable[[], Any]) -> Any:
    """Run outside inference mode and raise what it raises."""
    outcome: list[Any] = [None, None]

    def run() -> None:
        try:
            outcome[0] = work()
        except BaseException as error:
            outcome[1] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def state_of_modules(roots: dict[str, Any], attributes: tuple[str, ...] = ("forward",)) -> dict[str, Any]:
    """Hooks, modes, own attributes and every bit of the weights of these modules.

    attributes: of the modules' own that training might patch."""
    import torch

    state: dict[str, Any] = {"grad": torch.is_grad_enabled()}
    for part, root in roots.items():
        for name, module in root.named_modules():
            own = {key: module.__dict__.get(key) for key in attributes}
            hooks = len(module._forward_hooks), len(module._forward_pre_hooks)
            state[f"{part} {name}"] = (own, hooks, module.training)
        for name, weight in root.named_parameters(remove_duplicate=False):
            state[f"{part} {name} flags"] = (weight.requires_grad, weight.dtype, weight.device, weight.grad is None)
            state[f"{part} {name} bytes"] = hash(weight.detach().flatten().view(torch.uint8).numpy().tobytes())
    return state


def require_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [key for key in before if before[key] != after.get(key)] + [key for key in after if key not in before]
    assert not changed, f"changed: {changed[:5]}"


def all_components(host: Any) -> list[str]:
    return list(host.components())


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def borrow(host: Any, components: list[str] | None = None, **options: Any) -> Any:
    settings = {"precision": "auto", "checkpointing": False, **options}
    return host.borrowed(components or all_components(host), **settings)
