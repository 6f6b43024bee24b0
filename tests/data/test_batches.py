"""Batches: everything once per repeat, one bucket each, the same for the same seed and epoch."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from trainer_core.data.batches import (
    Batch,
    accumulation_windows,
    count_batches,
    count_steps,
    epoch_batches,
    mirrored_at_random,
)
from trainer_core.data.buckets import Placement

BUCKETS = [(512, 512), (448, 576), (576, 448)]


@st.composite
def datasets(draw):
    buckets = draw(st.lists(st.sampled_from(BUCKETS), min_size=1, max_size=30))
    repeats = draw(st.lists(st.integers(1, 5), min_size=len(buckets), max_size=len(buckets)))
    return [Placement(bucket, bucket, (0, 0)) for bucket in buckets], repeats


@given(dataset=datasets(), batch_size=st.integers(1, 7), seed=st.integers(0, 2**63), epoch=st.integers(1, 50))
def test_every_repeat_of_every_picture_is_seen_once(dataset, batch_size, seed, epoch):
    placements, repeats = dataset
    batches = epoch_batches(placements, repeats, batch_size, seed, epoch)
    seen = Counter(visit for batch in batches for visit in zip(batch.indices, batch.turns, strict=True))
    assert seen == Counter((index, turn) for index, times in enumerate(repeats) for turn in range(times))


@given(dataset=datasets(), batch_size=st.integers(1, 7))
def test_batches_never_mix_buckets_and_only_a_buckets_last_is_short(dataset, batch_size):
    placements, repeats = dataset
    batches = epoch_batches(placements, repeats, batch_size, 0, 1)
    assert all(placements[index].bucket == batch.bucket for batch in batches for index in batch.indices)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    visits = Counter()
    for placement, times in zip(placements, repeats, strict=True):
        visits[placement.bucket] += times
    assert Counter(batch.bucket for batch in batches) == {
        bucket: math.ceil(count / batch_size) for bucket, count in visits.items()
    }


@given(dataset=datasets(), batch_size=st.integers(1, 7), accumulate=st.integers(1, 9))
def test_counting_agrees_with_what_is_trained(dataset, batch_size, accumulate):
    placements, repeats = dataset
    batches = epoch_batches(placements, repeats, batch_size, 3, 2)
    windows = accumulation_windows(batches, accumulate)
    assert [batch for window in windows for batch in window] == batches
    assert all(len(window) == accumulate for window in windows[:-1])
    assert count_batches(placements, repeats, batch_size) == len(batches)
    assert count_steps(placements, repeats, batch_size, accumulate) == len(windows)


def test_order_is_a_function_of_seed_and_epoch_alone():
    placements = [Placement(BUCKETS[i % 3], BUCKETS[i % 3], (0, 0)) for i in range(40)]
    repeats = [2] * 40
    random.seed(1)
    state = random.getstate()
    first = epoch_batches(placements, repeats, 4, 7, 3)
    assert random.getstate() == state, "the global generator belongs to others"
    random.seed(2)
    assert epoch_batches(placements, repeats, 4, 7, 3) == first
    assert epoch_batches(placements, repeats, 4, 7, 4) != first
    assert epoch_batches(placements, repeats, 4, 8, 3) != first


def test_order_stays_as_it_was_in_earlier_releases():
    """A run that was stopped under one release goes on under the next: a change here breaks that."""
    placements = [Placement((64, 64), (64, 64), (0, 0))] * 6
    order = [index for batch in epoch_batches(placements, [1] * 6, 2, 31337, 1) for index in batch.indices]
    assert order == [4, 5, 1, 2, 0, 3]


def test_half_of_the_visits_are_mirrored_and_nothing_else_changes():
    placements = [Placement((64, 64), (64, 64), (0, 0))] * 500
    plain = epoch_batches(placements, [2] * 500, 4, 7, 1)
    mirrored = mirrored_at_random(plain, 7, 1)
    assert [(each.indices, each.turns) for each in mirrored] == [(each.indices, each.turns) for each in plain]
    flips = [flip for batch in mirrored for flip in batch.mirrored]
    assert len(flips) == 1000 and 440 < sum(flips) < 560
    assert mirrored_at_random(plain, 7, 1) == mirrored != mirrored_at_random(plain, 7, 2)


def test_views_of_mirrored_pictures_stand_behind_all_others():
    batch = Batch((64, 64), (0, 3, 3), (0, 0, 1))
    assert batch.views(10) == (0, 3, 3)
    assert replace(batch, mirrored=(True, False, True)).views(10) == (10, 3, 13)
