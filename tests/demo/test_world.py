import random

import numpy as np
import pytest

from trainer_core.demo.backdrops import SCENES, Backdrop, draw_backdrop
from trainer_core.demo.canvas import PALETTE
from trainer_core.demo.figures import FIGURES
from trainer_core.demo.world import Figure, Scene, describe, draw_scene, random_scene, vocabulary


def pixels(scene: Scene) -> np.ndarray:
    return np.asarray(draw_scene(scene))


def test_same_seed_draws_the_same_scene_and_caption():
    first, second = random.Random(5), random.Random(5)
    a, b = random_scene(first), random_scene(second)
    assert a == b
    assert np.array_equal(pixels(a), pixels(b))
    assert describe(a, first) == describe(b, second)


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_shows_its_colour_and_stays_in_the_frame(kind):
    scene = Scene((Figure(kind, "red", 32, 32, 24),), Backdrop("plain", ("blue",)))
    picture = pixels(scene)
    assert (np.abs(picture.astype(int) - PALETTE["red"]).sum(-1) < 30).mean() > 0.08
    frame = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (frame == PALETTE["blue"]).all()


def test_figures_differ_from_each_other_in_shape():
    masks = {
        kind: (pixels(Scene((Figure(kind, "red", 32, 32, 24),), Backdrop("plain", ("blue",)))) != PALETTE["blue"]).any(
            -1
        )
        for kind in FIGURES
    }
    for kind, mask in masks.items():
        others = [((mask & m).sum() / (mask | m).sum()) for name, m in masks.items() if name != kind]
        assert max(others) < 0.93, kind


@pytest.mark.parametrize("kind", SCENES)
def test_landscapes_fill_the_canvas_and_depend_on_the_seed_only_in_details(kind):
    a, b = (np.asarray(draw_backdrop(Backdrop(kind, seed=seed)).finish(), dtype=float) for seed in (1, 2))
    assert a.shape == (64, 64, 3)
    assert (np.abs(a - b).max(-1) > 40).mean() < 0.25


def test_captions_speak_the_vocabulary_or_one_nonsense_word():
    rng = random.Random(0)
    known = set(vocabulary())
    unknown_words = 0
    for _ in range(2000):
        words = describe(random_scene(rng), rng).replace(",", " ,").split()
        strangers = [word for word in words if word not in known]
        assert len(strangers) <= 1
        assert "zqk" not in words
        unknown_words += len(strangers)
    assert 80 < unknown_words < 320


def test_caption_names_what_is_drawn():
    scene = Scene(
        (Figure("star", "orange", 19, 32, 12, "small", "on the left"),), Backdrop("stripes", ("red", "white"))
    )
    captions = {describe(scene, random.Random(seed)) for seed in range(50)}
    assert "a small orange star on the left on a red and white striped background" in captions
    assert "small orange star, on the left, red and white striped background" in captions
