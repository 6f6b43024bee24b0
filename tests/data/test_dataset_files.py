"""Datasets that a file describes: sd-scripts' dataset config and kohya's metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import DatasetConfig, TagEdit
from trainer_core.data.captions import training_caption
from trainer_core.data.dataset import read_dataset
from trainer_core.data.dataset_files import described_folders
from trainer_core.data.examples import scan
from trainer_core.errors import ConfigError, DataError

CONFIG = """
[general]
caption_extension = ".txt"
num_repeats = 2
shuffle_caption = true

[[datasets]]
resolution = 512
batch_size = 1
class_tokens = "thing"

  [[datasets.subsets]]
  image_dir = "cats"
  num_repeats = 3
  caption_prefix = "zwx,"
  caption_suffix = "end"

  [[datasets.subsets]]
  image_dir = "pets"
  class_tokens = "pet"
  is_reg = true
"""


@pytest.fixture
def described(tmp_path: Path, draw) -> Path:
    draw(tmp_path / "cats" / "a.png")
    draw(tmp_path / "cats" / "b.png", seed=1)
    (tmp_path / "cats" / "a.txt").write_text("a cat")
    (tmp_path / "cats" / "b.caption").write_text("not read: another extension")
    draw(tmp_path / "pets" / "c.png", seed=2)
    (tmp_path / "dataset.toml").write_text(CONFIG)
    return tmp_path / "dataset.toml"


def test_the_narrower_wins(described):
    dataset = scan(DatasetConfig(str(described), shuffle_caption=True))
    facts = [(each.path.name, each.repeats, each.caption, each.folder, each.is_reg) for each in dataset.examples]
    assert facts == [
        ("a.png", 3, "zwx, a cat end", "cats", False),
        ("b.png", 3, "zwx, thing end", "cats", False),
        ("c.png", 2, "pet", "pets", True),
    ]
    assert dataset.num_train_images == 6
    assert not any("settings decide" in warning for warning in dataset.warnings)


def test_toml_and_json_say_the_same(described):
    import tomlkit

    written = described.with_suffix(".json")
    written.write_text(json.dumps(tomlkit.parse(CONFIG).unwrap()))
    assert scan(DatasetConfig(str(written))).examples == scan(DatasetConfig(str(described))).examples


def test_regularisation_subsets_are_balanced(described):
    dataset = read_dataset(DatasetConfig(str(described), shuffle_caption=True))
    (pet,) = [each for each in dataset.examples if each.is_reg]
    assert pet.repeats == 6 and dataset.reg_dirs == {"pets": {"n_repeats": 2, "img_count": 1}}
    assert [each.path.name for each in dataset.subjects] == ["a.png", "b.png"]


def test_nothing_but_regularisation_is_refused(described):
    described.write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "pets"\nis_reg = true\n')
    with pytest.raises(DataError, match="all pictures are for regularisation"):
        read_dataset(DatasetConfig(str(described)))


def test_settings_in_the_file_that_differ_are_said(described):
    warnings = [each for each in scan(DatasetConfig(str(described), 768)).warnings if "decide" in each]
    assert "dataset.toml decides for its pictures: shuffle_caption True" in warnings[0]
    assert "has resolution 512, but the settings decide" in warnings[1]


def test_captions_of_a_subset_follow_its_own_settings(described, draw):
    draw(described.parent / "dogs" / "d.png", seed=4)
    (described.parent / "dogs" / "d.txt").write_text("dog, a, b, c, d, e, f\n{bark}")
    described.write_text(
        CONFIG
        + """
  [[datasets.subsets]]
  image_dir = "dogs"
  keep_tokens = 1
  enable_wildcard = true
  caption_tag_dropout_rate = 1.0
  flip_aug = true
"""
    )
    dataset = read_dataset(DatasetConfig(str(described), keep_tokens=5, bucket_reso_steps=32))
    by_name = {each.path.name: each for each in dataset.examples}
    config = DatasetConfig(str(described), keep_tokens=5)
    assert {training_caption(by_name["d.png"], config, 0, epoch) for epoch in range(20)} == {"dog", "bark"}
    assert training_caption(by_name["a.png"], config, 0, 1) == "zwx, a cat end"
    decided, other = [each for each in dataset.warnings if "decide" in each]
    assert "shuffle_caption True, keep_tokens 1 for dogs, enable_wildcard True for dogs" in decided
    assert "flip_aug True for dogs" in other


def test_a_subset_s_caption_settings_determine_the_run(described):
    before = read_dataset(DatasetConfig(str(described))).fingerprint()
    described.write_text(CONFIG.replace("shuffle_caption = true", "shuffle_caption = false"))
    assert read_dataset(DatasetConfig(str(described))).fingerprint() != before


def test_edits_spare_one_mark(described):
    marked = CONFIG.replace('  caption_suffix = "end"', '  keep_tokens_separator = "|||"')
    described.write_text(marked)
    edit = TagEdit("remove", "cat")
    with pytest.raises(
        ConfigError, match=r"edits spare one keep_tokens_separator, but the subsets have '' and '\|\|\|'"
    ):
        read_dataset(DatasetConfig(str(described), tag_edits=(edit,)))
    described.write_text(marked.replace("[general]", '[general]\nkeep_tokens_separator = "|||"'))
    (described.parent / "cats" / "a.txt").write_text("cat ||| hat")
    dataset = read_dataset(DatasetConfig(str(described), tag_edits=(edit,)))
    assert dataset.examples[0].caption == "zwx, |||, hat"


def test_keys_that_nothing_here_knows_are_said(described):
    described.write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\ncolor_aug = true\nflip_aug = false\n')
    assert [each for each in scan(DatasetConfig(str(described))).warnings if "color_aug without effect" in each]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[datasets]", "cannot be understood"),
        ("a = 1", "datasets is no list of tables"),
        ("[[datasets]]\nresolution = 512", "subsets is no list of tables"),
        ("datasets = []", "has no subsets"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1", "a subset has no image_dir"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "gone"', "there is no folder .*correct image_dir"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "."', "has no pictures; the folders inside it.*cats"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nnum_repeats = 0', "num_repeats is 0"),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nnum_repeats = "2"',
            "num_repeats is '2'; give it as int",
        ),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nnum_repeats = true', "num_repeats is True"),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nkeep_tokens = "two"',
            r'dataset.toml: "keep_tokens" .*two',
        ),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\ncaption_dropout_rate = 2',
            r'dataset.toml: "caption_dropout_rate" is 2',
        ),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nkeep_tokens_separator = ","',
            "keep_tokens_separator ',' has a comma",
        ),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\ntoken_warmup_step = 0.5',
            "a share of the run; give steps",
        ),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 3", "image_dir is 3; give it as str"),
    ],
)
def test_what_is_wrong_is_said_with_its_cure(described, text, said):
    described.write_text(text)
    with pytest.raises(DataError, match=said):
        scan(DatasetConfig(str(described)))


def test_a_toml_of_a_megabyte_is_refused_at_once(described):
    described.write_text(CONFIG + "#" * (1 << 20))
    with pytest.raises(DataError, match="larger than 1 MiB; split it"):
        scan(DatasetConfig(str(described)))


def test_metadata_by_name_stem_and_path(tmp_path, draw):
    for i, name in enumerate("abcd"):
        draw(tmp_path / f"{name}.png", seed=i)
    elsewhere = draw(tmp_path / "deep" / "e.png", seed=9)
    metadata = {
        "a": {"caption": "a cat", "tags": "cat, sitting", "train_resolution": [512, 512]},
        "b.png": {"tags": "cat, long_hair"},
        str(elsewhere): {"caption": "elsewhere"},
        "c": {},
        "nowhere": {"caption": "x"},
    }
    (tmp_path / "meta_lat.json").write_text(json.dumps(metadata))
    dataset = scan(DatasetConfig(str(tmp_path / "meta_lat.json")))
    assert {each.path.name: each.caption for each in dataset.examples} == {
        "a.png": "a cat, cat, sitting",
        "b.png": "cat, long hair",
        "c.png": "",
        "e.png": "elsewhere",
    }
    assert len(dataset.warnings) == 2
    assert "names nowhere, which" in dataset.warnings[0] and "c.png without caption" in dataset.warnings[1]


def test_a_subset_may_name_a_metadata_file(tmp_path, draw):
    draw(tmp_path / "pictures" / "a.png")
    (tmp_path / "meta.json").write_text(json.dumps({"a": {"tags": "cat"}}))
    subset = {"image_dir": "pictures", "metadata_file": "meta.json", "num_repeats": 4}
    (tmp_path / "set.json").write_text(json.dumps({"datasets": [{"subsets": [subset]}]}))
    (example,) = scan(DatasetConfig(str(tmp_path / "set.json"))).examples
    assert (example.caption, example.repeats, example.folder) == ("cat", 4, "meta")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["datasets", "subsets", "image_dir", "num_repeats", "general", "metadata_file", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(json_values)
def test_any_json_is_a_dataset_or_refused_in_a_sentence(tmp_path_factory, values):
    file = tmp_path_factory.mktemp("any") / "set.json"
    file.write_text(json.dumps(values))
    with pytest.raises(DataError):  # there are no pictures
        described_folders(file, DatasetConfig(str(file)), [])


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_in_a_sentence(tmp_path_factory, data):
    for name in ("set.toml", "set.json"):
        file = tmp_path_factory.mktemp("any") / name
        file.write_bytes(data)
        with pytest.raises(DataError):
            described_folders(file, DatasetConfig(str(file)), [])


def test_nested_folders_are_all_trained_where_there_is_nothing_else(tmp_path, draw):
    draw(tmp_path / "outfits" / "summer" / "a.png")
    draw(tmp_path / "outfits" / "4_winter" / "b.png", seed=1)
    draw(tmp_path / "faces" / "c.png", seed=2)
    draw(tmp_path / "masks" / "c.png", seed=3)
    (tmp_path / "__MACOSX").mkdir()
    dataset = scan(DatasetConfig(str(tmp_path), masks_dir=str(tmp_path / "masks")))
    assert {each.folder: (each.repeats, each.caption) for each in dataset.examples} == {
        "faces": (1, ""),
        "outfits/4_winter": (4, "winter"),
        "outfits/summer": (1, ""),
    }
    assert any("inside it are trained" in warning for warning in dataset.warnings)


def test_folders_beside_loose_pictures_are_said(tmp_path, draw):
    draw(tmp_path / "a.png")
    draw(tmp_path / "more" / "b.png", seed=1)
    dataset = scan(DatasetConfig(str(tmp_path)))
    assert len(dataset.examples) == 1 and any("pictures in more inside" in each for each in dataset.warnings)
