"""The training loop. Everything a run does, in order, on one page; the parts stand in the files that it names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from .config import TrainConfig
from .data.batches import Batch
from .diffusion.noise import mixed_seed, seeded
from .errors import TrainingError
from .events import EpochEnded, Event, Finished, Planned, Stepped, Warned
from .footprint import is_out_of_memory, out_of_memory
from .hosts.base import never
from .plan import make_plan
from .record import run_folder_for, settled
from .sampling import previews
from .session import Session, open_session

if TYPE_CHECKING:
    from .hosts.base import Host


def train(config: TrainConfig, host: Host, is_cancelled: Callable[[], bool] = never) -> Generator[Event, None, None]:
    """Train a LoRA on the model that the host has loaded; yields what happens as it happens.

    Close the generator to stop: what was trained is kept, and the same call goes on from there, bit for bit on a CPU. A
    run that is finished already is returned as it is. is_cancelled: asked in each step of a preview's sampler, which
    closing cannot reach; when it says yes, the next event comes at once. Raises LazyLoraError, in one sentence, for
    what cannot be done. The host is as it was before, whatever happens."""
    try:
        yield from _run(config, host, is_cancelled)
        return
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # only here, where the error is forgotten: its frames hold all that the step had on the device
    raise TrainingError(out_of_memory(config, host.device))


def _run(config: TrainConfig, host: Host, is_cancelled: Callable[[], bool]) -> Iterator[Event]:
    plan = make_plan(settled(config, host), host.family.resolution)
    yield Planned(plan)
    yield from (Warned(warning) for warning in plan.warnings)
    folder = run_folder_for(plan, host)
    with folder.locked():
        trained_steps = 0
        if not folder.is_finished():
            with open_session(plan, host, folder) as session:
                for event in _epochs(session, is_cancelled):
                    session.record.of(event)
                    yield event
                trained_steps = session.steps_taken
            folder.finish()
        yield Finished(folder.folder, folder.epochs(), trained_steps)


def _epochs(session: Session, is_cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield from session.prepared()
    yield from session.material.fill_pictures()
    yield from session.catch_up()
    for epoch in session.epochs_left():
        windows = session.begin_epoch(epoch)
        yield from session.fill_captions(epoch, windows)
        for window in windows:
            loss = _accumulate(session, epoch, window)
            session.take_step(epoch, window, loss)
            yield Stepped(session.step, session.plan.total_steps, epoch)  # no device sync: numbers come when read
            yield from session.numbers()
            if session.watch.spike:
                break
        yield from session.all_numbers()
        if session.watch.spike:  # and on_spike says that the run keeps away from it
            yield session.turn_back()
            continue
        with session.learner.averaged():
            if session.plan.saves(epoch):
                yield session.save_epoch(epoch)
            if session.plan.samples(epoch):
                yield from previews(
                    session.plan.config, session.host, session.network, session.folder, epoch, is_cancelled
                )
        session.save_state_now_and_then()
        yield EpochEnded(epoch, is_last=epoch == session.plan.epochs)


def _accumulate(session: Session, epoch: int, window: tuple[Batch, ...]) -> Tensor:
    """The gradient of the window's batches, each weighed alike, a short last window included; gives the loss."""
    total = session.zero
    for number, batch in enumerate(window):
        loss = _loss(session, epoch, batch, mixed_seed(session.plan.config.seed, session.step, number)) / len(window)
        session.learner.backward(loss)
        total = total + loss.detach()
    return total


def _loss(session: Session, epoch: int, batch: Batch, seed: int) -> Tensor:
    """How far the network is from predicting what was added to this batch."""
    host, objective, material = session.host, session.objective, session.material
    latents, sizes = material.latents.get(batch)
    question = objective.question(latents, seeded(seed, latents.device))
    session.network.begin(seed)
    cond = session.conditioning(epoch, batch)
    prediction = host.predict(question.x_t, question.t, cond.sized(sizes) if host.family.has_sizes else cond)
    return objective.judge(prediction, question, material.masks.get(batch), material.importance(batch))
