"""Epochs as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nodes.pack import load

choice, errors, run = load("nodes.choice"), load("trainer_core.errors"), load("trainer_core.run")
RUN = run.TrainedRun(Path("cat"), tuple(run.Epoch(number, Path(f"cat-{number:06d}")) for number in (2, 4, 5)))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("latest", [5]), (" ALL ", [2, 4, 5]), ("4", [4]), ("5, 2", [5, 2]), ("4-5", [4, 5]), ("2 4-5", [2, 4, 5])],
)
def test_what_is_asked_for_is_chosen(text: str, numbers: list[int]):
    assert [each.number for each in choice.chosen_epochs(RUN, text)] == numbers


@pytest.mark.parametrize("text", ["", ",", "last", "1-", "-1", "1.5", "5-4"])
def test_anything_else_is_answered_with_what_can_be_written(text: str):
    with pytest.raises(errors.ConfigError, match="write latest, all, a number"):
        choice.parse_epochs(text)


def test_an_epoch_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(errors.RunError, match="no epoch 3; choose one of 2, 4, 5"):
        choice.chosen_epochs(RUN, "2-4")


def test_a_run_without_epochs_says_so():
    for text in ("all", "latest"):
        with pytest.raises(errors.RunError, match="no epoch was saved"):
            choice.chosen_epochs(run.TrainedRun(Path("cat"), ()), text)
