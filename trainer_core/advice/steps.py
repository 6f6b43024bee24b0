"""Warnings about how long a run is and how its rate changes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from ..optim.run_schedule import schedule_warnings
from .base import Outlook, is_adaptive, optimizer_name, warning

_BURNED = 2400 * 6  # pictures seen when guide 0's run of 36 pictures burned out


@warning("warm-up-as-long-as-the-run", looks_at="optimizer.lr_warmup_steps", source="ours")
def warm_up_as_long_as_the_run(outlook: Outlook) -> Iterator[str]:
    """The warm-up never ends."""
    if outlook.warmup_steps >= outlook.total_steps:
        yield f"the warm-up of {outlook.warmup_steps} steps is as long as the run of {outlook.total_steps}; shorten it"


@warning("few-steps", looks_at="max_train_epochs max_train_steps", source="guide 2: 350 too few; guide 0: 600 to 1200")
def few_steps(outlook: Outlook) -> Iterator[str]:
    """The run has less than 350 steps with an optimizer that spends the first ones finding its rate."""
    optimizer = outlook.config.optimizer
    if is_adaptive(optimizer) and outlook.total_steps < 350:
        yield (
            f"{outlook.total_steps} steps are few for {optimizer_name(optimizer)}, which spends the first ones finding "
            "its rate: 350 did not teach a character, 600 to 1200 did; give more epochs or repeats"
        )


@warning(
    "many-steps",
    looks_at="max_train_epochs max_train_steps save_every_n_epochs",
    source="guide 0: burned out at 2400 steps of 6 pictures; guide 2: nothing gained after 1000",
)
def many_steps(outlook: Outlook) -> Iterator[str]:
    """More pictures are seen than when guide 0's run burned out, and a tenth of the run lies between two saved epochs:
    there will be few to walk back to."""
    config = outlook.config
    seen = outlook.total_steps * config.dataset.batch_size * config.gradient_accumulation_steps
    gap = config.save_every_n_epochs / outlook.epochs
    if is_adaptive(config.optimizer) and seen > _BURNED and gap > 0.1:
        yield (
            f"{outlook.total_steps} steps see about {seen} pictures, and runs have burned out at {_BURNED}; lower "
            "save_every_n_epochs, so that there is an earlier epoch to go back to"
        )


@warning("many-restarts", looks_at="optimizer.lr_scheduler_num_cycles", source="guide 2: 16 destroyed, 9 did not")
def many_restarts(outlook: Outlook) -> Iterator[str]:
    """The cosine restarts more than nine times with an optimizer that adapts: too much time at full rate."""
    optimizer = outlook.config.optimizer
    restarts = optimizer.lr_scheduler == "cosine_with_restarts"
    if restarts and is_adaptive(optimizer) and optimizer.lr_scheduler_num_cycles > 9:
        yield (
            f"{optimizer.lr_scheduler_num_cycles} restarts keep {optimizer_name(optimizer)} at its full rate for too "
            "long: 16 have destroyed what 9 trained well; lower lr_scheduler_num_cycles"
        )


@warning(
    "schedule",
    looks_at="optimizer.lr_scheduler_type optimizer.lr_scheduler_args optimizer.lr_scheduler",
    source="guide 4: T_max = 200 with 200 epochs; sd-scripts #601, prodigy #10",
)
def schedule(outlook: Outlook) -> Iterator[str]:
    """T_max is less than the run's optimizer steps, so that the curve turns back up; two schedules are chosen; or a
    schedule-free optimizer has one."""
    yield from schedule_warnings(
        outlook.config.optimizer, outlook.total_steps, outlook.warmup_steps, outlook.lr_factors
    )
