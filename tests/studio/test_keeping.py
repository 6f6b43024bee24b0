"""Epochs under a final name, and runs deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.studio.conftest import settled
from trainer_core.errors import RunError
from trainer_core.files.lora_file import load_lora, read_metadata
from trainer_core.files.run_folder import RunFolder


@pytest.fixture
def run(studio, recipe) -> dict:
    """A run of two epochs, with previews and a trigger word."""
    studio.enqueue(recipe(sample={"prompts": ["a thing", "no thing"], "steps": 1}, dataset={"trigger_word": "zwx"}))
    assert settled(studio)["entry"]["state"] == "finished"
    (run,) = studio.runs()
    return run


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kept_epoch_has_all_that_a_ui_shows(studio, venue, run):
    venue.log.clear()
    kept = studio.promote(run["id"], 2, "my cat", "the second is best")
    assert kept == venue.runs_dir / "my cat.safetensors" and venue.log == ["epochs"]
    tensors, metadata = load_lora(kept)
    epoch, original = load_lora(venue.runs_dir / "thing" / "thing-000002.safetensors")
    assert tensors.keys() == epoch.keys() and all(tensors[key].equal(epoch[key]) for key in epoch)
    assert metadata["ss_output_name"] == metadata["modelspec.title"] == "my cat"
    assert metadata["sshs_model_hash"] == original["sshs_model_hash"]
    assert json.loads((venue.runs_dir / "my cat.json").read_text(encoding="utf-8")) == {
        "description": "",
        "sd version": "SD1",
        "activation text": "zwx",
        "preferred weight": 1.0,
        "notes": "the second is best",
    }
    with Image.open(venue.runs_dir / "my cat.png") as shown, Image.open(_preview(venue, 2)) as preview:
        assert shown.tobytes() == preview.tobytes()


def _preview(venue, epoch: int) -> Path:
    return RunFolder(venue.runs_dir / "thing", "").sample_file(epoch, 0)


@pytest.mark.parametrize("taken", ["best.safetensors", "BEST.safetensors", "other/Best.safetensors", "best.json"])
def test_nothing_is_overwritten_nor_called_alike(studio, venue, run, taken):
    path = venue.runs_dir / taken
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"somebody's")
    before = everything_in(venue.runs_dir)
    with pytest.raises(RunError, match="already"):
        studio.promote(run["id"], 1, "best")
    assert everything_in(venue.runs_dir) == before


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "CON", "a:b", "x" * 200])
def test_a_final_name_is_a_name(studio, run, name):
    with pytest.raises(RunError):
        studio.promote(run["id"], 1, name)


def test_an_epoch_that_is_not_there_cannot_be_kept(studio, run):
    with pytest.raises(RunError, match="has no epoch 7; saved are 1, 2"):
        studio.promote(run["id"], 7, "best")


def test_a_copy_that_fails_leaves_nothing(studio, venue, run, monkeypatch):
    before = everything_in(venue.runs_dir)
    monkeypatch.setattr("trainer_core.studio.keeping.save_lora", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        studio.promote(run["id"], 1, "best")
    assert everything_in(venue.runs_dir) == before


def test_an_epoch_is_deleted_with_its_previews(studio, venue, run):
    studio.delete(run["id"], 1)
    (left,) = studio.runs()
    assert left["epochs"] == run["epochs"][1:]
    with pytest.raises(RunError, match="not there any more"):
        studio.preview(run["epochs"][0]["previews"][0])


def test_a_deleted_run_is_gone_with_its_folder(studio, venue, run):
    studio.delete(run["id"])
    assert studio.runs() == [] and not (venue.runs_dir / "thing").exists()


def test_what_is_not_ours_stays(studio, venue, run, tmp_path):
    folder = venue.runs_dir / "thing"
    for name in ("notes.txt", "samples/holiday.png", "other-000001.safetensors"):
        (folder / name).write_bytes(b"somebody's")
    studio.delete(run["id"])
    assert set(everything_in(folder)) == {"notes.txt", "samples/holiday.png", "other-000001.safetensors"}


def test_an_epoch_that_somebody_else_has_put_there_stays(studio, venue, run):
    foreign = venue.runs_dir / "thing" / "thing-000003.safetensors"
    foreign.write_bytes((2).to_bytes(8, "little") + b"{}")
    assert read_metadata(foreign) == {}
    before = everything_in(venue.runs_dir)
    for number in (3, None):
        with pytest.raises(RunError, match="was not trained here"):
            studio.delete(run["id"], number)
    assert everything_in(venue.runs_dir) == before


def test_pictures_behind_a_link_stay(studio, venue, run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (venue.runs_dir / "thing" / "samples").rename(elsewhere)
    (venue.runs_dir / "thing" / "samples").symlink_to(elsewhere, target_is_directory=True)
    before = everything_in(elsewhere)
    studio.delete(run["id"])
    assert everything_in(elsewhere) == before


def test_a_run_that_trains_is_not_deleted(studio, venue, run):
    with RunFolder(venue.runs_dir / "thing", "").locked(), pytest.raises(RunError, match="another training"):
        studio.delete(run["id"])
    assert len(studio.epochs(run["id"])) == 2


def test_a_folder_with_a_damaged_record_is_no_run(studio, venue, run):
    for name, content in (("a", b"{"), ("b", b"[]"), ("c", b'{"key": 1}'), ("d", b"[" * 100_000)):
        (venue.runs_dir / name).mkdir()
        (venue.runs_dir / name / "run.json").write_bytes(content)
    assert [each["name"] for each in studio.runs()] == ["thing"]
    (venue.runs_dir / "a" / "run.json").write_text('{"key": "1", "settings": {"sample": 3, "dataset": []}}')
    odd = next(each for each in studio.runs() if each["name"] == "a")
    assert odd["epochs"] == [] and odd["trigger"] == ""
