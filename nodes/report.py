"""A dataset, a plan and a run's pace in words, for the nodes' text outputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.buckets import assign_buckets, bucket_warnings
from ..trainer_core.data.examples import Dataset
from ..trainer_core.events import Measurement, Stepped
from ..trainer_core.plan import Plan


def describe_dataset(dataset: Dataset, config: DatasetConfig) -> str:
    """Counts, buckets and warnings, a line each. Raises ConfigError for bucket settings that contradict each other."""
    examples = dataset.examples
    placements = assign_buckets([each.size for each in examples], config)
    pictures = Counter(placement.bucket for placement in placements)
    lines = [f"{_many(len(dataset.subjects), 'picture')}, {dataset.num_train_images} per epoch with repeats"]
    for folder, entry in dataset.dirs().items():
        lines.append(f"{folder}: {_many(entry['img_count'], 'picture')}, {entry['n_repeats']}× each")
    if others := [each for each in examples if each.is_reg]:
        visits = sum(each.repeats for each in others)
        lines.append(f"regularisation: {_many(len(others), 'picture')}, {visits} per epoch")
    for width, height in sorted(pictures):
        lines.append(f"bucket {width}×{height}: {_many(pictures[width, height], 'picture')}")
    warnings = dict.fromkeys((*dataset.warnings, *bucket_warnings(config)))
    return "\n".join([*lines, *(f"⚠ {warning}" for warning in warnings)])


def describe_plan(plan: Plan) -> str:
    """What is about to happen, in one line."""
    return (
        f"{_many(len(plan.dataset.examples), 'picture')}, {_many(plan.steps_per_epoch, 'step')} an epoch, "
        f"{_many(plan.epochs, 'epoch')}: {plan.total_steps} steps"
    )


class Pace:
    """Turns steps as they come into "epoch 3/10, step 120/400, loss 0.081, d·lr 1.2e-04, 2.1 steps/s, 2 min left"."""

    def __init__(self, epochs: int, clock: Callable[[], float] = time.monotonic):
        self._epochs = epochs
        self._clock = clock
        self._first: tuple[int, float] | None = None

    def line(self, at: Stepped, last: Measurement | None) -> str:
        """The words for the step that was just made; `last` is the newest one whose numbers are known."""
        parts = [f"epoch {at.epoch}/{self._epochs}", f"step {at.step}/{at.total_steps}"]
        if last is not None:
            rate = next(iter(last.lr.values()), 0.0)
            parts += [f"loss {last.loss:.3g}", f"{'d·lr' if last.d is not None else 'lr'} {rate:.2e}"]
        return ", ".join([*parts, *self._speed(at)])

    def _speed(self, at: Stepped) -> list[str]:
        now = self._clock()
        if self._first is None:
            self._first = (at.step, now)
        steps, seconds = at.step - self._first[0], now - self._first[1]
        if not steps or seconds <= 0:
            return []
        speed = steps / seconds
        shown = f"{speed:.2g} steps/s" if speed >= 1 else f"{1 / speed:.2g} s/step"
        return [shown, f"{_duration((at.total_steps - at.step) / speed)} left"]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
