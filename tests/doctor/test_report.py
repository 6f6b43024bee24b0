"""The dataset report: every fault that is in a folder is found, and a tidy folder has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from trainer_core.cli import main
from trainer_core.config import DatasetConfig, TagEdit, TrainConfig
from trainer_core.data.buckets import cover
from trainer_core.doctor import measured as measured_module
from trainer_core.doctor.contradictions import agreement, disagree, opposed
from trainer_core.doctor.picture import drawn, with_crop
from trainer_core.doctor.report import examine
from trainer_core.doctor.tokens import estimated_tokens
from trainer_core.doctor.words import described, findings
from trainer_core.plan import make_plan
from trainer_core.settings import from_json


@pytest.fixture
def folder(tmp_path: Path, photo) -> Callable[..., Path]:
    """A dataset of photos: caption by name; None for no caption file."""

    def make(captions: dict[str, str | None], size: tuple[int, int] = (128, 96)) -> Path:
        for seed, (name, caption) in enumerate(captions.items()):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(seed, size).save(path)
            if caption is not None:
                path.with_suffix(".txt").write_text(caption)
        return tmp_path / "set"

    return make


def report_on(folder: Path, count_tokens=None, **settings):
    values = {"resolution": 96, "min_bucket_reso": 64, "bucket_reso_steps": 8, **settings}
    return examine(DatasetConfig(str(folder), **values), count_tokens).report


def test_a_tidy_folder_has_nothing_to_say(folder):
    tags = ["sitting, indoors, hat", "lying, outdoors", "running, grass, smile", "standing, street"]
    report = report_on(folder({f"{n}.png": tags[n] for n in range(4)}))
    assert findings(report) == []
    assert (report.pictures, report.visits) == (4, 4)


def test_steps_and_buckets_are_those_of_the_plan(folder):
    root = folder({"2_a/0.png": "x", "2_a/1.png": "y", "5_b/0.png": "z"})
    Image.new("RGB", (64, 160)).save(root / "5_b" / "tall.png")
    settings = {"resolution": 96, "min_bucket_reso": 64, "bucket_reso_steps": 32, "batch_size": 2}
    report = examine(DatasetConfig(str(root), **settings)).report
    values = {"dataset": {"folder": str(root), **settings}, "output_name": "x", "output_dir": "y"}
    plan = make_plan(from_json(TrainConfig, values))
    assert report.steps_per_epoch == plan.steps_per_epoch
    expected = {tuple(each["resolution"]): each["count"] for each in plan.bucket_info["buckets"].values()}
    assert {(each.width, each.height): each.visits for each in report.buckets} == expected


def test_copies_are_found_whatever_they_were_saved_as_and_count_with_their_repeats(folder, photo):
    root = folder({f"2_a/{n}.png": f"tag{n}, x, y" for n in range(3)} | {"6_b/0.png": "z"})
    photo(0).save(root / "6_b" / "again.jpg", quality=60)
    (group,) = report_on(root).look_alikes
    assert group.pictures == ("2_a/0.png", "6_b/again.jpg")
    assert (group.visits, group.share) == (8, 8 / 18)
    assert "look alike: 2_a/0.png, 6_b/again.jpg; together 8 visits, 44% of an epoch" in described(report_on(root))


def test_small_cut_and_blurred_pictures_are_noted(folder, photo):
    root = folder({f"{n}.png": "a" for n in range(3)})
    photo(10, (32, 24)).save(root / "small.png")
    photo(11, (600, 60)).save(root / "strip.png")
    photo(12, (256, 192)).filter(ImageFilter.GaussianBlur(4)).save(root / "soft.png")
    report = report_on(root)
    assert [each.picture for each in report.enlarged] == ["set/small.png"]
    assert report.enlarged[0].amount == 3.5  # 32×24 into the bucket 112×80
    assert [each.picture for each in report.cropped] == ["set/strip.png"]
    assert "set/soft.png" in [each.picture for each in report.blurred]
    assert "set/0.png" not in [each.picture for each in report.blurred]


def test_missing_and_empty_captions_are_told_apart(folder):
    root = folder({"1_cat/0.png": None, "1_cat/1.png": " \n", "1_cat/2.png": "cat", "1_cat/3.png": "a"})
    report = report_on(root)
    assert report.without_caption == ("1_cat/0.png",)
    assert report.empty_captions == ("1_cat/1.png",)


def test_long_captions_are_counted_by_the_given_tokenizer_or_about(folder):
    captions = {f"{n}.png": " ".join(["word"] * n) for n in (75, 76, 151, 226)}
    for count in (None, lambda caption: len(caption.split())):
        tokens = report_on(folder(captions), count).tokens
        assert tokens.is_estimated == (count is None)
        assert tokens.longest == 226
        assert tokens.over_75 == ("set/151.png", "set/226.png", "set/76.png")
        assert (tokens.over_150, tokens.over_225) == (("set/151.png", "set/226.png"), ("set/226.png",))


def test_tags_are_counted_as_training_sees_them(folder):
    root = folder({f"{n}.png": f"Blue eyes, {'hat, ' if n else ''}pose{n}, pose{n}" for n in range(5)})
    report = report_on(root, trigger_word="sks", tag_edits=(TagEdit("append", "extra"),))
    counts = {each.tag: each.pictures for each in report.tags}
    assert counts["sks"] == counts["extra"] == counts["Blue eyes"] == 5 and counts["pose1"] == 1
    assert set(report.on_every_picture) == {"extra", "Blue eyes"}, "and not the trigger word"
    (nearly,) = report.on_nearly_every_picture
    assert (nearly.tag, nearly.missing) == ("hat", ("set/0.png",))
    assert '"hat" is on 80% of the pictures, not on set/0.png' in described(report)


def test_a_name_that_only_some_pictures_have_is_said(folder):
    name = "shiroko (blue archive)"
    root = folder(
        {"2_sks/a.png": f"{name}, hat", "2_sks/b.png": f"{name}, smile", "2_sks/c.png": "tree", "2_sks/d.png": "grass"}
    )
    report = examine(DatasetConfig(str(root), resolution=64)).report
    (found,) = report.names_on_some_pictures
    assert (found.tag, found.pictures, found.missing) == (name, 2, ("2_sks/c.png", "2_sks/d.png"))
    assert f'the name "{name}" is on 50% of the pictures in 2_sks, not on 2_sks/c.png, 2_sks/d.png' in described(report)


def test_the_folder_s_own_name_is_a_name(folder):
    root = folder({"2_sks/a.png": "sks, hat", "2_sks/b.png": "sks, smile", "2_sks/c.png": "tree"})
    (found,) = examine(DatasetConfig(str(root), resolution=64)).report.names_on_some_pictures
    assert (found.tag, found.missing) == ("sks", ("2_sks/c.png",))


def test_unbalanced_concepts_are_named(folder):
    root = folder({f"10_a/{n}.png": "x" for n in range(4)} | {"1_b/0.png": "y"})
    report = report_on(root)
    assert report.unbalanced and [each.visits for each in report.concepts] == [40, 1]
    assert "10_a is 98% of an epoch and 1_b 2%" in described(report)


def test_pictures_that_look_alike_with_other_captions_contradict_each_other(folder, photo):
    root = folder({"0.png": "cat, blue eyes, hat, grass", "1.png": "dog, red eyes, hat, grass"})
    photo(0).save(root / "2.jpg", quality=70)
    (root / "2.txt").write_text("cat, green eyes, hat, grass")
    (found,) = report_on(root).contradictions
    assert (found.first, found.second) == ("set/0.png", "set/2.jpg")
    assert found.opposed == (("blue eyes", "green eyes"),)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("blue eyes, hat", "red eyes, hat", [("blue eyes", "red eyes")]),
        ("long_hair", "short hair", [("long_hair", "short hair")]),
        ("long hair", "blonde hair", []),
        ("blue eyes", "blue eyes, red eyes", []),
        ("1girl, solo", "2girls", [("1girl", "2girls")]),
        ("red hat", "red shoes", []),
        ("a cat on a mat", "a dog", []),
    ],
)
def test_what_excludes_each_other(first, second, found):
    assert opposed(first.split(", "), second.split(", ")) == found


def test_sentences_and_short_captions_are_not_held_against_each_other():
    assert not disagree(["a cat on a mat"], ["the cat, again"])
    assert agreement(["a", "b", "c", "d"], ["A", "b", "c"]) == 3 / 4
    assert disagree(["a", "b", "c"], ["x", "y", "c"])


def test_a_picture_that_cannot_be_read_is_a_warning(folder):
    root = folder({"0.png": "a", "1.png": "b"})
    (root / "1.png").write_bytes(b"no picture")
    report = report_on(root, bad_pictures="stop")
    assert report.pictures == 1 and any("1.png" in each for each in report.warnings)


def test_the_second_report_decodes_nothing_and_is_the_same(folder, monkeypatch):
    root = folder({f"{n}.png": "a" for n in range(3)})
    first = report_on(root)
    monkeypatch.setattr(measured_module, "measure", lambda *_: pytest.fail("measured again"))
    assert report_on(root) == first
    monkeypatch.undo()
    calls = []
    true_measure = measured_module.measure
    monkeypatch.setattr(measured_module, "measure", lambda *each: calls.append(each) or true_measure(*each))
    Image.new("RGB", (100, 100), "red").save(root / "1.png")
    report_on(root)
    assert [path.name for _, path in calls] == ["1.png"], "an edited picture alone is measured anew"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"layout": 1, "pictures": {"x": 1}}', '{"layout": 0}', "\0"])
def test_a_damaged_cache_is_made_anew(folder, content):
    root = folder({"0.png": "a"})
    first = report_on(root)
    (root / ".lazylora" / "measures.json").write_text(content)
    assert report_on(root) == first


# -- told and drawn ----------------------------------------------------------------------------------------------


def test_the_picture_shows_what_the_bucket_cuts_off():
    white = Image.new("RGB", (400, 200), "white")
    shown = np.asarray(with_crop(white, cover((400, 200), (96, 96)), 200))
    assert shown.shape == (100, 200, 3)
    assert (shown[50, 100] == 255).all() and (shown[50, 10] < 128).all() and (shown[50, 190] < 128).all()
    assert (shown[0, 100] == [0xE5, 0x48, 0x4D]).all()


def test_the_command_prints_writes_and_draws(folder, tmp_path, capsys):
    root = folder({"0.png": "a, b", "1.png": "a"})
    outputs = ["--json", str(tmp_path / "r.json"), "--picture", str(tmp_path / "r.png")]
    assert main(["report", str(root), "--resolution", "96", "--min_bucket_reso", "64", *outputs]) == 0
    assert "2 pictures, 2 per epoch" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["pictures"] == 2 and report["resolution"] == 96
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.width > 500 and picture.height > 300


def test_the_command_names_what_it_cannot_do(folder, tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["report", str(folder({"0.png": "a"})), "--picture", str(tmp_path / "x.what")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_every_name_can_be_drawn(folder):
    root = folder({"ж" * 60 + ".png": "тэг, " + "x" * 300})
    assert drawn(examine(DatasetConfig(str(root), resolution=96, min_bucket_reso=64))).height > 200


@pytest.mark.parametrize(("caption", "tokens"), [("", 0), ("a cat, sitting", 4), ("1girl 2024", 6), ("it's", 2)])
def test_tokens_are_estimated_as_clip_parts_text(caption, tokens):
    assert estimated_tokens(caption) == tokens
