"""Edits of captions: each by example, and what holds for all of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import TagEdit
from trainer_core.data.captions import parse_tags, training_caption
from trainer_core.data.dataset import read_dataset
from trainer_core.data.edits import edited_captions, tag_counts
from trainer_core.errors import ConfigError

CAPTIONS = ["cat, Red hat, sitting", "cat, red hat, lying, indoors", "cat, lying", "cat, red hat"]
words = st.text("abcXYZ é-_():1", min_size=1, max_size=8).map(str.strip).filter(bool)
tag_lists = st.lists(words, max_size=6).map(", ".join)
views = st.lists(tag_lists, min_size=1, max_size=6)


def edited(*edits: TagEdit) -> list[str]:
    return edited_captions(CAPTIONS, edits)


@pytest.mark.parametrize(
    ("edit", "result"),
    [
        (TagEdit("prepend", "new, Cat"), "new, cat, sitting, red hat"),
        (TagEdit("append", "red hat, indoors"), "cat, sitting, red hat, indoors"),
        (TagEdit("append", "indoors, Indoors"), "cat, sitting, red hat, indoors"),
        (TagEdit("remove", " RED HAT ,dog"), "cat, sitting"),
        (TagEdit("replace", "sitting", "lying"), "cat, lying, red hat"),
        (TagEdit("replace", "cat, sitting", "dog"), "dog, red hat"),
        (TagEdit("replace", "sitting", "on a chair, indoors"), "cat, on a chair, indoors, red hat"),
        (TagEdit("replace", "sitting", "Cat"), "cat, red hat"),
        (TagEdit("replace", "Cat", "CAT"), "CAT, sitting, red hat"),
        (TagEdit("replace", "sitting"), "cat, red hat"),
        (TagEdit("replace", "dog", "wolf"), "cat, sitting, red hat"),
    ],
)
def test_an_edit_of_one_caption(edit, result):
    assert edited_captions(["cat,  sitting , red hat"], [edit]) == [result]


def test_edits_follow_each_other():
    edits = [TagEdit("append", "x"), TagEdit("replace", "x", "y"), TagEdit("prepend", "y, z")]
    assert edited_captions(["a"], edits) == ["z, a, y"]


def test_without_edits_captions_stay_letter_for_letter():
    assert edited_captions(["  a,,b "], ()) == ["  a,,b "]


@pytest.mark.parametrize(
    ("edit", "first"),
    [
        (TagEdit("rename", "cat, sitting", "dog, standing"), "dog, Red hat, standing"),
        (TagEdit("rename", "cat, sitting", "sitting, cat"), "sitting, Red hat, cat"),
        (TagEdit("rename", "cat, red hat", "pet, pet"), "pet, sitting"),
        (TagEdit("rename", "cat", "Sitting"), "Red hat, sitting"),
        (TagEdit("regex", r"^red (\w+)$", r"blue \1"), "cat, blue hat, sitting"),
        (TagEdit("regex", "t", ""), "ca, Red ha, siing"),
        (TagEdit("regex", "^.at$", ""), "Red hat, sitting"),
        (TagEdit("regex", " hat", ", hat"), "cat, Red, hat, sitting"),
        (TagEdit("keep", "SITTING, cat, dog"), "cat, sitting"),
        (TagEdit("sort"), "cat, Red hat, sitting"),
        (TagEdit("sort", "sitting, red hat"), "sitting, Red hat, cat"),
        (TagEdit("drop_traits", percent=100), "Red hat, sitting"),
        (TagEdit("drop_traits", percent=75), "sitting"),
        (TagEdit("drop_traits", "Cat", percent=75), "cat, sitting"),
    ],
)
def test_one_edit(edit, first):
    assert edited(edit)[0] == first


def test_training_sees_the_edits_behind_the_trigger_word(tmp_path, draw, configured):
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("cat")
    settings = configured(trigger_word="sks", tag_edits=(TagEdit("prepend", "best quality"),))
    (found,) = read_dataset(settings).examples
    assert training_caption(found, settings, 0, 1) == "sks, best quality, cat"
    assert read_dataset(settings).fingerprint() != read_dataset(configured(trigger_word="sks")).fingerprint()


def test_sorting_is_by_what_most_captions_have_then_by_name():
    assert edited_captions(["b, a, c", "c, d", "c, b"], [TagEdit("sort")]) == ["c, b, a", "c, d", "c, b"]


def test_each_tag_stays_once():
    assert edited_captions(["a, b, A, c, b"], [TagEdit("deduplicate")]) == ["a, b, c"]


def test_edits_see_what_those_before_them_made():
    assert edited(TagEdit("remove", "cat"), TagEdit("drop_traits", percent=75)) == [
        "sitting",
        "lying, indoors",
        "lying",
        "",
    ]


def test_edits_see_the_tags_beside_a_mark():
    edits = [TagEdit("remove", "b"), TagEdit("prepend", "new")]
    assert edited_captions(["a, b ||| b, c"], edits, "|||") == ["new, a, |||, c"]


@pytest.mark.parametrize("operation", ["keep", "sort", "deduplicate", "drop_traits", "regex"])
def test_marks_for_kept_tokens_stay_where_they_are(operation):
    edit = TagEdit(operation, {"keep": "a, b, c, d", "regex": "[|x]"}.get(operation, ""), percent=60)
    result = edited_captions(["b, a ||| d, c ||| e"] * 2 + ["x"], [edit], "|||")
    assert [len(parse_tags(part)) for part in result[0].split("|||")] == {
        "keep": [2, 2, 0],
        "sort": [2, 2, 1],
        "deduplicate": [2, 2, 1],
        "drop_traits": [0, 0, 0],
        "regex": [2, 2, 1],
    }[operation]


@pytest.mark.parametrize(
    "edit",
    [
        TagEdit("rename", "a, b", "c"),
        TagEdit("regex", "(", ""),
        TagEdit("regex", "a", r"\1"),
        TagEdit("regex", "a{2," + "9" * 99 + "}", ""),
        TagEdit("regex", "a" * 501, ""),
    ],
)
def test_an_edit_that_cannot_be_done_is_refused_even_where_nothing_matches(edit):
    with pytest.raises(ConfigError):
        edited_captions(["x"], [edit])


@given(views)
def test_sorting_and_deduplicating_lose_nothing_and_settle(captions):
    for operation in ("sort", "deduplicate"):
        once = edited_captions(captions, [TagEdit(operation)])
        assert edited_captions(once, [TagEdit(operation)]) == once
        folded = [{tag.casefold() for tag in parse_tags(each)} for each in once]
        assert folded == [{tag.casefold() for tag in parse_tags(each)} for each in captions]


@given(views, st.integers(1, 100))
def test_dropped_traits_are_those_on_enough_captions(captions, percent):
    left = edited_captions(captions, [TagEdit("drop_traits", percent=percent)])
    counts = tag_counts(captions)
    assert tag_counts(left) == {tag: n for tag, n in counts.items() if n / len(captions) < percent / 100}


@given(views, words)
def test_keep_and_remove_part_a_caption(captions, tag):
    kept = edited_captions(captions, [TagEdit("keep", tag)])
    removed = edited_captions(captions, [TagEdit("remove", tag)])
    for before, one, other in zip(captions, kept, removed):
        assert sorted(parse_tags(one) + parse_tags(other)) == sorted(parse_tags(before))


@given(views, st.lists(words, min_size=1, max_size=3, unique_by=str.casefold))
def test_renaming_and_back_changes_nothing(captions, old):
    new = [f"new{number}" for number in range(len(old))]
    forth = TagEdit("rename", ", ".join(old), ", ".join(new))
    back = TagEdit("rename", ", ".join(new), ", ".join(old))
    once = [", ".join({tag.casefold(): tag.casefold() for tag in parse_tags(each)}) for each in captions]
    result = edited_captions(once, [forth, back])
    assert [each.casefold() for each in result] == [each.casefold() for each in once]


@given(views, words)
def test_a_literal_pattern_is_a_text_replacement(captions, text):
    result = edited_captions(captions, [TagEdit("regex", re.escape(text), "new")])
    for before, after in zip(captions, result):
        assert parse_tags(re.sub(re.escape(text), "new", before, flags=re.IGNORECASE)) == parse_tags(after)
