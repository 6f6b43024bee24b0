"""DatasetReport and PreviewDataset: a dataset looked at before anything is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.captions import parse_tags, prepared_caption, settings_of
from ..trainer_core.data.edits import with_edits
from ..trainer_core.data.examples import scan
from ..trainer_core.data.pictures import read_picture
from ..trainer_core.doctor.picture import drawn
from ..trainer_core.doctor.report import examine
from ..trainer_core.doctor.words import described
from ..trainer_core.grid import contact_sheet
from ..trainer_core.hosts.comfy_tokens import token_counter
from .dataset_routes import OPENED
from .errors import plainly
from .folders import is_inside
from .pictures import to_image
from .wires import CATEGORY, Dataset


class DatasetReport(io.ComfyNode):
    """What training will make of a dataset, and what in it deserves a look."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_DatasetReport",
            display_name="Dataset Report (LazyLoRA)",
            category=CATEGORY,
            description="Buckets with what they cut off, steps, near-duplicates, blurred and small pictures, captions.",
            inputs=[
                Dataset.Input("dataset", tooltip="From LoadDataset or TagDataset."),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Counts the captions' tokens exactly; without it they are estimated."
                ),
                io.Int.Input(
                    "pictures", default=16, min=1, max=200, optional=True, tooltip="How many pictures are drawn."
                ),
            ],
            outputs=[
                io.Image.Output("picture", display_name="picture", tooltip="The report as a picture, crops drawn."),
                io.String.Output("text", display_name="text", tooltip="The report in words."),
                io.String.Output("json", display_name="json", tooltip="All of it as JSON, for other nodes."),
            ],
            is_output_node=True,
        )

    @classmethod
    @plainly
    def execute(cls, dataset: DatasetConfig, clip: Any = None, pictures: int = 16) -> io.NodeOutput:
        counter = None if clip is None else token_counter(clip)
        # graphs come from anywhere: what was measured is kept beside pictures in ComfyUI's own folder only
        is_ours = is_inside(Path(dataset.folder), folder_paths.get_input_directory())
        kept_in = None if is_ours else Path(folder_paths.get_temp_directory()) / "lazylora"
        examined = examine(dataset, counter, kept_in)
        text = described(examined.report)
        picture = to_image([drawn(examined, pictures)])
        return io.NodeOutput(picture, text, json.dumps(examined.report.to_json()), ui=ui.PreviewText(text))


class PreviewDataset(io.ComfyNode):
    """A page of a dataset's pictures with their captions as training sees them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_PreviewDataset",
            display_name="Preview Dataset (LazyLoRA)",
            category=CATEGORY,
            description="Pictures with their captions as training sees them; a browser to edit the caption files.",
            inputs=[
                Dataset.Input("dataset", tooltip="From LoadDataset or TagDataset."),
                io.Int.Input("page", default=1, min=1, max=100000, optional=True, tooltip="Which page, from 1."),
                io.Int.Input("per_page", default=16, min=1, max=100, optional=True, tooltip="Pictures on a page."),
                io.String.Input(
                    "tag", default="", optional=True, tooltip="Only pictures with this tag; -tag: those without it."
                ),
            ],
            outputs=[io.Image.Output("sheet", display_name="sheet", tooltip="The page as a picture.")],
            is_output_node=True,
        )

    @classmethod
    @plainly
    def execute(cls, dataset: DatasetConfig, page: int = 1, per_page: int = 16, tag: str = "") -> io.NodeOutput:
        examples = with_edits(scan(dataset), dataset).examples
        captions = [prepared_caption(each.caption, settings_of(each, dataset)) for each in examples]
        shown = [each for each in zip(examples, captions) if _is_wanted(each[1], tag)]
        pages = max(1, -(-len(shown) // per_page))
        start = (min(page, pages) - 1) * per_page
        chosen = shown[start : start + per_page]
        labels = [f"{each.name}\n{caption}" for each, caption in chosen]
        sheet = to_image([contact_sheet([read_picture(each.path) for each, _ in chosen], labels)])
        browser = {"lazylora_dataset": [OPENED.open(dataset, examples)]}
        return io.NodeOutput(sheet, ui={**ui.PreviewImage(sheet, cls=cls).as_dict(), **browser})


def _is_wanted(caption: str, tag: str) -> bool:
    """Whether a caption has the tag; with a minus before it, whether it has not."""
    is_left_out, name = tag.strip().startswith("-"), tag.strip().removeprefix("-").strip().casefold()
    return not name or is_left_out != (name in map(str.casefold, parse_tags(caption)))
