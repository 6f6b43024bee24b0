"""The tables of docs/presets.md and docs/importing.md, derived from the presets and from the importers' own tables.

`python -m trainer_core.docs_table` writes them; a test fails while they are behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from . import easy_training, kohya_gui
from .arguments import rules
from .presets import PRESETS, Preset
from .report import INERT, UNSUPPORTED, VERDICTS, flattened


def generated_parts() -> dict[str, str]:
    """The generated parts of both pages by the names of their markers."""
    return {
        "presets": _table("| | For | Source | Date |", map(_line, _presets())),
        "preset details": "\n".join(line for preset in _presets() for line in _section(preset)),
        "verdicts": _table("| Verdict | Means |", (f"| {name} | {meaning} |" for name, meaning in VERDICTS.items())),
        "arguments": "\n".join([_arguments(), *_without_setting(), *_of_the_gui(), *_of_easy_training()]),
    }


def filled_in(page: str, parts: Mapping[str, str]) -> str:
    """A page with each of its marked places holding the part of that name.

    Marked so: `<!-- generated: presets -->` and `<!-- end of presets -->`, each on a line of its own."""
    for name, text in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        if found:
            page = f"{before}{begin}\n{text.strip()}\n\n{end}{rest.partition(end)[2]}"
    return page


def _presets() -> list[Preset]:
    return [preset for _, preset in PRESETS]


def _table(head: str, rows: Iterable[str]) -> str:
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows])


def _line(preset: Preset) -> str:
    return (
        f"| [`{preset.name}`](#{preset.name}) | {_escaped(preset.when)} | {_escaped(preset.source)} | {preset.date} |"
    )


def _section(preset: Preset) -> Iterator[str]:
    yield f"\n## {preset.name}\n\n{preset.title}. Source: {preset.source}, {preset.date}.\n"
    shown = (
        (path, value if isinstance(value, str) else json.dumps(value))
        for path, value in flattened(preset.values).items()
    )
    yield _table("| Setting | Value |", (f"| `{path}` | `{value}` |" for path, value in shown))
    yield ""
    yield from (f"- {note}" for note in preset.notes)


def _arguments() -> str:
    taken = (rule for rule in rules() if rule.setting)
    return _table(
        "| Argument | Here | |", (f"| `{rule.argument}` | `{rule.setting}` | {_escaped(rule.note)} |" for rule in taken)
    )


def _without_setting() -> Iterator[str]:
    for verdict in (INERT, UNSUPPORTED):
        by_note: dict[str, list[str]] = {}
        for rule in rules():
            if not rule.setting and rule.verdict == verdict:
                by_note.setdefault(rule.note, []).append(f"`{rule.argument}`")
        yield f"\n### Always {verdict}\n"
        yield _table(
            "| Arguments | Why |", (f"| {', '.join(names)} | {_escaped(why)} |" for why, names in by_note.items())
        )


def _of_the_gui() -> Iterator[str]:
    yield "\n## Names in kohya_ss' GUI\n"
    yield _table("| There | sd-scripts |", (f"| `{name}` | `{theirs}` |" for name, theirs in kohya_gui.NAMES.items()))
    yield ""
    adapters = kohya_gui.LORA_TYPES.items()
    yield _table("| `LoRA_type` | `network.algo` |", (f"| {name} | `{algo}` |" for name, (algo, _) in adapters))


def _of_easy_training() -> Iterator[str]:
    yield "\n## Names in easy-training version 5\n"
    yield _table(
        "| There | sd-scripts |", (f"| `{name}` | `{theirs}` |" for name, theirs in easy_training.NAMES.items())
    )
    yield ""
    controls = easy_training.CONTROLS.items()
    yield _table(
        "| What steers that program | Here |", (f"| `{name}` | {_escaped(there)} |" for name, there in controls)
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
