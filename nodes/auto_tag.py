"""AutoTag: captions from a WD tagger, written into the dataset's caption files when told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.examples import scan
from ..trainer_core.tagging.autotag import autotag
from ..trainer_core.tagging.config import TaggerConfig
from ..trainer_core.tagging.model_files import find_model, offered_models
from ..trainer_core.tagging.tagger import Tagger
from .caption_actions import ACTION_HELP, ACTIONS, check_action, shown_or_written, undone
from .errors import plainly
from .inputs import inputs_of, settings_from
from .wires import CATEGORY, Dataset

_BY_NAME = "(by name)"


class AutoTag(io.ComfyNode):
    """Tags of a WD tagger as captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_AutoTag",
            display_name="Auto Tag (LazyLoRA)",
            category=CATEGORY,
            description="Captions from a WD tagger (ONNX), shown, or written into the caption files when told to.",
            inputs=[
                Dataset.Input("dataset", tooltip="From LoadDataset."),
                io.Combo.Input(
                    "tagger",
                    options=[*offered_models(_models()), _BY_NAME],
                    tooltip="A folder in ComfyUI's models/taggers with model.onnx and selected_tags.csv.",
                ),
                io.String.Input(
                    "name",
                    default="SmilingWolf/wd-vit-tagger-v3",
                    optional=True,
                    tooltip="For (by name): a tagger's repository on Hugging Face, as its files lie in models/taggers.",
                ),
                io.Boolean.Input(
                    "download", default=False, optional=True, tooltip="Fetch it from Hugging Face if it is not there."
                ),
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    optional=True,
                    tooltip=ACTION_HELP,
                ),
                *inputs_of(TaggerConfig),
            ],
            outputs=[
                Dataset.Output("dataset_out", display_name="dataset", tooltip="The dataset, with its captions."),
                io.String.Output("captions", display_name="captions", tooltip="What was shown, written or undone."),
            ],
            is_output_node=True,
        )

    @classmethod
    @plainly
    def execute(
        cls,
        dataset: DatasetConfig,
        tagger: str,
        name: str = "",
        download: bool = False,
        action: str = "show",
        **values: Any,
    ) -> io.NodeOutput:
        check_action(dataset, action)
        if action == "undo":
            said = undone(dataset)
            return io.NodeOutput(dataset, said, ui=ui.PreviewText(said))
        config = settings_from(TaggerConfig, values)
        chosen = name if tagger == _BY_NAME else tagger
        model = Tagger(find_model(chosen, _models(), download))
        examples = scan(dataset).examples
        progress = ProgressBar(len(examples))
        captions, troubles = {}, []
        for each in autotag(examples, model, config):
            progress.update(1)
            if each.trouble:
                troubles.append(each.trouble)
            else:
                captions[each.example] = each.caption
        lines = [*troubles, *shown_or_written(dataset, captions, action, f"tagged by {chosen}")]
        said = "\n".join(lines)
        return io.NodeOutput(dataset, said, ui=ui.PreviewText(said))


def _models() -> Path:
    return Path(folder_paths.models_dir) / "taggers"
