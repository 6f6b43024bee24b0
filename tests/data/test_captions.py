"""Captions: trigger word, shuffling and dropout."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import DatasetConfig
from trainer_core.data.captions import (
    check_caption_settings,
    for_run,
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
    """A new caption for each visit, as while a text encoder learns, unless said otherwise."""
    return DatasetConfig(folder="x", **{"caption_variants": 0, **settings})


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


def caption_at(caption: str, step: int = 0, epoch: int = 1, turn: int = 0, total_steps: int = 100, **settings) -> str:
    prepared = for_run(config(**settings), total_steps, trains_text=False)
    return training_caption(example(caption), prepared, 0, epoch, turn, step)


@pytest.mark.parametrize(
    ("settings", "digest"),
    [
        ({}, "7bd99dd9095e2f81"),
        ({"trigger_word": "sks"}, "e7eab96097419212"),
        ({"shuffle_caption": True}, "75fe456b6887bb61"),
        (
            {
                "shuffle_caption": True,
                "keep_tokens": 1,
                "caption_dropout_rate": 0.2,
                "caption_tag_dropout_rate": 0.3,
            },
            "1ede353f99c0d92e",
        ),
        (
            {
                "shuffle_caption": True,
                "keep_tokens_separator": "|||",
                "secondary_separator": ";;",
                "caption_dropout_every_n_epochs": 3,
                "trigger_word": "sks",
            },
            "0ce0f0e6176bbc40",
        ),
    ],
)
def test_captions_are_those_from_before_there_were_wildcards(settings, digest):
    """The digests come from this very loop, run on the version without wildcards, prefixes and warm-up."""
    texts = [
        "sks, 1girl ||| a, b;;c, d, e ||| best, last",
        "one, two, three, four, five",
        "a photo of a cat",
        "",
    ]
    seen = [
        training_caption(example(text), config(**settings), 7, epoch, turn)
        for text in texts
        for epoch in range(1, 6)
        for turn in range(3)
    ]
    assert hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16] == digest


KOHYA = {
    "prefix and suffix join by spaces": ({"caption_prefix": "P,", "caption_suffix": "S"}, "a, b", "P, a, b S"),
    "the trigger word stands before the prefix": (
        {"caption_prefix": "best quality,", "trigger_word": "sks"},
        "a",
        "sks, best quality, a",
    ),
    "dropout takes prefix and suffix along": (
        {"caption_prefix": "P,", "caption_suffix": "S", "caption_dropout_rate": 1.0},
        "a",
        "",
    ),
    "braces are themselves without enable_wildcard": ({}, "{a|b}, {{c}}", "{a|b}, {{c}}"),
    "double braces are braces": ({"enable_wildcard": True}, "{{a}}, {b}", "{a}, b"),
    "a wildcard in the prefix": ({"enable_wildcard": True, "caption_prefix": "{p},"}, "a", "p, a"),
    "only the first line without enable_wildcard": ({}, "first, a\nsecond", "first, a"),
    # 8 tags, 2 kept: of the 6 others floor(step · (6 − 1) / 10) + 1
    "the warm-up begins with token_warmup_min": (
        {"keep_tokens": 2, "token_warmup_step": 10, "step": 0},
        "a, b, c, d, e, f, g, h",
        "a, b, c",
    ),
    "and lets in more with each step": (
        {"keep_tokens": 2, "token_warmup_step": 10, "step": 5},
        "a, b, c, d, e, f, g, h",
        "a, b, c, d, e",
    ),
    "until all are there": (
        {"keep_tokens": 2, "token_warmup_step": 10, "step": 10},
        "a, b, c, d, e, f, g, h",
        "a, b, c, d, e, f, g, h",
    ),
    "a warm-up below 1 is a share of the run": (
        {"token_warmup_step": 0.5, "token_warmup_min": 2, "step": 25},  # floor(25 · (6 − 2) / 50) + 2
        "a, b, c, d, e, f",
        "a, b, c, d",
    ),
    "fewer tags than token_warmup_min are all there": (
        {"token_warmup_step": 10, "token_warmup_min": 5, "step": 3},
        "a, b",
        "a, b",
    ),
    "the suffix behind the separator is no part of the warm-up": (
        {"keep_tokens_separator": "|||", "token_warmup_step": 10, "step": 0},
        "a ||| b, c, d ||| e",
        "a, b, e",
    ),
    "the secondary separator comes after the warm-up": (
        {"secondary_separator": ";;", "token_warmup_step": 10, "step": 0},
        "a;;b, c",
        "a,b",
    ),
}


@pytest.mark.parametrize("name", KOHYA)
def test_the_pipeline_is_kohyas(name):
    """Worked out by hand from sd-scripts' `process_caption`, with settings that leave nothing to chance."""
    settings, caption, result = KOHYA[name]
    assert caption_at(caption, **settings) == result


def test_the_tags_of_a_warm_up_are_cut_before_they_are_shuffled():
    settings = {"shuffle_caption": True, "token_warmup_step": 10, "token_warmup_min": 3}
    seen = {caption_at("a, b, c, d, e, f", epoch=epoch, **settings) for epoch in range(60)}
    assert len(seen) == 6 and all(sorted(parse_tags(each)) == ["a", "b", "c"] for each in seen)


def test_each_line_and_each_wildcard_has_its_turn():
    caption = "one, {red|blue|}\n{{two}}\nthree"
    settings = {"enable_wildcard": True, "caption_prefix": "P,", "caption_suffix": ", S"}
    seen = [caption_at(caption, epoch=epoch, **settings) for epoch in range(900)]
    assert set(seen) == {"P, one, red, S", "P, one, blue, S", "P, one, S", "P, {two}, S", "P, three, S"}
    assert 250 < seen.count("P, three, S") < 350


def test_what_is_prepared_takes_the_first_of_lines_and_wildcards():
    settings = config(enable_wildcard=True, caption_prefix="P,", trigger_word="sks")
    assert prepared_caption("a {x|y}\nb", settings) == "sks, P, a x"


@given(caption=st.text("ab{}|,\n ", max_size=30), seed=st.integers(0, 9))
def test_wildcards_end_for_any_text_and_invent_nothing(caption, seed):
    seen = training_caption(example(caption), config(enable_wildcard=True), seed, 1)
    assert set(seen) <= set(caption) | set(", ") and len(seen) <= 2 * len(caption)


@given(
    caption=captions,
    step=st.integers(0, 60),
    warmup=st.integers(1, 50),
    least=st.integers(0, 5),
    keep=st.integers(0, 3),
)
def test_a_warm_up_lets_in_a_growing_front_of_the_tags(caption, step, warmup, least, keep):
    settings = {"token_warmup_step": warmup, "token_warmup_min": least, "keep_tokens": keep}
    whole = parse_tags(caption)
    now, next_step = (parse_tags(caption_at(caption, each, **settings)) for each in (step, step + 1))
    assert now == whole[: len(now)] and len(whole[: keep + least]) <= len(now) <= len(next_step)
    assert step < warmup or now == whole


@given(variants=st.integers(1, 6), seed=st.integers(0, 2**40), tags=st.integers(2, 8))
def test_variants_are_so_many_captions_that_come_in_turn(variants, seed, tags):
    settings = config(shuffle_caption=True, caption_variants=variants, enable_wildcard=True, trigger_word="sks")
    caption = ", ".join("{a|b}" + str(number) for number in range(tags))
    seen = [
        training_caption(example(caption), settings, seed, epoch, turn) for epoch in (1, 2, 3) for turn in range(10)
    ]
    assert seen == (seen[:variants] * 30)[:30], "also over the end of an epoch"
    assert len({training_caption(example(caption), settings, seed, 1, turn) for turn in range(variants)}) <= variants


def test_variants_differ_and_leave_dropout_to_the_visits():
    settings = config(shuffle_caption=True, caption_variants=4, caption_dropout_rate=0.5)
    caption = ", ".join("abcdefghijkl")
    seen = [training_caption(example(caption), settings, 0, epoch, turn) for epoch in range(20) for turn in range(10)]
    assert len(set(seen)) == 5 and 70 < seen.count("") < 130
    others = [training_caption(example(caption, "other"), settings, 0, 1, turn) for turn in range(4)]
    assert not set(others) & set(seen) - {""}


def test_a_text_encoder_that_learns_sees_a_new_caption_at_each_visit():
    settings = config(shuffle_caption=True, caption_variants=4)
    assert for_run(settings, 100, trains_text=True).caption_variants == 0
    assert for_run(settings, 100, trains_text=False).caption_variants == 4


@pytest.mark.parametrize(("given_as", "steps"), [(0, 0), (0.25, 30), (0.999, 119), (1, 1), (80, 80)])
def test_a_warm_up_is_a_share_of_the_run_or_steps(given_as, steps):
    assert for_run(config(token_warmup_step=given_as), 120, trains_text=False).token_warmup_step == steps


PAGE = Path(__file__).resolve().parents[2] / "docs" / "captions.md"
EXAMPLES = re.findall(r"^\| `(\{.*?\})` \| `(.*?)` \| `(.*?)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("settings", "caption", "seen"), EXAMPLES)
def test_the_examples_of_the_page_on_captions_are_so(settings, caption, seen):
    assert caption_at(caption, **json.loads(settings)) == seen


def test_the_page_has_its_examples():
    assert len(EXAMPLES) == 5
