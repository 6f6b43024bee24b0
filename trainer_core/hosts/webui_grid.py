"""A grid of epochs by the X/Y/Z plot script of A1111 and Forge, started from our own Python."""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..errors import HostError
from .venue import GridRequest
from .webui_axis import BASE, EPOCH, WEIGHT, plot_script

if TYPE_CHECKING:
    from PIL.Image import Image


def epoch_grid(request: GridRequest) -> Image:
    """The picture that the host's own plot makes of epochs (columns) by weights (rows): each cell is, pixel for pixel,
    what txt2img makes of the prompt with that `<lora:…>`.

    Waits for the host's queue and takes a turn in it. Raises HostError where the plot script is missing, and for what
    the host itself has against the grid."""
    from modules import scripts, shared
    from modules.call_queue import queue_lock

    runner = _built(scripts.scripts_txt2img)
    arguments = _arguments(runner, request)
    with queue_lock:
        shared.state.begin(job="lazylora grid")
        try:
            pictures = _on_the_main_thread(lambda: _drawn(runner, arguments, request))
        finally:
            shared.state.end()
            shared.total_tqdm.clear()
    if not pictures:
        raise HostError("the grid was stopped before its first picture; start it again")
    return pictures[0]


def _drawn(runner: Any, arguments: list[Any], request: GridRequest) -> list[Image]:
    from modules import shared
    from modules.processing import StableDiffusionProcessingTxt2Img

    processing = StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        steps=request.steps,
        cfg_scale=request.cfg,
        width=request.width,
        height=request.height,
        sampler_name="Euler",
        outpath_samples=shared.opts.outdir_samples or shared.opts.outdir_txt2img_samples,
        outpath_grids=shared.opts.outdir_grids or shared.opts.outdir_txt2img_grids,
        do_not_save_samples=True,  # the grid itself is saved where the user has asked for that
    )
    with closing(processing) as p:
        p.is_api = True  # else the page's seed, sampler and size take the place of the request's
        p.scripts = runner
        p.script_args = arguments
        return runner.run(p, *arguments).images


def _arguments(runner: Any, request: GridRequest) -> list[Any]:
    """What the page would hand to its scripts if everything stood at its default but for the plot's own fields."""
    plot = plot_in(runner)
    axes = [option.label for option in plot.current_axis_options]
    fields = {"x_type": axes.index(EPOCH), "x_values": csv_line(epoch or BASE for epoch in request.epochs)}
    fields |= {"y_type": axes.index(WEIGHT), "y_values": csv_line(f"{weight:g}" for weight in request.weights)}
    fields |= {"z_type": axes.index("Nothing"), "csv_mode": True, "draw_legend": True}
    arguments = [getattr(component, "value", None) for component in runner.inputs]
    for index, name in enumerate(plot_fields(plot), plot.args_from):
        arguments[index] = fields.get(name, arguments[index])
    arguments[0] = runner.selectable_scripts.index(plot) + 1
    return arguments


def plot_fields(plot: Any) -> list[str]:
    """The names of the plot's fields, in order."""
    return list(inspect.signature(plot.run).parameters)[1:]  # the first is the processing


def plot_in(runner: Any) -> Any:
    """The plot among the page's scripts. Raises HostError where it, or our axis on it, is missing."""
    module = plot_script()
    for script in runner.selectable_scripts:
        if module is not None and isinstance(script, module.Script):
            labels = {option.label for option in script.current_axis_options}
            if {EPOCH, WEIGHT} <= labels:
                return script
    raise HostError("the UI's X/Y/Z plot script is not loaded; enable it, then reload the UI")


def _built(runner: Any) -> Any:
    """The scripts of txt2img with their fields; with --nowebui A1111 builds these on first use only."""
    if not runner.scripts:
        from modules import ui

        runner.initialize_scripts(False)
        ui.create_ui()
    return runner


def _on_the_main_thread(draw: Callable[[], list[Image]]) -> list[Image]:
    """Forge wants whatever moves models on its main thread, which swallows errors; A1111 has no such thread."""
    try:
        from modules_forge import main_thread
    except ImportError:
        return _in_sentences(draw)
    answers: list[list[Image] | HostError] = []

    def on_forge() -> None:
        try:
            answers.append(_in_sentences(draw))
        except HostError as error:
            answers.append(error)

    main_thread.run_and_wait_result(on_forge)
    if isinstance(answers[0], HostError):
        raise answers[0]
    return answers[0]


def _in_sentences(draw: Callable[[], list[Image]]) -> list[Image]:
    try:
        return draw()
    except Exception as error:  # the plot objects with several kinds, and any script of the page may fail
        raise HostError(f"the UI's X/Y/Z plot: {error or type(error).__name__}") from error


def csv_line(values: Iterable[str]) -> str:
    """Values as the plot's text fields take them."""
    line = io.StringIO()
    csv.writer(line).writerow(list(values))
    return line.getvalue().strip()
