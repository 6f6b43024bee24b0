"""What downloaders know of a picture, as a caption: gallery-dl's JSON, the boorus' own, kohya's caption and tags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import DataError

# In this order, where a site tells them apart. Not meta ("commentary request"), lore and rating: no picture shows them.
_CATEGORIES = ("character", "copyright", "artist", "species", "general")
_CAPTION_KEYS = ("caption", "prompt")
_WORD = re.compile(r"[^\W\d_]{2}")  # a face such as (o)_(o) or u_u has no two letters side by side


def tags_of_sidecar(text: str, name: str) -> str:
    """The caption that a JSON file has: its `caption`, its tags, or both, with commas; "" where it has neither.

    Tags are `tags_<category>`, `tag_string_<category>`, `tags` by category, or all in `tags` or `tag_string`: lists, or
    words with spaces or commas between. Underscores become spaces, but in faces. name: for messages. Raises DataError
    for text that is no JSON object."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no valid JSON ({_short(error)}); correct it or remove it") from None
    if isinstance(values, list) and len(values) == 1:  # one picture of a list of posts
        values = values[0]
    if not isinstance(values, Mapping):
        raise DataError(f"{name} is no JSON object with tags or a caption; correct it or remove it")
    return caption_of(values)


def caption_of(values: Mapping[str, Any]) -> str:
    """The caption in an object of a sidecar or of kohya's metadata: caption first, then tags, as kohya joins them."""
    caption = next((values[key].strip() for key in _CAPTION_KEYS if isinstance(values.get(key), str)), "")
    tags = ", ".join(dict.fromkeys(_tags(values)))
    return ", ".join(" ".join(part.split()) for part in (caption, tags) if part)


def spaced(tag: str) -> str:
    """A booru's tag as captions have it: `long_hair` → `long hair`; faces stay."""
    return tag.replace("_", " ") if _WORD.search(tag) else tag


def _tags(values: Mapping[str, Any]) -> Iterator[str]:
    by_category = values.get("tags")
    if not isinstance(by_category, Mapping):
        by_category = {each: values.get(f"tags_{each}") or values.get(f"tag_string_{each}") for each in _CATEGORIES}
    found = [tag for each in _CATEGORIES for tag in _parted(by_category.get(each))]
    yield from found or _parted(values.get("tags") or values.get("tag_string"))


def _parted(tags: Any) -> list[str]:
    if isinstance(tags, str):
        return [spaced(tag.strip()) for tag in (tags.split(",") if "," in tags else tags.split()) if tag.strip()]
    if not isinstance(tags, list):
        return []
    names = [each.get("name") if isinstance(each, Mapping) else each for each in tags]
    return [spaced(name.strip()) for name in names if isinstance(name, str) and name.strip()]


def _short(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
