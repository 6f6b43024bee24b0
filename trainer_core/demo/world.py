"""The tiny world: scenes of coloured figures on backdrops, drawn and captioned; the same seed gives the same scene."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from .backdrops import SCENES, Backdrop, draw_backdrop
from .canvas import PALETTE, SIZE, Pen
from .figures import FIGURES, SHAPES, draw_figure

COLOURS = tuple(PALETTE)
RADII = {"small": (10.5, 11.5), "": (15.5, 17.0), "big": (21.0, 23.0)}
# pixels; what a caption leaves open blurs what the model can learn from it, and kinds are learned last
JITTER = 1.2
POSITIONS = {
    "": (32, 32),
    "on the left": (19, 32),
    "on the right": (45, 32),
    "at the top": (32, 19),
    "at the bottom": (32, 45),
}
SCENE_PHRASES = {"night": "at night", "day": "on a sunny day", "beach": "at the beach", "snow": "in the snow"}
SCENE_TAGS = {"night": "night", "day": "sunny day", "beach": "beach", "snow": "snow"}
# a figure that melts into the biggest surface of a landscape would teach colours wrongly
HIDDEN_IN_SCENE = {"night": ("black",), "day": ("green",), "beach": ("yellow",), "snow": ("white", "gray")}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Figure:
    """One thing in a scene: what it is, and where (centre and radius in pixels; size and position are the words)."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    size: str = ""
    position: str = ""


@dataclass(frozen=True)
class Scene:
    figures: tuple[Figure, ...]
    backdrop: Backdrop


def draw_scene(scene: Scene) -> Image.Image:
    """The scene as a 64 x 64 RGB picture."""
    canvas = draw_backdrop(scene.backdrop)
    for figure in scene.figures:
        draw_figure(figure.kind, Pen(canvas, figure.x, figure.y, figure.radius), PALETTE[figure.colour])
    return canvas.finish()


def random_scene(rng: random.Random) -> Scene:
    """A scene with one figure (four in five) or two, on a random backdrop."""
    backdrop = random_backdrop(rng)
    colours = [c for c in COLOURS if c not in _hidden_colours(backdrop)]
    if rng.random() < 0.2:
        return Scene(_random_pair(rng, colours), backdrop)
    return Scene((_random_figure(rng, colours),), backdrop)


def random_backdrop(rng: random.Random) -> Backdrop:
    """Half plain colours, an eighth stripes, the rest dots and landscapes."""
    dice = rng.random()
    seed = rng.randrange(1 << 30)
    if dice < 0.5:
        return Backdrop("plain", (rng.choice(COLOURS),), seed)
    if dice < 0.625:
        return Backdrop("stripes", tuple(rng.sample(COLOURS, 2)), seed)
    if dice < 0.69:
        return Backdrop("dots", tuple(rng.sample(COLOURS, 2)), seed)
    return Backdrop(rng.choice(SCENES), (), seed)


def place_figure(rng: random.Random, size: str, position: str) -> tuple[float, float, float]:
    """x, y, radius in pixels for a size word and a position word, jittered, always inside the frame."""
    radius = rng.uniform(*RADII[size])
    x, y = POSITIONS[position]
    return (*_inside(*_jittered(rng, x, y), radius), radius)


def describe(scene: Scene, rng: random.Random) -> str:
    """A caption of the scene in the world's grammar: "a big yellow star on the left on a purple background".

    Some captions are comma-separated tags; a few leave out a colour or the backdrop, and a few carry a nonsense
    word, so that the model learns to draw on when it meets a word it does not know."""
    as_tags = rng.random() < 0.3
    nonsense = _nonsense_word(rng) if len(scene.figures) == 1 and rng.random() < 0.1 else ""
    parts = [_describe_figure(f, rng, as_tags, nonsense) for f in scene.figures]
    where = "" if rng.random() < 0.05 else describe_backdrop(scene.backdrop, as_tags)
    if as_tags:
        return ", ".join(filter(None, [*parts, where]))
    return " ".join(filter(None, [" and ".join(parts), where]))


def describe_backdrop(backdrop: Backdrop, as_tag: bool = False) -> str:
    """The words for a backdrop: "on a red and white striped background", or "beach" as a tag."""
    if backdrop.kind in SCENES:
        return (SCENE_TAGS if as_tag else SCENE_PHRASES)[backdrop.kind]
    article = "" if as_tag else "on an " if backdrop.colours[0] == "orange" else "on a "
    if backdrop.kind == "plain":
        return f"{article}{backdrop.colours[0]} background"
    if backdrop.kind == "stripes":
        return f"{article}{backdrop.colours[0]} and {backdrop.colours[1]} striped background"
    return f"{article}{backdrop.colours[0]} background with {backdrop.colours[1]} dots"


def vocabulary() -> list[str]:
    """Every word (and the comma) that a caption can hold, nonsense words aside."""
    words = {"a", "an", "and", "with", "dots", "striped", "background", ","}
    words.update(COLOURS, FIGURES, filter(None, RADII))
    for phrase in (*POSITIONS, *SCENE_PHRASES.values(), *SCENE_TAGS.values()):
        words.update(phrase.split())
    return sorted(words)


def _describe_figure(figure: Figure, rng: random.Random, as_tags: bool, nonsense: str) -> str:
    colour = "" if rng.random() < 0.06 else figure.colour
    kind = figure.kind
    # half of the nonsense words stand in for the noun: what a trigger word will do in a dataset's captions
    if nonsense and rng.random() < 0.5:
        kind, nonsense = nonsense, ""
        colour = colour if rng.random() < 0.5 else ""
    noun = " ".join(filter(None, [figure.size, nonsense, colour, kind]))
    if as_tags:
        return ", ".join(filter(None, [noun, figure.position]))
    article = "an" if noun[0] in "aeiou" else "a"
    return " ".join(filter(None, [article, noun, figure.position]))


def _random_figure(rng: random.Random, colours: list[str]) -> Figure:
    size = rng.choices(("small", "", "big"), (1, 3, 1))[0]
    position = rng.choice(tuple(POSITIONS)) if size != "big" and rng.random() < 0.45 else ""
    return Figure(_random_kind(rng), rng.choice(colours), *place_figure(rng, size, position), size, position)


def _random_pair(rng: random.Random, colours: list[str]) -> tuple[Figure, Figure]:
    kinds = [_random_kind(rng), _random_kind(rng)]
    left, right = rng.sample(colours, 2)
    figures = []
    for kind, colour, x in zip(kinds, (left, right), (17, 47)):
        radius = rng.uniform(12.0, 13.5)
        x, y = _inside(*_jittered(rng, x, 32), radius)
        figures.append(Figure(kind, colour, x, y, radius))
    return figures[0], figures[1]


def _random_kind(rng: random.Random) -> str:
    # things have more parts to learn than shapes
    pool = SHAPES if rng.random() < 0.35 else tuple(k for k in FIGURES if k not in SHAPES)
    return rng.choice(pool)


def _hidden_colours(backdrop: Backdrop) -> tuple[str, ...]:
    return backdrop.colours or HIDDEN_IN_SCENE[backdrop.kind]


def _jittered(rng: random.Random, x: float, y: float) -> tuple[float, float]:
    return x + rng.uniform(-JITTER, JITTER), y + rng.uniform(-JITTER, JITTER)


def _inside(x: float, y: float, radius: float) -> tuple[float, float]:
    margin = min(radius * 1.08 + 0.5, SIZE / 2)
    return min(max(x, margin), SIZE - margin), min(max(y, margin), SIZE - margin)


def _nonsense_word(rng: random.Random) -> str:
    while True:
        word = "".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 5)))
        # the trigger word of the demo's character must stay unheard of
        if word not in FIGURES and word not in COLOURS and word != "zqk":
            return word
