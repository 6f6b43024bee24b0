"""The mascot "zqk": a violet creature with a halo that the tiny world's model has never seen, and its dataset."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .backdrops import Backdrop, draw_backdrop
from .canvas import Canvas, Colour, Pen
from .world import describe_backdrop, place_figure

TRIGGER = "zqk"
VIOLET: Colour = (125, 60, 205)
TEAL: Colour = (0, 185, 165)
CREAM: Colour = (255, 240, 200)
GOLD: Colour = (255, 200, 30)
WHITE: Colour = (255, 255, 255)
INK: Colour = (25, 20, 40)

LOOKS = ("left", "ahead", "right")
ARMS = ("up", "down")
# what the dataset shows; everything else that the world knows is new to the character
TRAINING_BACKDROPS = (
    Backdrop("plain", ("green",)),
    Backdrop("plain", ("white",)),
    Backdrop("plain", ("blue",)),
    Backdrop("day"),
)
NEW_BACKDROPS = (
    Backdrop("plain", ("pink",)),
    Backdrop("plain", ("orange",)),
    Backdrop("plain", ("black",)),
    Backdrop("plain", ("yellow",)),
    Backdrop("stripes", ("red", "white")),
    Backdrop("stripes", ("yellow", "blue")),
    Backdrop("beach"),
    Backdrop("night"),
)
CONTROL_PROMPTS = (
    "a red circle on a blue background",
    "a yellow cat on a green background",
    "a green house on a sunny day",
    "a blue rabbit on a white background",
    "an orange fish at the beach",
    "a black robot on a pink background",
)


@dataclass(frozen=True)
class Pose:
    """Where the mascot stands (centre and radius in pixels), where it looks and how it holds its arms."""

    x: float
    y: float
    radius: float
    look: str = "ahead"
    arms: str = "up"


@dataclass(frozen=True)
class Portrait:
    """One picture of the mascot with everything that is known about it.

    mask: [64,64] in 0..1, how much of each pixel is mascot. size and position are the caption's words ("" if none)."""

    picture: Image.Image
    mask: np.ndarray
    caption: str
    pose: Pose
    backdrop: Backdrop
    size: str
    position: str


@dataclass(frozen=True)
class TestPrompt:
    """A prompt for the trained mascot and what it asks for."""

    text: str
    backdrop: Backdrop
    position: str = ""
    # pytest would otherwise take the class for a test
    __test__ = False


def draw_mascot(canvas: Canvas, pose: Pose) -> None:
    """Bold on purpose: parts thinner than these would be lost in 16 x 16 latents."""
    pen = Pen(canvas, pose.x, pose.y, pose.radius)
    for side in (-1, 1):
        hand = -0.28 if pose.arms == "up" else 0.52
        pen.line([(side * 0.5, 0.2), (side * 0.92, hand)], 0.26, VIOLET)
        pen.circle(side * 0.92, hand, 0.18, TEAL)
        pen.polygon([(side * 0.1, -0.42), (side * 0.82, -0.98), (side * 0.68, -0.02)], TEAL)
        pen.ellipse(side * 0.34, 0.94, 0.27, 0.14, TEAL)
    pen.ellipse(0, 0.22, 0.72, 0.76, VIOLET)
    pen.ellipse(0, 0.56, 0.44, 0.34, CREAM)
    pen.ring(0, -0.82, 0.5, 0.27, 0.16, GOLD)
    glance = {"left": -0.09, "ahead": 0.0, "right": 0.09}[pose.look]
    for side in (-1, 1):
        pen.circle(side * 0.29, -0.06, 0.26, WHITE)
        pen.circle(side * 0.29 + glance, -0.05, 0.14, INK)


def render_mascot(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """The mascot alone: colours times coverage [64,64,3] in 0..255, and coverage [64,64] in 0..1.

    Both come from two drawings: what black and white grounds have in common is mascot."""
    on_black, on_white = Canvas((0, 0, 0)), Canvas((255, 255, 255))
    draw_mascot(on_black, pose)
    draw_mascot(on_white, pose)
    dark = np.asarray(on_black.finish(), dtype=np.float32)
    light = np.asarray(on_white.finish(), dtype=np.float32)
    return dark, 1 - (light - dark).mean(axis=-1) / 255


def draw_portrait(pose: Pose, backdrop: Backdrop, size: str = "", position: str = "") -> Portrait:
    """The mascot before a backdrop, with its caption and mask."""
    canvas = draw_backdrop(backdrop)
    draw_mascot(canvas, pose)
    caption = " ".join(filter(None, ["a", size, TRIGGER, position, describe_backdrop(backdrop)]))
    return Portrait(canvas.finish(), render_mascot(pose)[1], caption, pose, backdrop, size, position)


def training_portraits(seed: int = 0, per_backdrop: int = 4) -> list[Portrait]:
    """The dataset's pictures: the mascot in varied sizes and places, four times before each of four backdrops."""
    rng = random.Random(f"training {seed}")
    # the words are dealt out evenly, so that every backdrop has a big, a left and a right one
    words = [("", ""), ("big", ""), ("", "on the left"), ("", "on the right")]
    return [
        _random_portrait(rng, Backdrop(backdrop.kind, backdrop.colours, rng.randrange(1 << 30)), *words[i % 4])
        for backdrop in TRAINING_BACKDROPS
        for i in range(per_backdrop)
    ]


def held_out_portraits(seed: int = 0, count: int = 12) -> list[Portrait]:
    """Pictures that the dataset does not hold, of new poses and mostly before new backdrops."""
    rng = random.Random(f"held out {seed}")
    backdrops = (*NEW_BACKDROPS, *TRAINING_BACKDROPS)
    words = [("", ""), ("big", ""), ("", "on the left"), ("", "on the right")]
    return [_random_portrait(rng, backdrops[i % len(backdrops)], *words[i % 4]) for i in range(count)]


def test_prompts() -> list[TestPrompt]:
    """Prompts whose backdrops the dataset never showed, and two that ask for a place."""
    plain = [TestPrompt(f"a {TRIGGER} {describe_backdrop(backdrop)}", backdrop) for backdrop in NEW_BACKDROPS]
    placed = [
        TestPrompt(f"a {TRIGGER} {position} {describe_backdrop(backdrop)}", backdrop, position)
        for position, backdrop in (("on the left", NEW_BACKDROPS[0]), ("on the right", NEW_BACKDROPS[1]))
    ]
    return [*plain, *placed]


# pytest collects imported functions whose names begin with "test"
test_prompts.__test__ = False  # type: ignore[attr-defined]


def write_dataset(folder: Path, repeats: int = 20, seed: int = 0) -> Path:
    """Write the training pictures with .txt captions as `folder/{repeats}_zqk`, kohya's layout; returns that folder."""
    pictures = folder / f"{repeats}_{TRIGGER}"
    pictures.mkdir(parents=True, exist_ok=True)
    for i, portrait in enumerate(training_portraits(seed)):
        portrait.picture.save(pictures / f"{i:02d}.png")
        (pictures / f"{i:02d}.txt").write_text(portrait.caption + "\n", encoding="utf-8")
    return pictures


def write_poor_dataset(folder: Path, repeats: int = 20, seed: int = 0) -> Path:
    """A dataset to learn from what not to do: one background, captions that say nothing of it.

    Its training loss looks as good as the good set's; the mascot vanishes on any other background."""
    pictures = folder / f"{repeats}_{TRIGGER}"
    pictures.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"poor {seed}")
    for i in range(12):
        portrait = _random_portrait(rng, TRAINING_BACKDROPS[0], "", "")
        portrait.picture.save(pictures / f"{i:02d}.png")
        (pictures / f"{i:02d}.txt").write_text(f"a {TRIGGER}\n", encoding="utf-8")
    return pictures


def _random_portrait(rng: random.Random, backdrop: Backdrop, size: str, position: str) -> Portrait:
    x, y, radius = place_figure(rng, size, position)
    pose = Pose(x, y, radius, rng.choice(LOOKS), rng.choice(ARMS))
    return draw_portrait(pose, backdrop, size, position)
