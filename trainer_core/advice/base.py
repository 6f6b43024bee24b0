"""What a warning is: what it looks at, why, and the sentence that a person reads. `WARNINGS` holds every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..config import OptimizerConfig, TrainConfig, chosen_optimizer, group_learning_rate
from ..registry import Registry

# The guides that the project began with, by their number in our sources, each with its date.
GUIDES = {
    0: "Lazy DAdaptation guide (V3), from May 2023",
    1: "DAdaptation: the best LoRA optimizer for lazy people, April 2023",
    2: "D-Adaptation experiment notes, spring 2023",
    3: "Lazy training guide (AdamW8bit), 2023",
    4: "Prodigy guide for (IA)³ and LoKr, July 2023",
}
_ADAPTIVE = ("dadapt", "prodigy")


@dataclass(frozen=True)
class Outlook:
    """A run as far as it is known before training. total_steps, warmup_steps: optimizer steps after bucketing.
    epochs: the last one may be a part of one. lr_factors: the schedule, one for each step. model_resolution: the side
    that the model was made for, in pixels; None while it is not known which model it will be."""

    config: TrainConfig
    total_steps: int
    warmup_steps: int
    pictures: int  # without repeats
    epochs: int
    lr_factors: Sequence[float] = ()
    model_resolution: int | None = None


Sentences = Callable[[Outlook], Iterator[str]]


@dataclass(frozen=True)
class Advice:
    """An entry of the table. when: its first docstring line, for the documentation."""

    name: str
    looks_at: tuple[str, ...]
    source: str
    when: str
    sentences: Sentences


WARNINGS: Registry[Advice] = Registry("warning")


def warning(name: str, *, looks_at: str, source: str) -> Callable[[Sentences], Sentences]:
    """Decorator: file a generator of sentences as a warning. looks_at: dotted settings, separated by spaces. source:
    who found it, guides as "guide 2"."""

    def file_it(sentences: Sentences) -> Sentences:
        when = " ".join((sentences.__doc__ or "").split())
        WARNINGS.register(name)(Advice(name, tuple(looks_at.split()), source, when, sentences))
        return sentences

    return file_it


def is_adaptive(optimizer: OptimizerConfig) -> bool:
    """Whether the optimizer finds the size of its steps itself, so that rates are factors around 1."""
    return optimizer_name(optimizer).lower().startswith(_ADAPTIVE)


def optimizer_name(optimizer: OptimizerConfig) -> str:
    """The optimizer's name as it is written, of a dotted class the last part."""
    return chosen_optimizer(optimizer).rpartition(".")[2]


def highest_rate(config: TrainConfig) -> float:
    """The highest learning rate of a component that is trained; 0 where none is."""
    trained = {"unet": config.network.train_unet, "te1": config.network.train_text_encoder}
    return max((group_learning_rate(config.optimizer, name) for name, is_on in trained.items() if is_on), default=0.0)
