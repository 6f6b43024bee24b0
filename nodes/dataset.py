"""LoadDataset and TagDataset: which pictures are trained on, and what their captions become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..trainer_core.config import DatasetConfig, TagEdit
from ..trainer_core.data.captions import prepared_caption, settings_of
from ..trainer_core.data.dataset import read_dataset
from ..trainer_core.data.edits import with_edits
from ..trainer_core.data.examples import scan
from ..trainer_core.data.pictures import read_picture
from ..trainer_core.grid import contact_sheet
from .errors import plainly, said
from .folders import dataset_folder, folder_digest, offered_folders
from .inputs import inputs_of, settings_from
from .pictures import to_image
from .recipe_file import overruled
from .report import describe_dataset
from .wires import CATEGORY, Dataset, Recipe

_SHOWN_PICTURES = 8
_FOLDERS_BESIDE = ("masks_dir", "reg_data_dir")


class LoadDataset(io.ComfyNode):
    """A folder of pictures and captions as a dataset."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_LoadDataset",
            display_name="Load Dataset (LazyLoRA)",
            category=CATEGORY,
            description="Pictures to train on, with their captions from .txt files of the same name.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=offered_folders(folder_paths.get_input_directory()),
                    tooltip="A folder inside ComfyUI's input folder: pictures, or kohya's N_name folders (N repeats).",
                ),
                io.String.Input(
                    "path",
                    default="",
                    optional=True,
                    tooltip="The full path of any other folder on the machine that ComfyUI runs on; wins over folder.",
                ),
                *inputs_of(DatasetConfig, leave_out=("folder", "trigger_word", "tag_edits")),
                Recipe.Input(
                    "recipe",
                    optional=True,
                    tooltip="From ImportRecipe; what it names wins over the values of this node.",
                ),
            ],
            outputs=[
                Dataset.Output("dataset", display_name="dataset", tooltip="For TagDataset or TrainLoRA."),
                io.Image.Output("preview", display_name="preview", tooltip="The first pictures with their captions."),
                io.String.Output("report", display_name="report", tooltip="Counts, buckets, and what deserves a look."),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None, path: str | None = "") -> bool | str:
        if folder is None or path is None:  # comes by wire: seen when it runs
            return True
        return said(dataset_folder, folder, path, folder_paths.get_input_directory())

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, path: str | None = "", **values: Any) -> str:
        if folder is None or path is None:
            return "by wire"
        beside = [Path(each.strip()).expanduser() for name in _FOLDERS_BESIDE if (each := values.get(name))]
        return folder_digest(dataset_folder(folder, path, folder_paths.get_input_directory()), *beside)

    @classmethod
    @plainly
    def execute(
        cls, folder: str, path: str = "", recipe: Mapping[str, Any] | None = None, **values: Any
    ) -> io.NodeOutput:
        chosen = dataset_folder(folder, path, folder_paths.get_input_directory())
        own = settings_from(DatasetConfig, values, folder=str(chosen))
        config = overruled(own, (recipe or {}).get("dataset"))
        dataset = read_dataset(config)
        report = describe_dataset(dataset, config)
        shown = dataset.subjects[:_SHOWN_PICTURES]
        sheet = contact_sheet([read_picture(each.path) for each in shown], [each.caption for each in shown])
        return io.NodeOutput(config, to_image([sheet]), report, ui=ui.PreviewText(report))


class TagDataset(io.ComfyNode):
    """A trigger word and one edit of the captions; several in a row are done one after the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_TagDataset",
            display_name="Tag Dataset (LazyLoRA)",
            category=CATEGORY,
            description="Edits the captions as training sees them; the caption files stay as they are. Can be chained.",
            inputs=[
                Dataset.Input("dataset", tooltip="From LoadDataset or another TagDataset."),
                *inputs_of(DatasetConfig, leave_out=_ALL_BUT_THE_TRIGGER),
                *inputs_of(TagEdit),
            ],
            outputs=[
                Dataset.Output("dataset_out", display_name="dataset", tooltip="For TrainLoRA or another TagDataset."),
                io.String.Output("captions", display_name="captions", tooltip="Every caption after the edits."),
            ],
        )

    @classmethod
    @plainly
    def execute(cls, dataset: DatasetConfig, trigger_word: str = "", **values: Any) -> io.NodeOutput:
        config = replace(dataset, trigger_word=trigger_word.strip() or dataset.trigger_word)
        if values.get("tags", "").strip() or values.get("operation") in _NEEDS_NO_TAGS:
            config = replace(config, tag_edits=(*dataset.tag_edits, settings_from(TagEdit, values)))
        examples = with_edits(scan(config), config).examples
        lines = [f"{each.name}: {prepared_caption(each.caption, settings_of(each, config))}" for each in examples]
        captions = "\n".join(lines)
        return io.NodeOutput(config, captions, ui=ui.PreviewText(captions))


_NEEDS_NO_TAGS = ("deduplicate", "sort", "drop_traits")
_ALL_BUT_THE_TRIGGER = tuple(name for name in DatasetConfig.__dataclass_fields__ if name != "trigger_word")
