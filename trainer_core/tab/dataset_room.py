"""The room in which a folder of pictures is looked over, and its captions are edited many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..config import TagEdit
from ..data.pictures import read_picture
from ..doctor.picture import drawn
from ..doctor.report import DatasetReport
from ..doctor.words import described, findings
from ..errors import DataError, LazyLoraError
from ..settings import from_json
from ..studio import Studio
from ..telling import many
from .captions import CaptionRoom
from .form import Form
from .gradio_versions import gradio, private
from .markup import changes, done, facts, hint, notes, trouble

_OPERATIONS = {
    "Remove these tags": "remove",
    "Put tags in front": "prepend",
    "Add tags at the end": "append",
    "Replace tags by others": "replace",
    "Rename tags, one by one": "rename",
    "Keep these tags only": "keep",
    "Remove what (nearly) every picture has, but for these": "drop_traits",
    "Sort: these first, then the most common": "sort",
    "Remove doubles": "deduplicate",
    "Regular expression": "regex",
}
_NEEDS_REPLACEMENT = ("replace", "rename", "regex")
_MOST_PICTURES = 24
_SIDE = 256
_NO_FOLDER = "Give a folder at the top, then look at it here: what is in it, and what in it deserves attention."


@dataclass(frozen=True)
class DatasetRoom:
    """The room's fields."""

    look: Any
    summary: Any
    report: Any
    picture: Any
    tags: Any
    gallery: Any
    operation: Any
    edited: Any
    replacement: Any
    percent: Any
    show: Any
    write: Any
    undo: Any
    said: Any

    def connect(self, form: Form, studio: Studio, tab: Any) -> None:
        """Have the buttons do what they say, on the folder that the form names."""
        gr = gradio()

        def room(given: Mapping[Any, Any]) -> CaptionRoom:
            return CaptionRoom(form.read(given).get("dataset", {}), studio.venue)

        def look(given: dict[Any, Any]) -> dict[Any, Any]:
            try:
                looked = room(given)
                examined = looked.examined()
                return {
                    self.summary: _summary(examined.report),
                    self.report: described(examined.report),
                    self.picture: drawn(examined),
                    self.tags: _rows(examined.report),
                    self.gallery: _pictures(looked, ""),
                    self.undo: _undo_label(looked),
                }
            except LazyLoraError as error:
                return {self.summary: trouble(str(error))}

        def choose(given: dict[Any, Any], chosen: Any) -> dict[Any, Any]:
            tag = _tag_in(given[self.tags], chosen.index)
            try:
                return {self.gallery: _pictures(room(given), tag), self.edited: tag}
            except LazyLoraError as error:
                return {self.said: trouble(str(error))}

        def edit(given: dict[Any, Any], writes: bool) -> dict[Any, Any]:
            try:
                edit = _edit(*(given[each] for each in (self.operation, self.edited, self.replacement, self.percent)))
                captions = room(given)
                found = captions.changes(edit)
                if not found:
                    return {self.said: hint("No caption would change.")}
                if not writes:
                    before_and_after = [(each.example.name, each.before, each.after) for each in found]
                    return {self.said: hint(f"{many(len(found), 'caption')} would change:") + changes(before_and_after)}
                count = captions.write(found, f"{edit.operation} {edit.tags}".strip())
                return {**look(given), self.said: done(f"{many(count, 'caption file')} written; it can be undone")}
            except LazyLoraError as error:
                return {self.said: trouble(str(error))}

        def undo(given: dict[Any, Any]) -> dict[Any, Any]:
            try:
                undone = room(given).undo()
            except LazyLoraError as error:
                return {self.said: trouble(str(error))}
            if undone is None:
                return {self.said: hint("There is nothing to undo.")}
            left = notes([f"left alone, as it was changed since: {name}" for name in undone.left_alone], "warning")
            said = done(f"undone: {undone.what} ({many(undone.files, 'file')})") + left
            return {**look(given), self.said: said}

        asked = form.inputs()
        edit_fields = {self.operation, self.edited, self.replacement, self.percent}
        looks = [self.summary, self.report, self.picture, self.tags, self.gallery, self.undo]
        self.look.click(look, inputs=asked, outputs=looks, **private(self.look.click))
        choose.__annotations__ = {"chosen": gr.SelectData}  # by which Gradio knows what to hand over
        select = self.tags.select
        select(choose, inputs=asked | {self.tags}, outputs=[self.gallery, self.edited, self.said], **private(select))
        for button, writes in ((self.show, False), (self.write, True)):
            click = button.click
            act = partial(edit, writes=writes)
            click(act, inputs=asked | edit_fields, outputs=[*looks, self.said], **private(click))
        self.undo.click(undo, inputs=asked, outputs=[*looks, self.said], **private(self.undo.click))
        input_ = self.operation.input
        input_(_fields_for, inputs=[self.operation], outputs=[self.replacement, self.percent], **private(input_))


def lay_out_dataset_room() -> DatasetRoom:
    """Lay the room out, here in the page."""
    gr = gradio()
    with gr.Row(elem_id="lazylora_dataset_room"):
        with gr.Column(scale=2, elem_id="lazylora_dataset_look"):
            look = gr.Button("Look at the folder", elem_id="lazylora_look")
            summary = gr.HTML(hint(_NO_FOLDER), elem_id="lazylora_dataset_summary")
            with gr.Accordion("The whole report", open=False, elem_id="lazylora_whole_report"):
                report = gr.Textbox(
                    label="In words", lines=12, max_lines=30, interactive=False, elem_id="lazylora_report"
                )
                picture = gr.Image(
                    label="With what the buckets cut off",
                    show_label=False,
                    type="pil",
                    interactive=False,
                    elem_id="lazylora_picture",
                )
        with gr.Column(scale=3, elem_id="lazylora_dataset_tags"):
            tags = gr.Dataframe(
                headers=["tag", "pictures", "share"],
                datatype=["str", "number", "str"],
                label="Tags, the most common first; click one to see its pictures",
                interactive=False,
                elem_id="lazylora_tags",
            )
            gallery = gr.Gallery(
                label="Pictures", columns=6, height=260, object_fit="contain", elem_id="lazylora_gallery"
            )
            with gr.Accordion("Edit many captions at once", open=True, elem_id="lazylora_edit"):
                with gr.Row(elem_id="lazylora_fields_edit"):
                    operation = gr.Dropdown(
                        label="Do what",
                        choices=list(_OPERATIONS),
                        value=next(iter(_OPERATIONS)),
                        elem_id="lazylora_operation",
                    )
                    edited = gr.Textbox(label="Tags, parted by commas", elem_id="lazylora_edited_tags")
                    replacement = gr.Textbox(label="By what", visible=False, elem_id="lazylora_replacement")
                    percent = gr.Number(
                        label="On at least so many % of the captions",
                        value=80,
                        visible=False,
                        elem_id="lazylora_percent",
                    )
                with gr.Row(elem_id="lazylora_edit_buttons"):
                    show = gr.Button("Show what would change", size="sm", elem_id="lazylora_show_edit")
                    write = gr.Button("Write it into the files", size="sm", elem_id="lazylora_write_edit")
                    undo = gr.Button("Undo", size="sm", elem_id="lazylora_undo_edit")
                said = gr.HTML(elem_id="lazylora_edit_said")
    return DatasetRoom(
        *(look, summary, report, picture, tags, gallery),
        *(operation, edited, replacement, percent, show, write, undo, said),
    )


def _summary(report: DatasetReport) -> str:
    said = {
        "pictures": str(report.pictures),
        "steps an epoch": str(report.steps_per_epoch),
        "longest caption": many(report.tokens.longest, "token"),
    }
    odd = findings(report)
    return facts(said) + (notes(odd, "warning") if odd else done("Nothing in it looks wrong."))


def _rows(report: DatasetReport) -> list[list[Any]]:
    return [[each.tag, each.pictures, f"{each.share:.0%}"] for each in report.tags] or [["", 0, ""]]


def _pictures(room: CaptionRoom, tag: str) -> list[tuple[Any, str]]:
    """Thumbnails with their captions, for a gallery."""
    found = []
    for example in room.with_tag(tag, _MOST_PICTURES):
        try:
            picture = read_picture(example.path)
        except DataError:  # the report names it
            continue
        picture.thumbnail((_SIDE, _SIDE))
        found.append((picture, example.caption))
    return found


def _tag_in(table: Any, index: Any) -> str:
    """The tag in the row that was clicked. table: as Gradio gives it, a pandas frame."""
    row = index[0] if isinstance(index, (list, tuple)) else index
    try:
        return str(table.iloc[int(row), 0])
    except (AttributeError, IndexError, TypeError, ValueError):
        return ""


def _edit(operation: str, tags: str, replacement: str, percent: Any) -> TagEdit:
    given = {"operation": _OPERATIONS.get(operation, operation), "tags": tags or "", "replacement": replacement or ""}
    return from_json(TagEdit, {**given, "percent": 80 if percent is None else percent}, "edit.")


def _fields_for(operation: str) -> tuple[Any, Any]:
    gr = gradio()
    kind = _OPERATIONS.get(operation, operation)
    return gr.update(visible=kind in _NEEDS_REPLACEMENT), gr.update(visible=kind == "drop_traits")


def _undo_label(room: CaptionRoom) -> Any:
    newest = room.newest_change()
    words = "Undo" if newest is None else f"Undo: {newest.what} ({many(newest.files, 'file')})"
    return gradio().update(value=words[:80], interactive=newest is not None)
