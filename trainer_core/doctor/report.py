"""What a dataset is like, as data: what training will make of it, and what in it deserves a look."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from ..config import DatasetConfig
from ..data.batches import count_steps
from ..data.buckets import Placement, assign_buckets, bucket_warnings
from ..data.captions import parse_tags, prepared_caption, settings_of
from ..data.dataset import read_dataset
from ..data.examples import Dataset, Example, home_of
from ..tagging.history import FOLDER, written_caption
from .contradictions import disagree, opposed
from .likeness import look_alikes
from .measured import measured
from .tokens import estimated_tokens

TOKENS_OF_A_CHUNK = 75
_MOST_ENLARGED = 1.5  # a picture made larger than this is soft
_MOST_CROPPED = 0.2  # of a picture's area
_BLURRED = 0.62  # photos are 0.25 to 0.55, and 0.6 to 0.75 after a Gaussian blur of 2 pixels
_NEARLY_EVERYWHERE = 0.8
_MOSTLY = 0.5  # of a folder's pictures, for a name to be what the folder is about
_NAME = re.compile(r"\S.*[ _]\(.+\)")  # the boorus' `shiroko (blue archive)`
_FEWEST_TO_COMPARE = 4  # pictures, for words such as "nearly all"
_MOST_UNBALANCED = 4  # times as many visits to one folder as to another
_MOST_COMPARED = 8  # members of a group that are all compared with each other


@dataclass(frozen=True)
class BucketUse:
    """A bucket and how much goes into it. visits: pictures, repeats counted."""

    width: int
    height: int
    pictures: int
    visits: int


@dataclass(frozen=True)
class Concept:
    """One folder of the dataset. share: of all visits in an epoch, 0 to 1."""

    folder: str
    repeats: int
    pictures: int
    visits: int
    share: float


@dataclass(frozen=True)
class Noted:
    """A picture with a number: how much it is enlarged, which share of it is cropped, how blurred it is."""

    picture: str
    amount: float


@dataclass(frozen=True)
class LookAlikes:
    """Pictures that show nearly the same. visits, share: how much of an epoch they are together, repeats counted."""

    pictures: tuple[str, ...]
    visits: int
    share: float


@dataclass(frozen=True)
class Contradiction:
    """Two pictures that look alike with captions that do not agree. opposed: tags that exclude each other."""

    first: str
    second: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    opposed: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TagUse:
    """A tag and on how many pictures it stands. missing: the pictures without it, where those are few, or where it is
    a name that they should have."""

    tag: str
    pictures: int
    share: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """Caption lengths in tokens of the text encoder. is_estimated: no tokenizer was at hand.

    limit: what max_token_length lets through. over: pictures whose captions are longer than 75, 150 and 225."""

    is_estimated: bool
    longest: int
    over_75: tuple[str, ...]
    over_150: tuple[str, ...]
    over_225: tuple[str, ...]


@dataclass(frozen=True)
class DatasetReport:
    """Everything that `examine` finds. Pictures are called `folder/file`. tags: the most common first.

    names_on_some_pictures: characters' names, and what a folder is called, on at least half of a folder's pictures and
    not on all; numbers and shares are of that folder.

    visits, steps_per_epoch and buckets count regularisation pictures, too, as training does; all else is about the
    pictures to learn."""

    folder: str
    resolution: int
    batch_size: int
    pictures: int
    visits: int
    steps_per_epoch: int
    buckets: tuple[BucketUse, ...]
    concepts: tuple[Concept, ...]
    unbalanced: bool
    enlarged: tuple[Noted, ...]
    cropped: tuple[Noted, ...]
    blurred: tuple[Noted, ...]
    look_alikes: tuple[LookAlikes, ...]
    contradictions: tuple[Contradiction, ...]
    without_caption: tuple[str, ...]
    empty_captions: tuple[str, ...]
    tokens: Tokens
    tags: tuple[TagUse, ...]
    on_every_picture: tuple[str, ...]
    on_nearly_every_picture: tuple[TagUse, ...]
    names_on_some_pictures: tuple[TagUse, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Examined:
    """A report with what it is about, for drawing."""

    report: DatasetReport
    examples: tuple[Example, ...]
    placements: tuple[Placement, ...]


def examine(
    config: DatasetConfig, count_tokens: Callable[[str], int] | None = None, kept_in: Path | None = None
) -> Examined:
    """Look at every picture and caption of the dataset as training with `config` will see them.

    count_tokens: tokens of a caption without begin and end marks, of the text encoder that is to be trained; without it
    they are estimated. kept_in: the folder for what was measured, for the next time; by default `.lazylora` inside the
    dataset's. Pictures that cannot be used are warnings, whatever `config.bad_pictures` says. Raises DataError
    where no picture is left, ConfigError for settings that contradict each other."""
    dataset = read_dataset(replace(config, bad_pictures="skip"))
    every_placement = assign_buckets([each.size for each in dataset.examples], config)
    every_repeats = [each.repeats for each in dataset.examples]
    examples = dataset.subjects
    placements = tuple(every_placement[: len(examples)])  # regularisation pictures stand behind the others
    captions = [prepared_caption(each.caption, settings_of(each, config)) for each in examples]
    tags = [parse_tags(caption) for caption in captions]
    found = measured(examples, kept_in or home_of(config.folder) / FOLDER)
    groups = look_alikes([found[each.digest].looks if each.digest in found else None for each in examples])
    concepts = _concepts(dataset)
    by_visits = [each.visits for each in concepts]
    tag_uses = _tag_uses(examples, tags)
    on_some = _names_on_some(examples, tags)
    names = {each.tag for each in on_some}
    triggers = parse_tags(config.trigger_word)
    report = DatasetReport(
        folder=Path(config.folder.strip()).name,
        resolution=config.resolution,
        batch_size=config.batch_size,
        pictures=len(examples),
        visits=sum(every_repeats),
        steps_per_epoch=count_steps(every_placement, every_repeats, config.batch_size),
        buckets=_buckets(every_placement, every_repeats),
        concepts=concepts,
        unbalanced=max(by_visits) >= _MOST_UNBALANCED * min(by_visits),
        enlarged=_noted(examples, [_enlargement(*each) for each in zip(examples, placements)], _MOST_ENLARGED),
        cropped=_noted(examples, [_cropped_share(each) for each in placements], _MOST_CROPPED),
        blurred=_noted(examples, [found[e.digest].blur if e.digest in found else 0.0 for e in examples], _BLURRED),
        look_alikes=_look_alikes(examples, groups),
        contradictions=_contradictions(examples, tags, groups) if config.captions == "files" else (),
        without_caption=tuple(each.name for each in examples if each.caption_path is None),
        empty_captions=tuple(each.name for each in examples if each.caption_path and not written_caption(each)),
        tokens=_tokens(examples, captions, count_tokens),
        tags=tag_uses,
        on_every_picture=tuple(
            each.tag for each in tag_uses if each.pictures == len(examples) and each.tag not in triggers
        ),
        on_nearly_every_picture=tuple(each for each in tag_uses if each.missing and each.tag not in names),
        names_on_some_pictures=on_some,
        warnings=tuple(dict.fromkeys((*dataset.warnings, *bucket_warnings(config)))),
    )
    return Examined(report, tuple(examples), placements)


def _buckets(placements: Sequence[Placement], repeats: Sequence[int]) -> tuple[BucketUse, ...]:
    pictures = Counter(each.bucket for each in placements)
    visits: Counter[tuple[int, int]] = Counter()
    for each, times in zip(placements, repeats):
        visits[each.bucket] += times
    return tuple(BucketUse(*bucket, pictures[bucket], visits[bucket]) for bucket in sorted(pictures))


def _concepts(dataset: Dataset) -> tuple[Concept, ...]:
    total = dataset.num_train_images
    return tuple(
        Concept(folder, entry["n_repeats"], entry["img_count"], visits, visits / total)
        for folder, entry in dataset.dirs().items()
        for visits in [entry["n_repeats"] * entry["img_count"]]
    )


def _enlargement(example: Example, placement: Placement) -> float:
    return max(placement.resized[0] / example.size[0], placement.resized[1] / example.size[1])


def _cropped_share(placement: Placement) -> float:
    (width, height), (whole_width, whole_height) = placement.bucket, placement.resized
    return 1 - width * height / (whole_width * whole_height)


def _noted(examples: Sequence[Example], amounts: Sequence[float], least: float) -> tuple[Noted, ...]:
    """The pictures with at least that much, the most first."""
    noted = [Noted(example.name, round(amount, 3)) for example, amount in zip(examples, amounts) if amount >= least]
    return tuple(sorted(noted, key=lambda each: -each.amount))


def _look_alikes(examples: Sequence[Example], groups: Sequence[tuple[int, ...]]) -> tuple[LookAlikes, ...]:
    """The groups, those that are most of an epoch first."""
    total = sum(each.repeats for each in examples)
    found = []
    for group in groups:
        visits = sum(examples[place].repeats for place in group)
        found.append(LookAlikes(tuple(examples[place].name for place in group), visits, visits / total))
    return tuple(sorted(found, key=lambda each: -each.visits))


def _contradictions(
    examples: Sequence[Example], tags: Sequence[Sequence[str]], groups: Sequence[tuple[int, ...]]
) -> tuple[Contradiction, ...]:
    found = []
    for group in groups:
        for one, other in combinations(group, 2) if len(group) <= _MOST_COMPARED else pairwise(group):
            if disagree(tags[one], tags[other]):
                first, second = set(tags[one]), set(tags[other])
                found.append(
                    Contradiction(
                        examples[one].name,
                        examples[other].name,
                        tuple(sorted(first - second)),
                        tuple(sorted(second - first)),
                        tuple(opposed(tags[one], tags[other])),
                    )
                )
    return tuple(found)


def _tokens(examples: Sequence[Example], captions: Sequence[str], count_tokens: Callable[[str], int] | None) -> Tokens:
    counted = {caption: (count_tokens or estimated_tokens)(caption) for caption in dict.fromkeys(captions)}
    lengths = [counted[caption] for caption in captions]

    def over(chunks: int) -> tuple[str, ...]:
        limit = chunks * TOKENS_OF_A_CHUNK
        return tuple(example.name for example, length in zip(examples, lengths) if length > limit)

    return Tokens(count_tokens is None, max(lengths), over(1), over(2), over(3))


def _tag_uses(examples: Sequence[Example], tags: Sequence[Sequence[str]]) -> tuple[TagUse, ...]:
    spelled: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for own in tags:
        folded = {tag.casefold(): tag for tag in own}
        spelled = {**folded, **spelled}
        counts.update(folded.keys())
    uses = []
    for folded, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        share = count / len(examples)
        nearly = _NEARLY_EVERYWHERE <= share < 1 and len(examples) >= _FEWEST_TO_COMPARE
        lacking = [e.name for e, own in zip(examples, tags) if folded not in map(str.casefold, own)] if nearly else []
        uses.append(TagUse(spelled[folded], count, share, tuple(lacking)))
    return tuple(uses)


def _names_on_some(examples: Sequence[Example], tags: Sequence[Sequence[str]]) -> tuple[TagUse, ...]:
    """In each folder: names that most of its pictures have, but not all."""
    folders: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        folders.setdefault(example.folder, []).append(place)
    found = []
    for places in folders.values():
        called = {tag.casefold() for tag in parse_tags(examples[places[0]].class_tokens)}
        spelled = {tag.casefold(): tag for place in places for tag in tags[place]}
        having = Counter(folded for place in places for folded in {tag.casefold() for tag in tags[place]})
        for folded, count in having.items():
            is_name = folded in called or _NAME.fullmatch(folded)
            if is_name and _MOSTLY <= count / len(places) < 1:
                lacking = [examples[place].name for place in places if folded not in map(str.casefold, tags[place])]
                found.append(TagUse(spelled[folded], count, count / len(places), tuple(lacking)))
    return tuple(found)
