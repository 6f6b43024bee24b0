"""The extension in a real Forge: what it adds to the page, to the X/Y/Z plot and to the list of LoRAs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.hosts.chromium import Page, chromium_page, find_chromium
from tests.hosts.webui_server import WebuiClient, WebuiError, eventually
from trainer_core.hosts.webui_axis import BASE, EPOCH, WEIGHT

pytestmark = [pytest.mark.webui, pytest.mark.slow]

PROMPT = "zwx, a cat on a wall"
RUN, EPOCHS = "plotted", ("plotted-000001", "plotted-000002")


@pytest.fixture(scope="module")
def pictures(forge_data: Path) -> Path:
    """Two pictures with captions, in a folder that Forge allows."""
    folder = forge_data / "two pictures"
    folder.mkdir(exist_ok=True)
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"zwx, a {colour} cat")
    return folder


def settings(pictures: Path, name: str, epochs: int) -> dict[str, Any]:
    return {
        "output_name": name,
        "max_train_epochs": epochs,
        "dataset": {"folder": str(pictures), "resolution": 64, "min_bucket_reso": 64, "trigger_word": "zwx"},
        "network": {"rank": 4, "alpha": 4.0},
        "optimizer": {"optimizer": "AdamW", "learning_rate": 3e-2},
    }


def ask(forge: WebuiClient, path: str, **values: Any) -> Any:
    """POST to a route of ours as its own page does."""
    return forge.post(f"/lazylora/{path}", values, headers={"Origin": forge.address})


def wait_until(forge: WebuiClient, is_so: Any, timeout: float = 300) -> dict[str, Any]:
    """The first status of which this is so."""

    def look() -> dict[str, Any] | None:
        now = forge.get("/lazylora/status")
        assert not now["error"], now["error"]
        return now if is_so(now) else None

    return eventually(look, timeout, lambda: f"never: {forge.get('/lazylora/status')}; {forge.log_tail()}")


def is_idle(now: dict[str, Any]) -> bool:
    return now["state"] == "idle"


@pytest.fixture(scope="module")
def ready(forge: WebuiClient) -> WebuiClient:
    """Forge with our routes, which come a few seconds after its own."""

    def answers() -> bool:
        try:
            return bool(forge.get("/lazylora/status"))
        except WebuiError:
            return False

    eventually(answers, 120, lambda: f"no routes of ours; {forge.log_tail()}")
    return forge


@pytest.fixture(scope="module")
def trained(ready: WebuiClient, pictures: Path) -> WebuiClient:
    """Forge with a finished run of two epochs."""
    ask(ready, "start", settings=settings(pictures, RUN, len(EPOCHS)))
    wait_until(ready, is_idle)
    return ready


def tagged(epoch: str, weight: float) -> str:
    return PROMPT if epoch == BASE else f"{PROMPT} <lora:{epoch}:{weight:g}>"


def axis_names(forge: WebuiClient) -> list[str]:
    """The plot's axes in txt2img, in their order."""
    scripts = forge.get("/sdapi/v1/script-info")
    (plot,) = [each for each in scripts if each["name"] == "x/y/z plot" and not each["is_img2img"]]
    return plot["args"][0]["choices"]


def test_what_it_adds_is_there_once(ready: WebuiClient):
    assert "***" not in ready.log.read_text(errors="replace").partition("lazylora")[2], ready.log_tail()
    names = axis_names(ready)
    assert (names.count(EPOCH), names.count(WEIGHT)) == (1, 1)
    assert b"lazyloraTab" in ready.open("/lazylora/web/tab.js")
    assert b"javascript/lazylora.js" in ready.open("/")


def test_epochs_are_listed_at_once_and_the_model_is_as_it_was(ready: WebuiClient, pictures: Path):
    before = ready.txt2img(PROMPT)
    ask(ready, "start", settings=settings(pictures, "listed", 1))
    wait_until(ready, is_idle)
    assert "listed-000001" in {each["name"] for each in ready.get("/sdapi/v1/loras")}
    assert ready.txt2img(PROMPT).tobytes() == before.tobytes()
    assert ready.txt2img(tagged("listed-000001", 1)).tobytes() != before.tobytes()
    assert ready.txt2img(PROMPT).tobytes() == before.tobytes()


@pytest.mark.parametrize("order", [0, 1], ids=["epochs across", "weights across"])
def test_each_cell_of_the_plot_is_the_single_generation(trained: WebuiClient, order: int):
    names, weights = axis_names(trained), (0.5, 1.0)
    axes = [(names.index(EPOCH), "", [BASE, *EPOCHS]), (names.index(WEIGHT), "0.5, 1", [])]
    if order:
        axes.reverse()
    no_third = (names.index("Nothing"), "", [])
    drawn = [True, True, False, False, False, False, False, 0, False]  # legend, lone images … margin, no text mode
    values = [*axes[0], *axes[1], *no_third, *drawn]
    grid, *cells = trained.pictures(PROMPT, script_name="x/y/z plot", script_args=values)
    assert grid.width > 64 * (2 if order else 3)
    wanted = [(epoch, weight) for weight in weights for epoch in (BASE, *EPOCHS)]
    if order:
        wanted = [(epoch, weight) for epoch in (BASE, *EPOCHS) for weight in weights]
    assert len(cells) == len(wanted)
    for (epoch, weight), cell in zip(wanted, cells, strict=True):
        assert cell.tobytes() == trained.txt2img(tagged(epoch, weight)).tobytes(), (epoch, weight)


def test_an_interrupted_run_resumes_to_the_bits_of_one_that_was_not(ready: WebuiClient, pictures: Path):
    ask(ready, "start", settings=settings(pictures, "whole", 4))
    wait_until(ready, is_idle)
    entry = ask(ready, "start", settings=settings(pictures, "cut in two", 4))["id"]
    wait_until(ready, lambda now: now["state"] == "running" and now["step"] >= 3)
    ready.interrupt()
    stopped = wait_until(ready, is_idle, 60)
    assert 3 <= stopped["step"] < 8
    ask(ready, "resume", id=entry)
    assert wait_until(ready, is_idle)["step"] == 8
    whole, resumed = (load_file(ready.loras / name / f"{name}-000004.safetensors") for name in ("whole", "cut in two"))
    assert whole.keys() == resumed.keys()
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_no_other_page_may_start_anything(ready: WebuiClient, pictures: Path):
    body = {"settings": settings(pictures, "foreign", 1)}
    for origin in ("https://elsewhere.example", "null", ""):
        with pytest.raises(WebuiError, match="403"):
            ready.post("/lazylora/start", body, headers={"Origin": origin})
    with pytest.raises(WebuiError, match=r"400.*dataset"):
        ask(ready, "start", settings={"output_name": "no pictures"})


# -- in a browser


@pytest.fixture(scope="module")
def page(trained: WebuiClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Forge's page, with our tab in front."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on the path")
    with chromium_page(program, tmp_path_factory.mktemp("profile"), (1500, 1200)) as page:
        page.open(trained.address)
        page.wait_for("typeof gradioApp === 'function' && Boolean(gradioApp().querySelector('#lazylora_tab'))", 180)
        page.wait_for("Boolean(globalThis.lazyloraTab)", 60)
        yield page
        page.picture()


def press(page: Page, words: str, among: str = "button") -> None:
    """Click what says these words."""
    all_of_them = f"[...gradioApp().querySelectorAll({json.dumps(among)})]"
    found = f"{all_of_them}.find((each) => each.textContent.trim() === {json.dumps(words)})"
    page.wait_for(f"Boolean({found})")
    page.run(f"{found}.click()")


def fill(page: Page, field: str, value: str) -> None:
    """Enter a value into a field of ours, and leave it."""
    page.run(
        f"""(() => {{
          const field = gradioApp().querySelector("#{field} textarea, #{field} input");
          field.focus(); field.value = {json.dumps(value)};
          updateInput(field); field.blur();
        }})()"""
    )


def value(page: Page, field: str) -> Any:
    return page.run(f"gradioApp().querySelector('#{field} textarea, #{field} input')?.value")


def test_a_newcomer_trains_in_three_fields(page: Page, trained: WebuiClient, pictures: Path):
    press(page, "LazyLoRA")
    fill(page, "lazylora_dataset_folder", str(pictures))
    fill(page, "lazylora_output_name", "by hand")
    for field, number in (("dataset_resolution", "64"), ("dataset_min_bucket_reso", "64"), ("max_train_epochs", "1")):
        fill(page, f"lazylora_{field}", number)
    fill(page, "lazylora_sample_prompts", "")
    press(page, "Train", "#lazylora_train")
    wait_until(trained, lambda now: any(each["title"] == "by hand" for each in now["queue"]), 60)
    ask(trained, "stop")
    wait_until(trained, is_idle)
    assert not page.errors


def test_an_epoch_goes_to_txt2img(page: Page):
    press(page, "LazyLoRA")
    press(page, "Epochs", "#lazylora_rooms button")
    page.wait_for(
        f"Boolean([...document.querySelectorAll('.lazylora-name')].find(b => b.textContent.includes('{RUN}')))"
    )
    page.run(f"[...document.querySelectorAll('.lazylora-name')].find(b => b.textContent.includes('{RUN}')).click()")
    page.wait_for("document.querySelectorAll('.lazylora-card').length === 2")
    press(page, "Send to txt2img", ".lazylora-card button")
    page.wait_for("gradioApp().querySelector('#tab_txt2img').style.display !== 'none'")
    assert value(page, "txt2img_prompt") == f"<lora:{EPOCHS[0]}:1>, zwx"


def test_the_plot_opens_filled_in(page: Page):
    press(page, "LazyLoRA")
    press(page, "X/Y/Z plot over these epochs", ".lazylora-button")
    plot = "script_txt2img_xyz_plot_"
    page.wait_for(f"gradioApp().querySelector('#{plot}x_values textarea')?.value === '{BASE},{','.join(EPOCHS)}'")
    assert value(page, "script_list") == "X/Y/Z plot"
    assert value(page, f"{plot}x_type") == EPOCH
    assert page.run(f"gradioApp().querySelector('#{plot}csv_mode input').checked")


def test_one_click_draws_the_same_pictures_as_txt2img(page: Page, trained: WebuiClient):
    press(page, "LazyLoRA")
    press(page, "Epochs", "#lazylora_rooms button")
    page.wait_for("gradioApp().querySelectorAll('#lazylora_grids_epochs input').length > 0")
    fill(page, "lazylora_grids_prompt", PROMPT)
    for field, number in (("width", "64"), ("height", "64"), ("steps", "2"), ("cfg", "3"), ("seed", "5")):
        fill(page, f"lazylora_grids_{field}", number)
    press(page, "Draw the grid", "#lazylora_draw_grid")
    page.wait_for("Boolean(gradioApp().querySelector('#lazylora_grids_picture img')?.src)", 300)
    # the page gets it compressed; Forge saves it as it is, like every grid of the plot
    grid = Image.open(max(trained.data.rglob("xyz_grid-*.png"), key=lambda path: path.stat().st_mtime)).convert("RGB")
    name = value(page, "lazylora_grids_run")
    (run,) = [each for each in trained.get("/lazylora/runs")["runs"] if each["name"] == name]
    epochs = [BASE, *(each["stem"] for each in run["epochs"])]
    left, top = grid.width - 64 * len(epochs), grid.height - 64  # the legend is above and on the left
    for column, epoch in enumerate(epochs):
        cell = grid.crop((left + 64 * column, top, left + 64 * (column + 1), grid.height))
        assert cell.tobytes() == trained.txt2img(tagged(epoch, 1)).tobytes(), epoch


def test_reload_ui_keeps_the_run_and_adds_nothing_twice(page: Page, trained: WebuiClient, pictures: Path):
    entry = ask(trained, "start", settings=settings(pictures, "through a reload", 60))["id"]
    before = wait_until(trained, lambda now: now["state"] == "running" and now["step"] >= 2)
    page.run("gradioApp().querySelector('#settings_restart_gradio').click()")
    eventually(lambda: _is_gone(trained), 60, lambda: "the UI did not go away for a reload")

    def goes_on() -> dict[str, Any] | None:
        try:
            now = trained.get("/lazylora/status")
        except (OSError, WebuiError):
            return None
        return now if now["step"] > before["step"] else None

    now = eventually(goes_on, 180, trained.log_tail)
    assert now["entry"]["id"] == entry
    again = wait_until(trained, lambda later: later["step"] > now["step"])
    assert again["state"] == "running", "Reload UI presses Interrupt first, which is not meant for a training"
    names = axis_names(trained)
    assert (names.count(EPOCH), names.count(WEIGHT)) == (1, 1)
    page.wait_for("typeof gradioApp === 'function' && Boolean(gradioApp().querySelector('#lazylora_tab'))", 180)
    page.wait_for("document.querySelector('#lazylora_live_strip')?.textContent.includes('through a reload')", 60)
    ask(trained, "stop")
    assert wait_until(trained, is_idle, 60)["step"] > before["step"]


def _is_gone(forge: WebuiClient) -> bool:
    try:
        forge.get("/lazylora/status")
        return False
    except (OSError, WebuiError):
        return True
