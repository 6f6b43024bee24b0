"""Every setting as a field of the tab: what shows it, what a person's entry means, and back.

Numbers that may be left out, or need more digits than a spinner has, are entered as text; `settings.checked` judges
them as it does everywhere else. What is left empty keeps its default."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import DatasetConfig, LossConfig, NetworkConfig, OptimizerConfig, SampleConfig, TrainConfig
from ..flags import nested
from ..networks import ALGORITHMS
from ..optim import OPTIMIZERS, SCHEDULES
from ..recipes.report import flattened
from ..settings import Setting, all_settings, merged, range_words, settings_of
from .gradio_versions import gradio

WITHOUT_FIELD = ("dataset.tag_edits",)  # a list of edits: an imported recipe may bring some, and they are kept
_AS_USUAL = "as usual"  # how a choice that is an empty text is shown
_SPINNER = 1e6  # larger whole numbers, such as seeds, are text: a page's numbers are doubles


@dataclass(frozen=True)
class Section:
    """A group of settings as the recipe room shows it. config: whose own settings, those of sections left out."""

    prefix: str
    title: str
    config: type


SECTIONS = (
    Section("dataset.", "Pictures and captions", DatasetConfig),
    Section("network.", "The LoRA: its kind and size", NetworkConfig),
    Section("optimizer.", "Optimizer and learning rate", OptimizerConfig),
    Section("", "Length, saving, precision", TrainConfig),
    Section("sample.", "Preview pictures", SampleConfig),
    Section("loss.", "Noise and loss", LossConfig),
)


@dataclass(frozen=True)
class Field:
    """A setting with the component that shows it."""

    setting: Setting
    component: Any


class Form:
    """The fields of the tab by their settings' dotted paths."""

    def __init__(self, values: Mapping[str, Any] | None = None):
        """values: nested settings that the fields begin with, instead of the defaults."""
        self._begin = flattened(values or {})
        self._fields: dict[str, Field] = {}
        # what a recipe has brought that no field shows
        self.rest = gradio().State({})

    def add(self, path: str, **look: Any) -> Any:
        """Make the setting's field here in the layout; `look` wins over how it would be shown. Gives the component."""
        each = _SETTINGS[path]
        if path in self._begin:
            look = {"value": _shown(each, self._begin[path]), **look}
        self._fields[path] = Field(each, _component(path, each, look))
        return self._fields[path].component

    def field(self, path: str) -> Any:
        """The component of a setting that was added."""
        return self._fields[path].component

    @property
    def paths(self) -> list[str]:
        """The settings that have a field, in the order in which they were added."""
        return list(self._fields)

    def inputs(self) -> set[Any]:
        """What an event has to be given so that its values can be `read`."""
        return {self.rest, *self.components()}

    def components(self) -> list[Any]:
        """Every field's component."""
        return [field.component for field in self._fields.values()]

    def read(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        """The values that an event was given as nested settings; empty fields are left out."""
        entered = {path: _entered(field.setting, given[field.component]) for path, field in self._fields.items()}
        return merged(
            given[self.rest] or {}, nested({path: each for path, each in entered.items() if each is not None})
        )

    def showing(self, values: Mapping[str, Any], but_not: Sequence[str] = ()) -> dict[Any, Any]:
        """What an event returns so that the fields show these nested settings, all others their defaults.

        but_not: fields that stay as they are."""
        flat = flattened(values)
        rest = {path: flat[path] for path in WITHOUT_FIELD if path in flat}
        return {
            **self.showing_only([path for path in self._fields if path not in but_not], flat),
            self.rest: nested(rest),
        }

    def showing_only(self, paths: Iterable[str], flat: Mapping[str, Any]) -> dict[Any, Any]:
        """What an event returns so that these fields show their value in `flat` (by dotted path), or their default."""
        fields = [(path, self._fields[path]) for path in paths if path in self._fields]
        return {
            field.component: gradio().update(value=_shown(field.setting, flat.get(path, field.setting.default)))
            for path, field in fields
        }


def label_of(path: str) -> str:
    """A setting's name as a field's label: `lr_warmup_steps` → `Lr warmup steps`."""
    words = path.rpartition(".")[2].replace("_", " ")
    return words[:1].upper() + words[1:]


def own_settings(section: Section) -> list[tuple[str, Setting]]:
    """The section's settings with their paths, in order; those without a field left out."""
    return [
        (section.prefix + each.name, each)
        for each in settings_of(section.config)
        if not each.is_section and section.prefix + each.name not in WITHOUT_FIELD
    ]


_SETTINGS = dict(all_settings(TrainConfig))
_REGISTERED = {"network.algo": ALGORITHMS, "optimizer.optimizer": OPTIMIZERS, "optimizer.lr_scheduler": SCHEDULES}


def _component(path: str, each: Setting, look: Mapping[str, Any]) -> Any:
    gr = gradio()
    common = {"label": label_of(path), "info": _info(each), "elem_id": f"lazylora_{path.replace('.', '_')}"}
    value = look["value"] if "value" in look else "" if each.is_required else _shown(each, each.default)
    if path in _REGISTERED:  # a recipe may know one by another name, which Gradio would refuse
        names = _REGISTERED[path].names()
        return gr.Dropdown(**{**common, "choices": names, "value": value, "allow_custom_value": True, **look})
    if each.choices:
        shown = [choice or _AS_USUAL for choice in each.choices]
        return gr.Dropdown(**{**common, "choices": shown, "value": value, **look})
    if each.type is bool:
        return gr.Checkbox(**{**common, "value": value, **look})
    if _is_many(each):
        return gr.Textbox(**{**common, "value": value, "lines": 3, **look})
    if each.type is int and isinstance(value, int):
        bounds = {"minimum": each.ge, "maximum": each.le} if each.le is not None else {"minimum": each.ge}
        return gr.Number(**{**common, "value": value, "precision": 0, **bounds, **look})
    return gr.Textbox(**{**common, "value": value, "lines": 1, **look})


def _info(each: Setting) -> str:
    has_range = each.le is None or each.le < _SPINNER
    facts = [range_words(each) if has_range else "", "" if each.unit == "px" else each.unit]
    facts = [fact for fact in facts if fact]
    text = f"{each.help} ({', '.join(facts)})" if facts else each.help
    return f"{text} One per line." if _is_many(each) else text


def _is_many(each: Setting) -> bool:
    return typing.get_origin(each.type) is tuple


def _shown(each: Setting, value: Any) -> Any:
    """A value as its component takes it; numbers that are shown as text become text."""
    if value is None:
        return ""
    if each.choices and value == "":
        return _AS_USUAL
    if _is_many(each):
        return "\n".join([value] if isinstance(value, str) else value)
    if each.type is float or (each.type is int and (each.optional or abs(value) > _SPINNER or each.name == "seed")):
        return _digits(value)
    return value


def _digits(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.12g}"


def _entered(each: Setting, value: Any) -> Any:
    """A component's value as a setting's, None where it was left empty."""
    if isinstance(value, str):
        value = "" if each.choices and value == _AS_USUAL else value.strip()
        value = value.strip('"') if each.name == "folder" or each.name.endswith("_dir") else value  # Copy as path
    if value is None or (value == "" and not (each.type is str and each.default == "")):
        return None
    if _is_many(each):
        return [line.strip() for line in str(value).splitlines() if line.strip()]
    return value
