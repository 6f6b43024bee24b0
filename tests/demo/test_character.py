import numpy as np

from trainer_core.demo import character
from trainer_core.demo.character import (
    CONTROL_PROMPTS,
    NEW_BACKDROPS,
    TRAINING_BACKDROPS,
    Pose,
    held_out_portraits,
    render_mascot,
    training_portraits,
    write_dataset,
    write_poor_dataset,
)


def test_dataset_is_a_kohya_folder_of_pictures_with_captions(tmp_path):
    folder = write_dataset(tmp_path)
    assert folder.name == "20_zqk"
    pictures, captions = sorted(folder.glob("*.png")), sorted(folder.glob("*.txt"))
    assert [p.stem for p in pictures] == [c.stem for c in captions]
    assert len(pictures) == 16
    assert all("zqk" in caption.read_text(encoding="utf-8").split() for caption in captions)


def test_dataset_is_the_same_every_time(tmp_path):
    first, second = write_dataset(tmp_path / "a"), write_dataset(tmp_path / "b")
    for picture in first.iterdir():
        assert picture.read_bytes() == (second / picture.name).read_bytes()


def test_poor_dataset_shows_one_background_and_does_not_say_so(tmp_path):
    folder = write_poor_dataset(tmp_path)
    assert {path.read_text(encoding="utf-8") for path in folder.glob("*.txt")} == {"a zqk\n"}


def test_held_out_pictures_are_not_in_the_dataset():
    seen = {portrait.picture.tobytes() for portrait in training_portraits()}
    assert not seen & {portrait.picture.tobytes() for portrait in held_out_portraits()}


def test_mask_covers_the_mascot_and_nothing_else():
    for portrait in held_out_portraits(count=4):
        colours, coverage = render_mascot(portrait.pose)
        picture = np.asarray(portrait.picture, dtype=np.float32)
        inside = coverage > 0.999
        assert np.abs(picture - colours)[inside].max() < 2
        assert 0.05 < portrait.mask.mean() < 0.6
        assert portrait.mask[:, 0].max() < 0.5 or portrait.pose.x < 20


def test_prompts_ask_for_what_the_dataset_never_showed():
    shown = {(backdrop.kind, backdrop.colours) for backdrop in TRAINING_BACKDROPS}
    asked = {(backdrop.kind, backdrop.colours) for backdrop in NEW_BACKDROPS}
    assert not shown & asked
    assert {"stripes", "beach", "night"} <= {kind for kind, _ in asked}
    assert all("zqk" in prompt.text for prompt in character.test_prompts())
    assert not any("zqk" in prompt for prompt in CONTROL_PROMPTS)


def test_poses_look_different():
    left, right = (render_mascot(Pose(32, 32, 20, look))[0] for look in ("left", "right"))
    up, down = (render_mascot(Pose(32, 32, 20, arms=arms))[1] for arms in ("up", "down"))
    assert np.abs(left - right).max() > 100
    assert np.abs(up - down).max() > 0.9
