"""A graph reads recipes from ComfyUI's own folders only; what a recipe overrules, and what it never does."""

from __future__ import annotations

import pytest

from tests.nodes.pack import load

recipe_file, config, errors = load("nodes.recipe_file"), load("trainer_core.config"), load("trainer_core.errors")


@pytest.fixture
def folders(tmp_path):
    for name in ("input", "loras"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / f"{name}.json").write_text("{}")
    (tmp_path / "elsewhere.json").write_text("{}")
    return [str(tmp_path / "input"), str(tmp_path / "loras")]


def test_files_inside_the_folders_are_found_by_name_and_by_path(folders, tmp_path):
    wanted = tmp_path / "loras" / "sub" / "loras.json"
    assert recipe_file.recipe_file("sub/loras.json", folders) == wanted
    assert recipe_file.recipe_file(f'"{wanted}"', folders) == wanted


@pytest.mark.parametrize(
    "name", ["../elsewhere.json", "sub/../../elsewhere.json", "{}/elsewhere.json", "none.json", "sub"]
)
def test_no_other_file_is_read(folders, tmp_path, name):
    with pytest.raises(errors.ConfigError, match="input folder"):
        recipe_file.recipe_file(name.format(tmp_path), folders)


def test_a_recipe_wins_but_for_names_places_and_what_is_wired():
    own = config.TrainConfig("cat", "out", config.DatasetConfig("pictures"))
    recipe = {
        **{"output_name": "theirs", "output_dir": "/etc", "logging_dir": "/etc", "max_train_epochs": 3},
        **{"network": {"rank": 4}, "loss": {"min_snr_gamma": 5.0}, "dataset": {"folder": "theirs", "resolution": 768}},
    }
    made = recipe_file.overruled(own, recipe, but_not=["dataset", "network"])
    assert (made.output_name, made.output_dir, made.logging_dir) == ("cat", "out", "")
    assert (made.max_train_epochs, made.loss.min_snr_gamma, made.network.rank) == (3, 5.0, own.network.rank)
    assert made.dataset == own.dataset
    pictures = recipe_file.overruled(own.dataset, {**recipe["dataset"], "reg_data_dir": "/etc"})
    assert (pictures.folder, pictures.resolution, pictures.reg_data_dir) == ("pictures", 768, "")
    assert recipe_file.overruled(own, None) is own
