import pytest

from tests.hosts.webui_plot import PlotHost
from trainer_core.hosts.webui_axis import BASE, EPOCH, WEIGHT, add_axes, plot_script

EPOCHS = ["cat-000001", "cat-000002"]


@pytest.fixture
def host(monkeypatch):
    host = PlotHost(monkeypatch, [*EPOCHS, "my style-000010"])
    add_axes(lambda: EPOCHS)
    return host


def test_the_axes_are_added_once_however_often_the_ui_is_reloaded(host):
    before = host.axis(EPOCH), host.axis(WEIGHT)
    add_axes(lambda: [])
    assert (host.axis(EPOCH), host.axis(WEIGHT)) == before


def test_without_the_plot_script_nothing_happens(host):
    host.plot.AxisOption = None
    import modules

    modules.scripts.scripts_data = modules.scripts.scripts_data[:1]
    assert plot_script() is None
    add_axes(lambda: EPOCHS)


def test_new_epochs_are_among_the_choices_when_the_ui_asks(monkeypatch):
    host, epochs = PlotHost(monkeypatch), ["cat-000001"]
    add_axes(lambda: epochs)
    assert host.axis(EPOCH).choices() == [BASE, "cat-000001"]
    epochs.append("cat-000002")
    assert host.axis(EPOCH).choices() == [BASE, "cat-000001", "cat-000002"]


def test_an_epoch_comes_behind_a_prompt_that_names_none(host):
    assert host.prompts("a cat", (EPOCH, [BASE, *EPOCHS])) == [
        "a cat",
        "a cat <lora:cat-000001:1>",
        "a cat <lora:cat-000002:1>",
    ]


def test_an_epoch_takes_the_place_of_another_of_its_run_and_leaves_the_rest(host):
    prompt = "<lora:cat-000007:0.8> a cat <lora:my style-000010:1>, <lora:cat:0.5>"
    assert host.prompts(prompt, (EPOCH, [BASE, "cat-000002"])) == [
        " a cat <lora:my style-000010:1>, ",
        "<lora:cat-000002:0.8> a cat <lora:my style-000010:1>, ",
    ]


@pytest.mark.parametrize("order", [0, 1], ids=["epoch first", "weight first"])
def test_both_axes_in_either_order(host, order):
    axes = [(EPOCH, [BASE, "cat-000002"]), (WEIGHT, [0.5, 1.0])]
    prompts = host.prompts("a cat", *(axes[::-1] if order else axes))
    assert sorted(prompts) == ["a cat", "a cat", "a cat <lora:cat-000002:0.5>", "a cat <lora:cat-000002:1>"]


@pytest.mark.parametrize("order", [0, 1], ids=["epoch first", "weight first"])
def test_a_weight_on_the_axis_wins_over_the_prompts(host, order):
    axes = [(EPOCH, ["cat-000002"]), (WEIGHT, [0.5])]
    prompts = host.prompts("<lora:cat-000001:1:0.3> a cat <lora:other:0.7>", *(axes[::-1] if order else axes))
    assert prompts == ["<lora:cat-000002:0.5> a cat <lora:other:0.7>"]


def test_weights_alone_are_for_the_epochs_in_the_prompt(host):
    prompt = "a cat <lora:cat-000001:1> <lora:other:0.7>"
    assert host.prompts(prompt, (WEIGHT, [0.25])) == ["a cat <lora:cat-000001:0.25> <lora:other:0.7>"]


def test_weights_alone_are_for_the_prompts_loras_where_no_epoch_is(host):
    assert host.prompts("a cat <lora:other:0.7>", (WEIGHT, [0.25])) == ["a cat <lora:other:0.25>"]


def test_weights_of_nothing_are_refused(host):
    with pytest.raises(RuntimeError, match=r"found no <lora:…> in the prompt; add one"):
        host.prompts("a cat", (WEIGHT, [0.25]))


def test_a_prompt_of_its_own_for_the_second_pass_is_changed_too(host):
    host.prompts("a cat", (EPOCH, ["cat-000001"]), hr_prompt="a large cat")
    assert host.cells[0].hr_prompt == "a large cat <lora:cat-000001:1>"
    host.prompts("a cat", (EPOCH, ["cat-000001"]), hr_prompt="")
    assert host.cells[0].hr_prompt == ""


def test_an_epoch_that_the_host_cannot_find_is_refused_before_anything_is_drawn(host):
    with pytest.raises(RuntimeError, match="there is no LoRA cat-000009; choose"):
        host.prompts("a cat", (EPOCH, [*EPOCHS, "cat-000009"]))
