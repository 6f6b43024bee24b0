"""What a run holds while it trains, and where it stands: model, adapters, optimizer, material and position."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import TrainConfig
from .data.batches import Batch
from .diffusion.cond import Cond
from .diffusion.objective import Objective
from .diffusion.process import Process, zero_terminal_snr
from .errors import TrainingError
from .events import Event, Measured, Prepared, Saved, TurnedBack, Warned
from .files.event_log import read_spikes
from .files.run_folder import RunFolder
from .footprint import footprint, too_large
from .learner import Learner
from .material import Material
from .meter import Meter
from .networks.network import Network, build_network
from .plan import Plan, cut_plan, trained_components
from .record import SAVE_DTYPES, Record
from .sampling import text_options
from .watch import Watch

if TYPE_CHECKING:
    from .hosts.base import Host


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
        self.record, self.meter = Record(config, host, folder, dtype), Meter()
        spiked_step = folder.spiked_step()
        self.watch = Watch(plan, is_cut=bool(spiked_step))
        self.plan = cut_plan(plan, spiked_step) if spiked_step else plan
        self.zero = torch.zeros((), device=host.device)
        self.step = self.steps_taken = 0
        self._dtype = dtype
        trains_text = any(component != "unet" for component in network.parameters_by_component())
        cache_dir = folder.folder.parent / ".lazylora_cache"
        self.material = Material(plan, host, cache_dir, text_options(config), trains_text)

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
        save_dtype = SAVE_DTYPES[self.plan.config.save_precision]
        taken = footprint(self.plan, self.host, self.network, self.learner.size(), self._dtype, save_dtype)
        yield Prepared(taken, self.folder.folder)
        if warning := too_large(taken, self.host.device):
            yield Warned(warning)

    def fill_captions(self, epoch: int, windows: Sequence[tuple[Batch, ...]]) -> Iterator[Event]:
        """Encode the captions of these windows of the epoch, which are the next, that are not cached yet."""
        yield from self.material.fill_captions(epoch, self.step, windows)

    def conditioning(self, epoch: int, batch: Batch) -> Cond:
        """The next step's batch's captions as the model reads them."""
        return self.material.conditioning(epoch, batch, self.step)

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

    def save_epoch(self, epoch: int) -> Saved:
        """Write the epoch's LoRA, unless it is there."""
        return self.record.save_epoch(self.plan, self.network, epoch, self.step)

    def save_state(self) -> None:
        """Keep where the run stands, if it stands anywhere new and sound."""
        if not self.record.has_state_of(self.step) and self.learner.is_between_steps:
            self._save_state_anyway()

    def save_state_now_and_then(self) -> None:
        """The same, when enough would be lost without it."""
        if self.record.is_state_due():
            self.save_state()

    def close(self) -> None:
        """Log the steps whose numbers nobody has asked for any more, and keep where the run stands."""
        try:
            with suppress(TrainingError):
                for event in self.meter.rest():
                    self.record.of(event)
        finally:
            self.save_state()

    def load_state(self) -> None:
        """Go on from where the run was left, if it was begun before."""
        state = self.record.load_state()
        if state is not None:
            self.learner.load_state_dict(state.tensors)
            self.watch.load_state_dict(state.tensors)
            self.step = state.step
        self.record.begin_scalars(self.plan, self._scheduled_rates, self.step)

    def catch_up(self) -> Iterator[Event]:
        """Look at the steps of earlier sessions again: a spike among them may have had no time to be acted on. One that
        was acted on has made the run shorter than it was planned."""
        said = read_spikes(self.folder.events_file)
        yield from self.watch.catch_up(self.record.earlier(self.step), said, self.plan.total_steps)
        if self.watch.spike:
            yield self.turn_back()
        elif self.folder.spiked_step():
            yield TurnedBack(self.step, self.plan.total_steps)

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

    def _save_state_anyway(self) -> None:
        self.record.save_state(self.step, {**self.learner.state_dict(), **self.watch.state_dict()})


def _process(config: TrainConfig, host: Host) -> Process:
    process = host.process
    if config.loss.prediction_type != "auto":
        process = replace(process, prediction=config.loss.prediction_type)
    return zero_terminal_snr(process) if config.loss.zero_terminal_snr else process
