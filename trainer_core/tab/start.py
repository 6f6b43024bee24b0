"""The three fields of a person who chooses nothing: folder, name, Train; and the line that shows how far it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LazyLoraError
from ..hosts.venue import Venue
from ..recipes.report import flattened
from ..settings import merged
from ..studio import Studio
from .form import Form
from .glance import allowed_dataset, glance
from .gradio_versions import gradio, private, script
from .markup import done, live, notes, trouble

Beginnings = Mapping[str, Mapping[str, Any]]  # model → nested settings that suit it better than the defaults
_NOT_IN_A_NAME = re.compile(r"[^\w\- ]+")
_REPEATS = re.compile(r"^\d+_")


@dataclass(frozen=True)
class Start:
    """The components that other rooms need. model: None where the UI's own choice counts."""

    model: Any
    train: Any
    said: Any

    def inputs(self) -> set[Any]:
        """What, besides the form's, an event needs that trains."""
        return set() if self.model is None else {self.model}

    def chosen_model(self, given: Mapping[Any, Any]) -> str:
        """The chosen model's name, "" for what the UI has loaded."""
        return "" if self.model is None else str(given[self.model] or "")


def lay_out_start(form: Form, studio: Studio) -> Start:
    """Lay the fields out, here in the page."""
    gr = gradio()
    models = list(studio.venue.models())
    with gr.Row(elem_id="lazylora_start"):
        form.add(
            "dataset.folder",
            label="Folder of pictures",
            info="10 to 30 pictures of one thing. A text file beside a picture may say what it shows.",
            placeholder="the folder's full path",
            scale=2,
        )
        form.add(
            "output_name",
            label="Name of the LoRA",
            info="What its files will be called.",
            placeholder="as the folder",
        )
        model = None
        if models:
            model = gr.Dropdown(
                label="Model",
                info="What it is trained on: take the one that you draw with.",
                choices=models,
                value=models[0],
                elem_id="lazylora_model",
            )
        train = gr.Button("Train", variant="primary", elem_id="lazylora_train")
    said = gr.HTML(elem_id="lazylora_said")
    gr.HTML(live("strip"), elem_id="lazylora_strip")
    return Start(model, train, said)


def begin_anew_with_model(start: Start, form: Form, beginnings: Beginnings) -> None:
    """Once another model is chosen, take what suited the one before for what suits it; all else stays as entered."""
    if start.model is None or not beginnings:
        return
    gr = gradio()
    before = gr.State(start.model.value)

    def choose(model: str, left: str) -> dict[Any, Any]:
        old, new = flattened(beginnings.get(left, {})), flattened(beginnings.get(model, {}))
        return {**form.showing_only({**old, **new}, new), before: model}

    chosen = start.model.input
    chosen(choose, inputs=[start.model, before], outputs=[*form.components(), before], **private(chosen))


def look_when_left(start: Start, form: Form, venue: Venue) -> None:
    """Once a folder is entered, say what is in it and call the LoRA like it, if it has no name."""
    gr = gradio()
    folder, name = form.field("dataset.folder"), form.field("output_name")

    def look(given: dict[Any, Any]) -> dict[Any, Any]:
        values = form.read(given)
        entered = values.get("dataset", {}).get("folder", "")
        if not entered:
            return {start.said: ""}
        try:
            found = glance(values["dataset"], venue)
        except LazyLoraError as error:
            return {start.said: trouble(str(error))}
        said = notes([found.words], "done") + notes(found.warnings, "warning")
        return {start.said: said, name: gr.update(value=values.get("output_name") or name_of(entered))}

    for event in (folder.blur, folder.submit):
        event(look, inputs=form.inputs(), outputs=[start.said, name], **private(event))


def train_on_click(start: Start, form: Form, draws_previews: Any, studio: Studio, rooms: Any) -> None:
    """Have the button queue what the form says, and lead into the room where it can be watched.

    draws_previews: the box that asks for previews where no prompts are given. rooms: the tabs."""
    gr = gradio()

    def train(given: dict[Any, Any]) -> dict[Any, Any]:
        try:
            values = completed(form.read(given), bool(given[draws_previews]), studio.venue)
            studio.enqueue(values, start.chosen_model(given))
        except LazyLoraError as error:
            return {start.said: trouble(str(error))}
        is_next = len(_waiting(studio)) <= 1
        words = "" if is_next else done(f"{values['output_name']} is in the queue, and begins when the others are done")
        return {start.said: words, rooms: gr.update(selected="run")}

    click = start.train.click
    inputs = form.inputs() | start.inputs() | {draws_previews}
    queued = click(train, inputs=inputs, outputs=[start.said, rooms], **private(click))
    queued.then(None, **script(queued.then, "() => { globalThis.lazyloraTab?.soon(); }"))


def completed(values: dict[str, Any], draws_previews: bool, venue: Venue) -> dict[str, Any]:
    """With what a person need not enter: the LoRA's name from its folder, and a prompt for the previews, the caption of
    the first picture. Raises LazyLoraError without a folder, or for one that cannot be trained on."""
    config = allowed_dataset(values.get("dataset", {}), venue)
    if not values.get("output_name"):
        values = {**values, "output_name": name_of(config.folder)}
    if draws_previews and not values.get("sample", {}).get("prompts"):
        caption = glance(values["dataset"], venue).caption
        values = merged(values, {"sample": {"prompts": [caption]}}) if caption else values
    return values


def name_of(folder: str) -> str:
    """A LoRA's name from its pictures' folder: `10_my cat!` → `my cat`."""
    last = Path(folder.strip().strip('"')).name
    return _NOT_IN_A_NAME.sub("", _REPEATS.sub("", last)).strip(" -") or "my_lora"


def _waiting(studio: Studio) -> list[dict[str, Any]]:
    return [each for each in studio.status()["queue"] if each["state"] in ("waiting", "running")]
