import random

import numpy as np
import pytest
import torch

from trainer_core.demo.autoencoder import build_autoencoder, draw_pixels, psnr, to_pixels
from trainer_core.demo.doodles import draw_doodle
from trainer_core.demo.world import draw_scene, random_scene


def test_doodles_are_the_same_for_the_same_seed_and_differ_otherwise():
    first, again, other = (np.asarray(draw_doodle(random.Random(seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pixels_lie_in_minus_one_to_one():
    pixels = draw_pixels(random.Random(0), 5)
    assert pixels.shape == (5, 3, 64, 64)
    assert pixels.min() >= -1
    assert pixels.max() <= 1
    picture = draw_scene(random_scene(random.Random(3)))
    back = ((to_pixels([picture])[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.array_equal(back, np.asarray(picture))


def test_untrained_autoencoder_makes_small_quiet_latents():
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = build_autoencoder()
    pixels = draw_pixels(random.Random(0), 2)
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
    assert posterior.mean.shape == (2, 4, 16, 16)
    assert posterior.std.max() < 0.2
    assert psnr(vae, pixels) > 0
