"""The tab as a whole: three fields, and behind them the rooms in the order in which people work."""

from __future__ import annotations

from typing import Any

from ..studio import Studio
from .dataset_room import lay_out_dataset_room
from .epochs_room import lay_out_epochs_room
from .form import Form
from .gradio_versions import gradio
from .recipe_room import lay_out_recipe_room
from .run_room import lay_out_run_room
from .start import Beginnings, begin_anew_with_model, lay_out_start, look_when_left, train_on_click


def build_tab(studio: Studio, beginnings: Beginnings | None = None) -> Any:
    """The tab as Gradio's Blocks, of whichever version is installed; every id in it begins with `lazylora_`.

    beginnings: model → nested settings that suit it better than the defaults. The live parts need web/tab.js in the
    page, and the routes of `web_api`. Raises HostError without Gradio."""
    gr = gradio()
    with gr.Blocks(analytics_enabled=False, title="LazyLoRA") as blocks:
        beginnings = beginnings or {}
        form = Form(beginnings.get(next(iter(studio.venue.models()), "")))
        with gr.Column(elem_id="lazylora_tab"):
            start = lay_out_start(form, studio)
            with gr.Tabs(selected="dataset", elem_id="lazylora_rooms") as rooms:
                with gr.Tab("Dataset", id="dataset", elem_id="lazylora_room_dataset") as dataset_tab:
                    dataset_room = lay_out_dataset_room()
                with gr.Tab("Recipe", id="recipe", elem_id="lazylora_room_recipe") as recipe_tab:
                    recipe_room = lay_out_recipe_room(form)
                with gr.Tab("Run", id="run", elem_id="lazylora_room_run"):
                    lay_out_run_room()
                with gr.Tab("Epochs", id="epochs", elem_id="lazylora_room_epochs") as epochs_tab:
                    epochs_room = lay_out_epochs_room()
        begin_anew_with_model(start, form, beginnings)
        look_when_left(start, form, studio.venue)
        train_on_click(start, form, recipe_room.draws_previews, studio, rooms)
        dataset_room.connect(form, studio, dataset_tab)
        recipe_room.connect(form, start, studio, recipe_tab, beginnings)
        epochs_room.connect(studio, epochs_tab)
    return blocks
