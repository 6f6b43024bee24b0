"""What a run holds while it trains: model, adapters, optimizer, caches, position; how it is kept and found again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import TrainConfig
from .data.batches import Batch
from .data.cache import LatentCache, TextCache
from .data.captions import for_run, has_chance, training_caption
from .data.masks import Masks
from .data.regularisation import importance_of
from .diffusion.cond import Cond
from .diffusion.objective import Objective
from .diffusion.process import Process, zero_terminal_snr
from .errors import TrainingError
from .events import Event, Measured, Measurement, Prepared, Saved, TurnedBack, Warned
from .files.event_log import EventLog, read_measurements, read_spikes
from .files.lora_file import save_lora
from .files.metadata import RunFacts, build_metadata
from .files.resume import ResumeState, load_resume_state, save_resume_state
from .files.run_folder import RunFolder, open_run_folder, run_key
from .files.scalars import ScalarLog
from .footprint import footprint, too_large
from .learner import Learner
from .meter import Meter
from .networks import ALGORITHMS
from .networks.network import Network, build_network
from .plan import Plan, cut_plan, determining_values, trained_components
from .sampling import text_options
from .settings import to_json
from .watch import Watch

if TYPE_CHECKING:
    from .hosts.base import Host

_SECONDS_BETWEEN_STATES = 60.0
_KEPT_TEXT_BYTES = 2**29  # on the device, of captions that a later epoch will see again
_SAVE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_PRECISIONS = {dtype: name for name, dtype in _SAVE_DTYPES.items()}


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


@contextmanager
def open_session(plan: Plan, host: Host, folder: RunFolder) -> Iterator[Session]:
    """Borrow the host's model and put the adapters on it, where the run was left; on the way out, whatever the reason,
    keep where it stands and give the model back as it was."""
    config = plan.config
    trained = trained_components(config, list(host.components()))
    with host.borrowed(trained, config.mixed_precision, config.gradient_checkpointing) as dtype:
        modules = {name: module for name, module in host.components().items() if name in trained}
        network = build_network(config.network, modules, host.family, config.seed, host.device)
        session = Session(plan, host, folder, network, Learner(config, network, dtype), dtype)
        session.load_state()
        with network.attached():
            try:
                yield session
            finally:
                session.close()


class Session:
    """A run in progress. `step` counts the optimizer steps that are done, over all resumes."""

    def __init__(
        self, plan: Plan, host: Host, folder: RunFolder, network: Network, learner: Learner, dtype: torch.dtype
    ):
        config = plan.config
        self.host, self.folder, self.network, self.learner = host, folder, network, learner
        self.process = _process(config, host).to(host.device)
        self.objective = Objective(config.loss, self.process)
        self.log, self.meter = EventLog(folder.events_file), Meter()
        spiked_step = folder.spiked_step()
        self.watch = Watch(plan, is_cut=bool(spiked_step))
        self.plan = cut_plan(plan, spiked_step) if spiked_step else plan
        self._scalars: ScalarLog | None = None
        self.zero = torch.zeros((), device=host.device)
        self.step = self.steps_taken = 0
        self._saved_step, self._saved_at = 0, time.monotonic()
        self._dtype = dtype
        self._started_at = datetime.now(timezone.utc)
        self._trains_text = any(component != "unet" for component in network.parameters_by_component())
        self._text_options = text_options(config)
        cache_dir = folder.folder.parent / ".lazylora_cache"
        examples, placements, dataset = plan.dataset.examples, plan.placements, config.dataset
        self.latents = LatentCache(
            examples,
            placements,
            host.encode_images,
            host.vae_fingerprint(),
            cache_dir,
            host.device,
            mirrored_too=dataset.flip_aug,
        )
        self.masks = Masks(examples, placements, dataset, host.device)
        self._importance = importance_of(examples, config.loss.prior_loss_weight, host.device)
        self._captioning = for_run(dataset, plan.total_steps, self._trains_text)
        comes_back = has_chance(dataset) and self._captioning.caption_variants > 0
        self.texts = TextCache(self._encode_texts, kept_bytes=_KEPT_TEXT_BYTES if comes_back else 0)

    def epochs_left(self) -> Iterator[int]:
        """The epochs that are still to do, from 1; the present one too when its file was not written yet."""
        while (epoch := self._next_epoch()) <= self.plan.epochs:
            yield epoch

    def begin_epoch(self, epoch: int) -> list[tuple[Batch, ...]]:
        """The batches of each optimizer step that the epoch has left."""
        if self.steps_into(epoch) == 0:
            self.watch.begin_epoch(self.step, self.learner.state_dict())
        return self.plan.windows(epoch)[self.steps_into(epoch) :]

    def steps_into(self, epoch: int) -> int:
        """How many optimizer steps of that epoch are done."""
        return self.step - (epoch - 1) * self.plan.steps_per_epoch

    def prepared(self) -> Iterator[Event]:
        """Say how much the run will take."""
        save_dtype = _SAVE_DTYPES[self.plan.config.save_precision]
        taken = footprint(self.plan, self.host, self.network, self.learner.size(), self._dtype, save_dtype)
        yield Prepared(taken, self.folder.folder)
        if warning := too_large(taken, self.host.device):
            yield Warned(warning)

    def fill_latents(self) -> Iterator[Event]:
        """Encode the pictures that are not cached yet, and read their masks."""
        yield from self.latents.fill()
        yield from self.masks.fill(self.latents.latent_size)

    def fill_captions(self, epoch: int, windows: Sequence[tuple[Batch, ...]]) -> Iterator[Event]:
        """Encode the epoch's captions that are not cached yet; nothing to do while a text encoder learns."""
        if not self._trains_text:
            captions = {
                caption
                for step, window in enumerate(windows, start=self.step)
                for batch in window
                for caption in self._captions(epoch, batch, step)
            }
            yield from self.texts.fill(sorted(captions))

    def importance(self, batch: Batch) -> Tensor | None:
        """Each picture's own weight in the loss, [B] on the device; None where all weigh alike."""
        if self._importance is None:
            return None
        return torch.stack([self._importance[index] for index in batch.indices])

    def conditioning(self, epoch: int, batch: Batch) -> Cond:
        """The batch's captions as the model reads them."""
        captions = self._captions(epoch, batch, self.step)
        return self._encode_texts(captions) if self._trains_text else self.texts.get(captions)

    def take_step(self, epoch: int, window: Sequence[Batch], loss: Tensor) -> None:
        """Move the adapters by the gradient that has accumulated, and note the step's numbers."""
        factor = self.plan.lr_factors[self.step]
        rates = self.learner.optimizer.effective_lr(factor)
        norm = self.learner.step(factor)
        self.step += 1
        self.steps_taken += 1
        examples = self.plan.dataset.examples
        pictures = ", ".join(sorted({examples[index].name for batch in window for index in batch.indices})[:4])
        self.meter.record(self.step, epoch, pictures, loss, norm, rates, self.learner.optimizer.d)

    def numbers(self) -> Iterator[Event]:
        """What the meter has to say, if it has been a while, and the spikes of d·lr in it."""
        yield from self._watched(self.meter.due())

    def all_numbers(self) -> Iterator[Event]:
        """What the meter has not said yet, and the spikes of d·lr in it."""
        yield from self._watched(self.meter.rest())

    def turn_back(self) -> TurnedBack:
        """Stand where the spike's epoch began, and keep away from the spike from now on, in later sessions too."""
        spike = self.watch.spike
        assert spike is not None
        self.step, state = self.watch.turned_back()
        self.meter.forget()
        self.learner.load_state_dict(state)
        self.plan = cut_plan(self.plan, spike.step)
        self._save_state_anyway()  # first: without it, the note below would be taken for one about later steps
        self.folder.keep_away_from(spike.step)
        return TurnedBack(self.step, self.plan.total_steps)

    def record(self, event: Event) -> None:
        """Write down what is worth keeping of an event."""
        self.log.record(event)
        if self._scalars is not None:
            self._scalars.record(event)

    def save_epoch(self, epoch: int) -> Saved:
        """Write the epoch's LoRA, unless it is there: an epoch file is never overwritten, the hosts cache by path."""
        path = self.folder.epoch_file(epoch)
        tensors = self.network.state_dict(_SAVE_DTYPES[self.plan.config.save_precision])
        if not path.exists():
            save_lora(path, tensors, build_metadata(self.plan.config, self.host.family, self._facts(epoch)))
        return Saved(epoch, path, tensors)

    def save_state(self) -> None:
        """Keep where the run stands, if it stands anywhere new and sound."""
        if self.step != self._saved_step and self.learner.is_between_steps:
            self._save_state_anyway()

    def save_state_now_and_then(self) -> None:
        """Keep where the run stands against a kill or a power cut, when a minute of work would be lost: on disk, the
        state of a big network takes longer than a short epoch."""
        if time.monotonic() - self._saved_at >= _SECONDS_BETWEEN_STATES:
            self.save_state()

    def close(self) -> None:
        """Log the steps whose numbers nobody has asked for any more, and keep where the run stands."""
        try:
            with suppress(TrainingError):
                for event in self.meter.rest():
                    self.record(event)
        finally:
            self.save_state()

    def load_state(self) -> None:
        """Go on from where the run was left, if it was begun before."""
        state = load_resume_state(self.folder.resume_file, self.folder.key)
        if state is not None:
            self.learner.load_state_dict(state.tensors)
            self.watch.load_state_dict(state.tensors)
            self.step = self._saved_step = state.step
        if self.plan.config.log_with == "tensorboard":
            self._scalars = ScalarLog(
                _logging_dir(self.folder, self.plan.config),
                self.plan.steps_per_epoch,
                self._scheduled_rates,
                self._earlier(),
            )

    def catch_up(self) -> Iterator[Event]:
        """Look at the steps of earlier sessions again: a spike among them may have had no time to be acted on. One that
        was acted on has made the run shorter than it was planned."""
        said = read_spikes(self.folder.events_file)
        yield from self.watch.catch_up(self._earlier(), said, self.plan.total_steps)
        if self.watch.spike:
            yield self.turn_back()
        elif self.folder.spiked_step():
            yield TurnedBack(self.step, self.plan.total_steps)

    def _facts(self, epoch: int) -> RunFacts:
        plan, dataset = self.plan, self.plan.dataset
        return RunFacts(
            output_name=self.folder.epoch_stem(epoch),
            epoch=epoch,
            step=self.step,
            total_steps=plan.total_steps,
            batches_per_epoch=plan.batches_per_epoch,
            num_train_images=dataset.num_train_images,
            num_reg_images=dataset.num_reg_images,
            prediction=self.process.prediction,
            started_at=self._started_at,
            finished_at=datetime.now(timezone.utc),
            session_id=self.folder.key[:16],
            bucket_info=plan.bucket_info,
            dataset_dirs=dataset.dirs(),
            reg_dataset_dirs=dataset.reg_dirs,
            tag_frequency=dataset.tag_frequency(),
            precision=_PRECISIONS[self._dtype],
            model_name=self.host.model_name,
            host=self.host.name,
        )

    def _watched(self, said: Iterator[Measured | Warned]) -> Iterator[Event]:
        for event in said:
            yield event
            if isinstance(event, Measured):
                yield from self.watch.look(event.measurements, self.plan.total_steps)
            if self.watch.spike:
                return  # what follows is not wanted any more, and may well be no numbers

    def _next_epoch(self) -> int:
        epoch = math.ceil(self.step / self.plan.steps_per_epoch)
        is_done = self.step == self.plan.last_step(epoch)
        is_unsaved = epoch > 0 and self.plan.saves(epoch) and not self.folder.epoch_file(epoch).exists()
        return epoch + 1 if is_done and not is_unsaved else max(1, epoch)

    def _scheduled_rates(self, step: int) -> dict[str, float]:
        return {group.name: group.lr * self.plan.lr_factors[step - 1] for group in self.learner.buffer.groups}

    def _earlier(self) -> list[Measurement]:
        """The steps that are done, as earlier sessions logged them."""
        return [each for each in read_measurements(self.folder.events_file) if each.step <= self.step]

    def _save_state_anyway(self) -> None:
        tensors = {**self.learner.state_dict(), **self.watch.state_dict()}
        save_resume_state(self.folder.resume_file, ResumeState(self.step, self.folder.key, tensors))
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _captions(self, epoch: int, batch: Batch, step: int) -> list[str]:
        """What the batch's pictures are captioned with in this epoch, so many steps into the run."""
        examples, seed = self.plan.dataset.examples, self.plan.config.seed
        return [
            training_caption(examples[index], self._captioning, seed, epoch, turn, step)
            for index, turn in zip(batch.indices, batch.turns, strict=True)
        ]

    def _encode_texts(self, captions: Sequence[str]) -> Cond:
        return self.host.encode_texts(captions, self._text_options)


def _logging_dir(folder: RunFolder, config: TrainConfig) -> Path:
    return Path(config.logging_dir).expanduser() / folder.stem if config.logging_dir else folder.folder / "logs"


def _process(config: TrainConfig, host: Host) -> Process:
    process = host.process
    if config.loss.prediction_type != "auto":
        process = replace(process, prediction=config.loss.prediction_type)
    return zero_terminal_snr(process) if config.loss.zero_terminal_snr else process
