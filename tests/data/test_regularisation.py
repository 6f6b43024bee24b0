"""Regularisation pictures: as many visits as the training pictures have, and no part in the subject's facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_core.config import TagEdit
from trainer_core.data.captions import training_caption
from trainer_core.data.dataset import read_dataset
from trainer_core.data.regularisation import balanced_repeats, importance_of
from trainer_core.errors import DataError


@pytest.mark.parametrize(
    ("repeats", "wanted", "balanced"),
    [
        ([1, 1, 1], 6, [2, 2, 2]),
        ([1, 1, 1], 7, [3, 2, 2]),
        ([1, 1, 1], 2, [1, 1, 0]),
        ([4, 4, 4], 6, [4, 4, 0]),  # kohya counts the second one's repeats whole
        ([2, 1], 10, [6, 4]),  # 3 visits at first, and 7 more in turn: 4 and 3
        ([5], 3, [5]),
    ],
)
def test_repeats_are_balanced_as_kohya_does(repeats, wanted, balanced):
    assert balanced_repeats(repeats, wanted) == balanced


@given(repeats=st.lists(st.integers(1, 9), min_size=1, max_size=12), wanted=st.integers(1, 60))
def test_balancing_is_the_loop_of_sd_scripts(repeats, wanted):
    """The loop that DreamBoothDataset runs over its regularisation pictures, step by step."""
    seen, total, first = dict.fromkeys(range(len(repeats)), 0), 0, True
    while total < wanted:
        for place, times in enumerate(repeats):
            more = times if first else 1
            seen[place] += more
            total += more
            if total >= wanted:
                break
        first = False
    assert balanced_repeats(repeats, wanted) == list(seen.values())


@pytest.fixture
def folders(tmp_path, draw):
    """Four visits of two pictures, and three regularisation pictures of which one has a caption."""
    for number in range(2):
        draw(tmp_path / "img" / "2_sks cat" / f"{number}.png", seed=number)
    for number in range(3):
        draw(tmp_path / "reg" / "1_cat" / f"{number}.png", seed=10 + number)
    (tmp_path / "reg" / "1_cat" / "0.txt").write_text("a cat, sitting")
    return tmp_path


def test_regularisation_joins_the_dataset_but_not_its_facts(folders, configured):
    config = configured(folder=str(folders / "img"), reg_data_dir=str(folders / "reg"))
    dataset = read_dataset(config)
    assert [(each.is_reg, each.repeats) for each in dataset.examples] == [(False, 2)] * 2 + [(True, 2)] + [
        (True, 1)
    ] * 2
    assert (dataset.num_train_images, dataset.num_reg_images) == (4, 3)
    assert dataset.dirs() == {"2_sks cat": {"n_repeats": 2, "img_count": 2}}
    assert dataset.reg_dirs == {"1_cat": {"n_repeats": 1, "img_count": 3}}
    assert list(dataset.tag_frequency()) == ["2_sks cat"]
    assert dataset.fingerprint() != read_dataset(configured(folder=str(folders / "img"))).fingerprint()


def test_regularisation_that_is_too_many_is_left_out_and_said(folders, configured, draw):
    for number in range(3, 9):
        draw(folders / "reg" / "1_cat" / f"{number}.png", seed=10 + number)
    dataset = read_dataset(configured(folder=str(folders / "img"), reg_data_dir=str(folders / "reg")))
    assert sum(each.is_reg for each in dataset.examples) == 4
    assert [warning for warning in dataset.warnings if "5 of 9 pictures are more than the 4" in warning]


def test_the_trigger_word_and_edits_are_the_subjects_alone(folders, configured):
    config = configured(
        folder=str(folders / "img"),
        reg_data_dir=str(folders / "reg"),
        trigger_word="sks",
        tag_edits=(TagEdit("append", "blue eyes"),),
    )
    captions = [training_caption(each, config, 0, 1) for each in read_dataset(config).examples]
    assert captions == ["sks, sks cat, blue eyes"] * 2 + ["a cat, sitting", "cat", "cat"]


def test_a_missing_folder_is_named_by_its_setting(folders, configured):
    with pytest.raises(DataError, match=r"^reg_data_dir: .*does not exist"):
        read_dataset(configured(folder=str(folders / "img"), reg_data_dir=str(folders / "nowhere")))


def test_importance_is_the_prior_weight_for_regularisation_alone(folders, configured):
    examples = read_dataset(configured(folder=str(folders / "img"), reg_data_dir=str(folders / "reg"))).examples
    weights = importance_of(examples, 0.25)
    assert weights is not None and weights.tolist() == [1, 1, 0.25, 0.25, 0.25]
    assert importance_of(examples, 1.0) is None and importance_of(examples[:2], 0.25) is None
