"""DownloadImages: pictures by their tags into ComfyUI's input folder, when told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..trainer_core.download.config import DownloadConfig
from ..trainer_core.download.gallery import download as fetched
from ..trainer_core.download.sites import SITES
from .errors import plainly, said
from .folders import new_input_folder
from .inputs import inputs_of, settings_from
from .wires import CATEGORY


class DownloadImages(io.ComfyNode):
    """Pictures of a booru, with their tags as captions, for Load Dataset."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_DownloadImages",
            display_name="Download Images (LazyLoRA)",
            category=CATEGORY,
            description="Fetches pictures through gallery-dl, with their tags as captions. Off by default.",
            inputs=[
                io.String.Input(
                    "folder", default="downloaded", tooltip="A folder inside ComfyUI's input folder; it is made."
                ),
                *inputs_of(DownloadConfig, choices={"site": tuple(SITES)}),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip="Nothing is fetched until this is on; then each time it is queued.",
                ),
            ],
            outputs=[
                io.String.Output("path", display_name="path", tooltip="The folder, for the path of Load Dataset."),
                io.String.Output("report", display_name="report", tooltip="What came, and what was left out."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, folder: str | None) -> bool | str:
        if folder is None:  # comes by wire: seen when it runs
            return True
        return said(new_input_folder, folder, folder_paths.get_input_directory())

    @classmethod
    @plainly
    def execute(cls, folder: str, download: bool = False, **values: Any) -> io.NodeOutput:
        chosen = new_input_folder(folder, folder_paths.get_input_directory())
        if not download:
            report = "nothing was fetched: turn download on"
        else:
            report = _fetched_into(chosen, settings_from(DownloadConfig, values))
        return io.NodeOutput(str(chosen), report, ui=ui.PreviewText(report))


def _fetched_into(folder: Path, config: DownloadConfig) -> str:
    progress = ProgressBar(config.limit)
    lines = []
    coming = fetched(config, folder)
    try:
        for each in coming:
            progress.update(1)
            lines.append(f"{each.path.name}: {each.caption}" if each.path is not None else f"left out: {each.trouble}")
            throw_exception_if_processing_interrupted()
    finally:
        coming.close()
    return "\n".join(lines) or "nothing new"
