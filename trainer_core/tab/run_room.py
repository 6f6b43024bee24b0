"""The room in which a run is watched: everything in it is drawn by web/tab_run.js from what the server says."""

from __future__ import annotations

from .gradio_versions import gradio
from .markup import hint, live


def lay_out_run_room() -> None:
    """Lay the room out, here in the page."""
    gr = gradio()
    gr.HTML(live("run"), elem_id="lazylora_run")
    with gr.Accordion("Queue", open=True, elem_id="lazylora_queue"):
        gr.HTML(
            hint("Train puts what the Recipe says into the queue, so you can fill it and go to bed."),
            elem_id="lazylora_queue_hint",
        )
        gr.HTML(live("queue"), elem_id="lazylora_queue_list")
