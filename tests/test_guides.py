"""docs/guides.md answers every numbered item of the guides, once, by names that exist."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from trainer_core.advice import WARNINGS
from trainer_core.cli import _parser
from trainer_core.config import TagEdit, TrainConfig
from trainer_core.networks import ALGORITHMS
from trainer_core.optim import OPTIMIZERS
from trainer_core.optim.prodigy import ProdigyOptions
from trainer_core.recipes.presets import PRESETS
from trainer_core.settings import Setting, all_settings, settings_of
from trainer_core.tagging.config import TaggerConfig

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "guides.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+|Breaker) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
GUIDES = ("DAdapt lazy", "DAdapt TLDR", "DAdapt notes", "AdamW lazy", "Prodigy")


def test_every_number_has_one_answer_and_they_are_in_order():
    assert [number for number, *_ in ROWS] == [*map(str, range(1, 36)), "Breaker"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_answer_names_its_guides(row):
    named = re.split(r", | against ", row[1])
    assert named and set(named) <= set(GUIDES)


@pytest.mark.parametrize("quoted", sorted(set(re.findall(r"`([^`]+)`", PAGE))))
def test_what_stands_in_backticks_exists(quoted):
    first, *options = quoted.split(" ")
    if first in commands():
        assert set(options) <= commands()[first]
    else:
        assert quoted.split("=")[0] in names()


def commands() -> dict[str, set[str]]:
    """The command line's commands, with their options."""
    (actions,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    return {name: set(parser._option_string_actions) for name, parser in actions.choices.items()}


def names() -> set[str]:
    """Settings by their paths and short names, their choices, what the registries hold, and the warnings."""
    registered = {name for registry in (ALGORITHMS, OPTIMIZERS, PRESETS, WARNINGS) for name in registry.names()}
    options = {*(each.name for each in fields(ProdigyOptions)), "T_max"}  # T_max: of torch's CosineAnnealingLR
    return registered | options | set(_words_of_settings())


def _words_of_settings() -> Iterator[str]:
    settings: list[tuple[str, Setting]] = [*all_settings(TrainConfig)]
    settings += [(each.name, each) for kind in (TagEdit, TaggerConfig) for each in settings_of(kind)]
    for path, each in settings:
        yield from (path, each.name, *map(str, each.choices or ()))
