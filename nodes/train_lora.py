"""TrainLoRA: the loaded model in, a LoRA per epoch out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
from comfy_api.latest import io, ui
from PIL import Image

from ..trainer_core.config import DatasetConfig, LossConfig, NetworkConfig, OptimizerConfig, SampleConfig, TrainConfig
from ..trainer_core.errors import LazyLoraError
from ..trainer_core.events import Measurement, Spiked
from ..trainer_core.files.event_log import read_measurements, read_spikes
from ..trainer_core.files.run_folder import RunFolder, check_name
from ..trainer_core.hosts.comfy import ComfyHost
from ..trainer_core.job import Job
from ..trainer_core.plots import curves, thinned
from ..trainer_core.run import TrainedRun
from ..trainer_core.telling import as_curve
from ..trainer_core.train import train
from .apply import with_lora
from .errors import plainly, said
from .folders import output_folder
from .inputs import in_saved_order, inputs_of, settings_from
from .pictures import to_image
from .recipe_file import overruled
from .watch import NodeDisplay, follow
from .wires import CATEGORY, Dataset, Network, Optimizer, Recipe, Run

_NAME = "my_lora"
_PREVIEW = "sample_"
# graphs hold a node's values by position: what came later stands behind these, and is added here when it is released
_SAVED_ORDER = """
    model clip vae dataset network optimizer
    output_name max_train_epochs save_every_n_epochs gradient_accumulation_steps gradient_checkpointing mixed_precision
    max_token_length clip_skip save_precision seed training_comment
    prediction_type zero_terminal_snr min_snr_gamma min_timestep max_timestep
    sample_prompts sample_negative_prompt sample_every_n_epochs sample_steps sample_cfg sample_width sample_height
    sample_seed output_folder allow_patched_model
"""
_FOLDED_PREVIEW_SETTINGS = tuple(name for name in SampleConfig.__dataclass_fields__ if name != "prompts")


class TrainLoRA(io.ComfyNode):
    """Trains on the MODEL, CLIP and VAE that the graph holds; a stopped run goes on when the graph is queued again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_TrainLoRA",
            display_name="Train LoRA (LazyLoRA)",
            category=CATEGORY,
            description=(
                "Trains a LoRA on the loaded model. Cancel keeps what was trained; queueing the same graph goes on "
                "from there, and queueing a finished one returns it at once."
            ),
            inputs=in_saved_order(
                _SAVED_ORDER.split(),
                io.Model.Input("model", tooltip="The model to train on, straight from its loader."),
                io.Clip.Input("clip", tooltip="The text encoder(s) of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE that encodes the pictures."),
                Dataset.Input("dataset", tooltip="From LoadDataset or TagDataset."),
                Network.Input("network", optional=True, tooltip="From ConfigureNetwork; without it a LoRA of rank 16."),
                Optimizer.Input("optimizer", optional=True, tooltip="From ConfigureOptimizer; without it Prodigy."),
                *inputs_of(
                    TrainConfig,
                    leave_out=("output_dir", "logging_dir"),
                    folded=("mixed_precision", "save_precision"),
                    output_name=_NAME,
                ),
                *inputs_of(LossConfig, folded=("prediction_type",)),
                *inputs_of(SampleConfig, prefix=_PREVIEW, folded=_FOLDED_PREVIEW_SETTINGS),
                _folded(
                    io.String.Input(
                        "output_folder",
                        default="loras",
                        optional=True,
                        tooltip="Where the run's folder is made: a folder inside ComfyUI's output folder, or the full "
                        "path of a LoRA folder. LoraLoader finds what lies in loras.",
                    )
                ),
                _folded(
                    io.Boolean.Input(
                        "allow_patched_model",
                        default=False,
                        optional=True,
                        tooltip="Train on top of a model that already carries LoRA patches.",
                    )
                ),
                Recipe.Input(
                    "recipe",
                    optional=True,
                    tooltip="From ImportRecipe; what it names wins over the values of this node.",
                ),
            ),
            outputs=[
                Run.Output("run", display_name="run", tooltip="All epochs, for LoadEpoch and EpochsForEfficiency."),
                io.Model.Output("model_out", display_name="model", tooltip="The model with the newest epoch."),
                io.Clip.Output("clip_out", display_name="clip", tooltip="The text encoder with the newest epoch."),
                io.Image.Output("chart", display_name="chart", tooltip="Loss and learning rates (d·lr) over the run."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, output_name: str | None = None) -> bool | str:
        return True if output_name is None else said(check_name, output_name)

    @classmethod
    @plainly
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: DatasetConfig,
        network: NetworkConfig | None = None,
        optimizer: OptimizerConfig | None = None,
        output_folder: str = "loras",
        allow_patched_model: bool = False,
        recipe: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        own = settings_from(
            TrainConfig,
            {"output_name": _NAME, **values},
            output_dir=str(_output_directory(output_folder)),
            dataset=dataset,
            network=network or NetworkConfig(),
            optimizer=optimizer or OptimizerConfig(),
            loss=settings_from(LossConfig, values),
            sample=settings_from(SampleConfig, values, prefix=_PREVIEW),
        )
        wired = {"dataset": dataset, "network": network, "optimizer": optimizer}
        config = overruled(own, recipe, but_not=[name for name, wire in wired.items() if wire is not None])
        host = ComfyHost(model, clip, vae, allow_patched=allow_patched_model)
        job = Job(lambda: train(config, host, lambda: job.is_cancelled))
        display = NodeDisplay(cls.hidden.unique_id)
        run = follow(job.start(), display.show, comfy.model_management.throw_exception_if_processing_interrupted)
        log = RunFolder(run.folder, key="").events_file
        measurements, spikes = read_measurements(log), read_spikes(log)
        newest_model, newest_clip = with_lora(model, clip, run.epoch(-1).state_dict(), 1.0, 1.0)
        shown = {
            "lazylora_curve": as_curve(thinned(measurements)),
            "lazylora_spikes": [spike.step for spike in spikes],
            "lazylora_announced": display.announced,
            "lazylora_warnings": display.warnings,
            **_newest_previews(run),
        }
        return io.NodeOutput(run, newest_model, newest_clip, to_image([_chart(measurements, spikes)]), ui=shown)


def _output_directory(folder: str) -> Path:
    return output_folder(folder, folder_paths.get_output_directory(), folder_paths.get_folder_paths("loras"))


def _chart(measurements: Sequence[Measurement], spikes: Sequence[Spiked]) -> Image.Image:
    try:
        return curves(measurements, spikes=spikes)
    except LazyLoraError as error:  # no picture of the curves is no reason to withhold the LoRA
        logging.warning("LazyLoRA: %s", error)
        return Image.new("RGB", (1024, 640), "white")


def _newest_previews(run: TrainedRun) -> dict[str, Any]:
    """The newest epoch's preview pictures, shown in the node when the run has ended."""
    paths = sorted((run.folder / "samples").glob("*.png"))
    newest = [path for path in paths if path.stem.rpartition("-")[0] == paths[-1].stem.rpartition("-")[0]]
    if not newest:
        return {}
    return ui.PreviewImage(to_image([Image.open(path) for path in newest])).as_dict()


def _folded(made: io.Input) -> io.Input:
    made.extra_dict = {**made.extra_dict, "advanced": True}
    return made
