"""What a run will do, worked out before anything is loaded: pictures, buckets, steps and the learning-rate curve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .advice import advise
from .config import TrainConfig, group_learning_rate, trains_text_encoder
from .data.batches import Batch, accumulation_windows, count_batches, count_steps, epoch_batches
from .data.buckets import Placement, assign_buckets, bucket_info
from .data.examples import Dataset, scan
from .errors import ConfigError
from .optim.schedules import learning_rate_factors, warmup_steps
from .settings import to_json


@dataclass(frozen=True)
class Plan:
    """A run as it will happen.

    placements: each picture's bucket, in the dataset's order. lr_factors: one per optimizer step, multiplied into every
    learning rate. warnings: settings and pictures that deserve a look."""

    config: TrainConfig
    dataset: Dataset
    placements: tuple[Placement, ...]
    batches_per_epoch: int
    steps_per_epoch: int
    lr_factors: tuple[float, ...]
    warnings: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return len(self.lr_factors)

    @property
    def repeats(self) -> list[int]:
        """Each picture's repeats."""
        return [example.repeats for example in self.dataset.examples]

    @property
    def bucket_info(self) -> dict[str, Any]:
        """kohya's ss_bucket_info."""
        return bucket_info(self.placements, self.repeats, [example.size for example in self.dataset.examples])

    def windows(self, epoch: int) -> list[tuple[Batch, ...]]:
        """The batches of each optimizer step of an epoch (from 1)."""
        dataset = self.config.dataset
        batches = epoch_batches(self.placements, self.repeats, dataset.batch_size, self.config.seed, epoch)
        return accumulation_windows(batches, self.config.gradient_accumulation_steps)

    def saves(self, epoch: int) -> bool:
        """Whether the epoch's LoRA is kept as a file."""
        return epoch % self.config.save_every_n_epochs == 0 or epoch == self.config.max_train_epochs

    def samples(self, epoch: int) -> bool:
        """Whether the epoch gets preview pictures."""
        every = self.config.sample.every_n_epochs
        return bool(self.config.sample.prompts) and (epoch % every == 0 or epoch == self.config.max_train_epochs)


def make_plan(config: TrainConfig) -> Plan:
    """Read the dataset's folder and work the run out. Raises DataError or ConfigError for what cannot be trained."""
    _check(config)
    dataset = scan(config.dataset)
    placements = tuple(assign_buckets([example.size for example in dataset.examples], config.dataset))
    repeats = [example.repeats for example in dataset.examples]
    batch_size = config.dataset.batch_size
    steps_per_epoch = count_steps(placements, repeats, batch_size, config.gradient_accumulation_steps)
    total_steps = steps_per_epoch * config.max_train_epochs
    optimizer = config.optimizer
    warmup = warmup_steps(optimizer.lr_warmup_steps, total_steps)
    factors = learning_rate_factors(
        optimizer.lr_scheduler,
        total_steps,
        warmup,
        num_cycles=optimizer.lr_scheduler_num_cycles,
        power=optimizer.lr_scheduler_power,
        base_lr=_highest_learning_rate(config),
    )
    warnings = (*dataset.warnings, *advise(config, total_steps, warmup))
    return Plan(
        config,
        dataset,
        placements,
        count_batches(placements, repeats, batch_size),
        steps_per_epoch,
        tuple(factors),
        warnings,
    )


def trained_components(config: TrainConfig, available: list[str]) -> list[str]:
    """Which of the host's components get adapters: those switched on and given a learning rate above 0.

    Raises ConfigError when nothing is left to train."""
    network = config.network
    wanted = {"unet": network.train_unet}
    chosen = [
        component
        for component in available
        if wanted.get(component, trains_text_encoder(network))
        and group_learning_rate(config.optimizer, component) > 0
    ]
    if not chosen:
        raise ConfigError(
            "nothing is trained: turn on train_unet or train_text_encoder and give it a learning rate above 0"
        )
    return chosen


def determining_values(config: TrainConfig) -> dict[str, Any]:
    """The settings that change what is trained or saved, as JSON: names, places and previews left out.

    The pictures count through their content, not through the folder they lie in."""
    neutral = replace(
        config, output_name="", output_dir="", training_comment="", dataset=replace(config.dataset, folder="")
    )
    values = to_json(neutral)
    del values["sample"]
    return values


def _highest_learning_rate(config: TrainConfig) -> float:
    rates = [group_learning_rate(config.optimizer, component) for component in ("unet", "te1")]
    return max(rates) or 1.0


def _check(config: TrainConfig) -> None:
    if config.loss.min_timestep >= config.loss.max_timestep:
        raise ConfigError(
            f"min_timestep {config.loss.min_timestep} is not below max_timestep {config.loss.max_timestep}; swap them"
        )
