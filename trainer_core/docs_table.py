"""The pages of the documentation that derive from the code: the settings', the warnings' and the recipes' tables.

`python -m trainer_core.docs_table` writes them into docs/; tests fail while one of them is behind."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from .advice.page import warnings_page
from .config import TrainConfig
from .networks import ALGORITHMS
from .optim import OPTIMIZERS, SCHEDULES
from .recipes.pages import filled_in, generated_parts
from .settings import Setting, range_words, settings_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
WARNINGS_PAGE = PAGE.with_name("warnings.md")
RECIPE_PAGES = (PAGE.with_name("presets.md"), PAGE.with_name("importing.md"))

_INTRODUCTION = """\
# Settings

Every setting of a run, by its name on the command line (`--network.rank 8`, or `--rank 8` where the short name is
unique) and in a JSON file (`{"network": {"rank": 8}}`). The nodes and the web UI show the same settings with the same
words; those marked *advanced* are folded away there.

This page is generated: `python -m trainer_core.docs_table`.
"""
_REGISTERED = {"network.algo": ALGORITHMS, "optimizer.optimizer": OPTIMIZERS, "optimizer.lr_scheduler": SCHEDULES}
_HEAD = "| Setting | Takes | Default | What it does |\n|---|---|---|---|"


def settings_page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_INTRODUCTION.rstrip(), *_tables()]) + "\n"


def _tables() -> Iterator[str]:
    yield _section("The run", _first_line(TrainConfig), [row for row in settings_of(TrainConfig) if not row.is_section])
    for group in settings_of(TrainConfig):
        if group.is_section:
            yield _section(group.name, _first_line(group.type), settings_of(group.type), group.name + ".")
            for each in settings_of(group.type):
                if item_type := _item_type(each):
                    path = f"{group.name}.{each.name}"
                    yield _section(path, f"{_first_line(item_type)} A list of these:", settings_of(item_type))


def _section(title: str, words: str, rows: Sequence[Setting], prefix: str = "") -> str:
    return "\n".join([f"\n## {title}\n\n{words}\n\n{_HEAD}", *(_row(prefix + row.name, row) for row in rows)])


def _row(path: str, each: Setting) -> str:
    words = f"{each.help} *advanced*" if each.advanced else each.help
    return f"| `{path}` | {_takes(path, each)} | {_default(each)} | {_escaped(words)} |"


def _takes(path: str, each: Setting) -> str:
    if names := _REGISTERED[path].names() if path in _REGISTERED else each.choices:
        return ", ".join(f"`{name}`" for name in names if name)
    kinds = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    kind = kinds.get(each.type, "list of groups" if _item_type(each) else "list of texts")
    unit = f" {each.unit}" if each.unit and each.unit not in range_words(each) else ""
    return f"{kind}{', ' * bool(range_words(each))}{range_words(each)}{unit}"


def _default(each: Setting) -> str:
    if each.is_required:
        return "*must be given*"
    if each.default in (None, "", ()):
        return "–"
    return f"`{str(each.default).lower() if each.type is bool else each.default}`"  # JSON's spelling of a truth value


def _item_type(each: Setting) -> type | None:
    """The settings dataclass that a list setting holds, or None."""
    items = typing.get_args(each.type) if typing.get_origin(each.type) is tuple else ()
    return next((item for item in items if isinstance(item, type) and dataclasses.is_dataclass(item)), None)


def _first_line(config: type) -> str:
    return (config.__doc__ or "").split("\n")[0]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def recipe_page(page: Path) -> str:
    """docs/presets.md or docs/importing.md with its generated tables as they should be."""
    return filled_in(page.read_text(encoding="utf-8"), generated_parts())


if __name__ == "__main__":
    for _page in RECIPE_PAGES:
        _page.write_text(recipe_page(_page), encoding="utf-8", newline="\n")
    PAGE.write_text(settings_page(), encoding="utf-8", newline="\n")
    WARNINGS_PAGE.write_text(warnings_page(), encoding="utf-8", newline="\n")
