import numpy as np
import pytest
from PIL import Image

from trainer_core.demo.backdrops import SCENES, Backdrop, draw_backdrop
from trainer_core.demo.character import Pose, draw_portrait, held_out_portraits
from trainer_core.demo.likeness import Fit
from trainer_core.demo.obedience import backdrop_obedience, position_obedience

BACKDROPS = [
    Backdrop("plain", ("pink",)),
    Backdrop("stripes", ("red", "white")),
    Backdrop("dots", ("blue", "yellow")),
    *(Backdrop(kind) for kind in SCENES),
]


@pytest.mark.parametrize("asked", BACKDROPS)
@pytest.mark.parametrize("drawn", BACKDROPS)
def test_only_the_asked_backdrop_obeys(asked, drawn):
    portrait = draw_portrait(Pose(30, 34, 17), Backdrop(drawn.kind, drawn.colours, seed=7))
    score = backdrop_obedience(portrait.picture, asked, portrait.mask)
    if asked == drawn:
        assert score > 0.8
    else:
        assert score < 0.45


def test_stripes_must_stand_upright():
    asked = Backdrop("stripes", ("red", "white"))
    upright = draw_backdrop(asked).finish()
    nothing = np.zeros((64, 64))
    assert backdrop_obedience(upright, asked, nothing) > 0.95
    assert backdrop_obedience(upright.transpose(Image.Transpose.ROTATE_90), asked, nothing) < 0.1


def test_obedience_ignores_what_is_under_the_mask():
    for portrait in held_out_portraits():
        assert backdrop_obedience(portrait.picture, portrait.backdrop, portrait.mask) > 0.8


@pytest.mark.parametrize(
    ("x", "y", "place"), [(18, 33, "on the left"), (45, 30, "on the right"), (32, 18, "at the top"), (31, 33, "")]
)
def test_position_follows_the_fitted_place(x, y, place):
    assert position_obedience(Fit(Pose(x, y, 15), 0.1), place)
    assert not position_obedience(Fit(Pose(64 - x, 64 - y, 15), 0.1), place or "at the top")
