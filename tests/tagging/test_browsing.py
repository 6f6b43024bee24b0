"""Looking through a dataset: what is seen is what the files say, and each edit can be taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from trainer_core.config import DatasetConfig
from trainer_core.data.examples import scan
from trainer_core.errors import DataError
from trainer_core.tagging.browsing import BrowsedDataset, OutOfDate


@pytest.fixture
def browse(dataset):
    """A browser of pictures with these captions, None for no caption file."""

    def opened(captions, **settings) -> BrowsedDataset:
        folder = dataset(captions).examples[0].path.parent
        config = DatasetConfig(str(folder), resolution=64, **settings)
        return BrowsedDataset(config, scan(config).examples)

    return opened


def captions(browsed: BrowsedDataset) -> list[str]:
    return [each.caption for each in browsed.pictures()]


def files(browsed: BrowsedDataset) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in browsed.folder.glob("*.txt")}


def take_back(browsed: BrowsedDataset) -> str:
    return browsed.undo(browsed.newest_change().number).what


def test_pictures_are_listed_with_what_their_files_say(browse):
    browsed = browse(["cat, hat", None, ""], trigger_word="zwx")
    assert captions(browsed) == ["cat, hat", "", ""]
    assert [each.name for each in browsed.pictures()] == ["cats/00.png", "cats/01.png", "cats/02.png"]
    assert browsed.newest_change() is None


def test_a_caption_file_wins_over_what_a_downloader_left(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.json").write_text('{"tags": "1girl long_hair"}')
    config = DatasetConfig(str(tmp_path), resolution=64)
    browsed = BrowsedDataset(config, scan(config).examples)
    assert captions(browsed) == ["1girl, long hair"]
    (tmp_path / "a.txt").write_text("by hand")
    assert captions(browsed) == ["by hand"]


def test_keys_stay_when_a_picture_is_added(browse):
    before = browse(["a", "b"]).pictures()
    after = browse(["a", "b", "c"]).pictures()
    assert [each.key for each in after][:2] == [each.key for each in before]


def test_a_tag_is_removed_everywhere_and_comes_back(browse):
    browsed = browse(["cat, Hat,  tree", "hat", "untouched,spacing", None])
    before = files(browsed)
    assert browsed.remove_tag(" hat ") == 2
    assert captions(browsed) == ["cat, tree", "", "untouched,spacing", ""]
    assert take_back(browsed) == "removed hat"
    assert files(browsed) == before


def test_part_of_a_tag_is_another_tag(browse):
    browsed = browse(["cat, red hat"])
    assert browsed.remove_tag("hat") == 0
    assert browsed.newest_change() is None


def test_a_caption_is_edited_in_its_file_or_in_a_new_one_that_undo_removes(browse):
    browsed = browse(["cat\nsecond line", None])
    first, second = browsed.pictures()
    browsed.write_caption(first.key, "cat", " dog, hat\n")
    browsed.write_caption(second.key, "", "bird")
    assert files(browsed) == {"00.txt": b"dog, hat\nsecond line", "01.txt": b"bird"}
    assert [take_back(browsed), take_back(browsed)] == ["the caption of cats/01.png", "the caption of cats/00.png"]
    assert files(browsed) == {"00.txt": b"cat\nsecond line"}
    assert captions(browsed) == ["cat", ""]


def test_what_a_downloader_left_is_seen_and_an_edit_is_written_beside_it(browse):
    browsed = browse([None])
    (browsed.folder / "00.png.txt").write_text("blue_eyes\nhat")
    browsed = BrowsedDataset(DatasetConfig(str(browsed.folder)), scan(DatasetConfig(str(browsed.folder))).examples)
    assert captions(browsed) == ["blue eyes, hat"]
    assert browsed.remove_tag("hat") == 1
    assert files(browsed) == {"00.png.txt": b"blue_eyes\nhat", "00.txt": b"blue eyes"}
    assert captions(browsed) == ["blue eyes"]
    take_back(browsed)
    assert captions(browsed) == ["blue eyes, hat"]


def test_an_edit_of_what_was_not_seen_is_refused(browse):
    browsed = browse(["cat"])
    (picture,) = browsed.pictures()
    (browsed.folder / "00.txt").write_text("somebody else's words")
    with pytest.raises(OutOfDate, match=r"cats/00\.png was changed meanwhile"):
        browsed.write_caption(picture.key, "cat", "dog")
    assert captions(browsed) == ["somebody else's words"]


def test_only_the_change_that_was_seen_is_undone(browse):
    browsed = browse(["cat, hat"])
    browsed.remove_tag("hat")
    seen = browsed.newest_change().number
    browsed.remove_tag("cat")
    with pytest.raises(OutOfDate):
        browsed.undo(seen)
    assert captions(browsed) == [""]


@pytest.mark.parametrize("caption", ["half a letter \ud83d", "x" * 20_001])
def test_what_is_no_caption_is_refused(browse, caption):
    browsed = browse(["cat"])
    with pytest.raises(DataError, match="shorten"):
        browsed.write_caption(browsed.pictures()[0].key, "cat", caption)


@pytest.mark.parametrize("tag", ["", " , ", "a, b", "\ud83d"])
def test_what_is_not_one_tag_is_refused(browse, tag):
    with pytest.raises(DataError, match="one tag"):
        browse(["a, b"]).remove_tag(tag)


def test_a_name_is_no_key(browse):
    browsed = browse(["cat"])
    for name in ("cats/00.png", "../00.png", str(Path(browsed.folder, "00.png"))):
        with pytest.raises(OutOfDate):
            browsed.thumbnail(name, 32)


def test_a_thumbnail_is_small(browse):
    browsed = browse(["cat"])
    assert browsed.thumbnail(browsed.pictures()[0].key, 32).size == (32, 24)
