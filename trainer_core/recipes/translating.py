"""From a recipe's keys to our settings, with a verdict for each key."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..config import TrainConfig
from ..errors import ConfigError
from ..networks import ALGORITHMS
from ..optim import OPTIMIZERS, SCHEDULES
from ..settings import Setting, all_settings, checked
from .arguments import Rule, rule_for
from .combining import combined
from .doubts import doubts
from .given import Given, Recipe, is_off, is_secret, is_unset, without_tokens
from .notation import NotTaken, number
from .report import (
    APPLIED,
    INERT,
    SECRET,
    SKIPPED,
    TRANSLATED,
    UNKNOWN,
    UNSUPPORTED,
    Assignments,
    Entry,
    ImportReport,
)

_REGISTRIES = {"network.algo": ALGORITHMS, "optimizer.optimizer": OPTIMIZERS, "optimizer.lr_scheduler": SCHEDULES}


def translate(recipe: Recipe, skip: Collection[str] = ()) -> ImportReport:
    """The recipe in our settings; what cannot be taken over is in the report and nowhere else.

    skip: keys to leave out, by the recipe's name or by ours."""
    settings = dict(all_settings(TrainConfig))
    taken = Assignments()
    givens = [each for each in combined(recipe.givens) if not (recipe.is_complete and each.key.startswith("("))]
    entries = [_judged(given, settings, taken, skip) for given in givens]
    warnings = (*recipe.warnings, *doubts(taken.by_path))
    return ImportReport(recipe.source, taken.nested(), tuple(entries), warnings, _model(recipe, skip))


def _judged(given: Given, settings: dict[str, Setting], taken: Assignments, skip: Collection[str]) -> Entry:
    value = without_tokens(given.value)
    rule = rule_for(given.argument)
    if is_secret(given.key):
        return Entry(given.key, "", SECRET, why="stripped")
    if _is_skipped(given, rule, skip):
        return Entry(given.key, value, SKIPPED)
    if given.verdict:
        return Entry(given.key, value, given.verdict, why=given.why)
    if is_unset(given.meaning):
        return Entry(given.key, value, INERT, why=given.why or "left empty there")
    if rule is None:
        return Entry(given.key, value, UNKNOWN)
    if not rule.setting:
        verdict = INERT if is_off(given.meaning) else rule.verdict
        return Entry(given.key, value, verdict, why="off" if verdict != rule.verdict else rule.note)
    try:
        path, ours = _our_value(rule, given.meaning, settings)
    except NotTaken as refusal:
        return Entry(given.key, value, refusal.verdict, why=refusal.why)
    except (ConfigError, ValueError, TypeError) as error:
        return Entry(given.key, value, UNSUPPORTED, why=without_tokens(str(error)))
    taken.by_path[path] = ours
    as_it_is = not given.why and _is_the_same(given.value, ours)
    why = given.why or ("" if as_it_is else rule.note)
    return Entry(given.key, value, APPLIED if as_it_is else TRANSLATED, f"{path} = {_shown(ours)}", why)


def _our_value(rule: Rule, meaning: Any, settings: dict[str, Setting]) -> tuple[str, Any]:
    path = rule.setting
    if path not in settings:
        raise NotTaken(INERT if is_off(meaning) else UNSUPPORTED, f"there is no setting {path}")
    value = rule.read(number(meaning))
    if path == "optimizer.optimizer":
        path, value = _optimizer(str(value))
    elif path in _REGISTRIES:
        value = _REGISTRIES[path].canonical(str(value))
    where = path.rpartition(".")[0]
    ours = checked(settings[path], value, where + "." if where else "")
    return path, list(ours) if isinstance(ours, tuple) else ours


def _optimizer(name: str) -> tuple[str, str]:
    """The setting that takes the optimizer, and its name there: `prodigyopt.prodigy.Prodigy` is our Prodigy."""
    for word in (name, name.rpartition(".")[2]):
        try:
            return "optimizer.optimizer", OPTIMIZERS.canonical(word)
        except ConfigError as error:
            unknown = error
    if "optimizer.optimizer_type" in dict(all_settings(TrainConfig)):
        return "optimizer.optimizer_type", name
    raise unknown


def _is_skipped(given: Given, rule: Rule | None, skip: Collection[str]) -> bool:
    setting = rule.setting if rule else ""
    names = {given.key, given.argument, given.argument.rpartition(".")[2], setting, setting.rpartition(".")[2]}
    return bool(names & {word for word in skip if word})


def _is_the_same(theirs: Any, ours: Any) -> bool:
    words = {"true": True, "false": False}
    plain = words.get(theirs.lower(), number(theirs)) if isinstance(theirs, str) else theirs
    return plain == ours or str(plain) == str(ours)


def _model(recipe: Recipe, skip: Collection[str]) -> str:
    named = [each for each in recipe.givens if each.argument == "pretrained_model_name_or_path"]
    return next((str(each.meaning) for each in named if each.key not in skip and not is_unset(each.meaning)), "")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
