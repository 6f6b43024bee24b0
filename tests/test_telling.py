"""A run in words and JSON."""

from __future__ import annotations

import math

import pytest

from trainer_core import telling
from trainer_core.events import Measurement, Stepped


def test_the_pace_is_measured_from_where_this_session_began():
    clock = iter([100.0, 110.0])
    pace = telling.Pace(10, clock=lambda: next(clock))
    assert pace.line(Stepped(50, 100, 5), None) == "epoch 5/10, step 50/100"
    assert pace.line(Stepped(70, 100, 7), None) == "epoch 7/10, step 70/100, 2 steps/s, 15 s left"


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (59, "1 min"), (600, "10 min"), (5400, "1 h 30 min")])
def test_durations_are_words(seconds: float, words: str):
    assert telling._duration(seconds) == words


def test_the_time_left_is_known_as_a_number_too():
    clock = iter([0.0, 5.0])
    pace = telling.Pace(1, clock=lambda: next(clock))
    pace.line(Stepped(1, 21, 1), None)
    assert pace.seconds_left is None
    pace.line(Stepped(11, 21, 1), None)
    assert pace.seconds_left == 5


def test_what_json_has_no_words_for_becomes_null():
    told = telling.as_json(Measurement(1, 1, math.nan, math.inf, {"unet": 1e-4}, None))
    assert told["loss"] is None and told["grad_norm"] is None and told["lr"] == {"unet": 1e-4}
