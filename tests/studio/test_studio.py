"""The studio over its face: recipes in, epochs out, whatever happens in between."""

from __future__ import annotations

import json
import threading

import pytest
from PIL import Image

from tests.studio.conftest import SECONDS, settled, until
from tests.studio.stub_host import StubHost
from trainer_core import studio as package
from trainer_core.errors import ConfigError, HostError, RunError
from trainer_core.files.lora_file import load_lora


def epochs_of(studio, name: str) -> list[dict]:
    (run,) = (each for each in studio.runs() if each["name"] == name)
    return [load_lora(studio.venue.runs_dir / name / f"{epoch['stem']}.safetensors")[0] for epoch in run["epochs"]]


def same(first: list[dict], second: list[dict]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a) for a, b in pairs)


def trained_alone(studio, recipe, **changes) -> list[dict]:
    studio.enqueue(recipe(output_name="alone", **changes))
    assert settled(studio)["entry"]["state"] == "finished"
    studio.venue.log.clear()
    studio.venue.shown.clear()
    return epochs_of(studio, "alone")


def test_a_recipe_becomes_epochs(studio, venue, recipe):
    id = studio.enqueue(recipe())
    status = settled(studio)
    assert status["entry"] == {"id": id, "title": "thing", "state": "finished", "said": ""}
    assert status["step"] == status["total_steps"] == 8 and status["epoch"] == status["epochs"] == 2
    (run,) = studio.runs()
    assert run["finished"] and [epoch["stem"] for epoch in run["epochs"]] == ["thing-000001", "thing-000002"]
    assert venue.log == ["turn", "epochs", "epochs", "free"]
    assert venue.shown[-1].step == 8 and "epoch 2/2" in venue.shown[-1].text


def test_giving_way_between_epochs_changes_no_bit(studio, venue, recipe):
    alone = trained_alone(studio, recipe, max_train_epochs=3)
    seen = []
    venue.waiting = [lambda: seen.append((studio.status()["state"], venue.loaded.is_borrowed))]
    studio.enqueue(recipe(output_name="shared", max_train_epochs=3))
    status = settled(studio)
    assert seen == [("waiting", False)]
    assert venue.log == ["turn", "epochs", "free", "turn", "epochs", "epochs", "free"]
    assert same(epochs_of(studio, "shared"), alone) and status["entry"]["said"] == ""


def test_each_epoch_has_its_previews_before_the_model_is_let_go(studio, venue, recipe):
    venue.waiting = [lambda: None]
    studio.enqueue(recipe(sample={"prompts": ["a thing", "no thing"], "steps": 1}))
    status = settled(studio)
    (run,) = studio.runs()
    assert [len(epoch["previews"]) for epoch in run["epochs"]] == [2, 2]
    assert status["previews"] == run["epochs"][1]["previews"] and venue.log.count("turn") == 2
    assert studio.preview(run["epochs"][0]["previews"][0]).startswith(b"\x89PNG")
    assert venue.shown[-1].preview is not None


def test_another_model_is_never_trained_on(studio, venue, recipe):
    first = venue.loaded

    def load_another():
        venue.loaded = StubHost(seed=1)

    venue.waiting = [load_another]
    studio.enqueue(recipe(), title="mine")
    waiting = studio.enqueue(recipe(output_name="next"))
    status = settled(studio)
    assert [each["state"] for each in status["queue"]] == ["stopped", "waiting"]
    assert "another model is loaded" in status["entry"]["said"] and "(stub)" in status["entry"]["said"]
    assert len(epochs_of(studio, "thing")) == 1

    studio.resume(status["entry"]["id"])
    assert "another model" in settled(studio)["entry"]["said"]
    venue.loaded = first
    studio.resume(status["entry"]["id"])
    status = settled(studio)
    assert [each["state"] for each in status["queue"]] == ["finished", "finished"]
    assert status["entry"]["id"] == waiting and len(epochs_of(studio, "thing")) == 2


def test_stop_keeps_all_and_resume_goes_on_bit_for_bit(studio, venue, recipe):
    alone = trained_alone(studio, recipe, max_train_epochs=3)
    venue.at_step = {6: studio.stop}
    id = studio.enqueue(recipe(max_train_epochs=3))
    status = settled(studio)
    assert status["entry"]["state"] == "stopped" and status["step"] == 6
    assert len(epochs_of(studio, "thing")) == 1
    studio.resume(id)
    status = settled(studio)
    assert status["entry"]["state"] == "finished" and status["step"] == 12
    assert same(epochs_of(studio, "thing"), alone)
    assert [each["step"] for each in studio.curve()["measurements"]] == list(range(1, 13))


def test_the_ui_s_own_stop_button_stops_within_a_step_and_holds_the_queue(studio, venue, recipe):
    venue.interrupt_at = 3
    id = studio.enqueue(recipe(max_train_epochs=100))
    studio.enqueue(recipe(output_name="next"))
    status = settled(studio)
    assert [each["state"] for each in status["queue"]] == ["stopped", "waiting"] and status["step"] == 3
    venue.interrupt_at = None
    studio.enqueue(recipe(output_name="later"))
    settled(studio)
    assert [each["state"] for each in studio.status()["queue"]] == ["stopped", "finished", "finished"]
    assert studio.curve(id)["measurements"][-1]["step"] == 3


@pytest.mark.parametrize("is_known", [True, False], ids=["in the queue", "of an earlier day"])
def test_a_run_on_disk_goes_on(studio, venue, recipe, is_known):
    alone = trained_alone(studio, recipe)
    venue.interrupt_at = 6
    id = studio.enqueue(recipe())
    settled(studio)
    venue.interrupt_at = None
    if not is_known:
        studio.remove(id)
    (run,) = (each for each in studio.runs() if not each["finished"])
    assert (studio.resume_run(run["id"]) == id) is is_known
    assert settled(studio)["entry"]["state"] == "finished"
    assert same(epochs_of(studio, "thing"), alone)
    with pytest.raises(RunError, match="is finished; only what was stopped"):
        studio.resume_run(run["id"])


def test_a_failure_is_one_sentence_and_the_next_has_its_turn(studio, venue, recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    studio.enqueue(recipe(dataset={"folder": str(tmp_path / "empty")}))
    venue.loaded.breaks_at = 3
    studio.enqueue(recipe(output_name="broken"))
    studio.enqueue(recipe(output_name="sound"))
    status = settled(studio)
    assert [each["state"] for each in status["queue"]] == ["failed", "failed", "finished"]
    said = [each["said"] for each in status["queue"]]
    assert "empty" in said[0] and said[1] == "ValueError: the stub breaks" and not venue.loaded.is_borrowed
    assert status["error"] == ""
    studio.resume(status["queue"][1]["id"])
    assert settled(studio)["entry"]["state"] == "finished"


def test_a_venue_that_has_no_model_to_give_is_a_failure_like_any(studio, venue, recipe, monkeypatch):
    def none_there(model=""):
        raise HostError("no checkpoint is loaded; choose one")

    monkeypatch.setattr(venue, "host", none_there)
    studio.enqueue(recipe())
    status = settled(studio)
    assert status["error"] == "no checkpoint is loaded; choose one" and not venue.lock.locked()


def test_not_even_an_exit_ends_the_queue(studio, venue, recipe, monkeypatch):
    def leave(model=""):
        monkeypatch.undo()
        raise SystemExit(1)

    monkeypatch.setattr(venue, "host", leave)
    studio.enqueue(recipe(output_name="first"))
    studio.enqueue(recipe(output_name="second"))
    assert [each["state"] for each in settled(studio)["queue"]] == ["failed", "finished"]


def test_a_list_that_does_not_refresh_is_a_warning(studio, venue, recipe, monkeypatch):
    monkeypatch.setattr(venue, "epochs_changed", lambda: 1 / 0)
    studio.enqueue(recipe())
    status = settled(studio)
    assert status["entry"]["state"] == "finished"
    assert [each for each in status["warnings"] if "did not take note" in each]


def test_the_queue_is_changed_by_hand(studio, venue, recipe):
    with venue.lock:  # the UI is busy
        ids = [studio.enqueue(recipe(output_name=name)) for name in ("first", "second", "third", "fourth")]
        until(studio, lambda status: status["entry"] is not None)
        studio.move(ids[3], 1)
        studio.remove(ids[1])
        status = studio.status()
        assert status["state"] == "waiting" and status["entry"]["state"] == "running"
        assert [each["title"] for each in status["queue"]] == ["first", "fourth", "third"]
        with pytest.raises(RunError, match="stop it before"):
            studio.remove(ids[0])
        with pytest.raises(RunError, match="not in the queue any more"):
            studio.move(ids[1], 0)
    settled(studio)
    assert [run["name"] for run in studio.runs()] == ["third", "fourth", "first"]


def test_what_was_stopped_before_its_turn_came_was_not_touched(studio, venue, recipe):
    with venue.lock:
        studio.enqueue(recipe())
        until(studio, lambda status: status["entry"] is not None)
        studio.stop()
        assert studio.status()["state"] == "stopping"
    status = settled(studio)
    assert status["entry"]["state"] == "stopped" and venue.loaded.predictions == 0


def test_train_behind_a_run_that_is_being_stopped_begins_once_it_has_ended(studio, venue, recipe):
    with venue.lock:
        studio.enqueue(recipe(output_name="first"))
        until(studio, lambda status: status["entry"] is not None)
        studio.stop()
        studio.enqueue(recipe(output_name="second"))
        assert studio.status()["state"] == "stopping"
    status = settled(studio)
    assert [(each["title"], each["state"]) for each in status["queue"]] == [
        ("first", "stopped"),
        ("second", "finished"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": {"rnk": 4}}, 'unknown setting "network.rnk"; did you mean "rank"'),
        ({"network": {"rank": 0}}, '"network.rank" is 0'),
        ({"output_name": "a/b"}, 'output_name "a/b" holds "/"'),
        ({"output_dir": "/etc"}, '"output_dir": Fake does not let its pages use /etc'),
        ({"dataset": {"folder": "/etc"}}, '"dataset.folder"'),
        ({"dataset": {"folder": " "}}, '"dataset.folder" is empty'),
        ({"dataset": {"masks_dir": "/etc"}}, '"dataset.masks_dir"'),
        ({"logging_dir": "/etc"}, '"logging_dir"'),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(studio, recipe, changes, said):
    with pytest.raises((ConfigError, RunError)) as refusal:
        studio.enqueue(recipe(**changes))
    assert said in str(refusal.value) and studio.status()["queue"] == []


def test_a_path_may_come_in_quotes(studio, venue, recipe, pictures):
    studio.enqueue(recipe(output_dir="", dataset={"folder": f' "{pictures}" '}))
    assert settled(studio)["entry"]["state"] == "finished"
    (run,) = studio.runs()
    assert studio.run_settings(run["id"]).dataset.folder == str(pictures)


def test_a_model_that_is_not_offered_is_refused(studio, recipe):
    with pytest.raises(ConfigError, match='no model "tny" here; did you mean "tiny"'):
        studio.enqueue(recipe(), model="tny")


def test_names_that_a_ui_could_not_tell_apart_are_refused(studio, venue, recipe):
    elsewhere = venue.runs_dir / "old"
    elsewhere.mkdir(parents=True)
    (elsewhere / "Thing-000003.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="Thing-000003"):
        studio.enqueue(recipe())
    studio.enqueue(recipe(output_name="thin"))
    settled(studio)
    studio.enqueue(recipe(output_name="thin"))  # the run itself is no other
    assert settled(studio)["entry"]["said"] == "it was trained already"


def test_the_curve_is_asked_for_piece_by_piece(studio, recipe):
    id = studio.enqueue(recipe())
    settled(studio)
    whole = studio.curve(id)
    assert [each["step"] for each in whole["measurements"]] == list(range(1, 9)) and whole["total_steps"] == 8
    assert studio.curve(id, after=6)["measurements"] == whole["measurements"][6:]
    (run,) = studio.runs()
    assert studio.run_curve(run["id"])["measurements"] == whole["measurements"]


def test_every_change_is_a_new_revision(studio, recipe):
    before = studio.status()["revision"]
    assert studio.status()["revision"] == before
    studio.enqueue(recipe())
    after = settled(studio)["revision"]
    assert after > before + 8


def test_a_reloaded_ui_finds_the_same_studio(venue, monkeypatch):
    monkeypatch.setattr(package, "_studio", None)
    made = []

    def factory():
        made.append(venue)
        return venue

    found = []
    threads = [threading.Thread(target=lambda: found.append(package.the_studio(factory))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(made) == 1 and len({id(each) for each in found}) == 1


@pytest.mark.parametrize("way", ["a dataset file", "a link"])
def test_a_picture_that_lies_outside_is_not_trained_on(studio, venue, recipe, pictures, tmp_path_factory, way):
    outside = tmp_path_factory.mktemp("outside")
    Image.new("RGB", (64, 64), "red").save(outside / "secret.png")
    if way == "a link":
        (pictures / "2_thing" / "9.png").symlink_to(outside / "secret.png")
        folder = pictures
    else:
        folder = pictures / "dataset.toml"
        folder.write_text(f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = {json.dumps(str(outside))}\n")
    studio.enqueue(recipe(dataset={"folder": str(folder)}))
    status = settled(studio)
    assert status["entry"]["state"] == "failed" and "Fake does not let its pages use this picture" in status["error"]
    assert venue.loaded.predictions == 0
