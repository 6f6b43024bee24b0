"""Nodes read pictures where they are told to, and write nowhere but into ComfyUI's own folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.nodes.pack import load

folders, errors = load("nodes.folders"), load("trainer_core.errors")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name in ("input/cats", "input/.hidden", "input/clipspace", "output", "models/loras"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_folders_of_the_input_directory_are_offered(host: Path):
    assert folders.offered_folders(str(host / "input")) == ["cats"]
    assert folders.offered_folders(str(host / "output")) == [folders.NO_FOLDER]
    assert folders.offered_folders(str(host / "missing")) == [folders.NO_FOLDER]


def test_a_full_path_wins(host: Path):
    assert folders.dataset_folder("cats", f' "{host}" ', str(host / "input")) == host
    assert folders.dataset_folder("cats", "", str(host / "input")) == host.resolve() / "input" / "cats"


@pytest.mark.parametrize("folder", ["", "  ", folders.NO_FOLDER, "..", "../output", "/etc"])
def test_no_folder_or_one_outside_is_refused(host: Path, folder: str):
    with pytest.raises(errors.DataError, match="full path"):
        folders.dataset_folder(folder, "", str(host / "input"))


def test_a_linked_folder_counts_as_inside(host: Path):
    try:
        (host / "input" / "linked").symlink_to(host / "models", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert folders.dataset_folder("linked", "", str(host / "input")).name == "linked"


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        (lambda folder: (folder / "b.png").write_bytes(b"2"), True),
        (lambda folder: (folder / "a.txt").write_text("another"), True),
        (lambda folder: (folder / "a.png").unlink(), True),
        (lambda folder: os.utime(folder / "a.png", (1, 1)), True),
        (lambda folder: (folder / "notes.md").write_text("no caption"), False),
        (lambda folder: (folder / ".cache").mkdir(), False),
    ],
    ids=["new picture", "caption", "removed", "touched", "other file", "hidden folder"],
)
def test_the_digest_changes_with_pictures_and_captions_alone(tmp_path: Path, change, changes: bool):
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "a.txt").write_text("a")
    before = folders.folder_digest(tmp_path)
    assert folders.folder_digest(tmp_path) == before
    change(tmp_path)
    assert (folders.folder_digest(tmp_path) != before) is changes


def test_the_digest_looks_into_every_folder_that_is_trained_on(tmp_path: Path):
    for name in ("pictures", "masks", "reg"):
        (tmp_path / name).mkdir()
    places = [tmp_path / "pictures", tmp_path / "masks", tmp_path / "reg"]
    before = folders.folder_digest(*places)
    (tmp_path / "masks" / "0.png").write_bytes(b"1")
    masked = folders.folder_digest(*places)
    (tmp_path / "reg" / "0.png").write_bytes(b"1")
    assert len({before, masked, folders.folder_digest(*places)}) == 3
    assert folders.folder_digest(tmp_path / "pictures", tmp_path / "missing")


def test_runs_are_kept_inside_the_hosts_folders(host: Path):
    places = (str(host / "output"), [str(host / "models" / "loras")])
    assert folders.output_folder("", *places) == host.resolve() / "output" / "loras"
    assert folders.output_folder("loras/cats", *places) == host.resolve() / "output" / "loras" / "cats"
    inside = str(host / "models" / "loras" / "new")
    assert folders.output_folder(inside, *places) == Path(inside).resolve()
    for outside in ("..", "../models", "/", str(host / "models"), str(host / "models" / "loras2")):
        with pytest.raises(errors.RunError, match="outside"):
            folders.output_folder(outside, *places)


def test_runs_are_found_among_the_hosts_loras():
    names = ["cat/cat-000001.safetensors", "cat/cat-000002.safetensors", "b/deep/dog/dog-000010.safetensors"]
    others = ["cat.safetensors", "cat/other.safetensors", "cat/dog-000001.safetensors", "cat-000001.safetensors"]
    assert folders.runs_among([*names, *others]) == ["cat", "b/deep/dog"]


def test_a_run_is_opened_from_its_files(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    for epoch in (2, 1):
        (tmp_path / "cat" / f"cat-{epoch:06d}.safetensors").touch()
    run = folders.open_run("cat", [str(tmp_path / "elsewhere"), str(tmp_path)])
    assert [each.number for each in run.epochs] == [1, 2]
    with pytest.raises(errors.RunError, match='"dog" has no epochs'):
        folders.open_run("dog", [str(tmp_path)])


def test_a_lora_is_named_as_loaders_name_it(tmp_path: Path):
    path = tmp_path / "loras" / "cat" / "cat-000001.safetensors"
    assert folders.lora_name(path, [str(tmp_path / "other"), str(tmp_path / "loras")]) == str(Path("cat") / path.name)
    assert folders.lora_name(path, [str(tmp_path / "other")]) == str(path)


@pytest.mark.parametrize("folder", ["", ".", "..", "../output", "/etc", "a/../..", "a\0b", "loop", "out"])
def test_a_new_folder_is_made_nowhere_else(tmp_path: Path, folder: str):
    root = tmp_path / "input"
    root.mkdir()
    (root / "loop").symlink_to(root / "loop")
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(errors.DataError, match="names no folder inside ComfyUI's input folder"):
        folders.new_input_folder(folder, str(root))
    assert folders.new_input_folder(" a/b ", str(root)) == root.resolve() / "a" / "b"


def test_the_digest_of_a_dataset_file_changes_with_it_and_its_pictures(tmp_path: Path):
    (tmp_path / "set.toml").write_text("a")
    seen = {folders.folder_digest(tmp_path / "set.toml")}
    (tmp_path / "set.toml").write_text("ab")
    seen.add(folders.folder_digest(tmp_path / "set.toml"))
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.jpg.json").write_text("{}")
    seen.add(folders.folder_digest(tmp_path / "set.toml"))
    assert len(seen) == 3
