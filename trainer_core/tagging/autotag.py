"""A whole dataset seen by a tagger: new captions, not yet written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from ..data.examples import Example
from ..data.pictures import read_picture
from ..errors import DataError
from .choosing import chosen_tags, combined_caption
from .config import TaggerConfig
from .history import written_caption
from .tagger import Tagger

_DECODERS = 2
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Tagged:
    """One picture that a tagger has seen. caption: what is to be its caption. trouble: why there is none."""

    example: Example
    caption: str = ""
    trouble: str = ""


def autotag(examples: Sequence[Example], tagger: Tagger, config: TaggerConfig) -> Iterator[Tagged]:
    """Every picture with its new caption, in order, as they come; the next are read while some are looked at.

    With the mode `keep`, pictures whose caption file says something are passed over. A picture that cannot be read is
    yielded with its trouble."""
    if config.mode == "keep":
        examples = [each for each in examples if not written_caption(each)]
    waiting = deque(examples[start : start + config.batch_size] for start in range(0, len(examples), config.batch_size))
    reading: deque[tuple[Sequence[Example], list[Future[Image.Image | DataError]]]] = deque()
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
        while waiting or reading:
            while waiting and len(reading) <= _BATCHES_AHEAD:
                batch = waiting.popleft()
                reading.append((batch, [pool.submit(_read, each) for each in batch]))
            batch, pictures = reading.popleft()
            yield from _tagged(batch, [each.result() for each in pictures], tagger, config)


def _tagged(
    batch: Sequence[Example], pictures: Sequence[Image.Image | DataError], tagger: Tagger, config: TaggerConfig
) -> Iterator[Tagged]:
    readable = [each for each in pictures if isinstance(each, Image.Image)]
    rows = iter(tagger.probabilities(readable) if readable else ())
    for example, picture in zip(batch, pictures, strict=True):
        if isinstance(picture, DataError):
            yield Tagged(example, trouble=str(picture))
            continue
        tags = chosen_tags(next(rows), tagger.vocabulary, config)
        yield Tagged(example, combined_caption(written_caption(example), tags, config.mode))


def _read(example: Example) -> Image.Image | DataError:
    try:
        return read_picture(example.path)
    except DataError as error:
        return error
