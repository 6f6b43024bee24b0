"""A dataset report in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .report import DatasetReport, Noted

_MOST_NAMED = 5
_MOST_TAGS = 20
_FOR_A_REASON = 3  # tags on every one of fewer pictures say nothing


def described(report: DatasetReport) -> str:
    """The report as text: what training will do, then what deserves a look, marked ⚠, then the tags."""
    return "\n".join([*_facts(report), *(f"⚠ {each}" for each in findings(report)), *_tags(report)])


def findings(report: DatasetReport) -> list[str]:
    """What deserves a look, a sentence each, with the cure where there is one."""
    return [*_pictures(report), *_captions(report), *report.warnings]


def _facts(report: DatasetReport) -> Iterator[str]:
    steps = _many(report.steps_per_epoch, "step")
    yield f"{_many(report.pictures, 'picture')}, {report.visits} per epoch with repeats"
    yield f"{steps} an epoch at batch size {report.batch_size}, resolution {report.resolution}"
    for each in report.concepts:
        yield f"{each.folder}: {_many(each.pictures, 'picture')}, {each.repeats}× each, {each.share:.0%} of an epoch"
    for each in report.buckets:
        yield f"bucket {each.width}×{each.height}: {_many(each.pictures, 'picture')}, {each.visits} per epoch"
    tokens = report.tokens
    yield f"longest caption: {'about ' if tokens.is_estimated else ''}{_many(tokens.longest, 'token')}"


def _pictures(report: DatasetReport) -> Iterator[str]:
    if report.unbalanced:
        most, least = (pick(report.concepts, key=lambda each: each.visits) for pick in (max, min))
        yield (
            f"{most.folder} is {most.share:.0%} of an epoch and {least.folder} {least.share:.0%}: "
            "change the number in front of a folder's name to balance them"
        )
    for each in report.look_alikes[:_MOST_NAMED]:
        yield (
            f"look alike: {_named(each.pictures)}; together {_many(each.visits, 'visit')}, {each.share:.0%} of an "
            "epoch; keep the best one"
        )
    yield from _more(report.look_alikes, "groups of pictures that look alike")
    if report.enlarged:
        yield f"too small, made larger: {_listed(report.enlarged, '×')}; replace them, or lower the resolution"
    if report.cropped:
        yield f"cut off by their bucket: {_listed(report.cropped, '%')}; crop them, or widen the buckets' limits"
    if report.blurred:
        names = _named([each.picture for each in report.blurred])
        yield f"look blurred: {names}; remove them, or tag them as blurry"


def _captions(report: DatasetReport) -> Iterator[str]:
    tokens = report.tokens
    about = "about " if tokens.is_estimated else ""
    for limit, names in ((75, tokens.over_75), (150, tokens.over_150), (225, tokens.over_225)):
        if names:
            cure = f"set max_token_length to {limit + 75}" if limit < 225 else "shorten them"
            yield f"more than {about}{limit} tokens: {_named(names)}; {cure}, or the rest is not read"
    for each in report.contradictions[:_MOST_NAMED]:
        pairs = ", ".join(f"{one} / {other}" for one, other in each.opposed)
        what = pairs or f"{', '.join(each.only_first[:4])} / {', '.join(each.only_second[:4])}"
        yield f"{each.first} and {each.second} look alike, but their captions differ: {what}; correct one"
    yield from _more(report.contradictions, "pairs whose captions differ")
    if report.on_every_picture and report.pictures >= _FOR_A_REASON:
        yield (
            f"on every picture: {', '.join(report.on_every_picture[:_MOST_TAGS])}; drop what belongs to the subject "
            "(drop_traits), keep what should stay changeable"
        )
    for each in report.names_on_some_pictures[:_MOST_NAMED]:
        folder = each.missing[0].split("/")[0]
        yield (
            f'the name "{each.tag}" is on {each.share:.0%} of the pictures in {folder}, not on {_named(each.missing)}; '
            "add it where it belongs, or take such pictures out"
        )
    for each in report.on_nearly_every_picture[:_MOST_NAMED]:
        yield f'"{each.tag}" is on {each.share:.0%} of the pictures, not on {_named(each.missing)}: forgotten there?'


def _tags(report: DatasetReport) -> Iterator[str]:
    if report.tags:
        yield f"{_many(len(report.tags), 'tag')}, the most common:"
        yield ", ".join(f"{each.tag} {each.pictures}" for each in report.tags[:_MOST_TAGS])


def _more(found: Sequence[object], what: str) -> Iterator[str]:
    if len(found) > _MOST_NAMED:
        yield f"{len(found) - _MOST_NAMED} more {what}"


def _named(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _listed(noted: Sequence[Noted], unit: str) -> str:
    amounts = [f"{each.amount:.1f}×" if unit == "×" else f"{each.amount:.0%}" for each in noted]
    return _named([f"{each.picture} ({amount})" for each, amount in zip(noted, amounts)])


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
