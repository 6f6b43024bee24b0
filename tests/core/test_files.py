"""Run folders, resume files and logs: found again, never mixed, never overwritten."""

from __future__ import annotations

import json
import multiprocessing
import threading

import pytest
import torch

from trainer_core.errors import RunError
from trainer_core.events import Measured, Measurement, Stepped
from trainer_core.files.event_log import EventLog, read_measurements
from trainer_core.files.resume import ResumeState, load_resume_state, save_resume_state
from trainer_core.files.run_folder import check_name, open_run_folder, run_key


def test_the_same_key_finds_the_same_folder_and_another_gets_its_own(tmp_path):
    first = open_run_folder(tmp_path, "cat", "a", {"host": "test"})
    assert open_run_folder(tmp_path, "cat", "b", {}).folder.name == "cat-2"
    assert open_run_folder(tmp_path, "cat", "a", {}) == first
    assert json.loads((first.folder / "run.json").read_text())["host"] == "test"


def test_somebody_elses_files_are_never_claimed(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "mine.safetensors").touch()
    assert open_run_folder(tmp_path, "cat", "a", {}).folder.name == "cat-2"


def test_a_run_is_finished_only_while_its_epochs_are_there(tmp_path):
    run = open_run_folder(tmp_path, "cat", "a", {})
    assert not run.is_finished()
    run.epoch_file(1).touch()
    run.epoch_file(12).touch()
    (run.folder / "cat-1.safetensors").touch()  # not one of ours: kohya writes six digits
    assert [epoch for epoch, _ in run.epochs()] == [1, 12]
    run.finish()
    assert run.is_finished()
    run.epoch_file(1).unlink()
    assert not run.is_finished()


def test_run_keys_do_not_depend_on_order():
    assert run_key({"a": 1, "b": [2]}) == run_key({"b": [2], "a": 1}) != run_key({"a": 2, "b": [2]})


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "..", "../x", "a\\b", "CON", "nul.txt", "x.", "a:b", "a\x00", "é" * 100, ".hidden", "a\nb"]
)
def test_names_that_are_paths_or_no_names_are_refused(tmp_path, name):
    with pytest.raises(RunError, match="output_name"):
        open_run_folder(tmp_path, name, "a", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cat", "my cat 2", "Катя", "猫", "a.b", "v1-final_2"])
def test_ordinary_names_are_fine(name):
    check_name(name)


def _hold(folder, locked, release):
    with open_run_folder(folder, "cat", "a", {}).locked():
        locked.set()
        release.wait(20)


def test_another_process_is_kept_out_and_a_killed_one_is_not_in_the_way(tmp_path):
    context = multiprocessing.get_context("spawn")
    locked, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, locked, release))
    process.start()
    assert locked.wait(20)
    run = open_run_folder(tmp_path, "cat", "a", {})
    with pytest.raises(RunError, match="another training"), run.locked():
        pass
    process.kill()
    process.join()
    with run.locked():
        pass


def test_a_resume_state_comes_back_as_it_was(tmp_path):
    state = ResumeState(7, "key", {"weights": torch.randn(3), "d": torch.tensor(0.1, dtype=torch.float64)})
    save_resume_state(tmp_path / "resume.state", state)
    loaded = load_resume_state(tmp_path / "resume.state", "key")
    assert loaded is not None and loaded.step == 7
    assert all(torch.equal(loaded.tensors[name], state.tensors[name]) for name in state.tensors)


def test_no_resume_state_is_none_and_a_damaged_or_foreign_one_is_an_error(tmp_path):
    path = tmp_path / "resume.state"
    assert load_resume_state(path, "key") is None
    save_resume_state(path, ResumeState(1, "key", {"x": torch.zeros(1)}))
    with pytest.raises(RunError, match="another run"):
        load_resume_state(path, "other")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RunError, match="delete it"):
        load_resume_state(path, "key")


def test_steps_done_twice_are_read_once_and_a_cut_line_is_passed_over(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    steps = [Measurement(step, 1, 0.5, 1.0, {"unet": 1e-4}, None) for step in (1, 2, 3)]
    again = Measurement(3, 1, 0.25, 1.0, {"unet": 1e-4}, 1e-6)
    log.record(Stepped(1, 3, 1))
    log.record(Measured(tuple(steps)))
    log.record(Measured((again,)))
    with log.path.open("a") as file:
        file.write('{"event": "step", "step": 4, "lo')
    assert read_measurements(log.path) == [*steps[:2], again]
    assert read_measurements(tmp_path / "none.jsonl") == []


def test_a_run_that_is_closed_on_another_thread_is_free_again(tmp_path):
    run = open_run_folder(tmp_path, "cat", "a", {})
    held = run.locked()
    held.__enter__()
    closing = threading.Thread(target=held.__exit__, args=(None, None, None))
    closing.start()
    closing.join()
    with run.locked():
        pass
