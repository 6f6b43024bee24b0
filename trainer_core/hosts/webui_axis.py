"""Two axes for the X/Y/Z plot of A1111 and Forge: the epochs of a run, and the weight they are taken at."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

EPOCH, WEIGHT = "[LazyLoRA] Epoch", "[LazyLoRA] Weight"
BASE = "base"  # the value that stands for no LoRA

_PLOT_SCRIPTS = ("xyz_grid.py", "scripts.xyz_grid")  # as the hosts' loader and as Python's own would name it
_TAG = re.compile(r"<lora:([^:<>]+)(:[^<>]*)?>")
_NUMBER = re.compile(r"-\d{6}$")
_PROMPTS = ("prompt", "hr_prompt")  # an empty hr_prompt stands for the other one


def add_axes(newest_epochs: Callable[[], Sequence[str]]) -> None:
    """Add both axes to the host's own plot script, unless it has them already or is not loaded.

    newest_epochs: the file stems of the newest run's epochs, in order; asked whenever the UI shows the axis's values,
    so that new epochs appear without a restart. Call it when scripts load and again before the UI is built: with
    `--nowebui` Forge builds it before anybody is told."""
    plot = plot_script()
    if plot is None:
        return
    known = {option.label for option in plot.axis_options}
    plot.axis_options.extend(each for each in _axes(plot, newest_epochs) if each.label not in known)


def plot_script() -> ModuleType | None:
    """The module of the X/Y/Z plot script that the host has loaded, None where there is none."""
    from modules import scripts

    for data in scripts.scripts_data:
        if data.script_class.__module__ in _PLOT_SCRIPTS:
            return data.module
    return None


def _axes(plot: ModuleType, newest_epochs: Callable[[], Sequence[str]]) -> list[Any]:
    epoch = plot.AxisOption(
        EPOCH,
        str,
        _apply_epoch,
        format_value=_as_it_is,
        confirm=_require_files,
        cost=0.5,  # loading a LoRA takes a while: the host changes it in its outer loop
        choices=lambda: [BASE, *newest_epochs()],
    )
    return [epoch, plot.AxisOption(WEIGHT, float, _apply_weight, cost=0.4)]


def _apply_epoch(p: Any, epoch: str, epochs: Sequence[str]) -> None:
    """Have a cell's prompts name this epoch instead of another of its run; BASE: none at all."""
    runs = {_run_of(each) for each in epochs if each != BASE}
    _rewrite(p, lambda text: _with_epoch(text, epoch, runs, getattr(p, "lazylora_weight", None)))
    p.lazylora_runs = runs


def _apply_weight(p: Any, weight: float, weights: Sequence[float]) -> None:
    """Take a cell's epoch at this weight, whether the other axis has named it yet or will; without that axis, the
    epochs that the prompt names, or else its LoRAs."""
    runs = getattr(p, "lazylora_runs", None)
    if runs is None and not _is_on_the_plot(EPOCH):
        names = [found[1] for found in _TAG.finditer(p.prompt)]
        runs = {_run_of(name) for name in [each for each in names if _NUMBER.search(each)] or names}
        if not runs:
            raise RuntimeError(f"{WEIGHT} found no <lora:…> in the prompt; add one, or {EPOCH} as another axis")
    if runs is not None:
        _rewrite(p, lambda text: _with_weight(text, weight, runs))
    p.lazylora_weight = weight


def _with_epoch(text: str, epoch: str, runs: set[str], weight: float | None) -> str:
    """The prompt with `epoch` where one of these runs stood, or at its end; the weight that stood there stays."""
    is_named = False

    def replaced(found: re.Match[str]) -> str:
        nonlocal is_named
        if _run_of(found[1]) not in runs:
            return found[0]
        if epoch == BASE or is_named:
            return ""
        is_named = True
        return _tag(epoch, found[2] if weight is None else f":{weight:g}")

    text = _TAG.sub(replaced, text)
    if epoch == BASE or is_named:
        return text
    return f"{text} {_tag(epoch, ':1' if weight is None else f':{weight:g}')}".lstrip()


def _with_weight(text: str, weight: float, runs: set[str]) -> str:
    return _TAG.sub(lambda found: _tag(found[1], f":{weight:g}") if _run_of(found[1]) in runs else found[0], text)


def _tag(name: str, weight: str | None) -> str:
    return f"<lora:{name}{weight or ':1'}>"


def _rewrite(p: Any, change: Callable[[str], str]) -> None:
    for name in _PROMPTS:
        text = getattr(p, name, "")
        if isinstance(text, str) and (text or name == "prompt"):
            setattr(p, name, change(text))


def _run_of(name: str) -> str:
    """`my cat-000010` → `my cat`; the last epoch of a run may have its name alone."""
    return _NUMBER.sub("", name)


def _as_it_is(p: Any, option: Any, value: str) -> str:
    return value


def _require_files(p: Any, epochs: Iterable[str]) -> None:
    """A LoRA that the host cannot find gives the plain picture without a word: say it before."""
    networks: Any = sys.modules.get("networks")  # the built-in Lora extension's
    if not hasattr(networks, "available_network_aliases"):
        return
    wanted = [each for each in epochs if each != BASE]
    if any(each not in networks.available_network_aliases for each in wanted):
        networks.list_available_networks()
    for each in wanted:
        if each not in networks.available_network_aliases:
            raise RuntimeError(f"{EPOCH}: there is no LoRA {each}; choose epochs from the list")


def _is_on_the_plot(label: str) -> bool:
    from modules import shared

    axes = (getattr(shared.state, f"xyz_plot_{letter}", None) for letter in "xyz")
    return any(axis is not None and axis.axis.label == label for axis in axes)
