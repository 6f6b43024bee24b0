"""How a tagger's guesses become a caption: kohya's option names."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting

MODES = ("overwrite", "append", "prepend", "keep")
PLACES = ("none", "first", "last")


@dataclass(frozen=True)
class TaggerConfig:
    """How a tagger's guesses become a caption."""

    general_threshold: float = setting(
        0.35, help="How sure the tagger must be of a general tag; above 1 writes none.", ge=0, le=2
    )
    character_threshold: float = setting(
        0.85,
        help="The same for characters' names; kohya has 0.35, which finds more, and wrong ones.",
        ge=0,
        le=2,
    )
    copyright_threshold: float = setting(0.35, help="The same for series, where the model knows them.", ge=0, le=2)
    artist_threshold: float = setting(
        0.35, help="The same for artists, where the model knows them.", ge=0, le=2, advanced=True
    )
    meta_threshold: float = setting(
        0.35, help="The same for meta tags, where the model knows them.", ge=0, le=2, advanced=True
    )
    model_threshold: float = setting(
        0.35, help="The same for names of generators, where the model knows them.", ge=0, le=2, advanced=True
    )
    rating: str = setting("none", help="Where the likeliest rating is written, if at all.", choices=PLACES)
    quality: str = setting(
        "none", help="Where the likeliest quality is written, if the model knows any.", choices=PLACES, advanced=True
    )
    undesired_tags: str = setting("", help="Tags that are never written, separated by commas.")
    remove_underscore: bool = setting(True, help="Write long hair for long_hair; faces such as ^_^ stay as they are.")
    character_tags_first: bool = setting(False, help="Write characters' names before all other tags.", advanced=True)
    character_tag_expand: bool = setting(False, help="Write name_(series) as two tags: name, series.", advanced=True)
    mode: str = setting(
        "overwrite",
        help="With captions that are there: overwrite them, append or prepend what is new, or keep them.",
        choices=MODES,
    )
    batch_size: int = setting(
        4, help="Pictures that the tagger sees at once, if its file leaves it open.", ge=1, le=256, advanced=True
    )
