"""Leads from our tab to txt2img in A1111 and Forge, with the X/Y/Z plot filled in and left to the person."""

from __future__ import annotations

import json
from typing import Any

from ..errors import HostError
from .webui_axis import BASE, EPOCH, WEIGHT
from .webui_grid import csv_line, plot_fields, plot_in

BUTTON = "lazylora_open_plot"  # javascript/lazylora.js presses it


def lay_out_handover() -> None:
    """Lay out, hidden in the tab that is being built, what fills the plot's fields; without that script nothing.

    Call it in `on_ui_tabs`, when txt2img has been built."""
    import gradio as gr
    from modules import scripts

    runner = scripts.scripts_txt2img
    try:
        plot = plot_in(runner)
    except HostError:
        return
    fields = dict(zip(plot_fields(plot), plot.controls, strict=False))
    outputs = [runner.inputs[0], *(fields[name] for name in ("x_type", "x_values", "x_values_dropdown"))]
    outputs += [*(fields[name] for name in ("y_type", "y_values", "y_values_dropdown")), fields["csv_mode"]]

    def fill(wanted: str) -> list[Any]:
        return [gr.update(value=value) for value in (plot.title(), *filled_in(json.loads(wanted)))]

    wanted = gr.Textbox(visible=False, elem_id=BUTTON + "_for")
    button = gr.Button(visible=False, elem_id=BUTTON)
    button.click(fill, _js="() => JSON.stringify(lazyloraUi.wantedPlot)", inputs=[wanted], outputs=outputs)


def filled_in(wanted: dict[str, Any]) -> list[Any]:
    """Values of the plot's X type, values and dropdown, of its Y, and of its text mode.

    wanted: epochs, file stems and "" for no LoRA; weights, numbers."""
    epochs = csv_line(str(each) or BASE for each in wanted.get("epochs", ()))
    weights = csv_line(f"{float(each):g}" for each in wanted.get("weights", ()))
    return [EPOCH, epochs, [], WEIGHT if weights else "Nothing", weights, [], True]
