import random

import pytest
from PIL import Image

from trainer_core.demo.backdrops import Backdrop
from trainer_core.demo.character import held_out_portraits
from trainer_core.demo.likeness import fit_mascot, likeness
from trainer_core.demo.world import Figure, Scene, draw_scene, random_scene


def test_fit_finds_where_the_mascot_stands():
    portraits = held_out_portraits()
    for portrait, fit in zip(portraits, fit_mascot([p.picture for p in portraits])):
        assert fit.pose.x == pytest.approx(portrait.pose.x, abs=1.5)
        assert fit.pose.y == pytest.approx(portrait.pose.y, abs=1.5)
        assert fit.pose.radius == pytest.approx(portrait.pose.radius, abs=2)
        assert ((fit.mask > 0.5) & (portrait.mask > 0.5)).sum() / (
            (fit.mask > 0.5) | (portrait.mask > 0.5)
        ).sum() > 0.75


def test_the_mascot_is_like_itself_and_other_pictures_are_not():
    assert likeness([p.picture for p in held_out_portraits()]) > 0.9
    rng = random.Random(3)
    assert likeness([draw_scene(random_scene(rng)) for _ in range(24)]) < 0.08
    creatures = [
        draw_scene(Scene((Figure(kind, "purple", 32, 32, 18),), Backdrop("plain", ("white",))))
        for kind in ("cat", "bear", "robot", "rabbit")
    ]
    assert likeness([*creatures, Image.new("RGB", (64, 64), "purple")]) < 0.1
