"""import, export, presets and queue on the command line."""

from __future__ import annotations

import json

import pytest

from trainer_core.cli import main
from trainer_core.recipes import import_file


def run(*arguments):
    return main([str(each) for each in arguments])


def test_import_prints_a_report_and_writes_settings(tmp_path, capsys):
    recipe = tmp_path / "gui.json"
    recipe.write_text('{"LoRA_type": "Standard", "network_dim": "8", "seed": 5, "wandb_api_key": "hunter2",}')
    assert run("import", recipe, "--skip", "seed", "--output", tmp_path / "settings.json") == 0
    said = capsys.readouterr().out
    assert "network.rank = 8" in said and "skipped" in said and "hunter2" not in said
    assert json.loads((tmp_path / "settings.json").read_text())["network"] == {"algo": "lora", "rank": 8}


def test_export_writes_settings_without_training(tmp_path, capsys):
    for kind in ("json", "kohya-gui", "sd-scripts"):
        file = tmp_path / f"{kind}.txt"
        assert run("export", "--preset", "adamw-lazy", "--rank", "4", "--format", kind, "--output", file) == 0
        values = import_file(file).values
        assert values["network"]["rank"] == 4 and values["network"]["alpha"] == 128
        assert values["optimizer"]["learning_rate"] == 16e-5


def test_export_checks_what_it_writes(capsys):
    assert run("export", "--rank", "0") == 1
    assert "network.rank" in capsys.readouterr().err


def test_presets_are_listed_and_shown(capsys):
    assert run("presets") == 0 and "prodigy-ia3" in capsys.readouterr().out
    assert run("presets", "dadapt_lazy") == 0 and "weight_decay=0.4" in capsys.readouterr().out
    assert run("presets", "dadapt-lasy") == 1 and 'did you mean "dadapt-lazy"' in capsys.readouterr().err


def test_a_dry_run_says_what_would_happen(tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("max_train_epochs = 3\nnetwork_dim = 4\nresolution = 64")
    code = run(
        *("train", "--model", "none", "--dry_run", "--recipe", recipe, "--preset", "adamw-lazy", "--folder", tmp_path),
        *("--output_name", "cat", "--output_dir", tmp_path / "out", "--batch_size", "1", "--bucket_reso_steps", "8"),
    )
    said = capsys.readouterr()
    assert code == 0 and "1 pictures, 1 steps an epoch, 3 epochs" in said.out and '"rank": 4' in said.out
    assert "sd-scripts TOML" in said.err and not (tmp_path / "out").exists()


def test_a_command_line_s_mistakes_are_one_line(tmp_path, capsys):
    assert run("import", tmp_path / "missing.json") == 1
    assert run("queue", tmp_path / "missing") == 1
    assert run("queue", tmp_path) == 1
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize("name", ["import", "export", "presets", "queue"])
def test_there_is_help(name, capsys):
    with pytest.raises(SystemExit) as left:
        run(name, "--help")
    assert left.value.code == 0 and capsys.readouterr().out
