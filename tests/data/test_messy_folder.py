"""One folder with every fault that a downloaded dataset can have: what is trained, and what is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.data.messy import BAD, BAD_CAPTIONS, FINE
from trainer_core.data.examples import Dataset, scan
from trainer_core.data.names import printable
from trainer_core.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such names and links need a POSIX file system")


@pytest.fixture
def good(tmp_path: Path, draw) -> Path:
    return draw(tmp_path / "good.png", size=(64, 64))


def said(dataset: Dataset, name: str) -> list[str]:
    return [each for each in dataset.warnings if printable(name) in each]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_a_bad_picture_is_named_and_left_out_or_stops_the_run(good, configured, name):
    reason, make = BAD[name]
    make(good.parent / name)
    dataset = scan(configured())
    assert [each.name for each in dataset.examples] == [f"{good.parent.name}/good.png"]
    (sentence,) = said(dataset, name)
    assert any(word in sentence for word in reason.split("|")) and sentence.isprintable()
    sentence.encode("utf-8")
    with pytest.raises(DataError, match=reason):
        scan(configured(bad_pictures="stop"))


@pytest.mark.parametrize("name", BAD_CAPTIONS)
def test_a_bad_caption_leaves_its_picture_out_or_stops_the_run(good, draw, configured, name):
    reason, make = BAD_CAPTIONS[name]
    draw(good.with_name(name).with_suffix(".png"), seed=1)
    make(good.with_name(name))
    dataset = scan(configured())
    assert [each.path.name for each in dataset.examples] == ["good.png"]
    (sentence,) = said(dataset, f"the caption {good.parent.name}/{name}") or said(dataset, f"{good.parent.name}/{name}")
    assert any(word in sentence for word in reason.split("|"))
    with pytest.raises(DataError, match=reason):
        scan(configured(bad_pictures="stop"))
    scan(configured(bad_pictures="stop", captions="none"))


def test_all_of_it_at_once(good, draw, configured):
    (good.parent / "10_cat").mkdir()
    good = good.rename(good.parent / "10_cat" / "good.png")
    for make in FINE.values():
        make(good)
    for name, (_, make) in BAD.items():
        make(good.parent / name)
    for name, (_, make) in BAD_CAPTIONS.items():
        draw(good.with_name(name).with_suffix(".png"), seed=1)
        make(good.with_name(name))
    os.symlink(good.parent.parent, good.parent / "round")
    dataset = scan(configured())
    assert {each.path.name for each in dataset.examples} == {"good.png", *FINE}
    left_out = [each for each in dataset.warnings if each.startswith("left out")]
    assert len(left_out) == 10 + 1 + len(BAD_CAPTIONS)  # ten are named, the others counted
    assert f"{len(BAD) - 10} more pictures" in left_out[10]


def test_a_file_that_may_not_be_read_is_reported_like_the_others(good, draw, configured, monkeypatch):
    locked = draw(good.with_name("locked.png"), seed=1)
    read_bytes = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    dataset = scan(configured())
    assert len(dataset.examples) == 1 and "change its permissions" in said(dataset, "locked.png")[0]
    with pytest.raises(DataError, match=r"locked\.png may not be read"):
        scan(configured(bad_pictures="stop"))


def test_folders_in_a_circle_are_read_once(tmp_path, draw, configured):
    draw(tmp_path / "set" / "a" / "b" / "one.png")
    os.symlink(tmp_path / "set", tmp_path / "set" / "a" / "round")
    os.symlink(tmp_path / "set" / "loop", tmp_path / "set" / "loop")
    dataset = scan(configured(folder=str(tmp_path / "set")))
    assert [each.folder for each in dataset.examples] == ["a/b"]
    assert any("round is a link to a folder that is read already" in each for each in dataset.warnings)


def test_a_folder_whose_name_is_no_utf8_can_be_written_into_metadata(tmp_path, draw, configured):
    folder = tmp_path / os.fsdecode(b"3_\xe9t\xe9")
    draw(folder / "a.png")
    (example,) = scan(configured()).examples
    for text in (example.folder, example.caption, example.class_tokens, example.name):
        text.encode("utf-8")
