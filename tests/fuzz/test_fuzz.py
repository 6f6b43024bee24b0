"""A moment of fuzzing for every reader, and that it finds what there is to find. `python -m tests.fuzz` goes on."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.fuzz.readers import READERS, Reader
from tests.fuzz.run import fuzz
from trainer_core.errors import LazyLoraError

FOUND = [
    ("caption history", b"[" * 3000),
    ("tag lists CSV", b"name,category," + b"9" * 200_000),
    ("tag lists JSON", b"[" * 3000),
    (
        "settings",
        b'{"output_name": "a", "output_dir": "b", "dataset": {"folder": "c"}, "optimizer": {"learning_rate": '
        + b"9" * 400
        + b"}}",
    ),
    ("LoRA metadata", b'{"__metadata__": [1]}'),
    ("LoRA metadata", b"[" * 3000),
    ("optimizer arguments", b"k=" + b"-" * 2000),
    ("dataset TOML", b'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "' + b"9" * 400 + b'"\n'),
    ("dataset TOML", b'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "~nobody-at-all/cats"\n'),
    ("dataset TOML", b"[[datasets]]\n[[datasets.subsets]]\na = 1\na = 2\n"),
    ("recipe TOML", b"[general]\nb = 1\n[[datasets]]\n[[datasets.subsets]]\na = 1\na = 2\n"),
]


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_what_was_found_once_is_refused_in_a_sentence(name, content, tmp_path: Path):
    with pytest.raises(LazyLoraError):
        READERS[name].read(content, tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_answers_or_says_what_is_wrong(name):
    outcome = fuzz(READERS[name], 60, most=80)
    assert not outcome.findings, "\n".join(f"{each.content[:500]!r}\n{each.trace}" for each in outcome.findings)


@pytest.mark.parametrize("name", READERS)
def test_its_samples_are_valid(name):
    reader = READERS[name]
    only_samples = Reader(reader.read, reader.samples)
    assert fuzz(only_samples, 0).refused <= (name in ("settings", "dataset TOML", "dataset JSON")) * len(reader.samples)


def test_braces_that_nobody_closes_take_no_time(tmp_path: Path):
    outcome = fuzz(Reader(READERS["captions"].read, (b"{a " * 100_000,)), 0, longest=5)
    assert not outcome.findings


def test_a_reader_that_breaks_is_found():
    def breaks(content, folder):
        if b"x" in content:
            raise KeyError("x")
        raise LazyLoraError("no x; write one")

    outcome = fuzz(Reader(breaks, (b"abc", b"xyz")), 0.1)
    assert [each.what for each in outcome.findings] == ["KeyError: 'x'"] and outcome.refused


def test_a_reader_that_hangs_is_found():
    def hangs(content, folder):
        with contextlib.suppress(Exception):
            time.sleep(5)

    outcome = fuzz(Reader(hangs, (b"a",)), 0, longest=0.1)
    assert [each.what for each in outcome.findings] == ["Hang: takes more than 0.1 s"]
