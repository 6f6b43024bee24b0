"""Captions as people and downloaders leave them beside pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.data.caption_files import CaptionIndex, decode_caption, read_caption
from trainer_core.data.examples import scan
from trainer_core.data.sidecars import tags_of_sidecar
from trainer_core.data.spaced_tags import parted_at_spaces
from trainer_core.errors import DataError
from trainer_core.tagging.browsing import BrowsedDataset
from trainer_core.tagging.history import CaptionHistory


def test_the_order_in_which_captions_are_looked_for(tmp_path):
    names = ["cat.txt", "cat.caption", "cat.jpg.txt", "cat.json", "cat.jpg.json"]
    for place in range(len(names)):
        files = {name: tmp_path / name for name in reversed(names[place:])}
        assert CaptionIndex(files).of(tmp_path / "cat.jpg") == tmp_path / names[place]
    assert CaptionIndex({"dog.txt": tmp_path / "dog.txt"}).of(tmp_path / "cat.jpg") is None


def test_a_dataset_files_extension_is_the_only_caption_that_counts(tmp_path):
    files = {name: tmp_path / name for name in ("cat.txt", "cat.tags")}
    assert CaptionIndex(files, (".tags",)).of(tmp_path / "cat.jpg") == tmp_path / "cat.tags"
    assert CaptionIndex({"cat.txt": tmp_path / "cat.txt"}, (".tags",)).of(tmp_path / "cat.jpg") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_encoding_of_unicode_is_seen(encoding):
    assert decode_caption("cat, très 猫".encode(encoding)) == ("cat, très 猫", True)


def test_gallery_dls_tags_file_has_a_tag_in_each_line(tmp_path):
    (tmp_path / "cat.jpg.txt").write_text("1girl\nlong_hair\n(o)_(o)\nshiroko_(blue_archive)\n")
    caption = read_caption(tmp_path / "cat.jpg.txt")
    assert (caption.text, caption.lines) == ("1girl, long hair, (o)_(o), shiroko (blue archive)", 1)


@pytest.mark.parametrize(
    ("values", "caption"),
    [
        (  # gallery-dl of Danbooru
            {
                "tags": ["1girl", "solo", "shiroko_(blue_archive)", "highres"],
                "tags_general": ["1girl", "solo"],
                "tags_character": ["shiroko_(blue_archive)"],
                "tags_copyright": ["blue_archive"],
                "tags_artist": [],
                "tags_meta": ["highres"],
                "rating": "g",
            },
            "shiroko (blue archive), blue archive, 1girl, solo",
        ),
        ({"tag_string": "1girl u_u", "tag_string_general": "1girl u_u", "tag_string_meta": "highres"}, "1girl, u_u"),
        ({"tags": "1girl solo long_hair"}, "1girl, solo, long hair"),  # gelbooru, moebooru
        (
            {"tags": {"general": ["anthro"], "species": ["red_fox"], "meta": ["hi_res"], "lore": ["x"]}},
            "red fox, anthro",
        ),
        ({"tags": [{"name": "初音ミク", "translated_name": "Hatsune Miku"}, {"name": "girl"}]}, "初音ミク, girl"),
        ({"caption": "a cat\non a mat", "tags": "cat, mat"}, "a cat on a mat, cat, mat"),
        ({"caption": "  ", "tags": None}, ""),
        ({"tags": ["a", 3, None, "", "a"]}, "a"),
        ([{"tags": ["one_post"]}], "one post"),
        ({"id": 7}, ""),
    ],
)
def test_what_downloaders_know_becomes_a_caption(values, caption):
    assert tags_of_sidecar(json.dumps(values), "a.json") == caption


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tags", "tags_general", "caption", "tag_string", "name", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_a_caption_of_one_line_or_refused_in_a_sentence(values):
    try:
        caption = tags_of_sidecar(json.dumps(values), "10_cat/a.json")
    except DataError as error:
        assert "10_cat/a.json" in str(error)
    else:
        assert len(caption.splitlines()) <= 1


@given(st.binary(max_size=60))
def test_any_bytes_are_a_caption(data):
    text, _ = decode_caption(data)
    assert isinstance(text, str)


def test_a_sidecar_is_read_and_an_edit_is_written_beside_it(tmp_path, draw, configured):
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.json").write_text(json.dumps({"tags": "1girl long_hair"}))
    (example,) = scan(configured()).examples
    assert example.caption == "1girl, long hair"
    CaptionHistory(tmp_path).write({example: "1girl"}, "edited")
    assert json.loads((tmp_path / "a.jpg.json").read_text()) == {"tags": "1girl long_hair"}
    assert [each.caption for each in scan(configured()).examples] == ["1girl"]
    CaptionHistory(tmp_path).undo()
    assert [each.caption for each in scan(configured()).examples] == ["1girl, long hair"]


def test_several_lines_are_kept_for_wildcards(tmp_path, draw, configured):
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("a cat\n\n a {red|blue} hat \n")
    first, both = scan(configured()), scan(configured(enable_wildcard=True))
    assert first.examples[0].caption == "a cat" and any("several lines" in each for each in first.warnings)
    assert both.examples[0].caption == "a cat\na {red|blue} hat" and not both.warnings


GRABBER = ("1girl long_hair blue_eyes", "solo halo_(object) school_uniform u_u", "smile")


def write_captions(folder: Path, draw, texts) -> None:
    for i, text in enumerate(texts):
        draw(folder / f"{i}.png", seed=i)
        (folder / f"{i}.txt").write_text(text)


def test_tags_with_spaces_between_are_read_as_tags(tmp_path, draw, configured):
    write_captions(tmp_path, draw, GRABBER)
    found = scan(configured())
    assert [each.caption for each in found.examples] == [
        "1girl, long hair, blue eyes",
        "solo, halo (object), school uniform, u_u",
        "smile",
    ]
    (warning,) = found.warnings
    assert "tags with spaces between and are read so" in warning and "caption_separator to comma" in warning
    plain = scan(configured(caption_separator="comma"))
    assert plain.warnings == () and plain.examples[0].caption == GRABBER[0]
    assert plain.fingerprint() != found.fingerprint()


def test_where_there_is_doubt_only_the_settings_part_tags_at_spaces(tmp_path, draw, configured):
    write_captions(tmp_path, draw, [*GRABBER, "1girl, long hair", "blush red_eyes cat_ears"])
    doubtful = scan(configured())
    assert doubtful.examples[0].caption == GRABBER[0]
    assert any("set caption_separator to space" in each for each in doubtful.warnings)
    told = scan(configured(caption_separator="space"))
    assert [each.caption for each in told.examples][::3] == ["1girl, long hair, blue eyes", "1girl, long hair"]
    assert told.warnings == ()


def test_downloaders_files_are_parted_already(tmp_path, draw, configured):
    write_captions(tmp_path, draw, GRABBER)
    draw(tmp_path / "z.jpg", seed=9)
    (tmp_path / "z.jpg.json").write_text(json.dumps({"tags": ["long_hair"]}))
    assert scan(configured(caption_separator="space")).examples[-1].caption == "long hair"


def test_spaced_tags_are_edited_as_tags(tmp_path, draw, configured):
    write_captions(tmp_path, draw, GRABBER)
    browsed = BrowsedDataset(configured(), scan(configured()).examples)
    assert browsed.pictures()[0].caption == "1girl, long hair, blue eyes"
    assert browsed.remove_tag("long hair") == 1
    assert (tmp_path / "0.txt").read_text() == "1girl, blue eyes"
    assert browsed.pictures()[0].caption == "1girl, blue eyes"


@given(st.text(max_size=60))
def test_parting_at_spaces_twice_is_parting_once(caption):
    once = parted_at_spaces(caption)
    if all("," in line or len(line.split()) != 1 for line in caption.split("\n")):
        assert parted_at_spaces(once) == once


def test_a_sentence_with_a_trigger_word_is_no_list_of_tags(tmp_path, draw, configured):
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a photo of sks_dog on the grass")
    assert scan(configured()).warnings == ()


def test_a_caption_in_the_folder_of_another_picture_is_not_taken(tmp_path, draw, configured):
    draw(tmp_path / "1_a" / "x.png")
    draw(tmp_path / "1_b" / "x.png", seed=1)
    Path(tmp_path / "1_a" / "x.json").write_text('{"caption": "a cat"}')
    assert [each.caption for each in scan(configured()).examples] == ["a cat", "b"]
