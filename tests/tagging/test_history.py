"""Caption files: written only as asked, and taken back byte for byte, also by another process later."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trainer_core.config import DatasetConfig
from trainer_core.data.examples import scan
from trainer_core.errors import DataError
from trainer_core.tagging.history import CaptionHistory, written_caption


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.suffix in (".txt", ".caption", ".TXT")}


def root_of(dataset) -> Path:
    return dataset.examples[0].path.parent


def test_captions_are_written_and_taken_back_by_another_history(dataset):
    found = dataset(["a cat", None, "a dog"])
    before = files(root_of(found))
    changed = CaptionHistory(root_of(found)).write(dict(zip(found.examples, ["x", "y", "a dog"])), "test")
    assert changed == 2, "the third says so already"
    assert files(root_of(found)) == {"00.txt": b"x", "01.txt": b"y", "02.txt": b"a dog"}
    undone = CaptionHistory(root_of(found)).undo()
    assert (undone.what, undone.files, undone.left_alone) == ("test", 2, ())
    assert files(root_of(found)) == before
    assert CaptionHistory(root_of(found)).undo() is None


def test_changes_are_undone_newest_first(dataset):
    found = dataset(["one"])
    history = CaptionHistory(root_of(found))
    for text in ("two", "three"):
        history.write({found.examples[0]: text}, f"to {text}")
    assert [each.what for each in history.entries()] == ["to two", "to three"]
    history.undo()
    assert files(root_of(found)) == {"00.txt": b"two"}
    history.undo()
    assert files(root_of(found)) == {"00.txt": b"one"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xef\xbb\xbfa cat\r\nsecond line\r\n", b"new\r\nsecond line\r\n"),
        (b"\n\n  a cat \nrest", b"\n\nnew\nrest"),
        ("ein Kätzchen".encode("latin-1"), b"new"),
        ("кот\nкошка".encode("utf-16"), "new\nкошка".encode()),
        (b"", b"new"),
    ],
)
def test_only_the_line_that_training_reads_changes_and_every_byte_comes_back(dataset, before, after):
    found = dataset(["x"])
    (root_of(found) / "00.txt").write_bytes(before)
    history = CaptionHistory(root_of(found))
    history.write({found.examples[0]: "new"}, "test")
    assert files(root_of(found)) == {"00.txt": after}
    history.undo()
    assert files(root_of(found)) == {"00.txt": before}


def test_what_somebody_changed_since_is_left_alone(dataset):
    found = dataset(["a", "b"])
    history = CaptionHistory(root_of(found))
    history.write(dict.fromkeys(found.examples, "c"), "test")
    (root_of(found) / "00.txt").write_text("by hand")
    assert history.undo().left_alone == ("00.txt",)
    assert files(root_of(found)) == {"00.txt": b"by hand", "01.txt": b"b"}


def test_a_change_that_was_cut_off_is_undone(dataset, monkeypatch):
    found = dataset(["a", "b", "c"])
    history = CaptionHistory(root_of(found))
    replace, calls = os.replace, []

    def dies_at_the_third(source, target):
        calls.append(target)
        if len(calls) == 3:  # the history's own file, one caption, and no more
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        history.write(dict.fromkeys(found.examples, "new"), "test")
    monkeypatch.undo()
    assert sorted(files(root_of(found)).values()) == [b"b", b"c", b"new"]
    assert CaptionHistory(root_of(found)).undo().files == 1
    assert files(root_of(found)) == {"00.txt": b"a", "01.txt": b"b", "02.txt": b"c"}


@pytest.mark.parametrize(
    "name",
    [
        *("../victim.txt", "/tmp/victim.txt", "00.png", "..\\victim.txt", "link/victim.txt"),
        *("half a letter \ud800.txt", "nul \0.txt"),
    ],
    ids=ascii,
)
def test_a_history_that_came_with_a_dataset_reaches_no_other_file(dataset, tmp_path, name):
    found = dataset(["a"])
    root = root_of(found)
    (tmp_path / "victim.txt").write_text("mine")
    (root / "link").symlink_to(tmp_path)
    history = CaptionHistory(root)
    history.write({found.examples[0]: "b"}, "test")
    entry = root / ".lazylora" / "captions" / "000001.json"
    entry.write_text(json.dumps({"what": "", "when": 0, "files": {name: {"before": "evil", "after": "mine"}}}))
    with pytest.raises(DataError, match="no caption of this dataset"):
        history.undo()
    assert (tmp_path / "victim.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"what": 1, "when": 0, "files": {"a.txt": {"before": 1, "after": ""}}}']
)
def test_a_damaged_history_is_named(dataset, content):
    found = dataset(["a"])
    folder = root_of(found) / ".lazylora" / "captions"
    folder.mkdir(parents=True)
    (folder / "000001.json").write_text(content)
    with pytest.raises(DataError, match=r"000001\.json is damaged"):
        CaptionHistory(root_of(found)).undo()


def test_captions_behind_a_link_out_of_the_folder_are_refused(dataset, tmp_path):
    inside = dataset(["a"], "elsewhere")
    root = tmp_path / "set"
    root.mkdir()
    (root / "1_cat").symlink_to(root_of(inside))
    found = scan(DatasetConfig(str(root), resolution=64))
    with pytest.raises(DataError, match="lies outside"):
        CaptionHistory(root).write({found.examples[0]: "b"}, "test")
    assert files(root_of(inside)) == {"00.txt": b"a"}


def test_a_folder_s_name_is_no_written_caption(dataset):
    found = dataset([None, "", "text"], "set/1_cat")
    found = scan(DatasetConfig(str(found.examples[0].path.parents[1]), resolution=64))
    assert [each.caption for each in found.examples] == ["cat", "cat", "text"]
    assert [written_caption(each) for each in found.examples] == ["", "", "text"]


def test_training_never_sees_the_history(dataset):
    found = dataset(["a"])
    CaptionHistory(root_of(found)).write({found.examples[0]: "b"}, "test")
    again = scan(DatasetConfig(str(root_of(found)), resolution=64))
    assert again.warnings == () and len(again.examples) == 1
