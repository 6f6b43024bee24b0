"""Captions: trigger word, shuffling and dropout."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import DatasetConfig
from trainer_core.data.captions import (
    check_caption_settings,
    format_tags,
    parse_tags,
    prepared_caption,
    training_caption,
)
from trainer_core.data.examples import Example
from trainer_core.errors import ConfigError

words = st.text("abcXYZ é-_():1", min_size=1, max_size=8).map(str.strip).filter(bool)
captions = st.lists(words, max_size=12).map(", ".join)


def example(caption: str, digest: str = "d0") -> Example:
    return Example(Path("10_cat/a.png"), 10, caption, (64, 64), digest, "10_cat", "cat")


def config(**settings) -> DatasetConfig:
    return DatasetConfig(folder="x", **settings)


@given(caption=captions)
def test_parsing_what_was_formatted_changes_nothing(caption):
    tags = parse_tags(caption)
    assert parse_tags(format_tags(tags)) == tags


@pytest.mark.parametrize(
    ("caption", "result"),
    [
        ("a cat", "sks, a cat"),
        ("a cat, SKS, sitting", "sks, a cat, sitting"),
        ("", "sks"),
        ("a photo of sks cat", "sks, a photo of sks cat"),
    ],
)
def test_the_trigger_word_comes_first_and_once(caption, result):
    assert prepared_caption(caption, config(trigger_word=" sks ")) == result


@given(caption=captions, keep=st.integers(0, 4), seed=st.integers(0, 2**63), epoch=st.integers(1, 99))
def test_shuffling_keeps_the_front_and_loses_nothing(caption, keep, seed, epoch):
    settings = config(shuffle_caption=True, keep_tokens=keep, trigger_word="sks")
    plain = parse_tags(prepared_caption(caption, settings))
    shuffled = parse_tags(training_caption(example(caption), settings, seed, epoch))
    assert sorted(shuffled) == sorted(plain)
    assert shuffled[: max(keep, 1)] == plain[: max(keep, 1)], "the trigger word is one of the kept"


def test_a_caption_depends_on_seed_epoch_turn_and_picture_alone():
    settings = config(shuffle_caption=True)
    caption = ", ".join("abcdefghijklmnop")
    first = training_caption(example(caption), settings, 1, 2, 3)
    assert training_caption(example(caption), settings, 1, 2, 3) == first
    others = [
        training_caption(example(caption), settings, 9, 2, 3),
        training_caption(example(caption), settings, 1, 9, 3),
        training_caption(example(caption), settings, 1, 2, 9),
        training_caption(example(caption, digest="other"), settings, 1, 2, 3),
    ]
    assert len({first, *others}) == 5


def test_dropout_empties_its_share_of_visits_trigger_word_included():
    settings = config(caption_dropout_rate=0.2, trigger_word="sks")
    seen = [training_caption(example("cat"), settings, 0, epoch, turn) for epoch in range(200) for turn in range(10)]
    assert set(seen) == {"", "sks, cat"}
    assert 0.17 < seen.count("") / len(seen) < 0.23


def test_no_dropout_and_all_dropout():
    assert training_caption(example("cat"), config(), 0, 1) == "cat"
    assert training_caption(example("cat"), config(caption_dropout_rate=1.0), 0, 1) == ""


def visits(caption: str, epochs: int = 40, **settings):
    return [training_caption(example(caption), config(**settings), 0, epoch) for epoch in range(1, epochs + 1)]


def test_every_nth_epoch_has_no_captions():
    seen = visits("a, b", 9, caption_dropout_every_n_epochs=3)
    assert [number for number, caption in enumerate(seen, start=1) if not caption] == [3, 6, 9]


def test_tags_are_dropped_one_by_one_and_the_kept_ones_stay():
    flexible = [f"t{i}" for i in range(50)]
    seen = visits(", ".join(["one", *flexible]), caption_tag_dropout_rate=0.3, keep_tokens=2, trigger_word="sks")
    tags = [parse_tags(caption) for caption in seen]
    assert all(each[:2] == ["sks", "one"] for each in tags)
    left = sum(len(set(each) & set(flexible)) for each in tags) / (40 * 50)
    assert 0.66 < left < 0.74
    assert all(each[1:] == [tag for tag in ["one", *flexible] if tag in each] for each in tags), "not shuffled"


def test_the_separator_sets_the_front_and_the_end_apart():
    seen = visits("sks, 1girl ||| a, b, c ||| best, last", shuffle_caption=True, keep_tokens_separator="|||")
    assert len(set(seen)) == 6
    for caption in seen:
        tags = parse_tags(caption)
        assert (tags[:2], sorted(tags[2:5]), tags[5:]) == (["sks", "1girl"], ["a", "b", "c"], ["best", "last"])


def test_the_separator_wins_over_keep_tokens_and_keep_tokens_holds_without_one():
    settings = {"shuffle_caption": True, "keep_tokens": 3, "keep_tokens_separator": " ||| "}
    assert {caption[:1] for caption in visits("a ||| b, c, d", **settings)} == {"a"}
    assert len(set(visits("a ||| b, c, d", **settings))) == 6
    assert len(set(visits("a, b, c, d", **settings))) == 1


def test_the_separator_never_reaches_the_text_encoder_where_kohyas_would():
    assert visits("a ||| b, c", 1, keep_tokens_separator="|||") == ["a, b, c"]
    assert prepared_caption("a ||| b, c", config(keep_tokens_separator="|||", trigger_word="sks")) == "sks, a, b, c"


def test_the_secondary_separator_holds_tags_together_while_they_are_shuffled():
    seen = visits("a, hat;;;red hat;;;worn, b", shuffle_caption=True, secondary_separator=";;;")
    assert len(set(seen)) == 6 and all("hat,red hat,worn" in caption for caption in seen)


@pytest.mark.parametrize("name", ["keep_tokens_separator", "secondary_separator"])
def test_a_separator_with_a_comma_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} ', '"):
        check_caption_settings(config(**{name: ", "}))
