"""Masks: found by name, cut as their picture is, and averaged to the size of the latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trainer_core.data.batches import Batch
from trainer_core.data.buckets import assign_buckets
from trainer_core.data.cache import with_mirrored
from trainer_core.data.dataset import read_dataset
from trainer_core.data.masks import Masks
from trainer_core.data.pictures import decode_opacity, fit_to_bucket, read_picture, to_tensor
from trainer_core.errors import DataError


def latent_size(bucket):
    return bucket[1] // 8, bucket[0] // 8


def built(config, sizes=latent_size):
    dataset = read_dataset(config)
    placements = assign_buckets([each.size for each in dataset.examples], config)
    masks = Masks(dataset.examples, placements, config)
    events = list(masks.fill(sizes))
    return masks, dataset, placements, events


def batch_of(placements, *indices, mirrored=()):
    return Batch(placements[indices[0]].bucket, indices, (0,) * len(indices), mirrored)


def half_white(path, size):
    """White on the left half, black on the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, "black")
    image.paste("white", (0, 0, size[0] // 2, size[1]))
    image.save(path)


def test_nothing_is_masked_by_default(configured, draw, tmp_path):
    draw(tmp_path / "a.png", (64, 64))
    masks, _, placements, events = built(configured())
    assert not masks.is_used and not events and masks.get(batch_of(placements, 0)) is None


def test_a_mask_is_cut_and_averaged_as_its_picture(configured, tmp_path):
    """A picture that is its own mask: what the cache makes of it is the mean of each 8×8 of the fitted picture."""
    dice = np.random.default_rng(0)
    image = Image.fromarray(dice.integers(0, 255, (100, 150), dtype=np.uint8)).convert("RGB")
    (tmp_path / "img").mkdir()
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "img" / "a.png")
    image.save(tmp_path / "masks" / "a.bmp")
    config = configured(folder=str(tmp_path / "img"), masks_dir=str(tmp_path / "masks"), bucket_reso_steps=8)
    masks, dataset, placements, events = built(config)
    assert placements[0].bucket != (64, 64) and placements[0].crop != (0, 0), "there is something to cut"
    fitted = (to_tensor(fit_to_bucket(read_picture(dataset.examples[0].path), placements[0]))[0] + 1) / 2
    height, width = latent_size(placements[0].bucket)
    expected = fitted.numpy().reshape(height, 8, width, 8).mean((1, 3))
    found = masks.get(batch_of(placements, 0))
    assert found is not None and found.shape == (1, 1, height, width)
    assert found[0, 0].numpy() == pytest.approx(expected, abs=1e-6)
    assert [(event.what, event.done, event.total) for event in events] == [("masks", 1, 1)]


def test_masks_lie_beside_or_in_folders_and_those_without_count_whole(configured, draw, tmp_path):
    for name in ("10_cat/a", "10_cat/b", "2_dog/a", "2_dog/c"):
        draw(tmp_path / "img" / f"{name}.png", (64, 64), seed=hash(name) % 7)
    half_white(tmp_path / "masks" / "10_cat" / "a.png", (64, 64))
    half_white(tmp_path / "masks" / "c.jpg", (32, 32))  # another size, the same shape
    masks, dataset, placements, _ = built(
        configured(folder=str(tmp_path / "img"), masks_dir=str(tmp_path / "masks"), batch_size=4)
    )
    assert [each.mask and each.mask.name for each in dataset.examples] == ["a.png", None, None, "c.jpg"]
    assert [warning for warning in dataset.warnings if "10_cat/b.png and 1 more without a mask" in warning]
    found = masks.get(batch_of(placements, 0, 1, 2, 3))
    assert found is not None
    assert found.mean((1, 2, 3)).tolist() == pytest.approx([0.5, 1, 1, 0.5], abs=0.02)
    assert found[0, 0, :, :4].eq(1).all() and found[0, 0, :, 4:].eq(0).all()


def test_transparency_is_a_mask_where_asked_and_a_file_wins_over_it(configured, tmp_path):
    folder = tmp_path / "img"
    folder.mkdir()
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:32] = 255
    for name in "ab":
        Image.fromarray(np.dstack([np.full((64, 64, 3), 90, np.uint8), alpha])).save(folder / f"{name}.png")
    Image.new("RGB", (64, 64), "red").save(folder / "c.png")
    half_white(tmp_path / "masks" / "b.png", (64, 64))
    masks, _, placements, _ = built(configured(folder=str(folder), alpha_mask=True, masks_dir=str(tmp_path / "masks")))
    found = masks.get(batch_of(placements, 0, 1, 2))
    assert found is not None
    assert found[0, 0, :4].eq(1).all() and found[0, 0, 4:].eq(0).all()
    assert found[1, 0, :, :4].eq(1).all() and found[1, 0, :, 4:].eq(0).all()
    assert found[2].eq(1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_every_kind_of_transparency_is_read(tmp_path, mode):
    """Left half opaque, right half clear; for a palette, one colour stands for clear."""
    path, image = tmp_path / "a.png", Image.new(mode, (8, 8))
    if mode == "P":
        image.putpalette([255, 0, 0, 0, 255, 0])
        image.putdata([0, 0, 0, 0, 1, 1, 1, 1] * 8)
        image.save(path, transparency=1)
    else:
        alpha = Image.new("L", (8, 8))
        alpha.paste(255, (0, 0, 4, 8))
        image.putalpha(alpha)
        image.save(path)
    found = decode_opacity(path.read_bytes(), path)
    assert found is not None and np.asarray(found)[..., 0].tolist() == [[255] * 4 + [0] * 4] * 8


def test_a_picture_without_transparency_is_not_decoded(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", lambda self: pytest.fail("decoded"))
    assert decode_opacity((tmp_path / "a.jpg").read_bytes(), tmp_path / "a.jpg") is None


def test_masks_are_mirrored_with_their_pictures(configured, draw, tmp_path):
    draw(tmp_path / "img" / "a.png", (64, 64))
    half_white(tmp_path / "masks" / "a.png", (64, 64))
    masks, _, placements, _ = built(
        configured(folder=str(tmp_path / "img"), masks_dir=str(tmp_path / "masks"), flip_aug=True)
    )
    found = masks.get(batch_of(placements, 0, 0, mirrored=(False, True)))
    assert found is not None and torch.equal(found[1], found[0].flip(-1)) and not torch.equal(found[0], found[1])


def test_masks_change_the_run_and_their_names_do_not(configured, draw, tmp_path):
    draw(tmp_path / "img" / "a.png", (64, 64))
    half_white(tmp_path / "masks" / "a.png", (64, 64))
    half_white(tmp_path / "same" / "a.png", (64, 64))
    Image.new("RGB", (64, 64), "white").save(tmp_path / "img" / "a.mask.bmp")
    (tmp_path / "img" / "a.mask.bmp").rename(tmp_path / "same" / "other.bmp")
    plain, masked, same = (
        read_dataset(configured(folder=str(tmp_path / "img"), masks_dir=where)).fingerprint()
        for where in ("", str(tmp_path / "masks"), str(tmp_path / "same"))
    )
    assert masked == same != plain


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda masks: None, "is no folder"),
        (lambda masks: half_white(masks / "other.png", (64, 64)), "no mask for any picture"),
        (lambda masks: half_white(masks / "a.png", (64, 48)), "64×48 and its picture 64×64; give it"),
        (lambda masks: (masks.mkdir(), (masks / "a.png").write_bytes(b"no picture")), "cannot be read as a picture"),
    ],
)
def test_wrong_masks_are_one_sentence(configured, draw, tmp_path, prepare, words):
    draw(tmp_path / "img" / "a.png", (64, 64))
    prepare(tmp_path / "masks")
    with pytest.raises(DataError, match=words):
        read_dataset(configured(folder=str(tmp_path / "img"), masks_dir=str(tmp_path / "masks")))


def test_a_mask_that_changes_under_way_is_noticed(configured, draw, tmp_path):
    draw(tmp_path / "img" / "a.png", (64, 64))
    half_white(tmp_path / "masks" / "a.png", (64, 64))
    config = configured(folder=str(tmp_path / "img"), masks_dir=str(tmp_path / "masks"))
    dataset = read_dataset(config)
    masks = Masks(dataset.examples, assign_buckets([(64, 64)], config), config)
    Image.new("RGB", (64, 64)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=r"masks/a\.png was changed"):
        list(masks.fill(latent_size))


def test_mirrored_pictures_stand_behind_the_others(configured, draw, tmp_path):
    draw(tmp_path / "a.png", (64, 64))
    dataset = read_dataset(configured())
    placements = assign_buckets([(64, 64)], configured())
    examples, placed = with_mirrored(dataset.examples, placements)
    assert len(examples) == 2 and [each.mirrored for each in placed] == [False, True]
