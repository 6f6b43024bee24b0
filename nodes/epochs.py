"""LoadEpoch, EpochGrid and EpochsForEfficiency: a run's epochs as models, as one picture, and as an X/Y axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..trainer_core.errors import RunError
from ..trainer_core.grid import labelled_grid
from ..trainer_core.run import TrainedRun
from .apply import with_lora
from .choice import chosen_epochs, parse_epochs
from .errors import plainly, said
from .folders import lora_name, open_run, runs_among
from .pictures import to_image, to_pictures
from .table import arrange
from .wires import CATEGORY, XY, Run

_CONNECTED = "(the connected run)"
_BASE_LABEL = "without LoRA"


class LoadEpoch(io.ComfyNode):
    """One, some or all epochs of a run as lists of MODEL and CLIP: what follows runs once for each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_LoadEpoch",
            display_name="Load Epoch (LazyLoRA)",
            category=CATEGORY,
            description="Puts a run's epochs on the model. With several epochs or prompts, what follows runs for each.",
            inputs=[
                io.Model.Input("model", tooltip="The model without the LoRA: the one that it was trained on."),
                io.Clip.Input("clip", tooltip="The text encoder(s) without the LoRA."),
                Run.Input("run", optional=True, tooltip="From TrainLoRA: its epochs, from memory where they are."),
                *_choice_of_epochs(),
                *_strengths(100),
                io.Boolean.Input(
                    "with_base", default=False, optional=True, tooltip="Begin with the model as it was, to compare."
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="One per line: every epoch is put out once for each, for a grid of epochs over prompts.",
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="model", is_output_list=True, tooltip="One for each epoch."),
                io.Clip.Output("clip_out", display_name="clip", is_output_list=True, tooltip="One for each epoch."),
                io.String.Output("label", display_name="label", is_output_list=True, tooltip="The epochs' names."),
                io.String.Output("prompt", display_name="prompt", is_output_list=True, tooltip="The prompt of each."),
            ],
        )

    @classmethod
    def validate_inputs(cls, epochs: str | None = None) -> bool | str:
        return True if epochs is None else said(parse_epochs, epochs)

    @classmethod
    def fingerprint_inputs(cls, saved_run: str = _CONNECTED, **_: Any) -> str:
        return _files_of(saved_run)

    @classmethod
    @plainly
    def execute(
        cls,
        model: Any,
        clip: Any,
        run: TrainedRun | None = None,
        saved_run: str = _CONNECTED,
        epochs: str = "latest",
        strength_model: float = 1.0,
        strength_clip: float = 1.0,
        with_base: bool = False,
        prompts: str = "",
    ) -> io.NodeOutput:
        models = [(_BASE_LABEL, model, clip)] if with_base else []
        for epoch in chosen_epochs(_the_run(run, saved_run), epochs):
            models.append((epoch.label, *with_lora(model, clip, epoch.state_dict(), strength_model, strength_clip)))
        lines = [line.strip() for line in prompts.splitlines() if line.strip()] or [""]
        # all prompts of one epoch in a row: the host puts each LoRA on the weights once
        rows = [(*each, line) for each in models for line in lines]
        labels, models_out, clips_out, prompts_out = (list(column) for column in zip(*rows))
        return io.NodeOutput(models_out, clips_out, labels, prompts_out)


class EpochGrid(io.ComfyNode):
    """Pictures of several epochs, and prompts, as one picture with labels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_EpochGrid",
            display_name="Epoch Grid (LazyLoRA)",
            category=CATEGORY,
            description="One picture of all pictures that LoadEpoch led to: epochs across, prompts and batches down.",
            inputs=[
                io.Image.Input("images", tooltip="From VAE Decode: one for each epoch and prompt."),
                io.String.Input("labels", force_input=True, tooltip="LoadEpoch's label: what stands over each column."),
                io.String.Input(
                    "prompts",
                    force_input=True,
                    optional=True,
                    tooltip="LoadEpoch's prompt: what stands left of each row.",
                ),
            ],
            outputs=[io.Image.Output("grid", display_name="grid", tooltip="For Save Image or Preview Image.")],
            is_input_list=True,
        )

    @classmethod
    @plainly
    def execute(cls, images: list[Tensor], labels: list[str], prompts: Sequence[str] = ()) -> io.NodeOutput:
        table = arrange([to_pictures(each) for each in images], labels, prompts or [])
        return io.NodeOutput(to_image([labelled_grid(table.cells, table.columns, table.rows)]))


class EpochsForEfficiency(io.ComfyNode):
    """A run's epochs as an axis of the Efficiency nodes' XY Plot."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LazyLoRA_EpochsForEfficiency",
            display_name="Epochs for Efficiency XY Plot (LazyLoRA)",
            category=CATEGORY,
            description="The epochs as X or Y of the Efficiency nodes' XY Plot, which loads their files itself.",
            inputs=[
                Run.Input("run", optional=True, tooltip="From TrainLoRA."),
                *_choice_of_epochs(default="all"),
                *_strengths(10),  # what the Efficiency nodes take
                io.Boolean.Input(
                    "with_base",
                    default=False,
                    optional=True,
                    tooltip="Begin with strength 0, which is the model without the LoRA.",
                ),
            ],
            outputs=[XY.Output("xy", display_name="X or Y", tooltip="For XY Plot's X or Y.")],
        )

    @classmethod
    def validate_inputs(cls, epochs: str | None = None) -> bool | str:
        return True if epochs is None else said(parse_epochs, epochs)

    @classmethod
    def fingerprint_inputs(cls, saved_run: str = _CONNECTED, **_: Any) -> str:
        return _files_of(saved_run)

    @classmethod
    @plainly
    def execute(
        cls,
        run: TrainedRun | None = None,
        saved_run: str = _CONNECTED,
        epochs: str = "all",
        strength_model: float = 1.0,
        strength_clip: float = 1.0,
        with_base: bool = False,
    ) -> io.NodeOutput:
        directories = folder_paths.get_folder_paths("loras")
        names = [lora_name(each.path, directories) for each in chosen_epochs(_the_run(run, saved_run), epochs)]
        base = [[(names[0], 0.0, 0.0)]] if with_base else []  # its own "None" is refused on this axis
        return io.NodeOutput(("LoRA", [*base, *([(name, strength_model, strength_clip)] for name in names)]))


def _choice_of_epochs(default: str = "latest") -> list[io.Input]:
    saved = runs_among(folder_paths.get_filename_list("loras"))
    return [
        io.Combo.Input(
            "saved_run",
            options=[_CONNECTED, *saved],
            default=_CONNECTED,
            optional=True,
            tooltip="A run from the LoRA folders, for when no run is connected.",
        ),
        io.String.Input(
            "epochs",
            default=default,
            optional=True,
            tooltip="latest, all, a number, or several: 1, 3, 5-10.",
        ),
    ]


def _strengths(most: float) -> list[io.Input]:
    return [
        io.Float.Input(
            name,
            default=1.0,
            min=-most,
            max=most,
            step=0.01,
            optional=True,
            tooltip=f"How strongly the LoRA changes the {what}.",
        )
        for name, what in (("strength_model", "model"), ("strength_clip", "text encoder(s)"))
    ]


def _the_run(run: TrainedRun | None, saved_run: str) -> TrainedRun:
    if run is not None:
        return run
    if saved_run == _CONNECTED:
        raise RunError("no run is given; connect TrainLoRA's run, or choose a saved_run")
    return open_run(saved_run, folder_paths.get_folder_paths("loras"))


def _files_of(saved_run: str | None) -> str:
    if saved_run in (None, _CONNECTED):
        return "connected"
    try:
        return "\n".join(str(each.path) for each in open_run(saved_run, folder_paths.get_folder_paths("loras")).epochs)
    except RunError as error:
        return str(error)
