"""The command line: settings from flags and files, errors as one sentence, a run from a saved folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from trainer_core.cli import main
from trainer_core.config import TrainConfig, layered
from trainer_core.flags import add_setting_flags, nested
from trainer_core.settings import all_settings, from_json


def parsed(*flags):
    import argparse

    parser = argparse.ArgumentParser()
    add_setting_flags(parser)
    return nested(vars(parser.parse_args(flags)))


def test_every_setting_has_a_flag_and_short_names_where_they_are_clear():
    values = parsed(
        *("--output_name", "cat", "--output_dir", "out", "--folder", "pictures", "--rank", "8", "--seed", "1"),
        *("--sample.seed", "2", "--no-enable_bucket", "--prompts", "a cat", "--prompts", "a dog"),
    )
    config = from_json(TrainConfig, values)
    assert (config.network.rank, config.seed, config.sample.seed) == (8, 1, 2)
    assert config.dataset.enable_bucket is False and config.sample.prompts == ("a cat", "a dog")


def test_flags_win_over_the_file_setting_by_setting():
    below, above = {"network": {"rank": 4, "alpha": 2}, "seed": 1}, {"network": {"rank": 8}}
    assert layered(below, above) == {"network": {"rank": 8, "alpha": 2}, "seed": 1}


def test_who_says_the_epochs_last_is_not_overruled_by_steps_said_before():
    recipe = {"max_train_steps": 1600, "seed": 1}
    assert layered(recipe, {"max_train_epochs": 3}) == {"max_train_epochs": 3, "seed": 1}
    both = {"max_train_epochs": 3, "max_train_steps": 5}
    assert layered(recipe, both) == {**both, "seed": 1}
    assert layered({"max_train_epochs": 3}, recipe) == {"max_train_epochs": 3, **recipe}


def test_flags_cover_the_settings():
    import argparse

    parser = argparse.ArgumentParser()
    add_setting_flags(parser)
    flagged = {action.dest for action in parser._actions}
    assert {path for path, _ in all_settings(TrainConfig)} - flagged == {"dataset.tag_edits"}


def test_a_run_from_a_saved_folder(tmp_path, make_pipeline, pictures, capsys):
    make_pipeline().save_pretrained(tmp_path / "model")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"dataset": {"resolution": 64, "bucket_reso_steps": 8, "batch_size": 2}}))
    code = main(
        [
            *("train", "--model", str(tmp_path / "model"), "--config", str(settings), "--device", "cpu"),
            *("--folder", str(pictures), "--output_name", "thing", "--output_dir", str(tmp_path / "out")),
            *("--max_train_epochs", "1", "--rank", "2"),
        ]
    )
    assert code == 0
    assert (tmp_path / "out" / "thing" / "thing-000001.safetensors").is_file()
    assert "5 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nowhere"], "nowhere"),
        (["--model", "x", "--config", "missing.json"], "missing.json"),
        (["--model", "x", "--rank", "0"], "network.rank"),
        (["--model", "x", "--rank", "eight"], "whole number"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(tmp_path, capsys, arguments, words):
    required = ["--folder", str(tmp_path), "--output_name", "a", "--output_dir", str(tmp_path / "out")]
    assert main(["train", *required, *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_goes_ends_it_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "trainer_core", "presets"]
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_nothing_heavy_is_imported_to_show_help(capsys):
    code = (
        "import sys, trainer_core.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "False"
