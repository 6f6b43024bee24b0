"""The room in which epochs are compared, kept and tried: cards by web/tab_epochs.js, and a grid by the UI's sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, LazyLoraError
from ..hosts.venue import GridRequest
from ..studio import Studio
from .gradio_versions import gradio, private
from .markup import done, hint, live, trouble

_MOST_EPOCHS = 12
_MOST_PICTURES = 60
_SIDE, _STEPS, _CFG = 512, 20, 7.0


@dataclass(frozen=True)
class EpochsRoom:
    """The fields of the grid."""

    run: Any
    epochs: Any
    prompt: Any
    negative: Any
    weights: Any
    seed: Any
    steps: Any
    cfg: Any
    width: Any
    height: Any
    draw: Any
    said: Any
    picture: Any

    def connect(self, studio: Studio, tab: Any) -> None:
        """Read the list of runs whenever the tab is opened, and draw when asked to."""
        gr = gradio()
        of_run = [self.epochs, self.prompt, self.steps, self.cfg, self.width, self.height, self.seed]

        def list_runs(chosen: str | None) -> tuple[Any, ...]:
            ids = _runs_by_title(studio)
            title = chosen if chosen in ids else next(iter(ids), None)
            return gr.update(choices=list(ids), value=title), *_of_run(studio, ids.get(title or ""))

        def choose_run(title: str | None) -> tuple[Any, ...]:
            return _of_run(studio, _runs_by_title(studio).get(title or ""))

        def draw(title: str | None, epochs: Sequence[str] | None, *entered: Any) -> tuple[Any, str]:
            ids = _runs_by_title(studio)
            run_id = ids.get(title or next(iter(ids), ""))  # before the list is there: the newest run, all its epochs
            try:
                request = grid_request(studio, run_id, (epochs or []) if title else None, *entered)
                return studio.venue.grid(request), done("drawn; a right click saves it")
            except LazyLoraError as error:
                return None, trouble(str(error))

        tab.select(list_runs, inputs=[self.run], outputs=[self.run, *of_run], **private(tab.select))
        chosen = self.run.input
        chosen(choose_run, inputs=[self.run], outputs=of_run, **private(chosen))
        entered = [
            *(self.run, self.epochs, self.prompt, self.negative, self.weights),
            *(self.seed, self.steps, self.cfg, self.width, self.height),
        ]
        click = self.draw.click
        click(draw, inputs=entered, outputs=[self.picture, self.said], **private(click))


def lay_out_epochs_room() -> EpochsRoom:
    """Lay the room out, here in the page."""
    gr = gradio()
    gr.HTML(live("epochs"), elem_id="lazylora_epochs")
    with gr.Accordion("All epochs in one picture", open=True, elem_id="lazylora_epoch_grid"):
        return _lay_out_grid()


def grid_request(
    studio: Studio,
    run_id: str | None,
    epochs: Sequence[str] | None,
    prompt: str,
    negative_prompt: str,
    weights: str,
    seed: Any,
    steps: Any,
    cfg: Any,
    width: Any,
    height: Any,
) -> GridRequest:
    """What a person has entered as a request; epochs: None is all. Raises ConfigError for what cannot be drawn."""
    if run_id is None:
        raise ConfigError("there is no run yet whose epochs could be drawn; train one first")
    saved = [epoch["stem"] for epoch in studio.epochs(run_id)]
    stems = thinned_evenly(saved, _MOST_EPOCHS) if epochs is None else [stem for stem in saved if stem in epochs]
    if not stems:
        raise ConfigError("no epoch is chosen; tick at least one")
    strengths = [_number("strengths", each) for each in (weights or "1").split(",") if each.strip()]
    if len(strengths) * len(stems) > _MOST_PICTURES:
        raise ConfigError(f"that would be {len(strengths) * len(stems)} pictures; choose at most {_MOST_PICTURES}")
    return GridRequest(
        prompt=prompt or "",
        negative_prompt=negative_prompt or "",
        seed=int(_number("seed", seed)),
        steps=max(1, min(150, int(_number("steps", steps)))),
        cfg=max(1.0, min(30.0, _number("guidance", cfg))),
        width=_side(width),
        height=_side(height),
        epochs=["", *stems],
        weights=strengths,
    )


def _lay_out_grid() -> EpochsRoom:
    gr = gradio()
    gr.HTML(
        hint("One prompt, a column for each epoch, the first without the LoRA: where it is learned and not yet burnt."),
        elem_id="lazylora_grids_hint",
    )
    with gr.Row(elem_id="lazylora_fields_grid"):
        run = gr.Dropdown(label="Run", choices=[], elem_id="lazylora_grids_run")
        prompt = gr.Textbox(label="Prompt", lines=2, elem_id="lazylora_grids_prompt")
        negative = gr.Textbox(label="Negative prompt", lines=2, elem_id="lazylora_grids_negative")
    epochs = gr.CheckboxGroup(label="Epochs", choices=[], elem_id="lazylora_grids_epochs")
    more = gr.Accordion("Strengths, size, steps", open=False, elem_id="lazylora_grids_more")
    with more, gr.Row(elem_id="lazylora_fields_grid_more"):
        weights = gr.Textbox(
            label="Strengths",
            value="1",
            info="A row for each, parted by commas: 0.6, 1",
            elem_id="lazylora_grids_weights",
        )
        seed = gr.Textbox(label="Seed", value="42", elem_id="lazylora_grids_seed")
        steps = gr.Number(label="Steps", value=_STEPS, precision=0, elem_id="lazylora_grids_steps")
        cfg = gr.Number(label="Guidance (CFG)", value=_CFG, elem_id="lazylora_grids_cfg")
        width = gr.Number(label="Width", value=_SIDE, precision=0, elem_id="lazylora_grids_width")
        height = gr.Number(label="Height", value=_SIDE, precision=0, elem_id="lazylora_grids_height")
    draw = gr.Button("Draw the grid", variant="primary", elem_id="lazylora_draw_grid")
    said = gr.HTML(elem_id="lazylora_grids_said")
    picture = gr.Image(
        label="Epochs", show_label=False, type="pil", interactive=False, elem_id="lazylora_grids_picture"
    )
    return EpochsRoom(run, epochs, prompt, negative, weights, seed, steps, cfg, width, height, draw, said, picture)


def _runs_by_title(studio: Studio) -> dict[str, str]:
    """What a list calls each run that has epochs, the newest first → its id; those of one name are told apart."""
    found: dict[str, str] = {}
    for run in (each for each in studio.runs() if each["epochs"]):
        found[run["name"] if run["name"] not in found else f"{run['name']} ({run['id'][:6]})"] = run["id"]
    return found


def _of_run(studio: Studio, run_id: str | None) -> tuple[Any, ...]:
    """How the grid's fields begin for a run: its epochs, evenly thinned, and the prompt and size of its previews."""
    gr = gradio()
    if run_id is None:
        return tuple(gr.update() for _ in range(7))
    stems = [epoch["stem"] for epoch in studio.epochs(run_id)]
    config = studio.run_settings(run_id)
    sample, side = config.sample, config.dataset.resolution
    return (
        gr.update(choices=stems, value=thinned_evenly(stems, _MOST_EPOCHS)),
        gr.update(value=next(iter(sample.prompts), config.dataset.trigger_word)),
        gr.update(value=sample.steps),
        gr.update(value=sample.cfg),
        gr.update(value=sample.width or side),
        gr.update(value=sample.height or side),
        gr.update(value=str(sample.seed)),
    )


def thinned_evenly(items: Sequence[str], most: int) -> list[str]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _side(value: Any) -> int:
    return max(64, min(2048, int(_number("size", value)) // 8 * 8))


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f'{name} takes a number, not "{value}"') from None
