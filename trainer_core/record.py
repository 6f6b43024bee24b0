"""What is kept of a run in its folder: where it is found again, its log, its epochs, and where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import TrainConfig
from .events import Event, Measurement, Saved
from .files.event_log import EventLog, read_measurements
from .files.lora_file import save_lora
from .files.metadata import RunFacts, build_metadata
from .files.resume import ResumeState, load_resume_state, save_resume_state
from .files.run_folder import RunFolder, open_run_folder, run_key
from .files.scalars import ScalarLog
from .networks import ALGORITHMS
from .networks.network import Network
from .plan import Plan, determining_values
from .settings import to_json

if TYPE_CHECKING:
    from .hosts.base import Host

_SECONDS_BETWEEN_STATES = 60.0
SAVE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_PRECISIONS = {dtype: name for name, dtype in SAVE_DTYPES.items()}


def settled(config: TrainConfig, host: Host) -> TrainConfig:
    """The config as it counts in the run's key and metadata: what it leaves to the host filled in, the algorithm by its
    own name. Raises ConfigError for an unknown algorithm."""
    config = replace(config, network=replace(config.network, algo=ALGORITHMS.canonical(config.network.algo)))
    if config.clip_skip is None:
        config = replace(config, clip_skip=host.clip_skip)
    if config.loss.prediction_type == "auto":
        config = replace(config, loss=replace(config.loss, prediction_type=host.process.prediction))
    return config


def run_folder_for(plan: Plan, host: Host) -> RunFolder:
    """The folder of this very run: the same settings, pictures and base model find the same one again."""
    config = plan.config
    key = run_key(
        {
            "settings": determining_values(config),
            "pictures": plan.dataset.fingerprint(),
            "model": host.fingerprint(),
            "vae": host.vae_fingerprint(),
        }
    )
    described = {"settings": to_json(config), "host": host.name, "model": host.model_name}
    return open_run_folder(config.output_dir, config.output_name, key, described)


class Record:
    """Writes a run down while it trains."""

    def __init__(self, config: TrainConfig, host: Host, folder: RunFolder, dtype: torch.dtype):
        """dtype: of the forward pass, which the epochs' metadata names."""
        self._config, self._host, self._folder, self._dtype = config, host, folder, dtype
        self._log = EventLog(folder.events_file)
        self._scalars: ScalarLog | None = None
        self._started_at = datetime.now(timezone.utc)
        self._saved_step, self._saved_at = 0, time.monotonic()

    def of(self, event: Event) -> None:
        """Write down what is worth keeping of an event."""
        self._log.record(event)
        if self._scalars is not None:
            self._scalars.record(event)

    def begin_scalars(self, plan: Plan, rates: Callable[[int], dict[str, float]], step: int) -> None:
        """From here on, TensorBoard's files too, where log_with asks for them. rates: each group's, scheduled, in a
        step. step: those up to it are written from the log."""
        if self._config.log_with == "tensorboard":
            place = _logging_dir(self._folder, self._config)
            self._scalars = ScalarLog(place, plan.steps_per_epoch, rates, self.earlier(step))

    def earlier(self, step: int) -> list[Measurement]:
        """The steps that are done, as earlier sessions logged them."""
        return [each for each in read_measurements(self._folder.events_file) if each.step <= step]

    def save_epoch(self, plan: Plan, network: Network, epoch: int, step: int) -> Saved:
        """Write the epoch's LoRA, unless it is there: an epoch file is never overwritten, the hosts cache by path."""
        path = self._folder.epoch_file(epoch)
        tensors = network.state_dict(SAVE_DTYPES[self._config.save_precision])
        if not path.exists():
            save_lora(path, tensors, build_metadata(plan.config, self._host.family, self._facts(plan, epoch, step)))
        return Saved(epoch, path, tensors)

    def load_state(self) -> ResumeState | None:
        """Where an earlier session left the run; None where there was none."""
        state = load_resume_state(self._folder.resume_file, self._folder.key)
        if state is not None:
            self._saved_step = state.step
        return state

    def save_state(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep where the run stands."""
        save_resume_state(self._folder.resume_file, ResumeState(step, self._folder.key, dict(tensors)))
        self._saved_step, self._saved_at = step, time.monotonic()

    def has_state_of(self, step: int) -> bool:
        """Whether it is this step's state that was kept last."""
        return step == self._saved_step

    def is_state_due(self) -> bool:
        """Whether a kill or a power cut would now lose a minute of work: on disk, the state of a big network takes
        longer than a short epoch."""
        return time.monotonic() - self._saved_at >= _SECONDS_BETWEEN_STATES

    def _facts(self, plan: Plan, epoch: int, step: int) -> RunFacts:
        dataset = plan.dataset
        return RunFacts(
            output_name=self._folder.epoch_stem(epoch),
            epoch=epoch,
            step=step,
            total_steps=plan.total_steps,
            batches_per_epoch=plan.batches_per_epoch,
            num_train_images=dataset.num_train_images,
            num_reg_images=dataset.num_reg_images,
            prediction=plan.config.loss.prediction_type,
            started_at=self._started_at,
            finished_at=datetime.now(timezone.utc),
            session_id=self._folder.key[:16],
            bucket_info=plan.bucket_info,
            dataset_dirs=dataset.dirs(),
            reg_dataset_dirs=dataset.reg_dirs,
            tag_frequency=dataset.tag_frequency(),
            precision=_PRECISIONS[self._dtype],
            model_name=self._host.model_name,
            host=self._host.name,
        )


def _logging_dir(folder: RunFolder, config: TrainConfig) -> Path:
    return Path(config.logging_dir).expanduser() / folder.stem if config.logging_dir else folder.folder / "logs"
