"""What a run has said, told to somebody who comes later."""

from __future__ import annotations

from pathlib import Path

from trainer_core.events import Measured, Measurement, Spiked, Stepped, TurnedBack, Warned
from trainer_core.studio.account import Account
from trainer_core.studio.turns import TurnAwaited, TurnTaken


def measured(*steps: int) -> Measured:
    return Measured(tuple(Measurement(step, 1, step / 10, 1.0, {"unet": 1e-4}, 1.0) for step in steps))


def steps_of(curve: dict) -> list[int]:
    return [each["step"] for each in curve["measurements"]]


def test_a_run_that_turns_back_takes_its_curve_with_it():
    account = Account()
    for event in (measured(1, 2, 3, 4), Spiked(3, 1, 2.5), TurnedBack(2, 3), measured(3)):
        account.take(event)
    curve = account.curve(0)
    assert steps_of(curve) == [1, 2, 3] and curve["spikes"] == [3]
    assert curve["turned_back"] == 1 and curve["total_steps"] == 3


def test_steps_that_are_done_again_stand_once():
    account = Account()
    for event in (measured(1, 2, 3, 4), measured(3, 4, 5)):
        account.take(event)
    assert steps_of(account.curve(0)) == [1, 2, 3, 4, 5] and steps_of(account.curve(3)) == [4, 5]


def test_a_long_curve_comes_thinned_with_its_newest_step():
    account = Account()
    account.take(measured(*range(1, 10_001)))
    steps = steps_of(account.curve(0))
    assert len(steps) <= 2001 and steps[0] == 1 and steps[-1] == 10_000
    assert steps_of(account.curve(9990)) == list(range(9991, 10_001))


def test_the_time_left_is_not_told_while_the_run_waits():
    account = Account()
    for event in (TurnTaken(), Stepped(1, 10, 1), Stepped(2, 10, 1)):
        account.take(event)
    assert account.seconds_left is not None and account.progress().step == 2
    account.take(TurnAwaited())
    assert account.seconds_left is None and "waiting" in account.text


def test_a_warning_that_comes_each_turn_is_kept_once():
    account = Account()
    for _ in range(3):
        account.take(Warned("few pictures"))
    assert account.warnings == ["few pictures"]


def test_a_run_without_a_log_has_an_empty_curve(tmp_path: Path):
    account = Account()
    account.folder = tmp_path
    assert account.curve(0) == {"measurements": [], "spikes": [], "total_steps": 0, "turned_back": 0}
