"""How much a picture shows the mascot, by drawing it: every size, look and arm position is tried at every place.

Nothing is learned, so the measure shares no trained model's blind spots; it works for what `character` can draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .canvas import SIZE
from .character import ARMS, LOOKS, Pose, render_mascot

RADII = tuple(float(r) for r in np.arange(12.0, 25.01, 1.0))
# colour errors (0..1) of the best fit: pictures of the mascot itself, and the base model's nearest other creatures
ERROR_OF_MASCOT = 0.105
ERROR_OF_OTHERS = 0.30


@dataclass(frozen=True)
class Fit:
    """The mascot that explains a picture best. error: root mean square colour error under its mask, 0..1."""

    pose: Pose
    error: float

    @property
    def likeness(self) -> float:
        """1 for a picture as good as a drawing of the mascot, 0 for any other creature."""
        return min(1.0, max(0.0, (ERROR_OF_OTHERS - self.error) / (ERROR_OF_OTHERS - ERROR_OF_MASCOT)))

    @property
    def mask(self) -> np.ndarray:
        """[64,64] in 0..1: where the fitted mascot covers the picture."""
        return render_mascot(self.pose)[1]


def fit_mascot(pictures: Sequence[Image.Image]) -> list[Fit]:
    """The best fit for each 64 x 64 picture; about 10 ms a picture on one core."""
    return [fit for start in range(0, len(pictures), 16) for fit in _fit_batch(pictures[start : start + 16])]


def likeness(pictures: Sequence[Image.Image]) -> float:
    """Mean likeness of the pictures to the mascot, 0..1."""
    return sum(fit.likeness for fit in fit_mascot(pictures)) / len(pictures)


@dataclass(frozen=True)
class _Bank:
    """Drawings around the centre, in the Fourier domain: poses K, colours [K,3,64,33], coverage [K,1,64,33]."""

    poses: list[Pose]
    colours: Tensor
    coverage: Tensor
    energy: Tensor  # [K], sum of coverage times squared colour
    area: Tensor  # [K]
    allowed: Tensor  # [K,64,64], the shifts that keep the drawing in the frame


def _fit_batch(pictures: Sequence[Image.Image]) -> list[Fit]:
    bank = _bank()
    pixels = torch.stack([torch.from_numpy(np.asarray(p.convert("RGB"), dtype=np.float32) / 255) for p in pictures])
    pixels = _blur(pixels.permute(0, 3, 1, 2))
    spectrum = torch.fft.rfft2(pixels)[:, None]  # [B,1,3,64,33]
    squares = torch.fft.rfft2(pixels.square().sum(dim=1))[:, None]  # [B,1,64,33]
    # sum of coverage (picture - colour)^2 over pixels, for every shift at once
    cross = (spectrum * bank.colours.conj()).sum(dim=2)
    error = torch.fft.irfft2(squares * bank.coverage.conj() - 2 * cross) + bank.energy[:, None, None]
    error = error / (3 * bank.area[:, None, None])
    error = error.masked_fill(~bank.allowed, math.inf).flatten(1)  # [B, K*64*64]
    best, where = error.min(dim=1)
    return [_fit(bank, int(i), float(e)) for i, e in zip(where, best)]


def _fit(bank: _Bank, index: int, square_error: float) -> Fit:
    template, shift = divmod(index, SIZE * SIZE)
    dy, dx = ((s + SIZE // 2) % SIZE - SIZE // 2 for s in divmod(shift, SIZE))
    drawn = bank.poses[template]
    pose = Pose(drawn.x + dx, drawn.y + dy, drawn.radius, drawn.look, drawn.arms)
    return Fit(pose, math.sqrt(max(0.0, square_error)))


@lru_cache(maxsize=1)
def _bank() -> _Bank:
    poses = [Pose(32, 32, radius, look, arms) for radius in RADII for look in LOOKS for arms in ARMS]
    drawings = [render_mascot(pose) for pose in poses]
    colours = torch.stack([torch.from_numpy(c).permute(2, 0, 1) / 255 for c, _ in drawings])
    coverage = torch.stack([torch.from_numpy(a) for _, a in drawings])[:, None]
    allowed = torch.stack([_shifts_inside(mask[0] > 0.5) for mask in coverage])
    colours, coverage = _blur(colours), _blur(coverage)
    energy = (colours.square() / coverage.clamp_min(1e-3)).sum(dim=(1, 2, 3))
    area = coverage.sum(dim=(1, 2, 3))
    return _Bank(poses, torch.fft.rfft2(colours), torch.fft.rfft2(coverage)[:, 0], energy, area, allowed)


def _shifts_inside(covered: Tensor, margin: int = 2) -> Tensor:
    rows, columns = covered.any(dim=1).nonzero().flatten(), covered.any(dim=0).nonzero().flatten()
    shifts = (torch.arange(SIZE) + SIZE // 2) % SIZE - SIZE // 2
    vertical = (shifts >= -rows[0] - margin) & (shifts <= SIZE - 1 - rows[-1] + margin)
    horizontal = (shifts >= -columns[0] - margin) & (shifts <= SIZE - 1 - columns[-1] + margin)
    return vertical[:, None] & horizontal[None, :]


def _blur(planes: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
