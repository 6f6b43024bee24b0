"""Edits of a dataset's captions, all of them at once, as some edits depend on how common a tag is.

They change what training sees, never the files: `tagging.history` writes those, when a person says so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..config import DatasetConfig, TagEdit
from ..errors import ConfigError
from .captions import format_tags, parse_tags, settings_of
from .examples import Dataset

_LONGEST_PATTERN = 500


def with_edits(dataset: Dataset, config: DatasetConfig) -> Dataset:
    """The dataset with `config.tag_edits` made in its captions.

    Raises ConfigError for an edit that cannot be done, also where subsets have different marks that it should spare."""
    if not config.tag_edits:
        return dataset
    lines = [example.caption.split("\n") for example in dataset.examples]  # several where captions have wildcards
    flat = [line for each in lines for line in each]
    edited = iter(edited_captions(flat, config.tag_edits, _mark_of(dataset, config)))
    captions = ["\n".join(next(edited) for _ in each) for each in lines]
    examples = [replace(example, caption=caption) for example, caption in zip(dataset.examples, captions)]
    return replace(dataset, examples=tuple(examples))


def _mark_of(dataset: Dataset, config: DatasetConfig) -> str:
    marks = {settings_of(example, config).keep_tokens_separator.strip() for example in dataset.examples}
    if len(marks) > 1:
        said = " and ".join(repr(mark) for mark in sorted(marks))
        raise ConfigError(f"edits spare one keep_tokens_separator, but the subsets have {said}; give all the same")
    return marks.pop() if marks else ""


def edited_captions(captions: Sequence[str], edits: Sequence[TagEdit], keep_tokens_separator: str = "") -> list[str]:
    """The captions after each edit in turn, in their order. Tags are compared trimmed and without regard to case.

    What each operation does stands at its function below. keep_tokens_separator: a mark in captions that no edit moves,
    drops or counts. Raises ConfigError for an edit that cannot be done: names that do not pair up, a wrong pattern."""
    if not edits:
        return list(captions)
    mark = keep_tokens_separator.strip()
    views = [parse_tags(caption.replace(mark, f",{mark},") if mark else caption) for caption in captions]
    for edit in edits:
        views = _OPERATIONS[edit.operation](views, edit, mark)
    return [format_tags(tags) for tags in views]


def tag_counts(captions: Sequence[str]) -> Counter[str]:
    """On how many of the captions each tag stands, by its case-folded form; twice on one caption counts once."""
    return _counted([parse_tags(caption) for caption in captions])


def _prepend(views: list[list[str]], edit: TagEdit, _: str) -> list[list[str]]:
    """The edit's tags in front; those that the caption has already stay where they are."""
    new = _distinct(parse_tags(edit.tags))
    return [_without(new, tags) + tags for tags in views]


def _append(views: list[list[str]], edit: TagEdit, _: str) -> list[list[str]]:
    """The edit's tags at the end; those that the caption has already stay where they are."""
    new = _distinct(parse_tags(edit.tags))
    return [tags + _without(new, tags) for tags in views]


def _remove(views: list[list[str]], edit: TagEdit, _: str) -> list[list[str]]:
    """Without the edit's tags."""
    unwanted = parse_tags(edit.tags)
    return [_without(tags, unwanted) for tags in views]


def _keep(views: list[list[str]], edit: TagEdit, mark: str) -> list[list[str]]:
    """Without all but the edit's tags."""
    wanted = {tag.casefold() for tag in (*parse_tags(edit.tags), mark)}
    return [[tag for tag in tags if tag.casefold() in wanted] for tags in views]


def _replace(views: list[list[str]], edit: TagEdit, _: str) -> list[list[str]]:
    """The replacement, which may be several tags, where the first of the edit's tags stood, and without the others.

    What the caption has already is not added again."""
    old, new = parse_tags(edit.tags), _distinct(parse_tags(edit.replacement))
    return [_replaced(tags, old, new) for tags in views]


def _replaced(tags: list[str], old: list[str], new: list[str]) -> list[str]:
    pending = _without(new, _without(tags, old))
    result: list[str] = []
    for tag in tags:
        if _without([tag], old):
            result.append(tag)
        else:
            result += pending
            pending = []
    return result


def _rename(views: list[list[str]], edit: TagEdit, _: str) -> list[list[str]]:
    """The edit's first tag as the replacement's first, the second as the second, …, all at once, each in its place.

    A new name that the caption has already is not added again."""
    old, new = parse_tags(edit.tags), parse_tags(edit.replacement)
    if len(old) != len(new):
        raise ConfigError(f"rename has {len(old)} tags and {len(new)} new names; give a name for each, in their order")
    names = {before.casefold(): after for before, after in zip(old, new)}
    return [_renamed(tags, names) for tags in views]


def _renamed(tags: list[str], names: dict[str, str]) -> list[str]:
    there = {tag.casefold() for tag in tags if tag.casefold() not in names}
    result = []
    for tag in tags:
        name = names.get(tag.casefold())
        if name is None:
            result.append(tag)
        elif name.casefold() not in there:
            there.add(name.casefold())
            result.append(name)
    return result


def _regex(views: list[list[str]], edit: TagEdit, mark: str) -> list[list[str]]:
    r"""What matches the pattern, anywhere in a tag, as the replacement, which may name groups: \1. Case is ignored.

    A replacement with commas gives several tags, one that leaves nothing none."""
    substitute = _substitution(edit)
    changed = {tag: parse_tags(substitute(tag)) for tags in views for tag in tags if tag != mark}
    return [[new for tag in tags for new in changed.get(tag, [tag])] for tags in views]


def _substitution(edit: TagEdit) -> Callable[[str], str]:
    if len(edit.tags) > _LONGEST_PATTERN:
        raise ConfigError(f"the pattern has {len(edit.tags)} letters; at most {_LONGEST_PATTERN} can be used")
    try:
        pattern = re.compile(edit.tags, re.IGNORECASE)
        pattern.sub(edit.replacement, "")  # a replacement is looked at even where nothing matches
    except (re.error, IndexError, OverflowError) as error:
        raise ConfigError(
            f'"{edit.tags}" → "{edit.replacement}" is no regular expression ({error}); correct it'
        ) from None
    return lambda tag: pattern.sub(edit.replacement, tag)


def _deduplicate(views: list[list[str]], edit: TagEdit, mark: str) -> list[list[str]]:
    """Each tag once in a caption, where it stood first."""
    return [_distinct(tags, besides=mark) for tags in views]


def _sort(views: list[list[str]], edit: TagEdit, mark: str) -> list[list[str]]:
    """The edit's tags first, in their order, then those that most captions have; equally common ones by name."""
    counts = _counted(views)
    first = {tag.casefold(): place for place, tag in enumerate(_distinct(parse_tags(edit.tags)))}

    def place(tag: str) -> tuple[int, int, str]:
        folded = tag.casefold()
        return first.get(folded, len(first)), -counts[folded], folded

    return [[tag for part in _parted(tags, mark) for tag in sorted(part, key=place)] for tags in views]


def _parted(tags: list[str], mark: str) -> list[list[str]]:
    """The tags between the marks, with each mark as a part of its own."""
    parts: list[list[str]] = [[]]
    for tag in tags:
        if mark and tag == mark:
            parts += [[tag], []]
        else:
            parts[-1].append(tag)
    return parts


def _drop_traits(views: list[list[str]], edit: TagEdit, mark: str) -> list[list[str]]:
    """Without the tags that stand on at least `percent` of the captions, but for the edit's tags.

    What every picture of a subject has is the subject: untagged, the trigger word learns it (the guides' "remove
    inherent tags")."""
    spared = {tag.casefold() for tag in (*parse_tags(edit.tags), mark)}
    least = edit.percent / 100 * len(views)
    dropped = {tag for tag, count in _counted(views).items() if count >= least and tag not in spared}
    return [[tag for tag in tags if tag.casefold() not in dropped] for tags in views]


_OPERATIONS: dict[str, Callable[[list[list[str]], TagEdit, str], list[list[str]]]] = {
    "prepend": _prepend,
    "append": _append,
    "remove": _remove,
    "replace": _replace,
    "rename": _rename,
    "regex": _regex,
    "keep": _keep,
    "deduplicate": _deduplicate,
    "sort": _sort,
    "drop_traits": _drop_traits,
}


def _counted(views: Sequence[Sequence[str]]) -> Counter[str]:
    return Counter(tag for tags in views for tag in {tag.casefold() for tag in tags})


def _without(tags: Sequence[str], unwanted: Sequence[str]) -> list[str]:
    folded = {tag.casefold() for tag in unwanted}
    return [tag for tag in tags if tag.casefold() not in folded]


def _distinct(tags: Sequence[str], besides: str = "") -> list[str]:
    seen: set[str] = set()
    result = []
    for tag in tags:
        if tag.casefold() not in seen or (besides and tag == besides):
            seen.add(tag.casefold())
            result.append(tag)
    return result
