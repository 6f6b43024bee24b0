"""ImportRecipe: a guide's settings, another trainer's file, or a LoRA's own recipe, for the nodes that train."""

from __future__ import annotations

from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..trainer_core.config import NetworkConfig, OptimizerConfig, layered
from ..trainer_core.errors import ConfigError
from ..trainer_core.recipes import ImportReport, import_file, import_text
from ..trainer_core.recipes.presets import PRESETS
from ..trainer_core.settings import from_json
from .errors import plainly
from .recipe_file import recipe_file, words
from .wires import CATEGORY, Network, Optimizer, Recipe

_NONE = "none"


class ImportRecipe(io.ComfyNode):
    """Settings from elsewhere, with a report on what became of every key."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_ImportRecipe",
            display_name="Import Recipe (LazyLoRA)",
            category=CATEGORY,
            description=(
                "A guide's settings, those of kohya's GUI, sd-scripts or easy-training, or what a LoRA says of its own "
                "training. The text wins over the file, the file over the preset."
            ),
            inputs=[
                io.Combo.Input(
                    "preset", options=[_NONE, *PRESETS.names()], optional=True, tooltip="A guide's own settings."
                ),
                io.String.Input(
                    "file",
                    default="",
                    optional=True,
                    tooltip="A settings file (JSON, TOML, Python source) in ComfyUI's input folder, or a LoRA's name.",
                ),
                io.String.Input(
                    "text", default="", multiline=True, optional=True, tooltip="Settings, pasted; a guide's block, too."
                ),
                io.String.Input(
                    "skip", default="", optional=True, tooltip="Keys that are not taken over, by their name or ours."
                ),
            ],
            outputs=[
                Recipe.Output(
                    "recipe",
                    display_name="recipe",
                    tooltip="All of it, for TrainLoRA and for LoadDataset. It wins there.",
                ),
                Network.Output("network", display_name="network", tooltip="The adapter only, for TrainLoRA."),
                Optimizer.Output("optimizer", display_name="optimizer", tooltip="The optimizer only, for TrainLoRA."),
                io.String.Output("report", display_name="report", tooltip="What became of every key, and why."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = "", **_: Any) -> str:
        if not (file or "").strip():
            return ""
        try:
            status = recipe_file(str(file), _readable_folders()).stat()
        except ConfigError:
            return "missing"
        return f"{status.st_size} {status.st_mtime_ns}"

    @classmethod
    @plainly
    def execute(cls, preset: str = _NONE, file: str = "", text: str = "", skip: str = "") -> io.NodeOutput:
        reports: list[ImportReport] = []
        if file.strip():
            reports.append(import_file(recipe_file(file, _readable_folders()), words(skip)))
        if text.strip():
            reports.append(import_text(text, words(skip)))
        values = {} if preset == _NONE else PRESETS.get(preset).values
        for report in reports:
            values = layered(values, report.values)
        said = "\n\n".join([*_about(preset), *(report.as_text() for report in reports)]) or "no recipe: our defaults"
        network = from_json(NetworkConfig, values.get("network", {}))
        optimizer = from_json(OptimizerConfig, values.get("optimizer", {}))
        return io.NodeOutput(values, network, optimizer, said, ui=ui.PreviewText(said))


def _about(preset: str) -> list[str]:
    if preset == _NONE:
        return []
    chosen = PRESETS.get(preset)
    return ["\n".join([f"{chosen.title}: {chosen.source}, {chosen.date}", chosen.when, *chosen.notes])]


def _readable_folders() -> list[str]:
    loras = folder_paths.get_folder_paths("loras")
    return [folder_paths.get_input_directory(), *loras, folder_paths.get_output_directory()]
