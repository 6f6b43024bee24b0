"""Scanning dataset folders: the tidy ones, and every kind of mess that people have in theirs."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer_core.data.buckets import assign_buckets
from trainer_core.data.captions import training_caption
from trainer_core.data.examples import scan
from trainer_core.errors import ConfigError, DataError


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def by_name(dataset):
    return {example.name: example for example in dataset.examples}


def test_kohyas_repeat_folders(tmp_path, draw, configured):
    draw(tmp_path / "10_sks cat" / "a.PNG")
    draw(tmp_path / "10_sks cat" / "b.Jpg", seed=1)
    draw(tmp_path / "3_dog" / "a.webp", size=(30, 90))
    write(tmp_path / "10_sks cat" / "a.txt", "sks cat, Sitting,  sitting\n")
    write(tmp_path / "10_sks cat" / "b.TXT", "sks cat")
    write(tmp_path / "3_dog" / "a.caption", "a dog")
    dataset = scan(configured())
    assert dataset.warnings == ()
    examples = by_name(dataset)
    assert list(examples) == ["10_sks cat/a.PNG", "10_sks cat/b.Jpg", "3_dog/a.webp"]
    assert [each.repeats for each in dataset.examples] == [10, 10, 3]
    assert [each.class_tokens for each in dataset.examples] == ["sks cat", "sks cat", "dog"]
    assert [each.caption for each in dataset.examples] == ["sks cat, Sitting,  sitting", "sks cat", "a dog"]
    assert examples["3_dog/a.webp"].size == (30, 90)
    assert dataset.dirs() == {
        "10_sks cat": {"n_repeats": 10, "img_count": 2},
        "3_dog": {"n_repeats": 3, "img_count": 1},
    }
    assert dataset.tag_frequency() == {"10_sks cat": {"sks cat": 2, "sitting": 2}, "3_dog": {"a dog": 1}}


def test_a_flat_folder_is_one_repeat(tmp_path, draw, configured):
    draw(tmp_path / "a.png")
    write(tmp_path / "a.txt", "a cat")
    (example,) = scan(configured()).examples
    assert (example.repeats, example.class_tokens, example.caption) == (1, "", "a cat")


def test_a_messy_folder_trains_what_can_be_and_names_the_rest(tmp_path, draw, configured):
    """Every fault at once: each is said in one sentence that names the file and the cure."""
    cats = tmp_path / "10_cat"
    for seed, name in enumerate(
        ["good.png", "nocaption.png", "empty.jpg", "latin.png", "bom.png", "utf16.png", "lines.png", "twin.png"]
    ):
        draw(cats / name, seed=seed)
        write(cats / name.replace("png", "txt").replace("jpg", "txt"), "cat")
    draw(cats / "twin.jpg", seed=20)
    draw(tmp_path / "beside.png")
    draw(tmp_path / "notes" / "a.png")
    draw(tmp_path / "__MACOSX" / "10_cat" / "._good.png")
    draw(tmp_path / ".hidden" / "a.png")
    (tmp_path / "5_empty").mkdir()
    (cats / "nocaption.txt").unlink()
    write(cats / "empty.txt", " \n\n")
    write(cats / "latin.txt", "chat à la plage".encode("latin-1"))
    write(cats / "bom.txt", b"\xef\xbb\xbfcat with bom")
    write(cats / "utf16.txt", "cat in utf16".encode("utf-16"))
    write(cats / "lines.txt", "\n first line, cat \nsecond line\n")
    write(cats / "._good.png", b"\0")
    write(cats / ".DS_Store", b"\0")
    write(cats / "good.npz", b"\0")
    write(cats / "Thumbs.db", b"\0")
    write(cats / "truncated.jpg", (cats / "twin.jpg").read_bytes()[:300])
    write(cats / "zero.png", b"")
    write(cats / "text.png", b"this is text")
    write(cats / "camera.NEF", b"\0")
    os.symlink(cats / "loop.png", cats / "loop.png")
    os.symlink(tmp_path, cats / "7_around")

    dataset = scan(configured())
    captions = {name.removeprefix("10_cat/"): example.caption for name, example in by_name(dataset).items()}
    assert captions == {
        "good.png": "cat",
        "nocaption.png": "cat",
        "empty.jpg": "cat",
        "latin.png": "chat à la plage",
        "bom.png": "cat with bom",
        "utf16.png": "cat in utf16",
        "lines.png": "first line, cat",
        "twin.png": "cat",
        "twin.jpg": "cat",
    }
    for named_and_cured in [
        ("beside.png", "move them"),
        ("notes", "10_notes"),
        ("5_empty", "remove it"),
        ("nocaption.png with no caption file", '"cat"; write one'),
        ("empty.jpg with an empty caption file", '"cat"; write one'),
        ("latin.txt", "save as UTF-8"),
        ("lines.txt", "join them"),
        ("twin.jpg and twin.png share one caption", "rename one"),
        ("10_cat/truncated.jpg", "remove it"),
        ("10_cat/zero.png", "remove it"),
        ("10_cat/text.png", "remove it"),
        ("10_cat/loop.png", "remove it"),
        ("camera.NEF", "save as PNG"),
        ("7_around inside 10_cat", "move them up"),
    ]:
        said = [warning for warning in dataset.warnings if all(words in warning for words in named_and_cured)]
        assert len(said) == 1, (named_and_cured, dataset.warnings)
    assert len(dataset.warnings) == 14, dataset.warnings
    assert not any("\n" in warning for warning in dataset.warnings)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0"])
def test_stop_means_stop(tmp_path, draw, configured, content):
    draw(tmp_path / "a.png")
    write(tmp_path / "b.png", content)
    with pytest.raises(DataError, match=r"b\.png .*remove it"):
        scan(configured(bad_pictures="stop"))
    assert len(scan(configured()).examples) == 1


def test_when_no_picture_can_be_read_it_says_which_and_why(tmp_path, configured):
    write(tmp_path / "a.png", b"text")
    with pytest.raises(DataError, match=r"(?s)no picture in .* can be used.*a\.png cannot be read"):
        scan(configured())


def test_hundreds_of_bad_pictures_do_not_bury_the_rest(tmp_path, draw, configured):
    draw(tmp_path / "good.png")
    for i in range(200):
        write(tmp_path / f"{i:03}.png", b"text")
    warnings = scan(configured()).warnings
    assert len(warnings) < 15 and any("190 more" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "has no pictures.*put PNG, JPEG or WebP files into it"),
        (lambda folder: shutil.rmtree(folder), "does not exist; check the path"),
        (lambda folder: (folder / "cats").mkdir(), "10_cats, or choose one of them"),
        (lambda folder: write(folder / "IMG_1.dng", b"x"), "save IMG_1.dng as PNG"),
        (lambda folder: (folder / "10_cat").mkdir(), "10_cat has no pictures; put some into it"),
        (lambda folder: write(folder / "notes.txt", "x"), "has no pictures"),
    ],
)
def test_folders_without_pictures_name_the_cure(tmp_path, configured, make, message):
    folder = tmp_path / "set"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError, match=f"(?s){message}"):
        scan(configured(folder=str(folder)))


def test_a_file_or_nothing_in_place_of_the_folder(tmp_path, draw, configured):
    with pytest.raises(DataError, match="is a file; choose the folder that holds it"):
        scan(configured(folder=str(draw(tmp_path / "a.png"))))
    with pytest.raises(DataError, match="no dataset folder is given"):
        scan(configured(folder="  "))


def test_a_folder_that_may_not_be_opened(tmp_path, draw, configured, monkeypatch):
    draw(tmp_path / "a.png")

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError, match=r"cannot be opened \(Permission denied\); change its permissions"):
        scan(configured())


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_picture_that_may_not_be_read(tmp_path, draw, configured):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png").chmod(0)
    assert any("b.png may not be read" in warning for warning in scan(configured()).warnings)


def test_a_repeat_folder_chosen_by_itself_is_said(tmp_path, draw, configured):
    draw(tmp_path / "10_cat" / "a.png")
    dataset = scan(configured(folder=str(tmp_path / "10_cat")))
    assert [(each.repeats, each.caption) for each in dataset.examples] == [(1, "cat")]
    assert f"choose {tmp_path.name} instead" in dataset.warnings[0]


def test_a_year_in_front_of_a_folders_name_is_said(tmp_path, draw, configured):
    draw(tmp_path / "2024_summer" / "a.png")
    assert any("2024 times an epoch; rename the folder" in warning for warning in scan(configured()).warnings)


def test_names_in_every_script(tmp_path, draw, configured):
    decomposed, composed = "cafe\u0301", "caf\u00e9"
    for i, stem in enumerate(["猫 です", "😀", "שלום", "50% off", "a" * 200, "con", "semi;colon & more", decomposed]):
        draw(tmp_path / f"{stem}.png", seed=i)
        write(tmp_path / f"{composed if stem == decomposed else stem}.txt", f"caption {i}")
    dataset = scan(configured())
    assert dataset.warnings == ()
    assert {each.caption for each in dataset.examples} == {f"caption {i}" for i in range(8)}


def test_too_small_for_no_upscale(tmp_path, draw, configured):
    draw(tmp_path / "small.png", size=(100, 40))
    draw(tmp_path / "large.png", size=(300, 200))
    config = configured(bucket_no_upscale=True, resolution=128)
    dataset = scan(config)
    assert any("small.png: 100×40 would be trained at 100×40" in warning for warning in dataset.warnings)
    assert len(assign_buckets([each.size for each in dataset.examples], config)) == 1


def test_contradicting_buckets_are_found_before_anything_is_read(tmp_path, configured):
    with pytest.raises(ConfigError, match="swap them"):
        scan(configured(folder=str(tmp_path / "gone"), min_bucket_reso=1024, max_bucket_reso=512))


def test_the_fingerprint_is_of_what_is_trained(tmp_path, draw, configured):
    folder = tmp_path / "2_cat"
    draw(folder / "a.png", seed=1)
    draw(folder / "b.png", seed=2)
    write(folder / "a.txt", "one")

    def fingerprint():
        return scan(configured()).fingerprint()

    first = fingerprint()
    write(folder / "notes.md", "not read")
    write(folder / "a.txt", b"\xef\xbb\xbf one \r\n")
    (folder / "b.png").rename(folder / "c.png")
    assert fingerprint() == first, "names, other files and how a caption is saved do not matter"
    shutil.copytree(folder, tmp_path / "copy" / "2_cat")
    assert scan(configured(folder=str(tmp_path / "copy"))).fingerprint() == first, "nor where the folder lies"
    seen = {first}
    write(folder / "a.txt", "two")
    seen.add(fingerprint())
    draw(folder / "c.png", seed=3)
    seen.add(fingerprint())
    folder.rename(tmp_path / "3_cat")
    seen.add(fingerprint())
    assert len(seen) == 4


def test_scanning_twice_gives_the_same_in_the_same_order(tmp_path, draw, configured):
    for i in range(30):
        draw(tmp_path / f"{i}.png", seed=i)
    assert scan(configured()) == scan(configured())


def test_real_photos(photos, configured):
    dataset = scan(configured(folder=str(photos / "cat"), resolution=512))
    assert len(dataset.examples) >= 4
    assert all(min(each.size) > 300 for each in dataset.examples)
    assert len({each.digest for each in dataset.examples}) == len(dataset.examples)


def test_real_photos_with_faults(photos, configured, tmp_path):
    folder = tmp_path / "4_dog"
    shutil.copytree(photos / "dog", folder)
    (folder / "00.jpg").chmod(0o644)
    data = (folder / "01.jpg").read_bytes()
    write(folder / "half.jpg", data[: len(data) // 2])
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "02.jpg") as photo:
        wide = photo.crop((0, 0, photo.width, photo.height // 2))
        wide.save(folder / "turned.jpg", exif=exif)
    dataset = scan(configured(resolution=512))
    assert by_name(dataset)["4_dog/turned.jpg"].size == wide.size[::-1]
    assert any("half.jpg is damaged" in warning for warning in dataset.warnings)


def test_config_is_not_needed_to_build_examples(tmp_path, draw, configured):
    draw(tmp_path / "a.png")
    (example,) = scan(configured()).examples
    assert replace(example, caption="other").digest == example.digest
    assert np.array_equal(example.size, (96, 64))


def test_without_captions_the_trigger_word_is_all_there_is(tmp_path, draw, configured):
    for name in ("a", "b"):
        draw(tmp_path / "10_cat" / f"{name}.png")
    (tmp_path / "10_cat" / "a.txt").write_text("a cat, sitting")
    config = configured(captions="none", trigger_word="sks", shuffle_caption=True, caption_tag_dropout_rate=0.9)
    dataset = scan(config)
    assert [each.caption for each in dataset.examples] == ["", ""] and not dataset.warnings
    assert [training_caption(each, config, 0, 1) for each in dataset.examples] == ["sks", "sks"]
    assert training_caption(dataset.examples[0], configured(captions="none"), 0, 1) == ""
    (tmp_path / "10_cat" / "a.txt").write_text("another caption")
    assert scan(config).fingerprint() == dataset.fingerprint(), "captions that are not read make no other run"


def test_masks_and_regularisation_may_lie_inside_the_dataset_folder(tmp_path, draw, configured):
    draw(tmp_path / "10_cat" / "a.png")
    write(tmp_path / "10_cat" / "a.txt", "a cat")
    draw(tmp_path / "masks" / "a.png")
    draw(tmp_path / "reg" / "1_pet" / "b.png", seed=1)
    inside = {"masks_dir": str(tmp_path / "masks"), "reg_data_dir": str(tmp_path / "reg")}
    assert [warning for warning in scan(configured()).warnings if "is not trained" in warning]
    assert not scan(configured(**inside)).warnings
