"""What a run will do, worked out before anything is loaded: pictures, buckets, steps and the learning-rate curve."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from .advice import Outlook, advise
from .config import TrainConfig, group_learning_rate, learning_rates, trains_text_encoder
from .data.batches import Batch, accumulation_windows, count_batches, count_steps, epoch_batches, mirrored_at_random
from .data.buckets import Placement, assign_buckets, bucket_info
from .data.dataset import read_dataset
from .data.examples import Dataset
from .diffusion.objective import check_loss
from .errors import ConfigError
from .optim.run_schedule import run_factors
from .optim.schedules import warmup_steps
from .settings import to_json


@dataclass(frozen=True)
class Plan:
    """A run as it will happen.

    placements: each picture's bucket, in the dataset's order. lr_factors: one per optimizer step, multiplied into every
    learning rate. warnings: settings and pictures that deserve a look. kept_epoch: is saved whatever
    save_every_n_epochs says; 0 is none."""

    config: TrainConfig
    dataset: Dataset
    placements: tuple[Placement, ...]
    batches_per_epoch: int
    steps_per_epoch: int
    lr_factors: tuple[float, ...]
    warnings: tuple[str, ...]
    kept_epoch: int = 0

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return len(self.lr_factors)

    @property
    def epochs(self) -> int:
        """The number of the last epoch, which may be a part of one: max_train_steps or a spike may cut it."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def last_step(self, epoch: int) -> int:
        """The optimizer step that ends an epoch, both counted from 1; 0 for epoch 0."""
        return min(epoch * self.steps_per_epoch, self.total_steps)

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
        if dataset.flip_aug:
            batches = mirrored_at_random(batches, self.config.seed, epoch)
        windows = accumulation_windows(batches, self.config.gradient_accumulation_steps)
        return windows[: self.last_step(epoch) - self.last_step(epoch - 1)]

    def saves(self, epoch: int) -> bool:
        """Whether the epoch's LoRA is kept as a file."""
        return epoch % self.config.save_every_n_epochs == 0 or epoch in (self.kept_epoch, self.epochs)

    def samples(self, epoch: int) -> bool:
        """Whether the epoch gets preview pictures."""
        every = self.config.sample.every_n_epochs
        return bool(self.config.sample.prompts) and (epoch % every == 0 or epoch == self.epochs)


def make_plan(config: TrainConfig, model_resolution: int | None = None) -> Plan:
    """Read the dataset's folder and work the run out. model_resolution: the side that the model was made for, if known.
    Raises DataError or ConfigError for what cannot be trained."""
    check_loss(config.loss)
    dataset = read_dataset(config.dataset)
    placements = tuple(assign_buckets([example.size for example in dataset.examples], config.dataset))
    repeats = [example.repeats for example in dataset.examples]
    batch_size = config.dataset.batch_size
    steps_per_epoch = count_steps(placements, repeats, batch_size, config.gradient_accumulation_steps)
    total_steps = config.max_train_steps or steps_per_epoch * config.max_train_epochs
    warmup = warmup_steps(config.optimizer.lr_warmup_steps, total_steps)
    factors = _lr_factors(config, total_steps, warmup)
    epochs = math.ceil(total_steps / steps_per_epoch)
    outlook = Outlook(config, total_steps, warmup, len(dataset.examples), epochs, factors, model_resolution)
    return Plan(
        config,
        dataset,
        placements,
        count_batches(placements, repeats, batch_size),
        steps_per_epoch,
        factors,
        (*dataset.warnings, *advise(outlook)),
    )


def cut_plan(plan: Plan, spiked_step: int) -> Plan:
    """The plan of a run that keeps away from a spike of d·lr at this step, from the epoch before it on (guide 4).

    on_spike cut: the run ends with that step, its schedule re-planned over so many. stop: it ends with the epoch
    before; in the first epoch, which has none before it, with that step."""
    before = (spiked_step - 1) // plan.steps_per_epoch
    if plan.config.on_spike == "cut":
        warmup = warmup_steps(plan.config.optimizer.lr_warmup_steps, plan.total_steps)
        try:
            factors = _lr_factors(plan.config, spiked_step, min(warmup, spiked_step), ends_with_run=True)
        except ConfigError:  # the schedule has lengths in steps that do not fit any more: its beginning does
            factors = plan.lr_factors[:spiked_step]
    else:
        factors = plan.lr_factors[: plan.last_step(before) or spiked_step]
    return replace(plan, lr_factors=factors, kept_epoch=before)


def trained_components(config: TrainConfig, available: list[str]) -> list[str]:
    """Which of the host's components get adapters: those switched on and given a learning rate above 0.

    Raises ConfigError when nothing is left to train."""
    network = config.network
    wanted = {"unet": network.train_unet}
    chosen = [
        component
        for component in available
        if wanted.get(component, trains_text_encoder(network)) and group_learning_rate(config.optimizer, component) > 0
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
        config,
        output_name="",
        output_dir="",
        training_comment="",
        log_with="none",
        logging_dir="",
        max_train_epochs=1 if config.max_train_steps else config.max_train_epochs,
        spike_ratio=0.0 if config.on_spike == "warn" else config.spike_ratio,
        dataset=replace(config.dataset, folder="", masks_dir="", reg_data_dir=""),
    )
    values = to_json(neutral)
    del values["sample"]
    return values


def _lr_factors(config: TrainConfig, total_steps: int, warmup: int, ends_with_run: bool = False) -> tuple[float, ...]:
    base_lr = _highest_learning_rate(config)
    return tuple(run_factors(config.optimizer, total_steps, warmup, base_lr, ends_with_run))


def _highest_learning_rate(config: TrainConfig) -> float:
    return max(learning_rates(config.optimizer, [("te1", 1.0), ("unet", 1.0)])) or 1.0
