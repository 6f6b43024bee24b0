"""The studio over its face: recipes in, epochs out, whatever happens in between."""

from __future__ import annotations

from tests.studio.conftest import settled
from trainer_core.files.lora_file import load_lora


def epochs_of(studio, name: str):
    (run,) = (each for each in studio.runs() if each["name"] == name)
    return [load_lora(studio.venue.runs_dir / name / f"{epoch['stem']}.safetensors")[0] for epoch in run["epochs"]]


def same(first, second) -> bool:
    return all(a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a) for a, b in zip(first, second))


def test_a_recipe_becomes_epochs(studio, venue, recipe):
    id = studio.enqueue(recipe())
    status = settled(studio)
    assert status["entry"] == {"id": id, "title": "thing", "state": "finished", "said": ""}
    assert status["step"] == status["total_steps"] == 10 and status["epoch"] == status["epochs"] == 2
    (run,) = studio.runs()
    assert run["finished"] and [epoch["stem"] for epoch in run["epochs"]] == ["thing-000001", "thing-000002"]
    assert venue.log == ["turn", "epochs", "epochs", "free"]
    assert venue.shown[-1].step == 10 and "epoch 2/2" in venue.shown[-1].text


def test_giving_way_between_epochs_changes_no_bit(studio, venue, recipe):
    studio.enqueue(recipe(output_name="alone", max_train_epochs=3))
    settled(studio)
    generated = []
    venue.log.clear()
    venue.waiting = [lambda: generated.append(studio.status()["state"])]
    studio.enqueue(recipe(output_name="shared", max_train_epochs=3))
    settled(studio)
    assert generated == ["waiting"] and venue.log == ["turn", "epochs", "free", "turn", "epochs", "epochs", "free"]
    assert len(epochs_of(studio, "shared")) == 3 and same(epochs_of(studio, "shared"), epochs_of(studio, "alone"))
