"""A folder of settings: each trained in a folder of its own, failures passed over, finished ones known again."""

from __future__ import annotations

import json

import pytest

from trainer_core.events import Finished
from trainer_core.hosts.diffusers import DiffusersHost
from trainer_core.queue import Ended, Started, not_taken_over, run_queue, settings_files

TINY = {"resolution": 64, "bucket_reso_steps": 8, "batch_size": 2}


@pytest.fixture
def queue(tmp_path, pictures, make_pipeline):
    """Runs a folder of three files, of which the second cannot be trained; gives what ended, and what was loaded."""
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "1.json").write_text(json.dumps({"network": {"rank": 2}, "dataset": {**TINY, "folder": str(pictures)}}))
    (folder / "2.json").write_text(json.dumps({"LoRA_type": "Standard", "train_data_dir": str(tmp_path / "nowhere")}))
    (folder / "3.toml").write_text(
        'network_dim = 2\nresolution = 64\ntrain_batch_size = 2\nbucket_reso_steps = 8\noutput_name = "third"\n'
        f'train_data_dir = "{pictures.as_posix()}"\nmade_up = 1\n'
    )
    loaded = []

    def load(model):
        loaded.append(model)
        return DiffusersHost(make_pipeline(), model_name=model)

    def run(model="tiny"):
        values = {"output_dir": str(tmp_path / "out"), "max_train_epochs": 1}
        return list(run_queue(settings_files(folder), values, model, load))

    run.folder, run.loaded, run.out = folder, loaded, tmp_path / "out"
    return run


def states(events):
    return [(each.path.name, each.state) for each in events if isinstance(each, Ended)]


def test_each_is_trained_in_its_own_folder_and_failures_are_passed_over(queue):
    before = {path: path.read_bytes() for path in queue.folder.iterdir()}
    events = queue()
    assert states(events) == [("1.json", "finished"), ("2.json", "failed"), ("3.toml", "finished")]
    assert (queue.out / "1" / "1-000001.safetensors").is_file()  # named by its file, where it does not name itself
    assert (queue.out / "third" / "third-000001.safetensors").is_file()
    assert queue.loaded == ["tiny"]
    assert {path: path.read_bytes() for path in queue.folder.iterdir()} == before
    third = [each for each in events if isinstance(each, Started)][2]
    assert any("made_up" in line for line in not_taken_over(third.report))

    again = queue()
    assert states(again) == [("1.json", "already finished"), ("2.json", "failed"), ("3.toml", "already finished")]
    assert sum(isinstance(each, Finished) for each in again) == 2


def test_without_a_model_the_file_s_own_is_loaded(queue):
    (queue.folder / "1.json").unlink()
    (queue.folder / "2.json").unlink()
    assert states(queue(model="")) == [("3.toml", "failed")]  # no model
    text = (queue.folder / "3.toml").read_text()
    (queue.folder / "3.toml").write_text(text + 'pretrained_model_name_or_path = "its own"\n')
    assert states(queue(model="")) == [("3.toml", "finished")] and queue.loaded == ["its own"]


def test_another_adapter_than_the_recipe_s_is_never_trained_in_its_place(queue):
    for name in ("1.json", "3.toml"):
        (queue.folder / name).unlink()
    (queue.folder / "2.json").write_text('{"LoRA_type": "Flux1", "network_dim": 4, "learning_rate": 1}')
    ended = [each for each in queue() if isinstance(each, Ended)]
    assert [each.state for each in ended] == ["failed"] and "Flux1" in ended[0].said and not queue.loaded
