"""What the pack offers to ComfyUI."""

from __future__ import annotations

import sys

from comfy_api.latest import ComfyExtension, io

from ..trainer_core.hosts.comfy_ia3 import register_ia3
from .auto_tag import AutoTag
from .captioner import CaptionDataset, DatasetPictures
from .configure import ConfigureNetwork, ConfigureOptimizer
from .dataset import LoadDataset, TagDataset
from .dataset_report import DatasetReport, PreviewDataset
from .dataset_routes import add_routes
from .download_images import DownloadImages
from .epochs import EpochGrid, EpochsForEfficiency, LoadEpoch
from .import_recipe import ImportRecipe
from .train_lora import TrainLoRA


class LazyLoraExtension(ComfyExtension):
    """The nodes in the order in which a graph uses them. Ids never change: saved graphs hold them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            DownloadImages,
            LoadDataset,
            AutoTag,
            DatasetPictures,
            CaptionDataset,
            TagDataset,
            PreviewDataset,
            DatasetReport,
            ConfigureNetwork,
            ConfigureOptimizer,
            ImportRecipe,
            TrainLoRA,
            LoadEpoch,
            EpochGrid,
            EpochsForEfficiency,
        ]


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls when it loads the pack; its LoRA loaders learn to read (IA)³ files, too."""
    register_ia3()
    server = sys.modules.get("server")  # not there, and not to be imported, where only the nodes are listed
    running = getattr(getattr(server, "PromptServer", None), "instance", None)
    if running is not None:
        add_routes(running.routes)
    return LazyLoraExtension()
