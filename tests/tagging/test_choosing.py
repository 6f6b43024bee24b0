"""Which of a tagger's guesses become tags, and how they are written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trainer_core.errors import DataError
from trainer_core.tagging.choosing import KAOMOJI, chosen_tags, combined_caption
from trainer_core.tagging.config import TaggerConfig
from trainer_core.tagging.vocabulary import Label, read_selected_tags, read_tag_mapping

VOCABULARY = dict(
    enumerate(
        [
            Label("general", "rating"),
            Label("explicit", "rating"),
            Label("1girl", "general"),
            Label("long_hair", "general"),
            Label("(o)_(o)", "general"),
            Label("shiroko_(swimsuit)_(blue_archive)", "character"),
            Label("best_quality", "quality"),
            Label("someone", "artist"),
        ]
    )
)
SURE = np.array([0.2, 0.7, 0.5, 0.9, 0.35, 0.86, 0.1, 0.36])


@pytest.mark.parametrize(
    ("settings", "tags"),
    [
        ({}, ["long hair", "shiroko (swimsuit) (blue archive)", "1girl", "someone", "(o)_(o)"]),
        ({"general_threshold": 0.5}, ["long hair", "shiroko (swimsuit) (blue archive)", "1girl", "someone"]),
        ({"character_threshold": 1.1, "artist_threshold": 2}, ["long hair", "1girl", "(o)_(o)"]),
        (
            {"character_tags_first": True, "artist_threshold": 2},
            ["shiroko (swimsuit) (blue archive)", "long hair", "1girl", "(o)_(o)"],
        ),
        (
            {"character_tag_expand": True, "general_threshold": 2, "artist_threshold": 2},
            ["shiroko (swimsuit)", "blue archive"],
        ),
        (
            {"remove_underscore": False, "general_threshold": 0.6},
            ["long_hair", "shiroko_(swimsuit)_(blue_archive)", "someone"],
        ),
        ({"undesired_tags": "Long Hair, 1girl, someone", "character_threshold": 2}, ["(o)_(o)"]),
        (
            {"rating": "first", "quality": "last", "general_threshold": 0.6, "character_threshold": 2},
            ["explicit", "long hair", "someone", "best quality"],
        ),
        # the next likeliest rating would be a wrong one
        (
            {"rating": "last", "undesired_tags": "explicit", "general_threshold": 0.6, "character_threshold": 2},
            ["long hair", "someone"],
        ),
    ],
)
def test_choice(settings, tags):
    assert chosen_tags(SURE, VOCABULARY, TaggerConfig(**settings)) == tags


def test_faces_keep_their_underscores():
    assert len(KAOMOJI) == 19
    vocabulary = {place: Label(face, "general") for place, face in enumerate(sorted(KAOMOJI))}
    assert set(chosen_tags(np.ones(19), vocabulary, TaggerConfig())) == KAOMOJI


@pytest.mark.parametrize(
    ("mode", "caption"),
    [("overwrite", "b, c"), ("append", "a, B, c"), ("prepend", "c, a, B"), ("keep", "a, B")],
)
def test_modes(mode, caption):
    assert combined_caption("a,  B", ["b", "c"], mode) == caption
    assert combined_caption("", ["b", "c"], mode) == "b, c"


def test_selected_tags_go_by_their_column(tmp_path):
    path = tmp_path / "selected_tags.csv"
    path.write_text('tag_id,name,category,count\n1,a,4,9\n2,"b,c",9,9\n3,d,0,9\n', encoding="utf-8")
    assert read_selected_tags(path) == {0: Label("a", "character"), 1: Label("b,c", "rating"), 2: Label("d", "general")}


@pytest.mark.parametrize(
    "mapping",
    [
        {"0": {"tag": "a", "category": "General"}, "3": {"tag": "b", "category": "Character"}},
        {"idx_to_tag": {"0": "a", "3": "b"}, "tag_to_category": {"a": "General", "b": "Character"}},
    ],
)
def test_both_forms_of_a_tag_mapping(tmp_path, mapping):
    path = tmp_path / "tag_mapping.json"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    assert read_tag_mapping(path) == {0: Label("a", "general"), 3: Label("b", "character")}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"0": {"tag": "a"}}', '{"0": {"tag": "a", "category": "X"}}', "\0"]
)
def test_a_wrong_mapping_is_named(tmp_path, content):
    path = tmp_path / "tag_mapping.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"tag_mapping\.json"):
        read_tag_mapping(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"tag_id,name,category\n1,a,77", b"tag_id,name,category\n1,a", b"\xff"]
)
def test_a_wrong_csv_is_named(tmp_path, content):
    path = tmp_path / "selected_tags.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"selected_tags\.csv"):
        read_selected_tags(path)
