"""What the guides print imports as it is, and is what the presets say."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer_core.config import TrainConfig
from trainer_core.recipes import import_file, import_text
from trainer_core.recipes.presets import PRESETS
from trainer_core.recipes.report import flattened
from trainer_core.settings import all_settings, from_json, to_json

GUIDES = Path(__file__).parent / "guides"
REQUIRED = {"output_name": "cat", "output_dir": "out"}


def verdicts(report):
    return {entry.key: entry.verdict for entry in report.entries}


def config_of(preset):
    values = PRESETS.get(preset).values
    return from_json(
        TrainConfig, {**values, **REQUIRED, "dataset": {**values.get("dataset", {}), "folder": "pictures"}}
    )


@pytest.mark.parametrize("name", PRESETS.names())
def test_every_preset_is_settings_with_a_source_and_a_date(name):
    preset = PRESETS.get(name)
    config_of(name)
    assert preset.source and preset.date and preset.when.endswith(".")


def test_the_default_preset_is_what_one_gets_without_it():
    plain = from_json(TrainConfig, {**REQUIRED, "dataset": {"folder": "pictures"}})
    assert config_of("default") == plain


@pytest.mark.parametrize(("name", "beside_it"), [("prodigy-ia3", {}), ("prodigy-lokr", {"network.preset": "full"})])
def test_the_prodigy_guide_s_own_block_is_the_preset(name, beside_it):
    report = import_file(GUIDES / f"{name}.json")
    found, preset = flattened(report.values), flattened(PRESETS.get(name).values)
    assert found.pop("optimizer.lr_scheduler_args") == "T_max=200"  # the preset says total, and why
    assert preset.pop("optimizer.lr_scheduler_args") == "T_max=total"
    assert found.pop("sample.every_n_epochs") == 10  # no prompts: no previews
    assert found.pop("optimizer.lr_warmup_steps") == "0"
    assert found == preset | beside_it


def test_nothing_of_the_prodigy_guide_is_lost():
    report = import_file(GUIDES / "prodigy-lokr.json")
    said = verdicts(report)
    assert not report.unknown and "unsupported" not in said.values()
    assert said["noise_offset"] == said["adaptive_noise_scale"] == "inert"  # the GUI drops them while noise is Multires
    assert said["lr_scheduler"] == "inert" and said["epoch"] == "inert" and said["--lr_scheduler_type"] == "applied"


def test_both_blocks_in_one_text_are_the_first_and_a_warning():
    text = "\n".join(
        f"## Base\n```\n{(GUIDES / name).read_text()}\n```" for name in ("prodigy-ia3.json", "prodigy-lokr.json")
    )
    report = import_text(text)
    assert report.values["network"]["algo"] == "ia3"
    assert any("2 blocks" in warning for warning in report.warnings)


def test_the_lazy_guide_s_python_lines_are_the_preset():
    report = import_file(GUIDES / "adamw-lazy.txt")
    found, preset = flattened(report.values), flattened(PRESETS.get("adamw-lazy").values)
    for path in ("output_name", "output_dir", "dataset.folder", "optimizer.lr_scheduler_power"):
        found.pop(path)
    assert found.pop("optimizer.optimizer") == "AdamW8bit"  # the preset's AdamW needs no package, and says so
    assert preset.pop("optimizer.optimizer") == "AdamW" and preset.pop("dataset.resolution") == 512
    assert found == preset
    assert any("train_resolution = 768" in warning for warning in report.warnings)


def test_presets_name_only_settings_that_there_are():
    known = {path for path, _ in all_settings(TrainConfig)}
    assert all(set(flattened(preset.values)) <= known for _, preset in PRESETS)


def test_a_preset_can_be_taken_with_a_setting_of_one_s_own():
    values = to_json(config_of("adamw-lazy"))
    values["network"]["rank"] = 4
    assert from_json(TrainConfig, values).network.rank == 4
