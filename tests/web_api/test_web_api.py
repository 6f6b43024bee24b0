"""A run over HTTP, and who may do what."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest

from tests.studio.conftest import settled
from tests.web_api.conftest import HERE
from trainer_core.footprint import in_words
from trainer_core.web_api.endpoints import CHANGING, READING, WEB_FILES

ROOT = Path(__file__).resolve().parents[2]


def trained(client, studio, recipe, **changes) -> str:
    """Train over HTTP; gives the run's id."""
    assert client.post("start", {"settings": recipe(**changes)}).status == 200
    settled(studio)
    return client.get("runs").json["runs"][0]["id"]


def test_a_lora_is_trained_over_http(client, studio, recipe, venue):
    answer = client.post("start", {"settings": recipe(sample={"prompts": ["a thing"], "steps": 1}), "title": "mine"})
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    settled(studio)
    status = client.get("status").json
    assert status["state"] == "idle" and status["entry"]["id"] == answer.json["id"]
    assert status["entry"]["title"] == "mine" and status["step"] == 8
    events = client.get("events?after=5").json
    assert [each["step"] for each in events["measurements"]] == [6, 7, 8] and events["total_steps"] == 8

    (run,) = client.get("runs").json["runs"]
    assert [epoch["stem"] for epoch in run["epochs"]] == ["thing-000001", "thing-000002"]
    assert client.get(f"epochs?run={run['id']}").json["epochs"] == run["epochs"]
    assert len(client.get(f"events?run={run['id']}").json["measurements"]) == 8
    preview = client.get(f"previews/{run['epochs'][0]['previews'][0]}")
    assert preview.content.startswith(b"\x89PNG") and preview.headers["content-type"] == "image/png"
    assert client.get(f"sheet?runs={run['id']}").content.startswith(b"\x89PNG")

    kept = client.post("promote", {"run": run["id"], "number": 2, "final_name": "best", "notes": "good"})
    assert kept.json == {"stem": "best"} and (venue.runs_dir / "best.json").exists()
    unsure = client.post("delete", {"run": run["id"], "number": 1})
    assert unsure.status == 400 and "confirmed" in unsure.json["error"]
    left = client.post("delete", {"run": run["id"], "number": 1, "confirmed": True}).json["runs"]
    assert [epoch["number"] for epoch in left[0]["epochs"]] == [2]
    assert client.post("delete", {"run": run["id"], "number": None, "confirmed": True}).json["runs"] == []


def test_the_queue_over_http(client, studio, recipe, venue):
    with venue.lock:
        ids = [client.post("start", {"settings": recipe(output_name=name)}).json["id"] for name in "abc"]
        moved = client.post("queue/move", {"id": ids[2], "position": 1}).json
        assert [each["title"] for each in moved["queue"]] == ["a", "c", "b"]
        left = client.post("queue/remove", {"id": ids[1]}).json
        assert [each["title"] for each in left["queue"]] == ["a", "c"]
        assert client.post("stop").json["state"] == "stopping"
    settled(studio)
    assert client.post("queue/start").json["state"] != "idle"
    settled(studio)
    assert client.post("resume", {"id": ids[0]}).status == 200
    settled(studio)
    assert [each["state"] for each in client.get("status").json["queue"]] == ["finished", "finished"]


def test_a_run_of_an_earlier_day_goes_on(client, studio, recipe, venue):
    venue.interrupt_at = 6
    run = trained(client, studio, recipe)
    (known,) = client.get("status").json["queue"]
    client.post("queue/remove", {"id": known["id"]})
    venue.interrupt_at = None
    assert not client.get("runs").json["runs"][0]["finished"]
    assert client.post("resume", {"run": run}).status == 200
    settled(studio)
    (run,) = client.get("runs").json["runs"]
    assert run["finished"] and studio.status()["entry"]["said"] == ""


def test_recipes_and_outlooks_over_http(client, recipe, studio, tmp_path):
    read = client.post("recipe", {"preset": "default", "text": '{"network_dim": 8, "nonsense": 1}'}).json
    assert read["settings"]["network"]["rank"] == 8 and read["settings"]["optimizer"]["optimizer"] == "Prodigy"
    assert "1 unknown" in read["summary"]
    (tmp_path / "recipe.json").write_text('{"network_dim": 3}')
    assert client.post("recipe", {"file": str(tmp_path / "recipe.json")}).json["settings"]["network"]["rank"] == 3
    assert "does not let its pages use" in client.post("recipe", {"file": "/etc/passwd"}).json["error"]
    outlook = client.post("outlook", {"settings": recipe()}).json
    assert outlook["total_steps"] == 8 and outlook["pictures"] == 4 and outlook["file_bytes"] is None
    assert outlook["lr_curve"][0][0] == 1 and outlook["lr_curve"][-1][0] == 8
    measured = client.post("outlook", {"settings": recipe(), "memory": True}).json
    client.post("start", {"settings": recipe()})
    settled(studio)
    said = client.get("status").json["announced"][1]  # what the run itself measured
    assert f"a file of about {in_words(measured['file_bytes'])} an epoch" in said
    assert f"about {in_words(measured['memory_bytes'])} of memory" in said


def test_two_runs_are_compared(client, studio, recipe):
    first = trained(client, studio, recipe)
    second = trained(client, studio, recipe, output_name="other", network={"rank": 4, "alpha": 1})
    said = client.get(f"compare?first={first}&second={second}").json["differences"]
    assert said == [{"setting": "network.alpha", "first": 2.0, "second": 1.0}]


def test_what_cannot_be_done_is_one_sentence(client, recipe):
    wrong = client.post("start", {"settings": recipe(network={"rnk": 4})})
    assert wrong.status == 400 and 'did you mean "rank"' in wrong.json["error"]
    assert client.post("start", {}).json["error"] == '"settings" is missing; give an object'
    assert client.post("queue/move", {"id": "x", "position": True}).status == 400
    assert "not in the queue any more" in client.post("resume", {"id": "x"}).json["error"]
    assert client.get("events?after=1e9").status == 400
    assert client.get("epochs?run=nowhere").status == 404
    assert client.get("previews/../../etc/passwd").status in (200, 404)  # 200: the UI's own page
    assert client.get("previews/0123").status == 404


def test_nothing_outside_the_venue_s_folders_is_named(client, recipe):
    for changes in ({"output_dir": "/"}, {"dataset": {"folder": "/etc"}}):
        answer = client.post("start", {"settings": recipe(**changes)})
        assert answer.status == 400 and "does not let its pages use" in answer.json["error"]
        assert client.post("outlook", {"settings": recipe(**changes)}).status == 400


def test_a_mistake_of_ours_is_told_without_its_insides(client, studio, monkeypatch):
    monkeypatch.setattr(studio, "runs", lambda: {}["secret"])
    answer = client.get("runs")
    assert answer.status == 500 and "KeyError" in answer.json["error"] and "secret" not in answer.json["error"]


@pytest.mark.parametrize("path", sorted(CHANGING))
def test_only_a_page_of_this_server_changes_anything(client, studio, path):
    before = studio.status()["revision"]
    for headers in (
        {"Origin": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:80"},
    ):
        assert client.post(path, {}, **headers).status == 403
    assert client.post(path, {}, Content_Type="text/plain").status == 415
    assert client.post(path, {}, Content_Type="").status == 415
    assert client.get(path).content == b"the UI's own page"
    assert studio.status()["revision"] == before


@pytest.mark.parametrize("path", ["status", "runs", "web/tab.js", "previews/x"])
def test_a_private_server_answers_its_own_machine_only(make_client, path):
    assert make_client(address="192.168.0.7").get(path).status == 403
    client = make_client()
    assert client.get(path, Host="evil.example:7860").status == 403, "a name that was made to lead here"
    assert client.get(path, X_Forwarded_For="8.8.8.8").status == 403
    for host in ("localhost:7860", "[::1]:7860", "127.0.0.1"):
        assert client.get(path, Host=host).status in (200, 404)


def test_a_public_server_answers_whom_its_host_lets_in(make_client):
    closed = make_client(is_public=True)
    assert closed.get("status").status == 403
    far = make_client(True, lambda request: request.headers.get("Authorization") == "Basic eDp5", address="10.0.0.7")
    assert far.get("status").status == 401
    assert far.get("status", Authorization="Basic eDp5", Host="studio.example").status == 200
    stop = far.post("stop", Authorization="Basic eDp5", Host="studio.example", Origin="https://studio.example")
    assert stop.status == 200
    assert far.post("stop", Authorization="Basic eDp5", Host="studio.example", Origin="https://x.example").status == 403


def test_large_requests_are_not_kept(client):
    answer = client.post("start", content=b'{"settings": "' + b"x" * (2 * 1024 * 1024) + b'"}')
    assert answer.status == 413


@pytest.mark.parametrize("content", [b"[]", b"nonsense", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(client, content):
    assert client.post("stop", content=content).status == 400


def test_the_status_is_waited_for(client, studio, recipe, venue):
    revision = client.get("status").json["revision"]
    start = time.monotonic()
    assert client.get(f"status?revision={revision + 1}&wait=20").json["revision"] == revision
    with venue.lock:
        later = threading.Timer(0.2, studio.enqueue, (recipe(),))
        later.start()
        assert client.get(f"status?revision={revision}&wait=20").json["revision"] > revision
        later.join()
    assert time.monotonic() - start < 10
    settled(studio)


def test_the_tab_s_files_are_served_and_no_others(client):
    for name in WEB_FILES:
        answer = client.get(f"web/{name}")
        assert answer.status == 200 and answer.content == (ROOT / "web" / name).read_bytes()
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")
    for name in ("lazylora.js", "..", "tab.html", "TAB.js"):
        assert client.get(f"web/{name}").status == 404


def test_what_the_tab_s_files_import_is_served():
    for name in WEB_FILES:
        source = (ROOT / "web" / name).read_text(encoding="utf-8")
        wanted = set(re.findall(r'from "\./([\w.]+)"', source)) | set(re.findall(r'URL\("\./([\w.]+)"', source))
        assert wanted <= set(WEB_FILES), name


def test_the_page_tells_of_every_endpoint():
    page = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(GET|POST) /lazylora/([^`?]*)", page, re.MULTILINE))
    assert told == {("GET", path) for path in READING} | {("POST", path) for path in CHANGING}


def test_the_page_s_example_works(client, studio, pictures):
    page = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"-d '(\{\"settings\".*?\})'", page, re.DOTALL)
    values = json.loads(body)
    values["settings"]["dataset"]["folder"] = str(pictures)
    values["settings"]["max_train_epochs"] = 1
    assert f"Origin: http://{HERE}" in page
    assert client.post("start", values).status == 200
    assert settled(studio)["entry"]["state"] == "finished"
