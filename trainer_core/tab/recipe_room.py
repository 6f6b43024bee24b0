"""The room of settings: a guide's preset or somebody's file to begin with, every setting by section, and what a run
with them would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import LazyLoraError
from ..recipes import ImportReport, import_file, import_text
from ..recipes.presets import PRESETS, Preset
from ..recipes.report import flattened
from ..settings import merged
from ..studio import Studio
from .form import SECTIONS, Form, Section, own_settings
from .gradio_versions import gradio, private, uploaded
from .markup import done, hint, notes, trouble
from .outlook import outlook_on
from .start import Beginnings, Start, completed

_FORMATS = [".json", ".toml", ".py", ".txt", ".safetensors"]
_ELSEWHERE = ("dataset.folder", "output_name")  # the page's first fields
# what a preset or a recipe says nothing of stays as a person has entered it
_PERSONAL = (*_ELSEWHERE, "output_dir", "dataset.trigger_word", "sample.prompts", "sample.negative_prompt")
_DEFAULT = "default"
_NOTHING_YET = (
    "Once there is a folder: steps, learning rate, file size, memory, and what is known to go wrong with such settings."
)


@dataclass(frozen=True)
class RecipeRoom:
    """The room's own fields; those of the settings are in the form."""

    preset: Any
    about: Any
    dropped: Any
    pasted: Any
    take_pasted: Any
    report: Any
    draws_previews: Any
    look: Any
    outlook: Any

    def connect(self, form: Form, start: Start, studio: Studio, tab: Any, beginnings: Beginnings) -> None:
        """Have presets and files fill the fields, over what suits the model, and the outlook follow when the room is
        entered or asked."""
        gr = gradio()
        fields = [*form.components(), form.rest]

        def beneath(given: Mapping[Any, Any]) -> dict[str, Any]:
            suiting = beginnings.get(start.chosen_model(given), {})
            return merged(suiting, _preset_titled(given[self.preset]).values)

        def choose(given: dict[Any, Any]) -> dict[Any, Any]:
            preset = _preset_titled(given[self.preset])
            return {**_filled(form, beneath(given)), self.about: _about(preset), self.report: gr.update(visible=False)}

        def take(read: Any, given: dict[Any, Any]) -> dict[Any, Any]:
            try:
                report: ImportReport = read()
            except LazyLoraError as error:
                return {self.about: trouble(str(error))}
            values = merged(beneath(given), report.values)
            shown = gr.update(value=report.as_text(), visible=True)
            return {**_filled(form, values), self.about: _became(report), self.report: shown}

        def drop(given: dict[Any, Any]) -> dict[Any, Any]:
            file = given[self.dropped]
            return take(lambda: import_file(uploaded(file)), given) if file else {self.about: ""}

        def paste(given: dict[Any, Any]) -> dict[Any, Any]:
            return take(lambda: import_text(given[self.pasted] or ""), given)

        def look(given: dict[Any, Any], measures: bool) -> str:
            values = form.read(given)
            if not values.get("dataset", {}).get("folder"):
                return hint(_NOTHING_YET)
            try:
                values = completed(values, bool(given[self.draws_previews]), studio.venue)
                return outlook_on(values, start.chosen_model(given), studio, measures)
            except LazyLoraError as error:
                return trouble(str(error))

        outputs = [*fields, self.about, self.report]
        for event, act, own in (
            (self.preset.input, choose, {self.preset}),
            (self.dropped.upload, drop, {self.preset, self.dropped}),
            (self.take_pasted.click, paste, {self.preset, self.pasted}),
        ):
            event(act, inputs=own | start.inputs(), outputs=outputs, **private(event))
        asked = form.inputs() | start.inputs() | {self.draws_previews}
        for event, measures in ((self.look.click, True), (tab.select, False)):
            event(partial(look, measures=measures), inputs=asked, outputs=[self.outlook], **private(event))


def lay_out_recipe_room(form: Form) -> RecipeRoom:
    """Lay the room out, here in the page; adds a field for every setting that has none yet."""
    gr = gradio()
    gr.HTML(
        hint("You need nothing of this for a first LoRA. Begin with a guide's settings, or drop somebody's file here."),
        elem_id="lazylora_recipe_hint",
    )
    with gr.Row(elem_id="lazylora_recipe_source"):
        with gr.Column(elem_id="lazylora_recipe_preset"):
            preset = gr.Dropdown(
                label="Preset",
                info="A guide's own settings, with what it says beside them.",
                choices=[each.title for _, each in PRESETS],
                value=PRESETS.get(_DEFAULT).title,
                elem_id="lazylora_preset",
            )
            about = gr.HTML(_about(PRESETS.get(_DEFAULT)), elem_id="lazylora_about_recipe")
        with gr.Column(elem_id="lazylora_recipe_import"):
            dropped = gr.File(
                label="Drop another trainer's settings here, or any LoRA",
                file_types=_FORMATS,
                elem_id="lazylora_import",
            )
            with gr.Accordion("Or paste them", open=False, elem_id="lazylora_paste"):
                pasted = gr.Textbox(
                    label="Settings as text",
                    info="JSON of kohya's GUI, TOML of sd-scripts, a block out of a guide.",
                    lines=5,
                    elem_id="lazylora_pasted",
                )
                take_pasted = gr.Button("Take them over", elem_id="lazylora_take_pasted")
    report = gr.Textbox(
        label="What became of every key",
        lines=10,
        max_lines=24,
        visible=False,
        interactive=False,
        elem_id="lazylora_import_report",
    )
    with gr.Row(elem_id="lazylora_recipe_body"):
        with gr.Column(scale=3, elem_id="lazylora_recipe_sections"):
            draws_previews = _lay_out_sections(form)
        with gr.Column(scale=2, elem_id="lazylora_recipe_outlook"):
            look = gr.Button("What will happen?", elem_id="lazylora_look_ahead")
            outlook = gr.HTML(
                hint(_NOTHING_YET),
                elem_id="lazylora_outlook",
            )
    return RecipeRoom(preset, about, dropped, pasted, take_pasted, report, draws_previews, look, outlook)


def _lay_out_sections(form: Form) -> Any:
    """Every section's settings; gives the box that asks for previews."""
    gr = gradio()
    draws_previews = None
    for number, section in enumerate(SECTIONS):
        key = section.prefix.rstrip(".") or "run"
        with gr.Accordion(section.title, open=number == 0, elem_id=f"lazylora_section_{key}"):
            if section.prefix == "sample.":
                draws_previews = gr.Checkbox(
                    value=True,
                    label="Draw a preview of every epoch",
                    info="Where no prompts are given, of the first picture's caption.",
                    elem_id="lazylora_draws_previews",
                )
            _lay_out(form, section, key)
    return draws_previews


def _lay_out(form: Form, section: Section, key: str) -> None:
    """What most people change in the open, the rest folded away."""
    gr = gradio()
    settings = [(path, each) for path, each in own_settings(section) if path not in _ELSEWHERE]
    usual = [path for path, each in settings if not _is_folded(path, each.advanced)]
    folded = [path for path, each in settings if _is_folded(path, each.advanced)]
    with gr.Row(elem_id=f"lazylora_fields_{key}"):
        for path in usual:
            form.add(path, **_LOOKS.get(path, {}))
    if folded:
        fold = gr.Accordion("Advanced", open=False, elem_id=f"lazylora_advanced_{key}")
        with fold, gr.Row(elem_id=f"lazylora_fields_{key}_advanced"):
            for path in folded:
                form.add(path, **_LOOKS.get(path, {}))


_LOOKS: dict[str, dict[str, Any]] = {
    "dataset.trigger_word": {"placeholder": "such as zwx"},
    "output_dir": {"info": "Folder in which the run's folder is made; empty is where the UI finds LoRAs."},
}


def _is_folded(path: str, is_advanced: bool) -> bool:
    return is_advanced or path == "output_dir"


def _filled(form: Form, values: dict[str, Any]) -> dict[Any, Any]:
    named = flattened(values)
    return form.showing(values, but_not=[path for path in _PERSONAL if path not in named or path in _ELSEWHERE])


def _preset_titled(title: str) -> Preset:
    return next((each for _, each in PRESETS if each.title == title), PRESETS.get(_DEFAULT))


def _about(preset: Preset) -> str:
    return hint(f"{preset.when} ({preset.source}, {preset.date})") + notes(preset.notes)


def _became(report: ImportReport) -> str:
    said = done(report.summary()) + notes(report.warnings, "warning")
    try:
        report.require_essentials()
    except LazyLoraError as error:
        return said + trouble(str(error))
    return said
